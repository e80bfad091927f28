//! Whole builds, with buildpacks of a few lines of shell.

mod contract;

use std::{
    collections::BTreeMap,
    fs,
    io::{Cursor, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Command, Stdio},
    sync::{Arc, Mutex},
};

use super::{
    dirs::Dirs,
    failure::Failure,
    output::Output,
    programs::ProcessGroups,
    protocol::{BuildRequest, BuildResult, Built, BuiltLayer, GroupEntry, Kind, Request, read_frame, write_frame},
    *,
};
use crate::model::{Digest, Line};

struct Container {
    dir: tempfile::TempDir,
    dirs: Dirs,
    previous: Option<serde_json::Value>,
    known: Vec<Digest>,
    /// The previous image's layer of bills of materials.
    previous_sbom: Vec<u8>,
    skip_restore: bool,
    env: BTreeMap<String, String>,
    target: protocol::Target,
    /// Files of service bindings by path.
    bindings: BTreeMap<String, Vec<u8>>,
}

/// Result and output of a build.
struct BuildReport {
    result: Result<Built, Failure>,
    text: String,
    /// The layers that were sent.
    blobs: BTreeMap<Digest, Vec<u8>>,
}

fn of_binding(path: &str, content: &[u8]) -> protocol::BindingFile {
    protocol::BindingFile { path: path.to_owned(), size: content.len() as u64 }
}

#[derive(Clone, Default)]
struct Sink(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Writes a file that is run. Another process does that: a child that another test starts at this moment would have the open file,
/// too, and a file that is open for writing cannot be run (`ETXTBSY` in execve(2)).
fn write_program(path: &Path, text: &str) {
    let mut install = Command::new("install");
    let mut child = install.args(["-m", "755", "/dev/stdin"]).arg(path).stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());
}

impl Container {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| {
            let path = dir.path().join(name);
            fs::create_dir(&path).unwrap();
            path
        };
        let lifecycle = dir.path().join("lifecycle");
        fs::write(&lifecycle, "not run here").unwrap();
        let dirs = Dirs {
            layers: at("layers"),
            workspace: at("workspace"),
            platform: at("platform"),
            tmp: at("tmp"),
            buildpacks: at("buildpacks"),
            lifecycle,
        };
        let env = [("USER_SAYS".to_owned(), "hi".to_owned())].into();
        let target = protocol::Target { os: "linux".into(), ..protocol::Target::default() };
        Self {
            dir,
            dirs,
            previous: None,
            known: Vec::new(),
            previous_sbom: Vec::new(),
            skip_restore: false,
            env,
            target,
            bindings: BTreeMap::new(),
        }
    }

    fn buildpack(&self, id: &str, detect: &str, build: &str) {
        self.buildpack_of("0.10", id, "extra = 1", detect, build);
    }

    /// `more` is appended to its `buildpack.toml`.
    fn buildpack_of(&self, api: &str, id: &str, more: &str, detect: &str, build: &str) {
        let folder = self.dirs.buildpacks.join(id).join("1");
        fs::create_dir_all(folder.join("bin")).unwrap();
        let text = format!("api = {api:?}\n[buildpack]\nid = {id:?}\nversion = \"1\"\n{more}\n");
        fs::write(folder.join("buildpack.toml"), text).unwrap();
        for (name, script) in [("detect", detect), ("build", build)] {
            write_program(&folder.join("bin").join(name), &format!("#!/bin/bash\nset -eu\n{script}\n"));
        }
    }

    fn build(&self, order: &[&[&str]], files: &[(&str, &str)]) -> BuildReport {
        self.build_tar(order, &source(files))
    }

    fn build_tar(&self, order: &[&[&str]], tar: &[u8]) -> BuildReport {
        self.build_groups(groups(order), tar)
    }

    fn build_groups(&self, order: Vec<Vec<GroupEntry>>, tar: &[u8]) -> BuildReport {
        let request = BuildRequest {
            order,
            env: self.env.clone(),
            operator_env: [("OPERATOR".to_owned(), "says".to_owned())].into(),
            stack_id: "test".into(),
            target: self.target.clone(),
            project: serde_json::json!({ "source": { "type": "git" } }),
            previous: self.previous.clone(),
            known_blobs: self.known.clone(),
            skip_restore: self.skip_restore,
            previous_sbom_bytes: self.previous_sbom.len() as u64,
            bindings: self.bindings.iter().map(|(path, content)| of_binding(path, content)).collect(),
        };
        let mut input = Vec::new();
        write_frame(&mut input, Kind::Request, &serde_json::to_vec(&Request::Buildpacks(Box::new(request))).unwrap())
            .unwrap();
        for piece in self.bindings.values().flat_map(|content| content.chunks(protocol::MAX_FRAME)) {
            write_frame(&mut input, Kind::Binding, piece).unwrap();
        }
        write_frame(&mut input, Kind::Source, &[&self.previous_sbom, tar].concat()).unwrap();
        write_frame(&mut input, Kind::SourceEnd, b"").unwrap();
        let sink = Sink::default();
        let output = Output::new(sink.clone());
        let answer = container::answer(&self.dirs, Cursor::new(input), &output, &ProcessGroups::default(), |_, _| {});
        let result = answer.map(|result| match result {
            BuildResult::Built(built) => *built,
            _ => panic!("buildpacks do not make anything else"),
        });
        let bytes = sink.0.lock().unwrap().clone();
        let (mut from, mut text, mut blobs) = (Cursor::new(bytes), String::new(), BTreeMap::new());
        let mut last = None;
        while let Some((kind, payload)) = read_frame(&mut from).unwrap() {
            match kind {
                Kind::Line => {
                    text += &serde_json::from_slice::<Line>(&payload).unwrap().to_string();
                    text.push('\n');
                }
                Kind::Blob => {
                    let header: protocol::BlobHeader = serde_json::from_slice(&payload).unwrap();
                    blobs.insert(header.digest.clone(), Vec::new());
                    last = Some(header.digest);
                }
                Kind::BlobData => blobs.get_mut(last.as_ref().unwrap()).unwrap().extend(payload),
                _ => {}
            }
        }
        BuildReport { result, text, blobs }
    }

    /// Makes this build the previous one of the next.
    fn after(&mut self, built: &Built) {
        self.known = built.layers.iter().map(|layer| layer.digest.clone()).collect();
        self.previous = serde_json::from_str(&built.labels["io.buildpacks.lifecycle.metadata"]).unwrap();
    }
}

