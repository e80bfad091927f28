//! The files in which an app describes itself: what people write into them is read, or told.

use std::{fs, os::unix::fs::symlink};

use crate::support::world::World;

/// Comments, a byte order mark and trailing commas are read; whatever has no effect is named, also if nothing is built.
#[test]
fn what_has_no_effect_is_told_in_every_push() {
    let world = World::new();
    let app_json = "\u{feff}{\n  \"name\": \"told\", \"logo\": \"x\", \"helthchecks\": {}, \"healthchecks\": { \"wbe\": [{}] },\n  // two of them\n  \"formation\": { \"web\": { \"quantity\": 2, \"size\": \"L\" }, },\n  \"env\": {},\n  \"cron\": [1],\n  \"cron\": [],\n}\n";
    let files = [
        ("index.html", "hello"),
        ("app.json", app_json),
        ("project.toml", "\u{feff}[_]\nschema-version = \"0.2\"\n[io.buildpacks]\nexlude = []\n"),
        ("netlify.toml", "[[redirects]]\nfrom = \"/old\"\nto = \"/\"\n"),
        ("DOKKU_SCALE", "web=7\n"),
        ("compose.yaml", "services: {}\n"),
        ("config/deploy.yml", "service: x\n"),
    ];
    let folder = world.repository("told", &files);
    let lines = [
        "        app.json: name, logo have no effect here",
        " !     app.json: helthchecks has no effect; did you mean healthchecks?",
        "app.json: healthchecks.wbe has no effect: the image has no process type wbe; it has: web",
        "app.json: env has no effect; config:set sets config vars",
        "app.json: formation.web.size has no effect; only quantity is read",
        "app.json: cron is given more than once; the last one counts, and the others have no effect",
        "project.toml: io.buildpacks.exlude has no effect; is it misspelt?",
        "DOKKU_SCALE is not read here; formation in app.json, or ps:scale",
        "compose.yaml is not read here; each service is an app of its own",
        "config/deploy.yml is not read here; ps:scale",
    ];
    let all = |printed: &str| lines.iter().for_each(|line| assert!(printed.contains(line), "{line}\n{printed}"));
    let printed = world.push(&folder).success().prints("web.2 is healthy").all();
    all(&printed);
    assert!(!printed.contains("netlify.toml is not read"), "{printed}");
    world.git(&folder, &["commit", "-q", "--allow-empty", "-m", "again"]).success();
    all(&world.push(&folder).success().prints("using the image built before").all());
}

/// A `Procfile` that names only a worker starts no web process, whatever the language would start.
#[test]
fn a_procfile_with_a_worker_alone_has_no_web_process() {
    let world = World::new();
    let files = [
        ("index.html", "hello"),
        ("Procfile", "worker: while :; do echo working; sleep 1; done\n"),
        ("app.json", r#"{"formation":{"worker":{"quantity":1}}}"#),
    ];
    let folder = world.repository("jobs", &files);
    let printed = world.push(&folder).success();
    printed.prints("web is not started: the Procfile does not name it").prints("the app has no web process");
    let report = world.paas(&["ps:report", "jobs", "--format", "json"]).success().out;
    assert!(report.contains("worker.1") && !report.contains("web"), "{report}");
    let refused = world.paas(&["url", "jobs"]).failure();
    refused.prints("jobs has no web process, so it has no URL; a Procfile with a web line gives it one");
    assert!(!world.paas(&["apps:list"]).success().out.contains("http://"));
}

/// A manifest that is a symbolic link is read as the buildpacks read it; what is no file is told.
#[test]
fn a_manifest_that_is_a_link_or_a_folder_is_read_or_told() {
    let world = World::new();
    let files = [("index.html", "hello"), ("config/Procfile", "worker: sleep 1000\n"), ("app.json/x", "{}")];
    let folder = world.repository("links", &files);
    symlink("config/Procfile", folder.join("Procfile")).unwrap();
    symlink("/etc/project.toml", folder.join("project.toml")).unwrap();
    world.commit(&folder, &[]);
    let printed = world.push(&folder).success();
    printed
        .prints("web is not started: the Procfile does not name it")
        .prints("app.json is not read: it is a folder and not a file")
        .prints("project.toml is not read: it is a symbolic link that leads to no file of the pushed source");

    fs::remove_file(folder.join("project.toml")).unwrap();
    fs::remove_dir_all(folder.join("app.json")).unwrap();
    world.commit(&folder, &[("app.json", ""), ("project.toml", "[build]\nexclude = ['*']\n")]);
    world.push(&folder).failure().prints("app.json: the file is empty; fill it, or delete it");
    world.commit(&folder, &[("app.json", "{}")]);
    world
        .push(&folder)
        .failure()
        .prints("io.buildpacks.exclude in project.toml")
        .prints("leaves no file of the pushed commit");
}
