//! An upgrade of the engine below a running server. Only `tests/engines` runs this, since it takes two engines.

use std::{fs, path::Path, process::Command};

use crate::support::{
    apps::version,
    command::{repository_root, run},
    waiting::eventually,
    world::World,
};

/// A Dockerfile that needs no base image, and responds with `text`.
fn write_dockerfile(folder: &Path, text: &str) {
    let dockerfile = format!(
        "FROM scratch\nCOPY busybox /bin/busybox\nCOPY index.html /www/index.html\nLABEL text=\"{text}\"\nEXPOSE 8080\n\
         CMD [\"/bin/busybox\", \"httpd\", \"-f\", \"-p\", \"8080\", \"-h\", \"/www\"]\n"
    );
    fs::write(folder.join("Dockerfile"), dockerfile).unwrap();
    fs::write(folder.join("index.html"), text).unwrap();
    fs::copy("/usr/bin/busybox", folder.join("busybox")).expect("the package busybox-static is installed");
}

/// After the oldest supported engine is replaced by the newest on the same data, the declared instances run again, of images
/// that the older engine pulled, and everything that changes an app works.
#[test]
#[ignore = "needs two engines: run it with `make test-engines ENGINE=upgrade`"]
fn apps_survive_an_upgrade_of_the_engine() {
    let mut world = World::new();
    let built = world.repository("built", &[("Procfile", &version(1))]);
    let dockerfile = world.repository("dockerfile", &[]);
    write_dockerfile(&dockerfile, "dockerfile-1");
    world.commit(&dockerfile, &[]);
    world.push(&built).success();
    world.push(&dockerfile).success();
    world.ssh(&["ps:scale", "built", "web=2"]).success();
    let urls = [("built", "version-1"), ("dockerfile", "dockerfile-1")].map(|(app, text)| (app, world.url(app), text));

    let engines = repository_root().join("tests/engines");
    run(Command::new(engines).args(["start", "forky", "overlay2"])).success();
    for (app, url, text) in &urls {
        let declared = if *app == "built" { 2 } else { 1 };
        world.answers(url, text);
        eventually("all instances are healthy", || {
            let instances = world.instances(app);
            (instances.len() == declared && instances.iter().all(|one| one["state"] == "healthy")).then_some(())
        });
        assert_eq!(
            world.containers("instance").iter().filter(|name| name.starts_with(&format!("{app}-"))).count(),
            declared
        );
    }

    world.kill_server();
    world.start_server();
    world.ssh(&["ps:scale", "dockerfile", "web=2"]).success();
    world.commit(&built, &[("Procfile", &version(2))]);
    world.push(&built).success();
    world.answers(&urls[0].1, "version-2");
    write_dockerfile(&dockerfile, "dockerfile-2");
    world.commit(&dockerfile, &[]);
    world.push(&dockerfile).success();
    world.answers(&urls[1].1, "dockerfile-2");
    world.ssh(&["releases:rollback", "built"]).success();
    world.answers(&urls[0].1, "version-1");
}
