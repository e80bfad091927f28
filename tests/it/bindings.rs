//! Service bindings: what builds and containers see of them, and where their values are not.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use crate::support::{
    apps::version,
    command::{run, run_with},
    images::Base,
    waiting::eventually,
    world::World,
};

/// The first digits of the hash of what the file has.
const SUM: &str = "sum() { sha256sum <\"$SERVICE_BINDING_ROOT/$1\" | cut -c-8; }";

/// A buildpack that reads a binding when it detects, when it builds, in a program of `exec.d`, and in its process.
fn reader(folder: &Path) {
    let detect = "[ \"$(cat \"$CNB_PLATFORM_DIR/bindings/db/type\")\" = postgresql ] || exit 100".to_owned();
    let build = format!(
        "{SUM}\n[ \"$SERVICE_BINDING_ROOT\" = \"$CNB_PLATFORM_DIR/bindings\" ]\n\
         echo \"-----> the build reads $(sum db/password) of $(cat \"$SERVICE_BINDING_ROOT/db/provider\")\"\n\
         cd \"$CNB_LAYERS_DIR\"; mkdir -p read/bin read/exec.d; printf '[types]\\nlaunch = true\\n' >read.toml\n\
         printf '[[processes]]\\ntype = \"web\"\\ncommand = [\"serve\"]\\ndefault = true\\n' >launch.toml\n\
         cp \"$CNB_BUILDPACK_DIR/exec\" read/exec.d/exec; cp \"$CNB_BUILDPACK_DIR/serve\" read/bin/serve\n"
    );
    let exec = format!("{SUM}\nprintf 'FROM_EXEC_D = \"%s\"\\n' \"$(sum db/password)\" >&3\n");
    let serve = format!(
        "{SUM}\nmkdir -p /tmp/s; cd /tmp/s\n\
         echo \"exec.d $FROM_EXEC_D app $(sum db/password) mode $(stat -c '%a %u' \"$SERVICE_BINDING_ROOT/db/password\")\" >index.html\n\
         exec python3 -m http.server \"$PORT\"\n"
    );
    fs::create_dir_all(folder.join("bin")).unwrap();
    let toml = "api = \"0.10\"\n[buildpack]\nid = \"test/reader\"\nversion = \"1.0.0\"\n[[targets]]\nos = \"linux\"\n";
    fs::write(folder.join("buildpack.toml"), toml).unwrap();
    for (name, text) in [("bin/detect", detect), ("bin/build", build), ("exec", exec), ("serve", serve)] {
        fs::write(folder.join(name), format!("#!/bin/bash\nset -eu\n{text}")).unwrap();
        fs::set_permissions(folder.join(name), fs::Permissions::from_mode(0o755)).unwrap();
    }
}

fn sum(value: &[u8]) -> String {
    paas::model::Digest::of(value).hex()[..8].to_owned()
}

/// Files below the data folder, with disks as raw bytes and without what is in memory, that contain this text.
fn files_with(world: &World, text: &str) -> Vec<PathBuf> {
    let mut grep = Command::new("grep");
    grep.args(["-rlaF", "--devices=skip", "--exclude-dir=bindings", "-e", text]).arg(world.data());
    run(&mut grep).out.lines().map(PathBuf::from).collect()
}

fn inspect(container: &str) -> String {
    run(Command::new("docker").args(["inspect", container])).success().out
}

