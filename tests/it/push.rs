//! Pushes, as a developer sees them.

use std::{collections::HashSet, process::Command};

use crate::support::{apps::version, command::run, http::Load, waiting::eventually, world::World};

/// The story of the demo: apps in three languages, three instances, a change without a failed request, and a broken change,
/// which is refused.
#[test]
fn three_apps_are_deployed_scaled_and_changed_without_a_failed_request() {
    let world = World::new();
    let site = world.sample("static", "site");
    world.push(&site).good().says("-----> ").says("http://127.0.0.1:");
    world.answers(&world.url("site"), "Hello from a static site");

    let python = world.sample("python", "py");
    world.push(&python).good();
    world.answers(&world.url("py"), "Hello from Python");

    let node = world.sample("node", "js");
    world.push(&node).good();
    let url = world.url("js");
    world.answers(&url, "Hello from Node.js, version 1");

    world.ssh(&["ps:scale", "js", "web=3"]).good();
    let mut seen = HashSet::new();
    eventually("three different instances respond", || {
        seen.insert(world.get(&url).unwrap().1);
        (seen.len() == 3).then_some(())
    });

    let load = Load::on(&url);
    let server = std::fs::read_to_string(node.join("server.js")).unwrap();
    world.commit(&node, &[("server.js", &server.replace("version 1", "version 2"))]);
    world.push(&node).good();
    assert!(world.get(&url).unwrap().1.contains("version 2"), "the new version responds when the push ends");
    load.end_without_failure();

    let live = world.git(&node, &["rev-parse", "HEAD"]).good().out;
    let load = Load::on(&url);
    world.commit(&node, &[("server.js", "throw new Error('broken for good')")]);
    world.push(&node).bad().says("broken for good").says("[remote rejected] main -> main");
    load.end_without_failure();
    world.answers(&url, "version 2");
    let remote = world.git(&node, &["ls-remote", "paas", "refs/heads/main"]).good().out;
    assert_eq!(remote.split_whitespace().next(), Some(live.trim()), "the ref did not move");

    world.ssh(&["apps:destroy", "js", "--force"]).good();
    eventually("the instances are removed", || {
        world.containers("instance").iter().all(|name| !name.starts_with("js-")).then_some(())
    });
}

