//! Deploys without `git push`: of an archive, of an image, of a remote repository.

use std::{
    fs,
    net::TcpStream,
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Child, Command, Stdio},
};

use hmac::{Hmac, KeyInit as _, Mac as _};
use paas::model::Digest;
use sha2::Sha256;

use crate::support::{
    command::{CommandOutput, kill_group, run, run_with},
    http::free_port,
    images::Base,
    waiting::eventually,
    world::World,
};

/// A tar that GNU tar makes of a folder.
fn tar(folder: &Path, words: &[&str]) -> Vec<u8> {
    let output = Command::new("tar").arg("-C").arg(folder).args(words).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    output.stdout
}

/// What git shows of an app's repository.
fn of_repository(world: &World, app: &str, words: &[&str]) -> String {
    let folder = world.data().join(format!("repos/{app}.git"));
    run(Command::new("git").args(["-c", "safe.directory=*"]).args(words).current_dir(folder)).success().out
}

fn from_archive(world: &World, words: &[&str], archive: &[u8]) -> CommandOutput {
    run_with(&mut world.ssh_command(&[&["git:from-archive"], words].concat()), archive)
}

/// Archives of tar and of git are deployed as commits of the deploy branch; what git does not store is left out; a top folder is
/// stripped; a push goes on from there.
#[test]
fn an_archive_on_standard_input_is_deployed() {
    let world = World::new();
    let folder = world.repository("shop", &[("index.html", "one"), ("run/me.sh", "true")]);
    world.paas(&["apps:create", "shop"]).success();
    run(Command::new("chmod").args(["755"]).arg(folder.join("run/me.sh"))).success();
    run(Command::new("ln").args(["-s", "../index.html"]).arg(folder.join("run/link"))).success();
    from_archive(&world, &["shop"], &tar(&folder, &["-cz", "."]))
        .success()
        .prints("-----> Reading the archive from standard input")
        .prints("       3 files, as commit ")
        .prints("       folders .git are left out");
    world.answers(&world.url("shop"), "one");
    let tree = of_repository(&world, "shop", &["ls-tree", "-r", "--format=%(objectmode) %(path)", "main"]);
    assert_eq!(tree, "100644 index.html\n120000 run/link\n100755 run/me.sh\n");
    assert_eq!(of_repository(&world, "shop", &["for-each-ref", "--format=%(refname)"]), "refs/heads/main\n");
    let first = of_repository(&world, "shop", &["log", "--format=%s|%an|%T", "main"]);
    assert!(first.starts_with("Archive from standard input|"), "{first}");

    // The same files again are the same tree, and another release.
    from_archive(&world, &["shop", "-"], &tar(&folder, &["-c", "."])).success().prints("using the image built before");
    let log = of_repository(&world, "shop", &["log", "--format=%s|%an|%T", "main"]);
    assert_eq!(log, first.repeat(2));
    world.paas(&["releases:list", "shop"]).success().prints("v2");

    // A single folder is the app's.
    world.commit(&folder, &[("index.html", "two")]);
    world.git(&folder, &["archive", "--prefix=shop-1.0/", "-o", "../a.tar.gz", "HEAD"]).success();
    let archive = fs::read(folder.join("../a.tar.gz")).unwrap();
    from_archive(&world, &["shop"], &archive)
        .success()
        .prints("all of them are in the folder shop-1.0, which is taken as the app's folder");
    world.answers(&world.url("shop"), "two");

    // A push has to have what is there.
    world.push(&folder).failure().prints("fetch first");
    world.paas(&["builds:list", "shop"]).success();
    world.paas(&["events", "shop"]).success().prints("git:from-archive");
}

/// What is no archive, or leads elsewhere, is refused with one line, and leaves nothing.
#[test]
fn an_archive_that_cannot_be_deployed_leaves_nothing() {
    let world = World::new();
    world.paas(&["apps:create", "shop"]).success();
    let folder = world.dir().join("files");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("a"), "a").unwrap();
    run(Command::new("ln").args(["-s", "/etc/passwd"]).arg(folder.join("out"))).success();
    run(Command::new("mkfifo").arg(folder.join("pipe"))).success();
    let whole = tar(&folder, &["-cz", "a"]);
    for (archive, reason) in [
        (Vec::new(), "the archive is empty; send a tar, or a tar.gz"),
        (b"PK\x03\x04rest".to_vec(), "the archive is a zip file; send a tar, or a tar.gz"),
        (b"hello".to_vec(), "the archive is not a complete tar or tar.gz"),
        (whole[..whole.len() - 9].to_vec(), "the archive is not a complete tar or tar.gz"),
        (tar(&folder, &["-c", "a", "out"]), "\"out\" is a symbolic link that leads out of the archive"),
        (tar(&folder, &["-c", "pipe"]), "\"pipe\" is neither a file, a folder nor a link"),
        (tar(&folder, &["-c", "--transform=s,^,../,", "a"]), "\"../a\" leads out of the archive"),
        (tar(&folder, &["-cP", "--transform=s,^,/etc/,", "a"]), "is an absolute path"),
        (tar(&folder, &["-c", "--transform=s,^,.git/,", "a"]), "the archive has no files"),
        (tar(&folder, &["-c", "--transform=s,^,git~1/,", "a"]), "other systems take for .git"),
    ] {
        let refused = from_archive(&world, &["shop"], &archive).failure().prints(reason);
        assert!(!refused.all().contains("panicked") && refused.code == Some(1), "{}", refused.all());
    }
    let objects = of_repository(&world, "shop", &["count-objects", "-v"]);
    assert!(objects.contains("count: 0\n") && objects.contains("packs: 0\n"), "{objects}");
    assert_eq!(of_repository(&world, "shop", &["for-each-ref"]), "");
    let left = fs::read_dir(world.data().join("repos/shop.git")).unwrap();
    let left: Vec<_> = left.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    assert!(!left.iter().any(|name| name.contains("crash")), "{left:?}");

    let (eve, public) = world.keygen("eve");
    world.paas_with(&["ssh-keys:add", "eve"], &public).success();
    let mut command = world.ssh_command_as(&eve, &["git:from-archive", "shop"]);
    assert_eq!(run_with(&mut command, &whole).failure().code, Some(4));
}