/// Groups by name; a question mark makes an entry optional.
fn groups(order: &[&[&str]]) -> Vec<Vec<GroupEntry>> {
    let entry = |name: &&str| GroupEntry {
        id: name.trim_end_matches('?').to_owned(),
        version: "1".into(),
        optional: name.ends_with('?'),
        place: protocol::Place::Installed,
    };
    order.iter().map(|group| group.iter().map(entry).collect()).collect()
}

/// Files with their contents; those in a folder `bin` are programs.
fn source(files: &[(&str, &str)]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (name, text) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(if name.contains("bin/") { 0o755 } else { 0o644 });
        tar.append_data(&mut header, name, text.as_bytes()).unwrap();
    }
    tar.into_inner().unwrap()
}

const MAKE: &str = r#"
layers=$1
echo "-----> making"
echo "$USER_SAYS $OPERATOR"
if [ -f "$layers/deps/data" ]; then echo "       from the cache"; else
  mkdir -p "$layers/deps/bin" "$layers/deps/env"; echo x > "$layers/deps/data"; echo 1 > "$layers/deps/env/DEPS"
fi
printf '[types]\nlaunch=true\nbuild=true\ncache=true\n[metadata]\nv=1\n' > "$layers/deps.toml"
printf '[[processes]]\ntype="web"\ncommand=["run"]\nargs=["a"]\ndefault=true\n' > "$layers/launch.toml"
"#;

