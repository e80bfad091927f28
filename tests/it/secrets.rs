//! Secrets of the operator and of an app's environment are in no image, and those of a buildpack's address in no output.

use std::{fs, path::Path, process::Command};

use crate::support::{apps::write_buildpack, command::run, world::World};

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

/// The address of a buildpack may contain a password or a token. No output, log or audit entry repeats them; the address
/// that is shown names the buildpack.
#[test]
fn the_credentials_of_a_buildpacks_address_are_never_shown() {
    const ADDRESS: &str = "https://user:s3cret@127.0.0.1:1/x?token=t0ken";
    const SHOWN: &str = "https://127.0.0.1:1/x?token=xxxxx";
    let world = World::new();
    let hidden = |text: &str| assert!(!text.contains("s3cret") && !text.contains("t0ken"), "{text}");
    let paas = |words: &[&str]| {
        let output = world.paas(words);
        hidden(&output.all());
        output
    };
    let pushed = |folder: &Path| {
        let output = world.push(folder);
        hidden(&output.all());
        output
    };

    let project = format!("[_]\nschema-version = '0.2'\n[[io.buildpacks.group]]\nuri = '{ADDRESS}'\n");
    let app = world.repository("app", &[("note.txt", "x"), ("project.toml", &project)]);
    pushed(&app).failure().prints(&format!("cannot get the buildpack {SHOWN}"));
    world.commit(&app, &[("project.toml", &project.replace("https:", "ftp:"))]);
    pushed(&app).failure().prints("\"ftp://127.0.0.1:1/x?token=xxxxx\" is not a valid buildpack");

    for words in [&["buildpacks:add", "app", ADDRESS][..], &["buildpacks:install", ADDRESS]] {
        let unreachable = format!("cannot fetch {SHOWN}: unable to access '{SHOWN}': ");
        paas(words).failure().prints(&format!("Fetching the buildpack {SHOWN}")).prints(&unreachable);
        paas(&[words, &["--format", "json"]].concat()).failure().prints(SHOWN);
    }
    let image = ADDRESS.replace("https:", "docker:");
    paas(&["buildpacks:install", &image]).failure().prints("the server pulls images without credentials");
    let image = "user:s3cret@127.0.0.1:1/x";
    paas(&["stacks:create", "own", "--run-image", image, "--build-image", image])
        .failure()
        .prints("the reference of the image 127.0.0.1:1/x contains credentials");
    paas(&["buildpacks:add", "app", &ADDRESS.replace("https:", "ftp:")]).failure().prints("'ftp://127.0.0.1:1/x");

    // A repository that can be fetched, with a token in its query.
    let git = world.dir().join("home/one?token=t0ken");
    write_buildpack(&git, "test/one", "one");
    world.git(&git, &["init", "-q"]).success();
    world.git(&git, &["add", "."]).success();
    world.git(&git, &["commit", "-qm", "one"]).success();
    let address = format!("file://{}", git.display());
    let shown = address.replace("t0ken", "xxxxx");
    paas(&["buildpacks:install", &address]).success();
    paas(&["buildpacks:installed"]).success().prints(&shown);
    paas(&["buildpacks:add", "app", &address]).success().prints(&format!("app is built with {shown}"));
    paas(&["buildpacks:add", "app", &address]).failure().prints(&format!("{shown} is already chosen"));
    let list = paas(&["buildpacks:list", "app", "--format", "json"]).success().json();
    assert_eq!(list[0]["buildpack"], shown);
    paas(&["buildpacks:list", "app"]).success().prints(&shown);
    paas(&["buildpacks:report", "app"]).success().prints(&shown);
    paas(&["buildpacks:remove", "app", ADDRESS]).failure().prints(&format!("has not chosen {SHOWN}"));
    let left = paas(&["buildpacks:remove", "app", &shown, "--format", "json"]).success().json_lines();
    assert_eq!(left.last().unwrap()["buildpacks"], serde_json::json!([]));

    let events = paas(&["events", "--reads", "-n", "1000"]).success();
    events.prints(SHOWN).prints(&shown).prints("docker://127.0.0.1:1/x?token=xxxxx").prints("run=127.0.0.1:1/x");
    paas(&["events", "--reads", "-n", "1000", "--format", "json"]).success();
    // A build is recorded when its buildpacks have been fetched.
    assert_eq!(paas(&["builds:list", "app", "--format", "json"]).success().json(), serde_json::json!([]));
    hidden(&fs::read_to_string(world.dir().join("server.log")).unwrap());
}