/// The HTTP API takes the archive as the body.
#[test]
fn an_archive_is_deployed_over_http() {
    let world = World::new();
    world.paas(&["apps:create", "shop"]).success();
    let folder = world.repository("files", &[("index.html", "over http")]);
    let api = world.api();
    let more = ["-H", "Content-Type: application/octet-stream"];
    let accepted = api.send_body("POST", "/v1/apps/shop/builds", &more, &tar(&folder, &["-cz", "index.html"]));
    let ended = api.ended(&accepted);
    assert_eq!(ended["result"]["release"], 1, "{ended}");
    world.answers(&world.url("shop"), "over http");
}

/// An image is deployed as a Dockerfile that consists of it.
#[test]
fn an_image_is_deployed() {
    let base = Base::new();
    let world = World::new();
    let script = format!(
        "printf 'FROM {0}\\nRUN mkdir /www && echo served > /www/index.html\\nEXPOSE 3000\\nCMD exec httpd -f -p $PORT -h /www\\n' \
         | docker build -q -t {0} -",
        base.0
    );
    run(Command::new("sh").args(["-ec", &script])).success();
    world.offer(&base);
    world.paas(&["apps:create", "boxed"]).success();
    world
        .ssh(&["git:from-image", "boxed", &base.0])
        .success()
        .prints(&format!("a Dockerfile with FROM {}, as commit ", base.0))
        .prints("-----> Building Dockerfile");
    world.answers(&world.url("boxed"), "served");
    assert!(of_repository(&world, "boxed", &["show", "main:Dockerfile"]).ends_with(&format!("\nFROM {}\n", base.0)));
    world.ssh(&["git:from-image", "boxed", "company/none:1"]).failure().prints("company/none:1");
    world.answers(&world.url("boxed"), "served");
    world.ssh(&["git:from-image", "boxed", "A"]).failure().prints("is not a valid image name");
    world.paas(&["buildpacks:set", "boxed", "paas/procfile"]).success();
    world.ssh(&["git:from-image", "boxed", &base.0]).failure().prints("buildpacks:clear boxed");
}

/// `git daemon` on loopback, which serves the repositories below a folder.
struct Daemon {
    process: Child,
    address: String,
}

impl Daemon {
    fn start(folder: &Path) -> Self {
        let port = free_port();
        let mut command = Command::new("git");
        command.args(["-c", "safe.directory=*", "daemon", "--export-all", "--reuseaddr", "--listen=127.0.0.1"]);
        command.arg(format!("--port={port}")).arg(format!("--base-path={}", folder.display())).arg(folder);
        // git-daemon is a process below git.
        let process = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0).spawn();
        let daemon = Self { process: process.unwrap(), address: format!("git://127.0.0.1:{port}") };
        eventually("git daemon listens", || TcpStream::connect(("127.0.0.1", port)).ok());
        daemon
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        kill_group(i32::try_from(self.process.id()).unwrap());
        let _ = self.process.wait();
    }
}

