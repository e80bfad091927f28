//! Volumes: files that outlive releases, on disks of their own; and what instances write besides.

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead as _, BufReader, Read as _},
    process::{Command, Stdio},
};

use serde_json::Value;

use crate::support::{
    apps::version,
    command::{run, run_with},
    http::Load,
    images::Base,
    waiting::eventually,
    world::World,
};

/// A server that notes in `/data/log` when it starts and ends, shows the log, and fills the volume or its own disk.
const SERVER: &str = r#"
import http.server, mmap, os, signal, sys, time
release = os.environ["PAAS_RELEASE"]
def note(what):
    if os.access("/data", os.W_OK):
        with open("/data/log", "a") as log:
            log.write(what + " " + release + "\n")
def end(*_):
    time.sleep(0.3)
    note("end")
    os._exit(0)
signal.signal(signal.SIGTERM, end)
note("start")
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        try:
            if self.path.startswith("/write/"):
                _, _, path, mib = self.path.split("/")
                with open({"data": "/data/big"}.get(path, "/tmp/big"), "w+b") as file:
                    if path == "removed":
                        os.unlink("/tmp/big")
                    if path == "mapped":
                        file.truncate(int(mib) << 20)
                        memory = mmap.mmap(file.fileno(), 0, trackfd=False)
                        os.unlink("/tmp/big")
                        # The mapping alone is left.
                        file.close()
                        for at in range(0, len(memory), 4096):
                            memory[at] = 1
                    else:
                        for _ in range(int(mib)):
                            file.write(bytes(1 << 20))
                        file.flush()
                        os.fsync(file.fileno())
                    if path in ("removed", "mapped"):
                        time.sleep(600)
                text = "written"
            else:
                text = open("/data/log").read() if os.path.isdir("/data") else "no volume"
        except OSError as error:
            text = os.strerror(error.errno)
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())
http.server.ThreadingHTTPServer(("", int(os.environ["PORT"])), Handler).serve_forever()
"#;

const FILES: [(&str, &str); 2] = [("Procfile", "web: exec python3 server.txt\n"), ("server.txt", SERVER)];

/// A deployed app with a volume of this size at `/data`; its URL.
fn with_volume(world: &World, app: &str, size: &str) -> String {
    let folder = world.repository(app, &FILES);
    world.push(&folder).success();
    world.paas(&["storage:create", app, "data", "--size", size]).success().prints("-----> data of");
    world.paas(&["storage:mount", app, "data:/data"]).success().prints("old instances end before new ones start");
    world.url(app)
}

fn log(world: &World, url: &str) -> String {
    world.get(url).unwrap().1
}

/// Fails unless each instance ended before the next one started.
#[track_caller]
fn alternates(log: &str) {
    let words: Vec<_> = log.lines().map(|line| line.split(' ').next().unwrap()).collect();
    let expected: Vec<_> = ["start", "end"].into_iter().cycle().take(words.len()).collect();
    assert_eq!(words, expected, "{log}");
}

/// The files of a volume outlive a push, a rollback, a restart, a stop and the death of the server, and no two instances have
/// them at once. If a new release fails, the old one comes back.
#[test]
fn files_are_kept_and_written_by_one_instance_at_a_time() {
    let mut world = World::new();
    let url = with_volume(&world, "kept", "32m");
    assert_eq!(log(&world, &url), "start v1\n");
    let folder = world.dir().join("work/kept");
    world.commit(&folder, &[("server.txt", &format!("{SERVER}# changed\n"))]);
    world.push(&folder).success();
    assert_eq!(log(&world, &url), "start v1\nend v1\nstart v2\n");
    world.paas(&["releases:rollback", "kept", "v1"]).success();
    world.paas(&["ps:restart", "kept"]).success();
    world.paas(&["ps:stop", "kept"]).success();
    world.paas(&["ps:start", "kept"]).success();
    let before = log(&world, &url);
    alternates(&before);
    assert_eq!(before.lines().count(), 9, "{before}");

    world.kill_server();
    assert_eq!(log(&world, &url), before, "the router serves on, and the instance has its volume");
    world.start_server();
    world.paas(&["ps:restart", "kept"]).success();
    let adopted = log(&world, &url);
    assert!(adopted.starts_with(&before) && adopted.lines().count() == 11, "{adopted}");

    world.commit(&folder, &[("Procfile", "web: sleep 1; echo broken; exit 3\n")]);
    world.push(&folder).failure().prints("exited with status 3");
    world.answers(&url, &adopted);
    let back = log(&world, &url);
    alternates(&back);
    assert_eq!(back.lines().count(), 13, "the old release was started again: {back}");
    assert_eq!(world.ssh(&["run", "kept", "cat", "/data/log"]).success().out, back, "a task has the volume, too");

    world.paas(&["storage:unmount", "kept", "data"]).success().prints("the volume data and its files are kept");
    world.answers(&url, "no volume");
    world.paas(&["storage:list", "kept"]).success().prints("nothing is mounted");
    world.paas(&["storage:mount", "kept", "data", "--container-dir", "/data", "--process-type", "web"]).success();
    assert!(log(&world, &url).starts_with(&back));
    world.paas(&["storage:list", "kept"]).success().prints("data    /data  rw    web");
}

