//! Secrets of the operator and of an app's environment are in no image.

use std::{fs, process::Command};

use crate::support::{command::run, world::World};

const APP: &str = r#"
import os
from http.server import BaseHTTPRequestHandler, HTTPServer


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(f"the app sees {os.environ['RUN_TOKEN']}".encode())


HTTPServer(("", int(os.environ["PORT"])), Handler).serve_forever()
"#;

/// A bundle of the machine's certificate authorities and one of the operator's own; returns a line of its certificate.
fn own_authority(world: &World) -> String {
    let (key, certificate) = (world.dir().join("authority.key"), world.dir().join("authority.pem"));
    let mut openssl = Command::new("openssl");
    openssl.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]);
    openssl.args(["-days", "2", "-subj", "/CN=an authority of the operator", "-keyout"]).arg(&key);
    run(openssl.arg("-out").arg(&certificate)).success();
    let certificate = fs::read_to_string(certificate).unwrap();
    let bundle = fs::read_to_string("/etc/ssl/certs/ca-certificates.crt").unwrap() + &certificate;
    fs::write(world.dir().join("bundle.pem"), bundle).unwrap();
    certificate.lines().nth(2).unwrap().to_owned()
}

/// A build does not see config vars that are not set for builds. It sees those that are, the authorities and the proxy, and
/// none of them is in the image.
#[test]
fn no_variable_and_no_authority_is_in_an_image() {
    let mut world = World::with("http_proxy = \"http://user:hunter2-proxy@127.0.0.1:9\"\nno_proxy = \"localhost\"\n");
    let authority = own_authority(&world);
    world.stop_server();
    let config = fs::read_to_string(world.dir().join("paas.toml")).unwrap();
    let bundle = world.dir().join("bundle.pem").display().to_string();
    assert!(config.contains("ca_bundle = \"/etc/ssl/certs/ca-certificates.crt\""));
    fs::write(world.dir().join("paas.toml"), config.replace("/etc/ssl/certs/ca-certificates.crt", &bundle)).unwrap();
    world.start_server();

    let package = r#"{ "name": "secrets", "private": true, "scripts": { "build": "env" } }"#;
    let files = [("app.py", APP), ("requirements.txt", "idna==3.10\n"), ("package.json", package)];
    let folder = world.repository("secrets", &files);
    world.paas(&["apps:create", "secrets"]).success();
    world.paas(&["config:set", "secrets", "--build", "BUILD_TOKEN=hunter2-build"]).success();
    world.paas(&["config:set", "secrets", "RUN_TOKEN=hunter2-run"]).success();
    let printed = world.push(&folder).success().prints("BUILD_TOKEN=hunter2-build").prints("hunter2-proxy");
    assert!(!printed.all().contains("RUN_TOKEN"), "a build sees a variable that is not for builds");
    assert!(!printed.all().contains("PAAS_TEST_PAUSES"), "a build sees the server's own environment");
    world.answers(&world.url("secrets"), "the app sees hunter2-run");

    // The layers are plain tar files, so that a search finds their contents.
    let image = world.image_of("secrets");
    let script =
        format!("docker save {image} > all.tar; mkdir all; tar -xf all.tar -C all; grep -rqF 'the app sees' all");
    run(Command::new("bash").args(["-euc", &script]).current_dir(world.dir())).success();
    for secret in ["hunter2", "RUN_TOKEN=", "BUILD_TOKEN", &authority, "an authority of the operator"] {
        let found = run(Command::new("grep").args(["-rlF", "-e", secret, "all"]).current_dir(world.dir()));
        assert_eq!(found.code, Some(1), "{secret} is in {}", found.out);
    }
}