/// A branch, a tag and a commit of a remote repository are deployed with their history; the app follows a rewritten one; and a
/// developer does not reach the server's own network.
#[test]
fn a_remote_repository_is_deployed() {
    let world = World::new();
    let folder = world.repository("origin", &[("index.html", "one")]);
    let daemon = Daemon::start(folder.parent().unwrap());
    let url = format!("{}/{}", daemon.address, folder.file_name().unwrap().to_str().unwrap());
    world.paas(&["apps:create", "shop"]).success();
    world.ssh(&["git:sync", "shop", &url, "main"]).success().prints("-----> Fetching main of git://127.0.0.1:");
    world.answers(&world.url("shop"), "one");
    world.ssh(&["git:sync", "shop", &url]).success().prints("is deployed already; ps:rebuild shop builds it again");

    world.commit(&folder, &[("index.html", "two")]);
    world.ssh(&["git:sync", "shop", &url]).success().prints("       main moves from ");
    world.answers(&world.url("shop"), "two");
    let ids = of_repository(&world, "shop", &["log", "--format=%H", "main"]);
    assert_eq!(ids, world.git(&folder, &["log", "--format=%H"]).success().out, "the whole history");
    assert_eq!(of_repository(&world, "shop", &["for-each-ref", "--format=%(refname)"]), "refs/heads/main\n");

    // The history is rewritten, and tagged.
    world.git(&folder, &["reset", "--hard", "HEAD~1"]).success();
    world.commit(&folder, &[("index.html", "three")]);
    world.git(&folder, &["tag", "-a", "-m", "v3", "v3"]).success();
    world
        .ssh(&["git:sync", "shop", &url, "v3"])
        .success()
        .prints("which does not contain it: what only main has is discarded");
    world.answers(&world.url("shop"), "three");

    world.ssh(&["git:sync", "shop", &url, "nope"]).failure().prints("cannot fetch git://127.0.0.1").prints("nope");
    world.ssh(&["git:sync", "shop", "ext::id"]).failure().prints("is not a valid address of a repository");
    let (ann, public) = world.keygen("ann");
    world.paas_with(&["ssh-keys:add", "ann"], &public).success();
    world.paas(&["access:add", "shop", "ann", "deployer"]).success();
    let by_ann = |url: &str| world.ssh_as(&ann, &["git:sync", "shop", url]).failure();
    assert_eq!(by_ann(&url).prints("only an admin may have git://127.0.0.1").code, Some(3));
    world.ssh(&["git:sync", "shop", "git@host:x"]).failure().prints("name the repository by https://");
    for closed in ["http://127.0.0.1:9/x", "https://169.254.169.254/x", "http://10.1.2.3/x"] {
        assert_eq!(by_ann(closed).prints("addresses of the server's own machine").code, Some(3), "{closed}");
    }
    world.answers(&world.url("shop"), "three");
}

/// The hexadecimal HMAC-SHA256 of a body.
fn signed(secret: &str, body: &str) -> String {
    let mut hmac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    hmac.update(body.as_bytes());
    Digest::from_sha256(&hmac.finalize().into_bytes().into()).hex().to_owned()
}

/// An event of GitHub is checked, accepted once, and has the branch fetched from the address that was set.
#[test]
fn a_webhook_deploys_the_branch_that_the_app_follows() {
    let world = World::new();
    let folder = world.repository("origin", &[("index.html", "hooked")]);
    let daemon = Daemon::start(folder.parent().unwrap());
    let url = format!("{}/{}", daemon.address, folder.file_name().unwrap().to_str().unwrap());
    world.paas(&["apps:create", "shop"]).success();
    let added = world.ssh(&["webhooks:add", "shop", &url, "--branch", "main", "--format", "json"]).success().json();
    let (id, secret) = (added["id"].as_str().unwrap(), added["secret"].as_str().unwrap());
    let listed = world.ssh(&["webhooks:list", "shop"]).success().prints(id).prints(&url);
    assert!(!listed.all().contains(secret));

    let mut api = world.api();
    api.token = String::new();
    let path = format!("/v1/webhooks/{id}");
    let send = |event: &str, signature: &str, body: &str| {
        let more = [
            "-H",
            &format!("X-GitHub-Event: {event}"),
            "-H",
            &format!("X-Hub-Signature-256: sha256={signature}"),
            "-H",
            "Content-Type: application/json",
        ];
        api.send_body("POST", &path, &more, body.as_bytes())
    };
    let push = format!(
        r#"{{"ref":"refs/heads/main","after":"{}","repository":{{"clone_url":"http://127.0.0.1:1/x"}}}}"#,
        "1".repeat(40)
    );
    assert_eq!(send("ping", &signed(secret, "{}"), "{}").with(200)["status"], "pong");
    send("push", &signed("wrong", &push), &push).problem(403, "denied", "the signature is missing or wrong");
    let other = push.replace("main", "next");
    let ignored = send("push", &signed(secret, &other), &other).with(200);
    assert_eq!(ignored["reason"], "the app follows main, and next was pushed");
    assert_eq!(send("push", &signed(secret, &push), &push).with(202)["status"], "accepted");
    let deployed =
        || world.paas(&["releases:list", "shop", "--format", "json"]).success().json()[0]["state"] == "released";
    eventually("the branch is deployed", || deployed().then_some(()));
    world.answers(&world.url("shop"), "hooked");
    send("push", &signed(secret, &push), &push).problem(409, "conflict", "this event was received before");
    world.paas(&["events", "shop"]).success().prints("git:sync");

    world.ssh(&["webhooks:remove", "shop", id]).success();
    send("push", &signed(secret, &push), &push).problem(404, "not_found", "there is no such webhook");
}