/// Two process types that write to one volume: no instance of the new release starts before all of the old one have ended.
#[test]
#[ignore = "slow"]
fn two_process_types_of_two_releases_never_write_at_once() {
    let world = World::new();
    let procfile = "web: exec python3 server.txt\nworker: PORT=9999 exec python3 server.txt\n";
    let folder = world.repository("pair", &[("Procfile", procfile), ("server.txt", SERVER)]);
    world.push(&folder).success();
    world.paas(&["ps:scale", "pair", "worker=1"]).success();
    world.paas(&["storage:create", "pair", "data", "--size", "16m"]).success();
    world.paas(&["storage:mount", "pair", "data:/data"]).success();
    world.commit(&folder, &[("server.txt", &format!("{SERVER}# changed\n"))]);
    world.push(&folder).success();
    let log = log(&world, &world.url("pair"));
    let lines: Vec<_> = log.lines().collect();
    assert_eq!(lines, ["start v1", "start v1", "end v1", "end v1", "start v2", "start v2"]);
}

/// Whether the kernel lets root of this machine extend a file system that is mounted; not in every container.
fn grows_while_mounted() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:")).unwrap().trim();
    u64::from_str_radix(effective, 16).unwrap() & 1 << 24 != 0
}

/// A volume that is full stops its app's writes and nobody else's; it is enlarged while the app runs, and made smaller
/// while nothing uses it.
#[test]
#[ignore = "slow"]
fn a_full_volume_is_its_apps_alone_and_grows_while_it_is_used() {
    let world = World::with("[quota]\nvolumes_mib = 16000000\n");
    let neighbour = world.repository("neighbour", &[("Procfile", &version(1))]);
    world.push(&neighbour).success();
    let load = Load::on(&world.url("neighbour"));
    let url = with_volume(&world, "full", "16m");
    assert_eq!(log(&world, &format!("{url}/write/data/30")), "No space left on device");
    world.answers(&url, "start v1");
    let instance = world.instances("full")[0]["id"].clone();
    let report = world.paas(&["storage:report", "full", "--format", "json"]).success().json();
    assert!(report[0]["free_bytes"].as_u64().unwrap() < 1 << 20 && report[0]["size_mib"] == 16, "{report:#}");

    let larger = || world.paas(&["storage:resize", "full", "data", "64m"]);
    if grows_while_mounted() {
        larger().success().prints("has 64 MiB");
        assert_eq!(world.instances("full")[0]["id"], instance, "it was not restarted");
    } else {
        larger().failure().prints("because the server lacks CAP_SYS_RESOURCE; stop the app (ps:stop)");
        world.paas(&["ps:stop", "full"]).success();
        larger().success().prints("has 64 MiB");
        world.paas(&["ps:start", "full"]).success();
    }
    assert_eq!(log(&world, &format!("{url}/write/data/30")), "written");
    let image = fs::metadata(world.data().join("volumes/1.img")).unwrap();
    let allocated = std::os::unix::fs::MetadataExt::blocks(&image) * 512;
    assert!(image.len() == 64 << 20 && allocated >= 64 << 20, "its space is its own: {allocated}");
    let mode = std::os::unix::fs::PermissionsExt::mode(&image.permissions());
    assert_eq!(mode & 0o777, 0o600);

    let smaller = || world.paas(&["storage:resize", "full", "data", "48m"]);
    smaller().failure().prints("data is in use by").prints("stop the app (ps:stop)");
    larger().success().prints("no change: it has this size already");
    world.paas(&["ps:stop", "full"]).success();
    world.paas(&["storage:resize", "full", "data", "20m"]).failure().prints("volume data: its files need at least");
    smaller().success().prints("has 48 MiB");
    world.paas(&["storage:resize", "full", "data", "9000g"]).failure().prints("MiB are free");
    let report = world.paas(&["storage:report", "full", "--format", "json"]).success().json();
    assert_eq!(report[0]["size_mib"], 48, "a refused size is not declared");
    world.paas(&["ps:start", "full"]).success();
    assert_eq!(log(&world, &format!("{url}/write/data/20")), "written");
    load.end_without_failure();
}