/// The folders of workloads in memory.
fn in_memory(world: &World) -> Vec<String> {
    let entries = fs::read_dir(world.data().join("bindings")).into_iter().flatten();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn a_binding_is_read_by_builds_and_instances_and_is_nowhere_else() {
    let mut world = World::with("[build]\ndisk_mib = 200\n");
    let [first, second] = [(); 2].map(|()| format!("hunter2-{:016x}", rand::random::<u64>()));
    let pack = world.dir().join("home/reader");
    reader(&pack);
    let folder = world.repository("bound", &[("note.txt", "x")]);
    let add = |password: &str, more: &[&str]| {
        let password = format!("password={password}");
        let words = ["bindings:add", "bound", "db", "--type", "postgresql", "--provider", "aws", &password, "user=ada"];
        world.paas(&[&words[..], more].concat())
    };
    world.paas(&["apps:create", "bound"]).success();
    world.paas(&["buildpacks:set", "bound", &pack.display().to_string()]).success();
    world.push(&folder).failure().prints("no group of buildpacks fits this app");
    add(&first, &[]).success().prints("Adding the binding db").prints("no release was made");
    world.push(&folder).success().prints(&format!("-----> the build reads {} of aws", sum(first.as_bytes())));
    let url = world.url("bound");
    let page = |value: &str| format!("exec.d {0} app {0} mode 400 1000", sum(value.as_bytes()));
    world.answers(&url, &page(&first));

    // Another value restarts the instances, a rollback brings back the one before.
    add(&second, &[])
        .success()
        .prints("Replacing the binding db")
        .prints("v2 is live")
        .prints("ps:rebuild bound builds now");
    world.answers(&url, &page(&second));
    add(&second, &[]).success().prints("no change: the binding is already so");
    world.paas(&["releases:rollback", "bound"]).success().prints("with the config vars and bindings that it had");
    world.answers(&url, &page(&first));
    add(&second, &["--no-restart"]).success().prints("no release was made");
    world.answers(&url, &page(&first));
    // A change of config vars makes a release with what is declared, and so does a build that sees another value.
    world.paas(&["config:set", "bound", "A=1"]).success().prints("v4 is live");
    world.answers(&url, &page(&second));
    world
        .paas(&["ps:rebuild", "bound"])
        .success()
        .prints(&format!("the build reads {} of aws", sum(second.as_bytes())));

    // Any bytes, from standard input, and in a task.
    let store: Vec<u8> = (0..=255).cycle().take(300_000).collect();
    let stdin = ["bindings:add", "bound", "ca", "--type", "ca-certificates", "--stdin", "store.p12"];
    run_with(&mut world.ssh_command(&stdin), &store).success().prints("v6 is live");
    let path = "/platform/bindings/ca/store.p12";
    world.paas(&["run", "bound", "sha256sum", path]).success().prints(&sum(&store));
    world.paas(&["run", "bound", "sh", "-c", &format!("echo x > {path}")]).failure();

    // Values are shown to nobody, and are not in what the engine keeps.
    let list = world.paas(&["bindings:list", "bound"]).success();
    list.prints("db    postgresql       aws       password, user").prints("ca    ca-certificates  -         store.p12");
    let report = world.paas(&["bindings:report", "bound"]).success().prints("xxxxx  24").prints("xxxxx  300000");
    let events = world.paas(&["events", "--reads", "-n", "1000"]).success().prints("db postgresql password user");
    let instance = world.running_containers("instance").remove(0);
    let outputs = [report.all(), events.all(), world.paas(&["logs", "bound"]).success().all(), inspect(&instance)];
    let image = world.image_of("bound");
    let script = format!(
        "docker save {image} > all.tar; docker history --no-trunc {image} > all.txt; docker inspect {image} >> all.txt"
    );
    run(Command::new("bash").args(["-euc", &script]).current_dir(world.dir())).success();
    for secret in [&first, &second] {
        assert!(outputs.iter().all(|output| !output.contains(secret.as_str())));
        let found =
            run(Command::new("grep").args(["-caF", "-e", secret, "all.tar", "all.txt"]).current_dir(world.dir()));
        assert_eq!(found.out, "all.tar:0\nall.txt:0\n");
        assert_eq!(files_with(&world, secret), Vec::<PathBuf>::new());
    }
    let log = fs::read_to_string(world.dir().join("server.log")).unwrap();
    assert!(!log.contains("hunter2-"));

    // Another app has none; nothing of a container that has ended is left, and a server that dies changes nothing.
    let other = world.repository("other", &[("Procfile", &version(1))]);
    world.push(&other).success();
    world.paas(&["run", "other", "ls", "/platform/bindings"]).failure();
    world.paas(&["run", "other", "printenv", "SERVICE_BINDING_ROOT"]).failure();
    eventually("only the instance has its folder", || (in_memory(&world) == [instance.clone()]).then_some(()));
    world.kill_server();
    world.start_server();
    world.answers(&url, &page(&second));
    world.paas(&["ps:restart", "bound"]).success();
    world.answers(&url, &page(&second));
    world.paas(&["bindings:remove", "bound", "db", "none"]).failure().prints("bound has no binding none");
    world.paas(&["bindings:remove", "bound", "ca"]).success().prints("v7 is live");
    world.answers(&url, &page(&second));
    world.paas(&["bindings:list", "bound"]).success().prints("db");
    world.paas(&["apps:destroy", "bound", "--confirm", "bound"]).success();
    eventually("its folders are removed", || in_memory(&world).is_empty().then_some(()));
}

/// What cannot be added is refused in one line that repeats no value.
#[test]
fn bindings_are_checked() {
    let world = World::with("[quota]\nbinding_bytes_per_app = 200\n");
    world.paas(&["apps:create", "bound"]).success();
    for (words, says) in [
        (&["DB", "--type", "x"][..], "is not a valid binding name"),
        (&["db"], "--type"),
        (&["db", "--type", "a b"], "is not a valid binding type"),
        (&["db", "--type", "x", "hunter2"], "write it as KEY=value"),
        (&["db", "--type", "x", "../a=hunter2"], "is not a valid key of a binding"),
        (&["db", "--type", "x", "type=hunter2"], "not type or provider, which are options"),
        (&["db", "--type", "x", "a=hunter2", "a=hunter2"], "the key a is given twice"),
        (&["db", "--type", "x", "--encoded", "a=hunter2!"], "the value of a is not base64-encoded"),
        (
            &["db", "--type", "x", &format!("a={}", "hunter2".repeat(30))],
            "an app may have 200 bytes of service bindings",
        ),
    ] {
        let printed = world.paas(&[&["bindings:add", "bound"], words].concat()).failure().prints(says);
        assert!(!printed.all().contains("hunter2"), "{}", printed.all());
        assert!(printed.err.lines().count() <= 4, "{}", printed.err);
    }
    world.paas(&["bindings:remove", "bound", "db"]).failure().prints("bound has no binding db; bindings:list bound");
    world.paas(&["bindings:report", "bound", "db"]).failure().prints("bound has no binding db");
    world.paas(&["bindings:list", "bound"]).success().prints("no service bindings");
    world.paas(&["config:set", "bound", "SERVICE_BINDING_ROOT=/mine"]).success();
    world
        .paas(&["bindings:add", "bound", "db", "--type", "x", "a=1"])
        .success()
        .prints("config:unset bound SERVICE_BINDING_ROOT");
    world.paas(&["storage:create", "bound", "data", "--size", "16m"]).success();
    world.paas(&["storage:mount", "bound", "data:/platform/x"]).failure().prints("choose another path");
}

/// The steps of a Dockerfile see no binding; its user reads those of the instance, and where that is root, all do.
#[test]
#[ignore = "slow"]
fn an_app_with_a_dockerfile_has_bindings_too() {
    let base = Base::new();
    let world = World::new();
    world.offer(&base);
    let dockerfile = |user: &str| {
        format!(
            "FROM {}\nRUN test ! -e /platform/bindings && test -z \"$SERVICE_BINDING_ROOT\"\n\
             RUN mkdir /www && busybox chmod 777 /www\nUSER {user}\n\
             CMD cd /www && busybox stat -c '%a %u' $SERVICE_BINDING_ROOT/db/password > index.html && \
             cat $SERVICE_BINDING_ROOT/db/password >> index.html && exec httpd -f -p 8080\n",
            base.0
        )
    };
    let folder = world.repository("boxed", &[("Dockerfile", &dockerfile("4711"))]);
    world.paas(&["apps:create", "boxed"]).success();
    world.paas(&["bindings:add", "boxed", "db", "--type", "postgresql", "password=secret-1"]).success();
    world.push(&folder).success().prints("the steps of a Dockerfile do not see them");
    world.answers(&world.url("boxed"), "400 4711\nsecret-1");
    world.commit(&folder, &[("Dockerfile", &dockerfile("0"))]);
    world.push(&folder).success();
    world.answers(&world.url("boxed"), "444 0\nsecret-1");
}

#[test]
#[ignore = "slow"]
fn javas_buildpack_uses_the_settings_of_a_binding() {
    let world = World::new();
    world.paas(&["apps:create", "jar"]).success();
    let settings = "<settings><mirrors><mirror><id>own</id><mirrorOf>*</mirrorOf><url>https://maven.invalid/</url></mirror></mirrors></settings>";
    let add = ["bindings:add", "jar", "mvn", "--type", "maven", "--stdin", "settings.xml"];
    world.paas_with(&add, settings).success();
    let pom = "<project><modelVersion>4.0.0</modelVersion><groupId>a</groupId><artifactId>a</artifactId><version>1</version></project>";
    let folder = world.repository("jar", &[("pom.xml", pom), ("src/main/java/A.java", "class A {}")]);
    world.push(&folder).failure().prints("Using the settings of the binding mvn").prints("https://maven.invalid/");
    world.paas_with(&add.map(|word| if word == "settings.xml" { "settings" } else { word }), settings).success();
    world.commit(&folder, &[("README", "")]);
    world.push(&folder).failure().prints("the binding mvn of the type maven has no settings.xml");
}
