//! Pushes, as a developer sees them.

use std::{collections::HashSet, process::Command};

use crate::support::{apps::version, command::run, http::Load, waiting::eventually, world::World};

/// The story of the demo: apps in three languages, three instances, a change without a failed request, and a broken change,
/// which is refused.
#[test]
fn three_apps_are_deployed_scaled_and_changed_without_a_failed_request() {
    let world = World::new();
    let site = world.sample("static", "site");
    world.push(&site).success().prints("-----> ").prints("http://127.0.0.1:");
    world.answers(&world.url("site"), "Hello from a static site");

    let python = world.sample("python", "py");
    world.push(&python).success();
    world.answers(&world.url("py"), "Hello from Python");

    let node = world.sample("node", "js");
    world.push(&node).success();
    let url = world.url("js");
    world.answers(&url, "Hello from Node.js, version 1");

    world.ssh(&["ps:scale", "js", "web=3"]).success();
    let mut seen = HashSet::new();
    eventually("three different instances respond", || {
        seen.insert(world.get(&url).unwrap().1);
        (seen.len() == 3).then_some(())
    });

    let load = Load::on(&url);
    let server = std::fs::read_to_string(node.join("server.js")).unwrap();
    world.commit(&node, &[("server.js", &server.replace("version 1", "version 2"))]);
    world.push(&node).success();
    assert!(world.get(&url).unwrap().1.contains("version 2"), "the new version responds when the push ends");
    load.end_without_failure();

    let live = world.git(&node, &["rev-parse", "HEAD"]).success().out;
    let load = Load::on(&url);
    world.commit(&node, &[("server.js", "throw new Error('broken for good')")]);
    world.push(&node).failure().prints("broken for good").prints("[remote rejected] main -> main");
    load.end_without_failure();
    world.answers(&url, "version 2");
    let remote = world.git(&node, &["ls-remote", "paas", "refs/heads/main"]).success().out;
    assert_eq!(remote.split_whitespace().next(), Some(live.trim()), "the ref did not move");

    world.ssh(&["apps:destroy", "js", "--force"]).success();
    eventually("the instances are removed", || {
        world.containers("instance").iter().all(|name| !name.starts_with("js-")).then_some(())
    });
}

/// A push of the same tree is not built again, and another app with the same tree gets the same image.
#[test]
fn the_same_tree_gives_the_same_image() {
    let world = World::new();
    let one = world.sample("node", "one");
    world.push(&one).success();
    world.commit(&one, &[]);
    world.push(&one).success().prints("unchanged");
    let two = world.sample("node", "two");
    world.push(&two).success();
    let image = |app: &str| {
        let releases = world.paas(&["releases:list", app, "--format", "json"]).success().json();
        let images: HashSet<_> =
            releases.as_array().unwrap().iter().map(|r| r["image"].as_str().unwrap().to_owned()).collect();
        assert_eq!(images.len(), 1, "{releases}");
        images.into_iter().next().unwrap()
    };
    assert_eq!(image("one"), image("two"));
}

/// Other branches and tags are stored, clones and forced pushes work, and the deploy branch cannot be deleted.
#[test]
fn branches_tags_clones_and_forced_pushes_work() {
    let world = World::new();
    let folder = world.repository("repo", &[("index.html", "first")]);
    world.push(&folder).success();
    let text = "topic is stored, not deployed: main is the deploy branch";
    world.git(&folder, &["push", "paas", "main:topic"]).success().prints(text);
    world.git(&folder, &["tag", "v1"]).success();
    world
        .git(&folder, &["push", "paas", "v1"])
        .success()
        .prints("Nothing is deployed: v1 is not a branch")
        .prints("that commit is live as v1");
    let releases = world.paas(&["releases:list", "repo", "--format", "json"]).success().json();
    assert_eq!(releases.as_array().unwrap().len(), 1, "neither branch nor tag is deployed: {releases}");

    let clone = world.dir().join("clone");
    world.git(world.dir(), &["clone", "-q", &format!("{}.git", world.remote("repo")), "clone"]).success();
    assert_eq!(std::fs::read_to_string(clone.join("index.html")).unwrap(), "first");
    assert!(world.git(&clone, &["branch", "-r"]).success().out.contains("origin/topic"));

    world.git(&folder, &["commit", "-q", "--amend", "-m", "rewritten", "--allow-empty"]).success();
    std::fs::write(folder.join("index.html"), "second").unwrap();
    world.git(&folder, &["commit", "-q", "-a", "--amend", "-m", "rewritten"]).success();
    world.push(&folder).failure().prints("non-fast-forward");
    world.git(&folder, &["push", "--force", "paas", "main"]).success();
    world.answers(&world.url("repo"), "second");

    world.git(&folder, &["push", "paas", ":main"]).failure().prints("deploy branch");
    world.git(&folder, &["push", "paas", ":topic"]).success();
    let refs = world.git(&folder, &["ls-remote", "paas"]).success().out;
    assert!(refs.contains("refs/heads/main") && !refs.contains("topic"), "{refs}");

    world.ssh(&["git:set", "repo", "deploy-branch", "live"]).success();
    world.commit(&folder, &[("index.html", "third")]);
    world.git(&folder, &["push", "paas", "main"]).success().prints("stored, not deployed");
    world.git(&folder, &["push", "paas", "main:live"]).success();
    world.answers(&world.url("repo"), "third");
}

