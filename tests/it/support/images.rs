//! Images made of busybox, so that no registry is needed.

use std::{
    collections::HashMap,
    io::{Read as _, Write as _},
    os::unix::net::UnixStream,
    path::Path,
    process::{Command, Stdio},
};

use paas::{
    images::{ImageStore, Stack, StackImage},
    model::Digest,
};
use serde_json::json;

use super::{apps::write_buildpack, command::run, world::World};

/// Packages a buildpack `test/NAME`, and loads its image into the engine. Returns the image's name there.
pub fn load_buildpack(world: &World, name: &str) -> String {
    let folder = world.dir().join("home").join(name);
    write_buildpack(&folder, &format!("test/{name}"), name);
    let file = world.dir().join(format!("{name}.cnb")).display().to_string();
    world.paas(&["buildpack", "package", &folder.display().to_string(), &file]).success();
    let loaded = run(Command::new("docker").args(["load", "--quiet", "--input", &file])).success().out;
    loaded.trim().split_once(": ").expect("docker load names the image").1.to_owned()
}

/// A root file system: busybox and the folders that builds need.
pub fn busybox_tar() -> Vec<u8> {
    let busybox = ["/bin/busybox", "/usr/bin/busybox"].iter().find_map(|path| std::fs::read(path).ok());
    let busybox = busybox.expect("the package busybox-static is installed");
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_ustar();
    header.set_mode(0o755);
    header.set_size(busybox.len() as u64);
    tar.append_data(&mut header, "bin/busybox", busybox.as_slice()).unwrap();
    for applet in [
        "sh", "sleep", "nc", "nslookup", "cat", "dd", "tail", "id", "touch", "mount", "echo", "httpd", "ls", "mkdir",
        "cp", "awk", "ip", "head",
    ] {
        let mut link = tar::Header::new_ustar();
        link.set_entry_type(tar::EntryType::Symlink);
        link.set_size(0);
        tar.append_link(&mut link, format!("bin/{applet}"), "busybox").unwrap();
    }
    for folder in ["layers", "workspace", "tmp", "platform", "etc"] {
        let mut entry = tar::Header::new_ustar();
        entry.set_entry_type(tar::EntryType::Directory);
        entry.set_mode(0o755);
        entry.set_size(0);
        tar.append_data(&mut entry, folder, std::io::empty()).unwrap();
    }
    tar.into_inner().unwrap()
}

pub fn import_busybox(socket: &Path, tag: &str) {
    import_busybox_with(socket, tag, "");
}

/// Imports busybox with more parameters of the engine's request, such as `&changes=VOLUME%20/data`.
pub fn import_busybox_with(socket: &Path, tag: &str, changes: &str) {
    let tar = busybox_tar();
    let (repo, version) = tag.rsplit_once(':').unwrap();
    let mut engine = UnixStream::connect(socket).unwrap();
    let head = format!(
        "POST /images/create?fromSrc=-&repo={repo}&tag={version}{changes} HTTP/1.1\r\nHost: docker\r\nConnection: close\r\n\
         Content-Type: application/x-tar\r\nContent-Length: {}\r\n\r\n",
        tar.len()
    );
    engine.write_all(head.as_bytes()).unwrap();
    // An engine that refuses the request does not read all of it, and responds with the reason.
    let _ = engine.write_all(&tar);
    let mut answer = String::new();
    engine.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && !answer.contains("errorDetail"), "{answer}");
}
/// A stack that consists of busybox, in the image store; the engine pulls its build image like any other.
pub fn stack(images: &ImageStore) -> Stack {
    let tar = busybox_tar();
    let layer = images.blobs().put_bytes(&tar).unwrap();
    // Makes the image unique to the test.
    let env = format!("UNIQUE={:x}", rand::random::<u64>());
    let config = json!({
        "created": "1980-01-01T00:00:01Z", "architecture": "amd64", "os": "linux",
        "config": { "User": "1000:1000", "Env": [env], "Entrypoint": [], "Cmd": [], "WorkingDir": "/", "Labels": {} },
        "rootfs": { "type": "layers", "diff_ids": [layer] }, "history": [],
    });
    let config = serde_json::to_vec(&config).unwrap();
    let descriptor = |media: &str, digest: &Digest, size: usize| json!({ "mediaType": format!("application/vnd.oci.image.{media}"), "digest": digest, "size": size });
    let config_digest = images.blobs().put_bytes(&config).unwrap();
    let manifest = json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": descriptor("config.v1+json", &config_digest, config.len()),
        "layers": [descriptor("layer.v1.tar", &layer, tar.len())],
    });
    let manifest = images.blobs().put_bytes(&serde_json::to_vec(&manifest).unwrap()).unwrap();
    let image = StackImage { manifest, config: config_digest, layer };
    Stack { id: "test".into(), run: image.clone(), build: image, target: paas::lifecycle::protocol::Target::default() }
}

