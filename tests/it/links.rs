//! Links: one app reaches another by an internal name, and nobody else does.

use std::{net::TcpStream, process::Stdio};

use crate::support::{apps::version, command::CommandOutput, elsewhere::Elsewhere, waiting::DEADLINE, world::World};

/// Fetches a URL, with a `Host` header if one is given; prints the body, or the kind of the error.
const FETCH: &str = r#"
import sys, urllib.request
request = urllib.request.Request(sys.argv[1])
if len(sys.argv) > 2:
    request.add_header("Host", sys.argv[2])
try:
    print(urllib.request.urlopen(request, timeout=30).read().decode())
except Exception as error:
    print(type(getattr(error, "reason", error)).__name__, error)
"#;

/// Fetches a URL until a file exists, one request after the other and each on a connection of its own.
const LOAD: &str = r#"
import os, sys, urllib.request
done, failed = 0, []
while not os.path.exists("/tmp/enough"):
    try:
        urllib.request.urlopen(sys.argv[1], timeout=30).read()
        done += 1
    except Exception as error:
        failed.append(repr(error))
print("done" if done else "nothing done", "failed:", failed)
"#;

fn client(world: &World, app: &str) {
    let folder = world.repository(app, &[("Procfile", &version(1)), ("fetch.py", FETCH), ("load.py", LOAD)]);
    world.push(&folder).success();
}

/// Fetches a URL in an app's instance.
fn fetch(world: &World, app: &str, arguments: &[&str]) -> CommandOutput {
    world.paas(&[&["enter", app, "web.1", "python3", "fetch.py"], arguments].concat()).success()
}

#[test]
fn a_linked_app_is_reached_by_its_name_through_changes_and_by_nobody_else() {
    let world = World::new();
    let api = world.repository("api", &[("Procfile", &version(1))]);
    world.push(&api).success();
    client(&world, "shop");
    client(&world, "third");
    let port = world.url("api").rsplit_once(':').unwrap().1.to_owned();
    let (named, named_host) = (format!("http://api.paas.internal:{port}"), format!("api.paas.internal:{port}"));
    let by_address = format!("http://{}:{port}", world.router_address());

    // Not yet: there is no such name, and the address is closed.
    fetch(&world, "shop", &[&named]).prints("gaierror");
    fetch(&world, "shop", &[&by_address]).prints("ConnectionRefusedError");
    world.ssh(&["apps:link", "shop", "shop"]).failure().prints("needs no link to itself");
    world.ssh(&["apps:link", "shop", "nothing"]).failure().prints("there is no app named nothing");
    world.ssh(&["apps:link", "shop", "host"]).failure().prints("host.paas.internal is the name of this machine");

    world.ssh(&["apps:link", "shop", "api"]).success().prints("shop reaches api").prints(&named);
    fetch(&world, "shop", &[&named]).prints("version-1");
    world.ssh(&["run", "shop", "python3", "fetch.py", &named]).success().prints("version-1");
    world.ssh(&["apps:link", "shop", "api"]).success().prints("no change");
    world.ssh(&["apps:links", "api"]).success().prints(&named).prints("shop");
    world.ssh(&["apps:info", "shop"]).success().prints("links:");

    // As through the public port, no request fails while the other app changes.
    let load = ["enter", "shop", "web.1", "python3", "load.py", &named];
    let load = world.paas_command(&load).stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    world.commit(&api, &[("Procfile", &version(2))]);
    world.push(&api).success();
    fetch(&world, "shop", &[&named]).prints("version-2");
    world.ssh(&["ps:scale", "api", "web=2"]).success();
    world.ssh(&["ps:scale", "api", "web=1"]).success();
    world.paas(&["enter", "shop", "web.1", "touch", "/tmp/enough"]).success();
    let output = String::from_utf8(load.wait_with_output().unwrap().stdout).unwrap();
    assert_eq!(output.trim(), "done failed: []");

    // The link is that of one app, whatever another says.
    fetch(&world, "third", &[&named]).prints("gaierror");
    fetch(&world, "third", &[&by_address]).prints("ConnectionRefusedError");
    fetch(&world, "third", &[&by_address, &named_host]).prints("ConnectionRefusedError");
    let of_third = world.url("third").rsplit_once(':').unwrap().1.to_owned();
    fetch(&world, "shop", &[&format!("http://api.paas.internal:{of_third}")]).prints("ConnectionRefusedError");

    // The router listens at that address for them alone, not for other machines.
    let address = std::net::SocketAddr::from((world.router_address(), port.parse().unwrap()));
    TcpStream::connect(address).unwrap();
    let elsewhere = Elsewhere::new();
    let refused = elsewhere.within(move || TcpStream::connect_timeout(&address, DEADLINE).map(drop));
    assert_eq!(refused.unwrap_err().kind(), std::io::ErrorKind::ConnectionRefused);

    world.ssh(&["ps:stop", "api"]).success();
    fetch(&world, "shop", &[&named]).prints("503");
    world.ssh(&["apps:unlink", "shop", "api"]).success().prints("shop no longer reaches api");
    fetch(&world, "shop", &[&named]).prints("ConnectionRefusedError");
    world.ssh(&["apps:unlink", "shop", "api"]).failure().prints("shop is not linked to api");
    world.ssh(&["apps:link", "shop", "api"]).success();
    world.ssh(&["apps:destroy", "api", "--force"]).success();
    world.ssh(&["apps:links", "shop"]).success().prints("shop has no links");
    fetch(&world, "shop", &[&named]).prints("ConnectionRefusedError");

    // Whatever was linked, the engine's name server is closed, and the app does not see how.
    let ask =
        "'cat /etc/resolv.conf; env; python3 -c \"import socket; socket.create_connection((\\\"127.0.0.11\\\", 53))\"'";
    let asked = world.ssh(&["enter", "shop", "web.1", ask]).failure().prints("PermissionError").prints("nameserver");
    assert!(
        !asked.out.contains("nameserver 127.0.0.11") && !asked.out.contains("PAAS_CLOSED_ADDRESS"),
        "{}",
        asked.out
    );
}

#[test]
fn both_sides_of_a_link_agree_and_either_ends_it() {
    let world = World::new();
    for app in ["shop", "api"] {
        world.ssh(&["apps:create", app]).success();
    }
    let users = ["bob", "eve"].map(|user| {
        let (key, public) = world.keygen(user);
        world.paas_with(&["ssh-keys:add", user], &public).success();
        key
    });
    let [bob, eve] = users;
    let link = ["apps:link", "shop", "api"];
    world.ssh(&["access:add", "shop", "bob", "operator"]).success();
    world.ssh_as(&bob, &link).failure().prints("there is no app named api, or it is not yours");
    world.ssh(&["access:add", "api", "bob", "viewer"]).success();
    world.ssh_as(&bob, &link).failure().prints("apps:link needs the role operator, and you are viewer of api");
    world.ssh(&["access:add", "api", "bob", "operator"]).success();
    world.ssh_as(&bob, &link).success().prints("has no web process yet");

    let unlink = ["apps:unlink", "shop", "api"];
    world.ssh_as(&eve, &unlink).failure().prints("there is no app named shop, or it is not yours");
    world.ssh(&["access:add", "api", "eve", "operator"]).success();
    world.ssh_as(&eve, &link).failure().prints("there is no app named shop, or it is not yours");
    world.ssh_as(&eve, &unlink).success().prints("shop no longer reaches api");
    world.ssh_as(&eve, &unlink).failure().prints("there is no app named shop, or it is not yours");
}