/// A first push that fails creates the app without a release, and is explained; the next push works.
#[test]
fn apps_that_cannot_be_built_or_run_are_explained() {
    let world = World::new();
    let folder = world.repository("odd", &[("README.md", "nothing to run")]);
    world.push(&folder).failure().prints("no buildpack");
    world.ssh(&["apps:info", "odd"]).success();
    assert!(world.git(&folder, &["ls-remote", "paas"]).success().out.is_empty());

    world.commit(&folder, &[("Procfile", "web: sleep 1000\nnonsense")]);
    world.push(&folder).failure().prints("Procfile line 2");
    world.commit(&folder, &[("Procfile", "web: sleep 1000"), ("app.json", "{")]);
    world.push(&folder).failure().prints("app.json: ");
    let checks = r#"{"healthchecks":{"web":[{"attempts":3,"wait":0.5}]}}"#;
    world.commit(&folder, &[("app.json", checks)]);
    world.push(&folder).failure().prints("it does not listen on $PORT (8080)");
    // The caller is informed after 10 seconds, and then of each change.
    let patient = r#"{"healthchecks":{"web":[{"attempts":24,"wait":1}]}}"#;
    let late = "web: sleep 15; exec python3 -m http.server 3000";
    world.commit(&folder, &[("Procfile", late), ("app.json", patient)]);
    let printed = world.push(&folder).failure().prints("it listens on port 3000, not on $PORT (8080)").all();
    for line in ["web.1 listens on no port yet", "web.1 listens on port 3000 so far, not on $PORT (8080)"] {
        assert_eq!(printed.matches(line).count(), 1, "{line}: {printed}");
    }
    world.commit(&folder, &[("app.json", checks)]);
    world.commit(&folder, &[("Procfile", "web: echo i-have-no-time; exit 3")]);
    world.push(&folder).failure().prints("i-have-no-time").prints("status 3");
    // A server whose workers cannot load the app has an open port until it exits.
    let hollow = "import os, socket, sys, time\ns = socket.socket()\ns.bind(('0.0.0.0', int(os.environ['PORT'])))\n\
                  s.listen()\ntime.sleep(2)\nsys.exit('no worker boots')\n";
    world.commit(&folder, &[("Procfile", "web: python3 hollow.py"), ("hollow.py", hollow), ("app.json", patient)]);
    world.push(&folder).failure().prints("no worker boots").prints("status 1");
    world.commit(&folder, &[("hollow.py", &hollow.replace("sleep(2)", "sleep(100)")), ("app.json", checks)]);
    world.push(&folder).failure().prints("it listens but accepts no connections");
    world.commit(&folder, &[("Procfile", "web: python3 -m http.server $PORT")]);
    world.push(&folder).success();
    world.answers(&world.url("odd"), "Procfile");
    world.commit(&folder, &[("Procfile", "worker: sleep 1000")]);
    let url = world.url("odd");
    world
        .push(&folder)
        .success()
        .prints("the app has no web process")
        .prints("no instance is declared: ps:scale odd worker=1 starts one");
    assert_eq!(world.get(&url).unwrap().0, 503);
    world.paas(&["url", "odd"]).failure().prints("odd has no web process, so it has no URL");
    world.ssh(&["ps:scale", "odd", "worker=2"]).success();
    let report = world.ssh(&["ps:report", "odd"]).success().out;
    assert!(report.contains("worker.2"), "{report}");
}