/// Entries of a tar: mode, owner, time, link and content of each path.
fn entries(tar: &[u8]) -> BTreeMap<String, (u32, u64, u64, String, Vec<u8>)> {
    let mut archive = tar::Archive::new(tar);
    let entries = archive.entries().unwrap().map(|entry| {
        let mut entry = entry.unwrap();
        let (path, header) = (entry.path().unwrap().display().to_string(), entry.header().clone());
        let link = header.link_name().unwrap().map(|link| link.display().to_string()).unwrap_or_default();
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        (path, (header.mode().unwrap(), header.uid().unwrap(), header.mtime().unwrap(), link, content))
    });
    entries.collect()
}

/// What is exported and imported is the same tree.
#[test]
#[ignore = "slow"]
fn an_exported_volume_is_imported_unchanged() {
    let world = World::new();
    with_volume(&world, "tree", "32m");
    let script = "mkdir -p /data/a/b && head -c 300000 /dev/urandom > /data/a/random && ln -s a/random /data/link && \
                  printf x > '/data/a/b/with space' && chmod 750 /data/a/b && chmod 4711 /data/a/random";
    world.ssh(&["run", "tree", &format!("\"{script}\"")]).success();
    let export = |name: &str| {
        let exported = world.ssh_command(&["storage:export", "tree", name]).output().unwrap();
        assert!(exported.status.success(), "{}", String::from_utf8_lossy(&exported.stderr));
        exported.stdout
    };
    let exported = export("data");
    let tree = entries(&exported);
    assert!(tree.contains_key("./a/b/with space") && tree["./link"].3 == "a/random", "{:?}", tree.keys());
    assert!(!tree.keys().any(|path| path.contains("lost+found")), "{:?}", tree.keys());

    world.paas(&["storage:create", "tree", "copy", "--size", "32m"]).success();
    world.paas(&["apps:info", "tree"]).success().prints("copy (32 MiB), data (32 MiB)");
    let import = |words: &[&str], tar: &[u8]| {
        run_with(&mut world.ssh_command(&[&["storage:import", "tree", "copy"], words].concat()), tar)
    };
    import(&[], &exported).success();
    assert_eq!(entries(&export("copy")), tree);
    import(&[], &exported).failure().prints("copy has files already").prints("--merge");
    import(&["--merge"], &exported).success();
    assert_eq!(entries(&export("copy")), tree);
    let gzip = b"\x1f\x8b\x08\0\0\0\0\0\0\x03";
    let refused = import(&["--merge"], gzip).failure();
    assert!(!refused.prints("gunzip -c copy.tar.gz | ssh … storage:import tree copy").all().contains("-z"));
    import(&["--merge"], b"not a tar").failure().prints("the input is no tar");
    assert_eq!(world.paas(&["storage:import", "tree", "none"]).code, Some(4));

    // Those of one owner take turns, and count against that owner.
    let own = format!("label=paas.server={}", world.server_id());
    let running = || {
        let ids = ["ps", "-q", "--filter", "label=paas.kind=archiver", "--filter", &own];
        run(Command::new("docker").args(ids)).success().out.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let hold = || {
        let mut import = world.ssh_command(&["storage:import", "tree", "copy", "--merge"]);
        import.stdin(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap()
    };
    let mut held = [hold(), hold()];
    let ids = eventually("two run", || Some(running()).filter(|ids| ids.len() == 2));
    let group = ["inspect", "-f", "{{.HostConfig.CgroupParent}}", &ids[0]];
    let group = run(Command::new("docker").args(group)).success().out;
    assert_eq!(group.trim(), format!("/paas-{}-instances/owner-1", world.server_id()));
    let mut export = world.ssh_command(&["storage:export", "tree", "data"]);
    let mut waiting = export.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    let mut lines = BufReader::new(waiting.stderr.take().unwrap());
    lines.read_line(&mut line).unwrap();
    assert!(line.contains("waiting for 1 other export or import of volumes to end"), "{line}");
    drop(held[0].stdin.take());
    assert!(waiting.wait().unwrap().success());
    drop(held[1].stdin.take());
    for mut import in held {
        import.wait().unwrap();
    }
    let left = ["ps", "-aq", "--filter", "label=paas.kind=archiver", "--filter", &own];
    assert_eq!(run(Command::new("docker").args(left)).success().out, "");
}

/// A disk that is lost or damaged is named and left as it is: nothing else has its files.
#[test]
fn a_disk_is_never_created_again() {
    let world = World::new();
    world.paas(&["apps:create", "lost"]).success();
    for name in ["gone", "broken"] {
        world.paas(&["storage:create", "lost", name, "--size", "16m"]).success();
    }
    let image = |id: u32| world.data().join(format!("volumes/{id}.img"));
    fs::remove_file(image(1)).unwrap();
    fs::write(image(2), "damaged").unwrap();
    let export = |name: &str| world.paas(&["storage:export", "lost", name]).failure();
    export("gone").prints("1.img is missing; restore it from a backup");
    export("broken").prints("2.img is damaged").prints("an admin repairs it with `fsck.ext4");
    assert!(!image(1).exists());
    assert_eq!(fs::read_to_string(image(2)).unwrap(), "damaged");
    world.paas(&["storage:destroy", "lost", "gone", "--force"]).success();
    world.paas(&["storage:create", "lost", "gone", "--size", "16m"]).success();
    assert!(image(3).exists(), "another volume of that name has another disk");
}

/// Only admins mount folders of the machine; what is destroyed is asked for by name, and is gone.
#[test]
fn volumes_are_the_owners_and_folders_of_the_machine_the_admins() {
    let world = World::with("[quota]\nvolumes_mib = 100\n");
    let (ann, public) = world.keygen("ann");
    world.paas_with(&["ssh-keys:add", "ann"], &public).success();
    let folder = world.repository("owned", &FILES);
    world.push_as(&ann, &folder).success();
    let ssh = |words: &[&str]| world.ssh_as(&ann, words);
    let shared = world.dir().join("shared");
    fs::create_dir(&shared).unwrap();
    fs::write(shared.join("log"), "of the machine").unwrap();
    let mount = format!("{}:/data:ro", shared.display());
    ssh(&["storage:mount", "owned", &mount]).failure().prints("which only an admin mounts; storage:create owned NAME");
    world
        .paas(&["storage:mount", "owned", &format!("{}:/data", world.dir().display())])
        .failure()
        .prints("the data of paas");
    world.paas(&["storage:mount", "owned", "/none:/data"]).failure().prints("is no folder of this machine");
    world.paas(&["storage:mount", "owned", &mount]).success();
    let url = world.url("owned");
    world.answers(&url, "of the machine");
    ssh(&["storage:unmount", "owned", &shared.display().to_string()]).success();
    world.answers(&url, "no volume");

    ssh(&["storage:create", "owned", "data", "--size", "101m"])
        .failure()
        .prints("ann may have 100 MiB of volumes, and this would make it 101");
    ssh(&["storage:create", "owned", "data", "--size", "16"]).failure().prints("write a number with its unit");
    ssh(&["storage:create", "owned", "data", "--size", "32m"]).success();
    ssh(&["storage:create", "owned", "more", "--size", "64m"]).success();
    ssh(&["storage:resize", "owned", "data", "50m"]).failure().prints("and this would make it 114");
    ssh(&["storage:mount", "owned", "dat:/data"]).failure().prints("owned has no volume dat; it has: data, more");
    ssh(&["storage:mount", "owned", "data:/etc"]).failure().prints("not a valid path in a container");
    ssh(&["storage:mount", "owned", "data:/data"]).success();
    ssh(&["storage:resize", "owned", "data", "50m"]).failure().prints("and this would make it 114");
    ssh(&["storage:mount", "owned", "more:/data"]).failure().prints("something is mounted at /data already");
    ssh(&["storage:destroy", "owned", "data", "--force"]).failure().prints("data is mounted at /data; storage:unmount");
    let destroy =
        |answer: &str| run_with(&mut world.ssh_command_as(&ann, &["storage:destroy", "owned", "more"]), answer);
    destroy("data\n").failure().prints("This destroys more of owned with its files").prints("is not destroyed");
    destroy("more\n").success();

    let images = || fs::read_dir(world.data().join("volumes")).unwrap().count();
    assert_eq!(images(), 2, "the disk that is left, and where it is mounted");
    let mut destroy = world.ssh_command_as(&ann, &["apps:destroy", "owned"]);
    run_with(&mut destroy, "owned\n").success().prints("with all files of its volumes: data (32 MiB)");
    assert_eq!(images(), 0);
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(&world.data().join("volumes").display().to_string()), "{mounts}");
}

/// The folder of a volume belongs to the user of an image that has one. A `VOLUME` without a volume is told in the push.
#[test]
#[ignore = "slow"]
fn a_volume_is_offered_for_a_dockerfile_and_belongs_to_its_user() {
    let base = Base::new();
    let world = World::new();
    world.offer(&base);
    let dockerfile = format!(
        "FROM {}\nRUN mkdir /data /site\nVOLUME /data\nUSER 1234:4321\n\
         CMD cd /data && id -u > user && exec httpd -f -p $PORT -h /data\n",
        base.0
    );
    let folder = world.repository("image", &[("Dockerfile", &dockerfile)]);
    world.paas(&["apps:create", "image"]).success();
    let offer =
        "this image declares VOLUME /data: storage:create image NAME and storage:mount image NAME:/data keep its files";
    world.push(&folder).prints(offer);
    world.paas(&["storage:create", "image", "data", "--size", "16m"]).success();
    world.paas(&["storage:mount", "image", "data:/data"]).success();
    world.commit(&folder, &[("Dockerfile", &format!("{dockerfile}# changed\nLABEL a=b\n"))]);
    let pushed = world.push(&folder).success();
    assert!(!pushed.all().contains("declares VOLUME"), "{}", pushed.all());
    world.answers(&format!("{}/user", world.url("image")), "1234");
}

/// An instance or task that writes more than it may besides its volumes is killed, with the reason, wherever it writes; others
/// go on.
#[test]
#[ignore = "slow"]
fn what_writes_too_much_is_ended_while_others_serve() {
    let world = World::with("[instances]\ndisk_mib = 100\n");
    let neighbour = world.repository("neighbour", &[("Procfile", &version(1))]);
    world.push(&neighbour).success();
    let folder = world.repository("writer", &FILES);
    world.push(&folder).success();
    let load = Load::on(&world.url("neighbour"));
    let url = world.url("writer");
    assert_eq!(world.instances("writer")[0]["last_failure"], Value::Null);
    let _ = world.get(&format!("{url}/write/tmp/50"));
    let reason = "MiB of files, more than its limit of 100 MiB (instances.disk_mib)";
    for (n, how) in ["tmp", "removed", "mapped"].into_iter().enumerate() {
        let first = world.instances("writer")[0]["id"].clone();
        let _ = world.get(&format!("{url}/write/{how}/200"));
        eventually("the instance is replaced", || (world.instances("writer")[0]["id"] != first).then_some(()));
        world.answers(&url, "no volume");
        let now = world.instances("writer")[0].clone();
        assert_eq!(now["restarts"], n + 1);
        let last = now["last_failure"].as_str().unwrap();
        assert!(last.starts_with("Wrote ") && last.ends_with(reason), "{last}");
    }
    world.paas(&["logs", "writer"]).success().prints("web.1]: Wrote ").prints(reason);
    world.paas(&["ps:report", "writer"]).success().prints("LAST-FAILURE").prints(reason);
    let task = ["run", "writer", "\"head -c 300M /dev/zero > /tmp/big; sleep 600\""];
    world.ssh(&task).failure().prints("stopped: it wrote").prints(reason);
    load.end_without_failure();
}

/// What is written to a folder that the image declares as a `VOLUME`, and where no volume is mounted, counts as well.
#[test]
#[ignore = "slow"]
fn a_volume_of_a_dockerfile_is_as_limited_as_all_else() {
    let base = Base::new();
    let world = World::with("[instances]\ndisk_mib = 100\n");
    world.offer(&base);
    let dockerfile = format!("FROM {}\nRUN mkdir /data\nVOLUME /data\nCMD exec httpd -f -p $PORT -h /data\n", base.0);
    let folder = world.repository("image", &[("Dockerfile", &dockerfile)]);
    world.push(&folder).success();
    let reason = "more than its limit of 100 MiB (instances.disk_mib)";
    let task = ["run", "image", "\"head -c 314572800 /dev/zero > /data/big; sleep 600\""];
    world.ssh(&task).failure().prints("stopped: it wrote").prints(reason);
    let instance = world.running_containers("instance").remove(0);
    // It may be killed before it has written all.
    let _ =
        run(Command::new("docker").args(["exec", &instance, "sh", "-c", "head -c 314572800 /dev/zero > /data/big"]));
    eventually("the instance is replaced", || {
        world
            .instances("image")
            .iter()
            .find(|row| row["last_failure"].as_str().is_some_and(|text| text.ends_with(reason)))
            .map(drop)
    });
}