/// Blobs by digest, with their media types.
pub type Blobs = HashMap<String, (&'static str, Vec<u8>)>;

pub fn process_image() -> (Blobs, Digest) {
    let mut tar = tar::Builder::new(Vec::new());
    let mut file = |path: &str, mode: u32, bytes: &[u8]| {
        let mut header = tar::Header::new_ustar();
        header.set_mode(mode);
        header.set_size(bytes.len() as u64);
        tar.append_data(&mut header, path, bytes).unwrap();
    };
    file("bin/busybox", 0o755, &std::fs::read("/usr/bin/busybox").expect("the package busybox-static is installed"));
    for name in ["web", "worker"] {
        let script = format!("#!/bin/busybox sh\neval \"$RUN_{name}\"\n");
        file(&format!("cnb/process/{name}"), 0o755, script.as_bytes());
    }
    let mut tmp = tar::Header::new_ustar();
    tmp.set_entry_type(tar::EntryType::Directory);
    tmp.set_mode(0o1777);
    tmp.set_size(0);
    tar.append_data(&mut tmp, "tmp", std::io::empty()).unwrap();
    for applet in ["sh", "sleep", "nc", "httpd", "echo", "cat"] {
        let mut link = tar::Header::new_ustar();
        link.set_entry_type(tar::EntryType::Symlink);
        link.set_size(0);
        tar.append_link(&mut link, format!("bin/{applet}"), "busybox").unwrap();
    }
    let layer = tar.into_inner().unwrap();
    let (layer_kind, config_kind, manifest_kind) = (
        "application/vnd.oci.image.layer.v1.tar",
        "application/vnd.oci.image.config.v1+json",
        "application/vnd.oci.image.manifest.v1+json",
    );
    let config = serde_json::json!({
        "architecture": "amd64", "os": "linux", "config": {"Env": ["PATH=/bin"]},
        "rootfs": {"type": "layers", "diff_ids": [Digest::of(&layer).as_str()]},
    });
    let config = config.to_string().into_bytes();
    let manifest = serde_json::json!({
        "schemaVersion": 2, "mediaType": manifest_kind,
        "config": {"mediaType": config_kind, "digest": Digest::of(&config).as_str(), "size": config.len()},
        "layers": [{"mediaType": layer_kind, "digest": Digest::of(&layer).as_str(), "size": layer.len()}],
    });
    let manifest = manifest.to_string().into_bytes();
    let digest = Digest::of(&manifest);
    let blobs = [(layer_kind, layer), (config_kind, config), (manifest_kind, manifest)];
    let blobs = blobs.map(|(kind, bytes)| (Digest::of(&bytes).as_str().to_owned(), (kind, bytes)));
    (blobs.into(), digest)
}

/// A base image for Dockerfiles, imported from busybox.
pub struct Base(pub String);

impl Base {
    pub fn new() -> Self {
        let base = Self(format!("paas-test/base:{:08x}", rand::random::<u32>()));
        let mut import = Command::new("docker");
        import.args(["import", "-c", "ENV PATH=/bin", "-", &base.0]).stdin(Stdio::piped()).stdout(Stdio::null());
        let mut import = import.spawn().unwrap();
        import.stdin.take().unwrap().write_all(&busybox_tar()).unwrap();
        assert!(import.wait().unwrap().success());
        base
    }
}

impl Drop for Base {
    fn drop(&mut self) {
        let removed = run(Command::new("docker").args(["rmi", &self.0]));
        assert!(removed.ok || std::thread::panicking(), "{}", removed.err);
    }
}