#[test]
fn a_build_makes_layers_and_the_next_one_moves_only_the_app() {
    let mut container = Container::new();
    container.buildpack("one", "[ -f app.txt ]", MAKE);
    container.buildpack("two", "exit 0", "echo DEPS=$DEPS; [ ! -e \"$CNB_LAYERS_DIR/x\" ]");
    let report = container.build(&[&["one", "two"]], &[("app.txt", "v1"), ("sub/b", "x")]);
    let first = report.result.unwrap();
    assert!(report.text.contains("-----> making\n       hi says\n"), "{}", report.text);
    assert!(report.text.contains("DEPS=1"), "{}", report.text);
    let made: Vec<_> = first.layers.iter().map(|layer| layer.created_by.as_str()).collect();
    assert_eq!(made, ["launcher", "launcher configuration", "one:deps", "app"]);
    assert_eq!(report.blobs.len(), 4);
    assert_eq!(first.entrypoint, ["/cnb/process/web"]);
    assert!(first.labels["io.buildpacks.build.metadata"].contains(r#""command":["run"]"#));

    container.after(&first);
    // As a build may have left it.
    fs::set_permissions(&container.dirs.workspace, fs::Permissions::from_mode(0o700)).unwrap();
    let again = container.build(&[&["one", "two"]], &[("app.txt", "v1"), ("sub/b", "x")]);
    assert_eq!(again.result.unwrap().layers, first.layers);
    let report = container.build(&[&["one", "two"]], &[("app.txt", "v2"), ("sub/b", "x")]);
    let second = report.result.unwrap();
    assert!(report.text.contains("from the cache"), "{}", report.text);
    assert_eq!(report.blobs.len(), 1, "only the app's layer is sent");
    assert_eq!(second.layers[..3], first.layers[..3]);

    let elsewhere = Container::new();
    elsewhere.buildpack("one", "[ -f app.txt ]", MAKE);
    elsewhere.buildpack("two", "exit 0", "true");
    let report = elsewhere.build(&[&["one", "two"]], &[("app.txt", "v2"), ("sub/b", "x")]);
    let digests = |built: &Built| built.layers.iter().map(|l: &BuiltLayer| l.digest.clone()).collect::<Vec<_>>();
    // The tests' folders differ, and with them the paths in the tars; in containers they are the same.
    assert_eq!(digests(&report.result.unwrap()).len(), 4);
}

#[test]
fn a_failed_build_keeps_the_last_good_cache() {
    let mut container = Container::new();
    container.buildpack("one", "true", MAKE);
    let built = container.build(&[&["one"]], &[("a", "1")]).result.unwrap();
    container.after(&built);
    container.buildpack("one", "true", "rm -rf \"$1/deps\"; echo broken; exit 3");
    let report = container.build(&[&["one"]], &[("a", "1")]);
    assert_eq!(report.result.unwrap_err().message, "the buildpack one@1 failed with status 3");
    container.buildpack("one", "true", MAKE);
    assert!(container.build(&[&["one"]], &[("a", "1")]).text.contains("from the cache"));
}

#[test]
fn a_cached_layer_that_a_failed_build_changed_is_not_restored() {
    let mut container = Container::new();
    container.buildpack("one", "true", MAKE);
    let built = container.build(&[&["one"]], &[("a", "1")]).result.unwrap();
    container.after(&built);
    // If a build succeeds, what it wrote is cached.
    container.buildpack("one", "true", &format!("echo y >> \"$1/deps/data\"\n{MAKE}"));
    let built = container.build(&[&["one"]], &[("a", "1")]).result.unwrap();
    container.after(&built);
    container.buildpack("one", "true", "grep -q y \"$1/deps/data\"; echo z >> \"$1/deps/data\"; exit 3");
    for _ in 0..2 {
        assert!(container.build(&[&["one"]], &[("a", "1")]).result.is_err());
    }
    container.buildpack("one", "true", &format!("! grep -s y \"$1/deps/data\"\n{MAKE}"));
    let report = container.build(&[&["one"]], &[("a", "1")]);
    assert!(
        report.text.contains("deps of one is made again: a build that failed wrote into its cache"),
        "{}",
        report.text
    );
    assert!(!report.text.contains("from the cache"), "{}", report.text);
    container.after(&report.result.unwrap());
    assert!(container.build(&[&["one"]], &[("a", "1")]).text.contains("from the cache"));
}

#[test]
fn a_launch_layer_without_a_folder_comes_from_the_previous_image() {
    let mut container = Container::new();
    let toml = "printf '[types]\\nlaunch=true\\n[metadata]\\nkey=\"k\"\\n' > \"$1/big.toml\"";
    container.buildpack("one", "true", &format!("mkdir \"$1/big\"; echo data > \"$1/big/f\"\n{toml}"));
    let first = container.build(&[&["one"]], &[("a", "1")]).result.unwrap();
    container.after(&first);
    container.buildpack("one", "true", &format!("grep -q 'key = \"k\"' \"$1/big.toml\"; [ ! -e \"$1/big\" ]\n{toml}"));
    let second = container.build(&[&["one"]], &[("a", "1")]).result.unwrap();
    assert_eq!(first.layers, second.layers);
    container.previous = None;
    container.buildpack("one", "true", toml);
    let error = container.build(&[&["one"]], &[("a", "1")]).result.unwrap_err();
    assert!(error.message.contains("does not exist"), "{error}");
}

#[test]
fn detection_reports_why_no_group_fits() {
    let container = Container::new();
    container.buildpack("no", "exit 100", "true");
    container.buildpack("bad", "echo 'I am broken' >&2; exit 7", "true");
    let report = container.build(&[&["no"], &["bad"]], &[("a", "1")]);
    assert!(report.result.unwrap_err().message.starts_with("no group of buildpacks fits this app"));
    assert!(report.text.contains("bad@1: I am broken") && report.text.contains("status 7"), "{}", report.text);
    container.buildpack("yes", "exit 0", "true");
    let built = container.build(&[&["no", "yes"], &["no?", "yes"]], &[("a", "1")]).result.unwrap();
    assert_eq!(built.buildpacks.len(), 1);
}

#[test]
fn invalid_files_of_a_buildpack_are_refused() {
    let container = Container::new();
    for (build, says) in [
        ("ln -s /dev/zero \"$1/launch.toml\"", "launch.toml: it is a symbolic link"),
        ("mkfifo \"$1/launch.toml\"", "not a regular file"),
        ("yes 'x = 1 # y' | head -c 2000000 > \"$1/launch.toml\"", "larger than 1 MiB"),
        ("echo 'processes = 3' > \"$1/launch.toml\"", "launch.toml, line 1"),
        ("printf '[[processes]]\\ntype=\"a b\"\\ncommand=[\"x\"]\\n' > \"$1/launch.toml\"", "processes.type"),
        ("printf '[types]\\nlaunch=\"yes\"\\n' > \"$1/l.toml\"", "l.toml, line 2"),
        (
            "mkdir \"$1/l\"; echo 'launch = true' > \"$1/l.toml\"",
            "l.toml: launch, build and cache belong in its table [types]",
        ),
        ("ln -s /etc \"$1/l\"; printf '[types]\\nlaunch=true\\n' > \"$1/l.toml\"", "is not a folder"),
    ] {
        container.buildpack("evil", "true", build);
        let report = container.build(&[&["evil"]], &[("a", "1")]);
        let error = report.result.expect_err(build);
        assert!(error.message.contains(says) && !error.message.contains('\n'), "{build}: {error}");
    }
}

#[test]
fn a_result_larger_than_a_frame_becomes_an_error() {
    let large = "x".repeat(2 << 20);
    let image = protocol::BuiltImage { config: large.as_str().into(), layers: Vec::new(), timings: Vec::new() };
    for (result, reason) in [
        (BuildResult::Image(Box::new(image)), "of the image are together larger than 1 MiB"),
        (BuildResult::Failed { phase: protocol::Phase::Build, message: large }, "its reason is larger than 1 MiB"),
    ] {
        let sink = Sink::default();
        Output::new(sink.clone()).result(&result).unwrap();
        let bytes = sink.0.lock().unwrap().clone();
        let (kind, payload) = read_frame(&mut Cursor::new(bytes)).unwrap().unwrap();
        assert_eq!(kind, Kind::Result);
        let text = String::from_utf8(payload).unwrap();
        assert!(text.contains(reason) && !text.contains("buildpack"), "{text}");
    }
}

#[test]
fn a_source_that_leaves_its_folder_is_refused() {
    let container = Container::new();
    container.buildpack("one", "true", "true");
    let entry = |name: &str, kind: tar::EntryType, link: &str| {
        let mut header = tar::Header::new_gnu();
        header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_entry_type(kind);
        header.set_size(0);
        header.set_mode(0o644);
        if !link.is_empty() {
            header.set_link_name(link).unwrap();
        }
        header.set_cksum();
        header
    };
    let tar = |headers: &[tar::Header]| {
        let mut tar = tar::Builder::new(Vec::new());
        for header in headers {
            tar.append(header, std::io::empty()).unwrap();
        }
        tar.into_inner().unwrap()
    };
    let (file, link) = (tar::EntryType::Regular, tar::EntryType::Symlink);
    for bad in [
        tar(&[entry("../out", file, "")]),
        tar(&[entry("/out", file, "")]),
        tar(&[entry("d", link, "/tmp"), entry("d/out", file, "")]),
        tar(&[entry("d", tar::EntryType::Char, "")]),
    ] {
        let error = container.build_tar(&[&["one"]], &bad).result.expect_err("must be refused");
        assert!(error.message.starts_with("cannot unpack"), "{error}");
    }
    assert!(!container.dir.path().join("out").exists());
    assert!(
        container.build_tar(&[&["one"]], &tar(&[entry("l", link, "/etc/passwd")])).result.is_ok(),
        "a link alone is fine"
    );
}