/// A push of the same tree is not built again, and another app with the same tree gets the same image.
#[test]
fn the_same_tree_gives_the_same_image() {
    let world = World::new();
    let one = world.sample("node", "one");
    world.push(&one).good();
    world.commit(&one, &[]);
    world.push(&one).good().says("unchanged");
    let two = world.sample("node", "two");
    world.push(&two).good();
    let image = |app: &str| {
        let releases = world.paas(&["releases:list", app, "--format", "json"]).good().out;
        let releases: serde_json::Value = serde_json::from_str(&releases).unwrap();
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
    world.push(&folder).good();
    world.git(&folder, &["push", "paas", "main:topic"]).good().says("stored, not deployed");
    world.git(&folder, &["tag", "v1"]).good();
    world.git(&folder, &["push", "paas", "v1"]).good();
    let releases = world.paas(&["releases:list", "repo", "--format", "json"]).good().out;
    let releases: serde_json::Value = serde_json::from_str(&releases).unwrap();
    assert_eq!(releases.as_array().unwrap().len(), 1, "neither branch nor tag is deployed: {releases}");

    let clone = world.dir().join("clone");
    world.git(world.dir(), &["clone", "-q", &format!("{}.git", world.remote("repo")), "clone"]).good();
    assert_eq!(std::fs::read_to_string(clone.join("index.html")).unwrap(), "first");
    assert!(world.git(&clone, &["branch", "-r"]).good().out.contains("origin/topic"));

    world.git(&folder, &["commit", "-q", "--amend", "-m", "rewritten", "--allow-empty"]).good();
    std::fs::write(folder.join("index.html"), "second").unwrap();
    world.git(&folder, &["commit", "-q", "-a", "--amend", "-m", "rewritten"]).good();
    world.push(&folder).bad().says("non-fast-forward");
    world.git(&folder, &["push", "--force", "paas", "main"]).good();
    world.answers(&world.url("repo"), "second");

    world.git(&folder, &["push", "paas", ":main"]).bad().says("deploy branch");
    world.git(&folder, &["push", "paas", ":topic"]).good();
    let refs = world.git(&folder, &["ls-remote", "paas"]).good().out;
    assert!(refs.contains("refs/heads/main") && !refs.contains("topic"), "{refs}");

    world.ssh(&["git:set", "repo", "deploy-branch", "live"]).good();
    world.commit(&folder, &[("index.html", "third")]);
    world.git(&folder, &["push", "paas", "main"]).good().says("stored, not deployed");
    world.git(&folder, &["push", "paas", "main:live"]).good();
    world.answers(&world.url("repo"), "third");
}

/// A first push that fails creates the app without a release, and is explained; the next push works.
#[test]
fn apps_that_cannot_be_built_or_run_are_explained() {
    let world = World::new();
    let folder = world.repository("odd", &[("README.md", "nothing to run")]);
    world.push(&folder).bad().says("no buildpack");
    world.ssh(&["apps:info", "odd"]).good();
    assert!(world.git(&folder, &["ls-remote", "paas"]).good().out.is_empty());

    world.commit(&folder, &[("Procfile", "web: sleep 1000\nnonsense")]);
    world.push(&folder).bad().says("Procfile line 2");
    world.commit(&folder, &[("Procfile", "web: sleep 1000"), ("app.json", "{")]);
    world.push(&folder).bad().says("app.json: ");
    let checks = r#"{"healthchecks":{"web":[{"attempts":3,"wait":0.5}]}}"#;
    world.commit(&folder, &[("app.json", checks)]);
    world.push(&folder).bad().says("it does not listen on $PORT (8080)");
    // The caller is informed after 10 seconds, and then of each change.
    let patient = r#"{"healthchecks":{"web":[{"attempts":24,"wait":1}]}}"#;
    let late = "web: sleep 15; exec python3 -m http.server 3000";
    world.commit(&folder, &[("Procfile", late), ("app.json", patient)]);
    let said = world.push(&folder).bad().says("it listens on port 3000, not on $PORT (8080)").all();
    for line in ["web.1 listens on no port yet", "web.1 listens on port 3000 so far, not on $PORT (8080)"] {
        assert_eq!(said.matches(line).count(), 1, "{line}: {said}");
    }
    world.commit(&folder, &[("app.json", checks)]);
    world.commit(&folder, &[("Procfile", "web: echo i-have-no-time; exit 3")]);
    world.push(&folder).bad().says("i-have-no-time").says("status 3");
    // A server whose workers cannot load the app has an open port until it exits.
    let hollow = "import os, socket, sys, time\ns = socket.socket()\ns.bind(('0.0.0.0', int(os.environ['PORT'])))\n\
                  s.listen()\ntime.sleep(2)\nsys.exit('no worker boots')\n";
    world.commit(&folder, &[("Procfile", "web: python3 hollow.py"), ("hollow.py", hollow), ("app.json", patient)]);
    world.push(&folder).bad().says("no worker boots").says("status 1");
    world.commit(&folder, &[("hollow.py", &hollow.replace("sleep(2)", "sleep(100)")), ("app.json", checks)]);
    world.push(&folder).bad().says("it listens but accepts no connections");
    world.commit(&folder, &[("Procfile", "web: python3 -m http.server $PORT")]);
    world.push(&folder).good();
    world.answers(&world.url("odd"), "Procfile");
    world.commit(&folder, &[("Procfile", "worker: sleep 1000")]);
    world.push(&folder).good().says("the app has no web process");
    assert_eq!(world.get(&world.url("odd")).unwrap().0, 503);
    world.ssh(&["ps:scale", "odd", "worker=2"]).good();
    let report = world.ssh(&["ps:report", "odd"]).good().out;
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
    run(&mut command).good();
    world.answers(&world.url("other-client"), "by libgit2");
    assert_eq!(std::fs::read_to_string(clone.join("index.html")).unwrap(), "by libgit2");
}

/// When a release lacks a process type that has instances, the push warns of it, and they are stopped.
#[test]
fn a_removed_process_type_is_stopped_with_a_warning() {
    let world = World::new();
    let folder = world.repository("ends", &[("Procfile", &format!("{}\nworker: sleep 1000\n", version(1)))]);
    world.push(&folder).good();
    world.ssh(&["ps:scale", "ends", "worker=1"]).good();
    world.commit(&folder, &[("Procfile", &version(2))]);
    let said = world.push(&folder).good();
    let ends = "worker is no longer a process type: its instances end with this release";
    assert_eq!(said.err.matches("no longer a process type").count(), 1, "{}", said.err);
    assert!(said.err.contains(ends), "{}", said.err);
    world.answers(&world.url("ends"), "version-2");
    eventually("only the web instance is left", || {
        let names = world.containers("instance");
        (names.len() == 1 && names[0].starts_with("ends-web-")).then_some(())
    });
}