/// IDEs use libgit2, which speaks SSH through libssh2 instead of OpenSSH.
#[test]
fn pushing_and_cloning_with_libgit2_works() {
    let world = World::new();
    let folder = world.repository("other-client", &[("index.html", "by libgit2")]);
    let script = "
import sys, pygit2
folder, url, key, clone = sys.argv[1:]
class Callbacks(pygit2.RemoteCallbacks):
    def credentials(self, url, name, allowed):
        return pygit2.Keypair('paas', key + '.pub', key, '')
    def certificate_check(self, certificate, valid, host):
        return True
    def push_update_reference(self, name, message):
        assert message is None, message
remote = pygit2.Repository(folder).remotes.create('other', url)
remote.push(['refs/heads/main'], callbacks=Callbacks())
pygit2.clone_repository(url, clone, callbacks=Callbacks())
";
    let (key, clone) = (world.dir().join("id_ed25519"), world.dir().join("work/clone"));
    let mut command = Command::new("/usr/bin/python3");
    command.args(["-c", script]).arg(&folder).arg(world.remote("other-client")).arg(key).arg(&clone);
    run(&mut command).success();
    world.answers(&world.url("other-client"), "by libgit2");
    assert_eq!(std::fs::read_to_string(clone.join("index.html")).unwrap(), "by libgit2");
}

/// When a release lacks a process type that has instances, the push warns of it, and they are stopped.
#[test]
fn a_removed_process_type_is_stopped_with_a_warning() {
    let world = World::new();
    let folder = world.repository("ends", &[("Procfile", &format!("{}\nworker: sleep 1000\n", version(1)))]);
    world.push(&folder).success();
    world.ssh(&["ps:scale", "ends", "worker=1"]).success();
    world.commit(&folder, &[("Procfile", &version(2))]);
    let printed = world.push(&folder).success();
    let ends = "worker is no longer a process type: its instances end with this release";
    assert_eq!(printed.err.matches("no longer a process type").count(), 1, "{}", printed.err);
    assert!(printed.err.contains(ends), "{}", printed.err);
    world.answers(&world.url("ends"), "version-2");
    eventually("only the web instance is left", || {
        let names = world.containers("instance");
        (names.len() == 1 && names[0].starts_with("ends-web-")).then_some(())
    });
}

/// One process reads what the server wants to know of a repository; git's programs only receive and change.
#[test]
fn a_push_starts_no_git_that_only_reads() {
    let world = World::new();
    let folder = world.sample("static", "site");
    world.push(&folder).success();

    // Every git of the server now records its arguments in a file of its own.
    let trace = world.dir().join("trace");
    std::fs::create_dir(&trace).unwrap();
    std::fs::set_permissions(&trace, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    let settings = world.data().join("git/.gitconfig");
    let text = std::fs::read_to_string(&settings).unwrap();
    std::fs::write(&settings, format!("{text}[trace2]\n\teventTarget = {}\n", trace.display())).unwrap();

    world.commit(&folder, &[("index.html", "changed")]);
    world.push(&folder).success();
    world.answers(&world.url("site"), "changed");
    world.ssh(&["ps:rebuild", "site"]).success();
    world.ssh(&["builds:set", "site", "dir", "nowhere"]).success().prints("has no folder nowhere");

    let mut started = Vec::new();
    for file in std::fs::read_dir(&trace).unwrap() {
        for line in std::fs::read_to_string(file.unwrap().path()).unwrap().lines() {
            let event: serde_json::Value = serde_json::from_str(line).unwrap();
            // What another git started has the session of that one before its own.
            if event["event"] == "start" && !event["sid"].as_str().unwrap().contains('/') {
                let mut words = event["argv"].as_array().unwrap().iter().skip(1).map(|word| word.as_str().unwrap());
                // After `-c` there is a setting.
                let command = words.by_ref().find(|word| *word != "-c" && !word.contains('='));
                started.push(command.unwrap().to_owned());
            }
        }
    }
    for word in ["receive-pack", "update-ref"] {
        assert!(started.iter().any(|started| started == word), "the record is complete: {started:?}");
    }
    let changing = ["receive-pack", "update-ref", "symbolic-ref", "pack-refs", "repack", "prune"];
    assert!(started.iter().all(|word| changing.contains(&word.as_str())), "{started:?}");
}
