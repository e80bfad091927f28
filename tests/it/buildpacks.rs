//! Buildpacks that are not part of paas: where they are installed from, how an app chooses them, what a build shows of them.

use std::{
    fs,
    net::TcpListener,
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Command, Stdio},
};

use crate::support::{
    apps::{version, write_buildpack},
    command::{kill_group, run, run_with},
    elsewhere::Elsewhere,
    waiting::eventually,
    world::World,
};

/// The sources are a folder, an archive and a git repository; the copy that was fetched is used until the source is chosen
/// again.
#[test]
fn buildpacks_are_installed_from_folders_archives_and_repositories() {
    let world = World::new();
    let home = world.dir().join("home");
    let at = |name: &str| home.join(name);
    let text = |path: &Path| path.display().to_string();
    write_buildpack(&at("one"), "test/one", "one");
    world.paas(&["buildpacks:install", &text(&at("one"))]).success().prints("test/one@1.0.0 (sha256:");
    world.paas(&["buildpacks:installed"]).success().prints("test/one").prints("paas/nodejs");

    let app = world.repository("app", &[("note.txt", "x")]);
    world.push(&app).failure().prints("no buildpack recognises this app");
    world.paas(&["buildpacks:add", "app", "test/none"]).failure().prints("the buildpack test/none is not installed");
    world.paas(&["buildpacks:add", "app", "test/one"]).success();
    world.push(&app).success().prints("-----> one builds").prints("test/one@1.0.0");
    world.answers(&world.url("app"), "one files:note.txt  env:none");
    let info = world.paas(&["builds:info", "app", "--format", "json"]).success().json();
    let ran = &info["buildpacks"][0];
    assert!(ran["id"] == "test/one" && ran["version"] == "1.0.0" && info["stack"] == "debian-13", "{info}");
    assert!(ran["digest"].as_str().unwrap().starts_with("sha256:"), "{info}");
    world.paas(&["builds:info", "app"]).success().prints("test/one@1.0.0 (sha256:");

    // An archive, which is removed once it is chosen: builds use the copy that was fetched.
    write_buildpack(&at("two"), "test/two", "two");
    run(Command::new("tar").args(["-czf", &text(&at("two.tgz")), "-C", &text(&at("two")), "."])).success();
    let archive = fs::read(at("two.tgz")).unwrap();
    world.paas(&["buildpacks:set", "app", &text(&at("two.tgz"))]).success();
    fs::remove_file(at("two.tgz")).unwrap();
    world.paas(&["ps:rebuild", "app"]).success().prints("-----> two builds").prints("v2 is live");
    assert!(world.get(&world.url("app")).unwrap().1.contains("two files"));
    world.paas(&["releases:list", "app"]).success().prints("rebuild");
    world.paas(&["buildpacks:report", "app"]).success().prints("test/two@1.0.0").prints("two.tgz");

    // The same archive, sent over ssh.
    let install = |archive: &[u8]| run_with(&mut world.ssh_command(&["buildpacks:install", "-"]), archive);
    install(&archive).success().prints("test/two@1.0.0 (sha256:");
    world.paas(&["buildpacks:installed"]).success().prints("standard input");
    world.paas(&["events"]).success().prints("buildpacks:install").prints("standard input");
    install(&archive[..archive.len() / 2]).failure().prints("cannot get the buildpack standard input: ");
    install(&[]).failure().prints("it is empty; send a .cnb or .tgz file");
    world.paas(&["buildpacks:uninstall", "test/two"]).success().prints("test/two@1.0.0 is uninstalled");

    // A folder of a git repository, at a tag.
    fs::create_dir_all(at("git")).unwrap();
    write_buildpack(&at("git/packs/three"), "test/three", "three");
    world.git(&at("git"), &["init", "-q"]).success();
    world.git(&at("git"), &["add", "."]).success();
    world.git(&at("git"), &["commit", "-qm", "one"]).success();
    world.git(&at("git"), &["tag", "v1"]).success();
    write_buildpack(&at("git/packs/three"), "test/three", "four");
    world.git(&at("git"), &["commit", "-qam", "two"]).success();
    let url = format!("file://{}", text(&at("git")));
    world.paas(&["buildpacks:set", "app", &format!("{url}#v1:packs/three")]).success();
    world.paas(&["ps:rebuild", "app"]).success().prints("-----> three builds");
    world.paas(&["buildpacks:set", "app", &format!("{url}#:packs/three")]).success();
    world.paas(&["ps:rebuild", "app"]).success().prints("-----> four builds");
    world.paas(&["buildpacks:add", "app", &format!("{url}#nothing")]).failure().prints("cannot fetch file://");
    world.paas(&["buildpacks:add", "app", &format!("{url}#:packs")]).success();
    let chosen = world.paas(&["buildpacks:list", "app", "--format", "json"]).success().json();
    let chosen: Vec<_> = chosen.as_array().unwrap().iter().map(|row| row["buildpack"].clone()).collect();
    assert_eq!(chosen, [format!("{url}#:packs/three"), format!("{url}#:packs")]);
    world.paas(&["buildpacks:clear", "app"]).success();
    let printed = world.paas(&["ps:rebuild", "app"]).failure();
    assert_eq!(printed.all().matches("no buildpack recognises this app").count(), 1, "{}", printed.all());
    assert!(world.get(&world.url("app")).unwrap().1.contains("four files"), "the live release is unchanged");
    let kept = fs::read_dir(world.data().join("buildpacks")).unwrap().count();
    assert_eq!(kept, 1, "only the installed buildpack is kept");
    world.paas(&["buildpacks:set", "app", "test/one"]).success();
    world
        .paas(&["buildpacks:uninstall", "test/one"])
        .success()
        .prints("as they chose it by name: app; buildpacks:set app chooses another");
    world.paas(&["buildpacks:clear", "app"]).success();
    world.paas(&["buildpacks:uninstall", "test/one"]).failure().prints("there is no installed buildpack test/one");

    // A developer key may not name files or repositories of the server.
    let key = world.dir().join("id_other");
    run(Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f", &text(&key)])).success();
    let public = fs::read_to_string(key.with_extension("pub")).unwrap();
    world.paas_with(&["ssh-keys:add", "other"], &public).success();
    world.ssh_as(&key, &["apps:create", "theirs"]).success();
    world.ssh_as(&key, &["buildpacks:add", "theirs", &text(&at("one"))]).failure().prints("only an admin may");
    world.ssh_as(&key, &["buildpacks:add", "theirs", &url]).failure().prints("only https:// and http:// are allowed");
    world.ssh_as(&key, &["buildpacks:install", "paas/nodejs"]).failure().prints("only an admin may");
    world.ssh_as(&key, &["buildpacks:install", "-"]).failure().prints("only an admin may");
}

/// A `project.toml` chooses files, buildpacks and build variables, and adds buildpacks of the app, which it may keep out of the build.
#[test]
fn project_toml_configures_the_build() {
    let world = World::new();
    let app = world.repository("project", &[("keep.txt", "x"), ("secret.txt", "x"), ("docs/a.txt", "x")]);
    write_buildpack(&app.join("own"), "my/own", "own");
    let project = r#"
        [_]
        schema-version = "0.2"
        [io.buildpacks]
        exclude = ["secret.txt", "docs/", "own/"]
        [[io.buildpacks.group]]
        uri = "own"
        [[io.buildpacks.post.group]]
        id = "my/last"
        [io.buildpacks.post.group.script]
        api = "0.10"
        shell = "/bin/bash"
        inline = '''
        echo '       and last the inline one'
        cat site/index.html
        [ ! -e docs ] && [ ! -e own ]
        cat /etc/apt/sources.list /etc/apt/sources.list.d/* | grep -q '^deb ''''
        [[io.buildpacks.build.env]]
        name = "BP_SAYS"
        value = "hello"
    "#;
    world.commit(&app, &[("project.toml", project)]);
    world.push(&app).success().prints("and last the inline one").prints("my/last@0.0.0");
    world.answers(&world.url("project"), "own files:keep.txt project.toml  env:hello");
    let about = world.paas(&["builds:info", "project"]).success();
    about.prints("my/own@1.0.0 (sha256:").prints("my/last@0.0.0 (part of the app)");

    // The Procfile takes precedence over the processes that buildpacks declare.
    let procfile =
        "web: mkdir /tmp/s; echo by procfile > /tmp/s/index.html; exec python3 -m http.server -d /tmp/s $PORT";
    world.commit(&app, &[("Procfile", procfile)]);
    world.push(&app).success().prints("none of the buildpacks reads the Procfile: paas/procfile comes after them");
    world.answers(&world.url("project"), "by procfile");

    // A composite buildpack has its parts beside it; one of them is made for several platforms.
    write_buildpack(&app.join("part"), "my/part", "part");
    write_buildpack(&app.join("many"), "my/many", "many");
    let platform = app.join("many/linux").join(if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" });
    fs::create_dir_all(&platform).unwrap();
    fs::rename(app.join("many/bin"), platform.join("bin")).unwrap();
    let named = |id: &str| format!("[[order.group]]\nid = {id:?}\nversion = \"1.0.0\"\n");
    let all = "api = \"0.10\"\n[buildpack]\nid = \"my/all\"\nversion = \"1.0.0\"\n[[order]]\n";
    let parts = "[[dependencies]]\nuri = \"../part\"\n[[dependencies]]\nuri = \"../many\"\n";
    let project = "[_]\nschema-version = \"0.2\"\n[io.buildpacks]\nexclude = [\"all/\", \"part/\", \"many/\"]\n\
                   [[io.buildpacks.group]]\nuri = \"all\"\n";
    world.commit(
        &app,
        &[
            ("all/buildpack.toml", &format!("{all}{}{}", named("my/part"), named("my/many"))),
            ("all/package.toml", parts),
            ("project.toml", project),
        ],
    );
    world.push(&app).success().prints("my/part@1.0.0").prints("-----> many builds");

    for (text, says) in [
        ("[io.buildpacks]\ninclude = ['a']\nexclude = ['b']\n", "give include or exclude, not both"),
        ("[[io.buildpacks.group]]\nid = 'x/y'\nversion = '1'\n", "the buildpack x/y@1 is not installed"),
        ("[[io.buildpacks.group]]\nuri = '/etc'\n", "only an admin may name files of the server"),
        ("[[io.buildpacks.group]]\nuri = './gone'\n", "the commit has no gone/buildpack.toml"),
        ("[io.buildpacks]\nexclude = ['{a']\n", "project.toml, key io.buildpacks.exclude"),
    ] {
        world.commit(&app, &[("project.toml", text)]);
        world.push(&app).failure().prints(says);
    }
}

/// The next build uses the build cache, until builds:clear-cache clears it.
#[test]
fn a_build_starts_without_its_cache_after_clear_cache() {
    let world = World::new();
    let app = world.repository("cached", &[("note.txt", "x")]);
    let bp = world.dir().join("home/bp");
    write_buildpack(&bp, "test/cache", "cache");
    let build = fs::read_to_string(bp.join("bin/build")).unwrap();
    // `l` is only launched: its contents are in the previous image alone.
    let more = "[ -e \"$CNB_LAYERS_DIR/l.toml\" ] && cat \"$CNB_LAYERS_DIR/l.sbom.cdx.json\" || mkdir \"$CNB_LAYERS_DIR/l\"\n\
                printf '{\"from\": \"the image\"}\\n' > \"$CNB_LAYERS_DIR/l.sbom.cdx.json\"\n\
                printf '[types]\\nlaunch = true\\n' > \"$CNB_LAYERS_DIR/l.toml\"\n\
                [ -e \"$CNB_LAYERS_DIR/c/x\" ] && echo '       from the cache'\nmkdir -p \"$CNB_LAYERS_DIR/c\"\n\
                touch \"$CNB_LAYERS_DIR/c/x\"\nprintf '[types]\\ncache = true\\n' > \"$CNB_LAYERS_DIR/c.toml\"\n";
    fs::write(bp.join("bin/build"), build + more).unwrap();
    world.paas(&["apps:create", "cached"]).success();
    world.paas(&["buildpacks:set", "cached", &bp.display().to_string()]).success();
    world.push(&app).success();
    world.paas(&["ps:rebuild", "cached"]).success().prints("from the cache").prints("from\": \"the image");
    world.paas(&["builds:clear-cache", "cached"]).success();
    let printed = world.paas(&["ps:rebuild", "cached"]).success().prints("-----> cache builds");
    assert!(!printed.all().contains("from the cache") && !printed.all().contains("the image\""), "{}", printed.all());
    world.paas(&["ps:rebuild", "cached"]).success().prints("from the cache").prints("from\": \"the image");
}

/// A buildpack in Rust, written with libcnb, the framework of Heroku's buildpacks.
#[test]
#[ignore = "slow"]
fn a_buildpack_written_with_libcnb_builds() {
    let root = crate::support::command::repository_root();
    let (source, target) = (root.join("tests/libcnb"), root.join("target/libcnb"));
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--release", "--locked", "--quiet", "--manifest-path"]).arg(source.join("Cargo.toml"));
    // Linked dynamically, it would need this machine's version of libc, which a stack may not have.
    cargo.args(["--target", "x86_64-unknown-linux-gnu", "--target-dir"]).arg(&target);
    run(cargo.env("RUSTFLAGS", "-C target-feature=+crt-static")).success();

    let world = World::new();
    let folder = world.dir().join("home/libcnb");
    fs::create_dir_all(folder.join("bin")).unwrap();
    fs::copy(source.join("buildpack.toml"), folder.join("buildpack.toml")).unwrap();
    fs::copy(target.join("x86_64-unknown-linux-gnu/release/libcnb-hello"), folder.join("bin/build")).unwrap();
    // One program under two names, as libcnb packages it.
    std::os::unix::fs::symlink("build", folder.join("bin/detect")).unwrap();
    world.paas(&["buildpacks:install", &folder.display().to_string()]).success();
    let app = world.repository("rust", &[("greeting.txt", "hello from libcnb")]);
    world.paas(&["apps:create", "rust"]).success();
    world.paas(&["buildpacks:set", "rust", "test/libcnb"]).success();
    world.push(&app).success().prints("-----> 1 of the plan").prints("for debian 13").prints("the greeting is new");
    world.answers(&world.url("rust"), "hello from libcnb");
    world.commit(&app, &[("greeting.txt", "changed")]);
    world.push(&app).success().prints("the greeting was cached");
    world.answers(&world.url("rust"), "changed");
}

/// A folder of a larger repository is deployed as an app; its build sees the config vars that are set for builds, and no
/// image contains any of them.
#[test]
fn a_folder_of_a_repository_is_built_with_the_build_variables_only() {
    let world = World::new();
    let project = r#"
        [_]
        schema-version = "0.2"
        [[io.buildpacks.pre.group]]
        id = "my/teller"
        [io.buildpacks.pre.group.script]
        api = "0.10"
        inline = "echo seen=$BUILD_TOKEN unseen=${RUN_TOKEN-none} host=${PAAS_TEST_PAUSES-none}; ls"
    "#;
    let files = [
        ("services/api/Procfile", version(1)),
        ("services/api/project.toml", project.to_owned()),
        ("services/api/note.txt", "kept in the image".to_owned()),
    ];
    let files = files.each_ref().map(|(name, text)| (*name, text.as_str()));
    let folder = world.repository("mono", &[("README", "all of it")]);
    world.commit(&folder, &files);
    world.paas(&["apps:create", "mono"]).success();
    world.paas(&["config:set", "mono", "--build", "BUILD_TOKEN=hunter2-build"]).success().prints("builds see them");
    world.paas(&["config:set", "mono", "RUN_TOKEN=hunter2-run"]).success();
    let vars = world.paas(&["config:list", "mono", "--format", "json"]).success().json();
    assert_eq!((&vars[0]["build"], &vars[1]["build"]), (&true.into(), &false.into()));

    world.push(&folder).failure().prints("(services/api): builds:set mono dir services/api");
    world.commit(&folder, &[("web/index.html", "made"), ("web/package.json", "{}")]);
    world.push(&folder).failure().prints("(services/api, web): builds:set mono dir services/api");
    world.paas(&["builds:set", "mono", "dir", "../api"]).failure().prints("is not a valid folder of a repository");
    world
        .paas(&["builds:set", "mono", "folder", "x"])
        .failure()
        .prints("there is no property folder; those are dir, dockerfile and target");
    let printed = world.paas(&["builds:set", "mono", "dir", "services/web"]).success();
    assert!(!printed.all().contains("has no"), "before the first deploy there is nothing to check: {}", printed.all());
    world.push(&folder).failure().prints("services/web");
    world.paas(&["builds:set", "mono", "dir", "./services/api/"]).success();
    world.paas(&["apps:info", "mono"]).success().prints("services/api");
    let printed = world.push(&folder).success().prints("seen=hunter2-build unseen=none host=none");
    let listed = |name: &str| printed.err.lines().any(|line| line.trim_start_matches("remote:").trim() == name);
    assert!(listed("note.txt") && !listed("README"), "only the folder is built: {}", printed.err);
    let lacks = "has no folder services/web; push a commit that has it, or set dir to an existing folder";
    world.paas(&["builds:set", "mono", "dir", "services/web"]).success().prints(lacks);
    let printed = world.paas(&["builds:set", "mono", "dir", "services/api"]).success();
    assert!(!printed.all().contains("has no"), "the folder exists: {}", printed.all());
    let lacks = "has no file services/api/docker/D; push a commit that has it, or set dockerfile to an existing file";
    world.paas(&["builds:set", "mono", "dockerfile", "./docker/D"]).success().prints(lacks);
    world.paas(&["builder-dockerfile:set", "mono", "dockerfile-path", "note.txt"]).success();
    let set = world.paas(&["builds:set", "mono", "target", "final", "--format", "json"]).success().json_lines();
    let set = ["build_dir", "dockerfile", "build_target"].map(|name| set.last().unwrap()[name].clone());
    assert_eq!(set, ["services/api", "note.txt", "final"]);
    world.paas(&["apps:info", "mono"]).success().prints("note.txt").prints("final");
    for (property, value) in [("dockerfile", "../D"), ("dockerfile", "/D"), ("target", "a b")] {
        world.paas(&["builds:set", "mono", property, value]).failure().prints("is not a valid");
    }
    for property in ["dockerfile", "target"] {
        world.paas(&["builds:set", "mono", property]).success().prints("from the next push on");
    }
    let info = world.paas(&["apps:info", "mono", "--format", "json"]).success().json();
    assert!(info["dockerfile"].is_null() && info["build_target"].is_null(), "{info}");
    world.answers(&world.url("mono"), "version-1");

    let image = world.image_of("mono");
    let script = format!(
        "docker save {image} > all.tar; mkdir all; tar -xf all.tar -C all; \
         grep -rqF 'kept in the image' all; ! grep -r hunter2 all"
    );
    run(Command::new("bash").args(["-euc", &script]).current_dir(world.dir())).success();

    world.paas(&["config:unset", "mono", "BUILD_TOKEN"]).success();
    world.paas(&["config:set", "mono", "BUILD_TOKEN=x"]).success();
    world.paas(&["ps:rebuild", "mono"]).success().prints("seen= unseen=none");
}

/// A push that is interrupted while an image is fetched leaves neither a container nor a disk; such a fetch takes a turn.
#[test]
fn an_interrupted_fetch_leaves_nothing() {
    let (elsewhere, world) = (Elsewhere::new(), World::with("[build]\nconcurrency = 1\nstandby = false\n"));
    // The kernel accepts the connections, and nobody answers.
    let silent = elsewhere.within(|| TcpListener::bind("0.0.0.0:0").unwrap());
    let image = format!("{}:{}/pack:1", elsewhere.public, silent.local_addr().unwrap().port());
    let project = format!("[_]\nschema-version = '0.2'\n[[io.buildpacks.group]]\nuri = 'docker://{image}'\n");
    let files = [("project.toml", project.as_str()), ("Procfile", &version(1))];
    let folder = world.repository("fetches", &files);
    let fetch_disks = || {
        let disks = fs::read_dir(world.data().join("disks")).into_iter().flatten();
        disks.filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().starts_with("fetch-")).count()
    };
    let mut command = world.git_command(&folder);
    command.args(["push", "paas", "main"]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut pushing = command.process_group(0).spawn().unwrap();
    let containers = || {
        let label = format!("label=paas.server={}", world.server_id());
        run(Command::new("docker").args(["ps", "-aq", "--filter", &label, "--filter", "label=paas.kind=build"]))
            .success()
            .out
    };
    eventually("the image is fetched", || (!containers().is_empty()).then_some(()));
    assert_ne!(fetch_disks(), 0);
    kill_group(pushing.id().cast_signed());
    assert!(!pushing.wait().unwrap().success());
    eventually("the container is removed", || containers().is_empty().then_some(()));
    eventually("the disk is removed", || (fetch_disks() == 0).then_some(()));
    let folder = world.repository("app", &[("Procfile", &version(1))]);
    world.push(&folder).success();
}

#[test]
fn deep_and_closed_folders_harm_nobody() {
    let world = World::new();
    let project = "[_]\nschema-version = '0.2'\n[[io.buildpacks.group]]\nuri = 'p'\n";
    let about = "api = '0.12'\n[buildpack]\nid = 'eve/deep'\nversion = '1'\n";
    let deep = format!("p/{}f", "d/".repeat(800));
    let files = [("project.toml", project), ("p/buildpack.toml", about), (&deep, "x")];
    let folder = world.repository("deep", &files);
    world.push(&folder).failure().prints("more than 100 folders lie in each other");

    let script = r#"
python3 -c '
import os
os.makedirs("'"$1"'/l"); os.chdir("'"$1"'/l")
for _ in range(2000): os.mkdir("d"); os.chdir("d")
'
printf '[types]\nlaunch = true\n' >"$1/l.toml"
chmod 0 /workspace
"#;
    let project = format!(
        "[_]\nschema-version = '0.2'\n[[io.buildpacks.group]]\nid = 'eve/leaves'\n\
         [io.buildpacks.group.script]\napi = '0.10'\ninline = '''{}'''\n",
        script.replace("'''", "")
    );
    run(Command::new("git").current_dir(&folder).args(["rm", "-rq", "p"])).success();
    let web = version(1);
    world.commit(&folder, &[("project.toml", &project), ("Procfile", &web)]);
    world.push(&folder).failure().prints("Permission denied");
    world.commit(&folder, &[("project.toml", "")]);
    world.push(&folder).success();
}
