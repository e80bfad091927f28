//! An engine for one test: its own server id and addresses, a tiny image, and nothing left when it is dropped.

use std::{
    io::{Read, Write},
    os::unix::net::UnixStream,
    sync::atomic::{AtomicU8, Ordering},
    time::Duration,
};

use paas::{
    config::Config,
    engine::{BuildSpec, Engine, EngineError, ImageId, InstanceSpec},
    model::InstanceId,
};

pub struct TestEngine {
    pub engine: Engine,
    pub config: Config,
    pub image: ImageId,
}

/// The second number of the 10.x.0.0/16 that the next test takes.
static NEXT_RANGE: AtomicU8 = AtomicU8::new(220);

impl TestEngine {
    pub async fn new() -> Self {
        Self::with(Config::default()).await
    }

    pub async fn with(mut config: Config) -> Self {
        loop {
            config.network.range = format!("10.{}.0.0/16", NEXT_RANGE.fetch_add(1, Ordering::Relaxed));
            let engine = Engine::connect(&config, &format!("t{:08x}", rand::random::<u32>())).await.unwrap();
            // The guard before what it guards.
            let mut test =
                Self { engine, config: config.clone(), image: format!("sha256:{}", "0".repeat(64)).parse().unwrap() };
            match test.engine.ensure_app_bridge(0).await {
                Ok(_) => {}
                Err(EngineError::AddressesTaken { .. }) => continue,
                Err(e) => panic!("{e}"),
            }
            let tag = test.engine.own_tag("busybox", "1");
            let socket = test.config.engine.socket.clone();
            let import = tag.clone();
            tokio::task::spawn_blocking(move || import_busybox(&socket, &import)).await.unwrap();
            test.image = test.engine.image_id(&tag).await.unwrap().expect("imported");
            return test;
        }
    }

    /// An instance in slot `slot` that runs a shell script.
    pub fn instance(&self, slot: u32, script: &str) -> InstanceSpec {
        let id: InstanceId = format!("i{:016x}", rand::random::<u64>()).parse().unwrap();
        InstanceSpec {
            id,
            app: "hello".parse().unwrap(),
            process_type: "web".parse().unwrap(),
            release: 7,
            image: self.image.clone(),
            bridge: 0,
            address: self.engine.address(0, slot),
            entrypoint: vec!["/bin/sh".into(), "-c".into()],
            cmd: vec![script.into()],
            env: vec!["PORT=8080".into()],
            cpu_millis: 500,
            memory_mib: 32,
            pids: 32,
            stop_grace: Duration::from_secs(1),
            labels: [("extra".to_owned(), "x".to_owned())].into(),
            own_user: false,
        }
    }

    /// A build container that runs a shell script.
    pub fn build(&self, script: &str) -> BuildSpec {
        BuildSpec {
            app: Some("hello".parse().unwrap()),
            image: self.image.clone(),
            mounts: Vec::new(),
            env: vec!["A=b".into()],
            entrypoint: vec!["/bin/sh".into(), "-c".into()],
            cmd: vec![script.into()],
            cpus: 1,
            memory_mib: 64,
            pids: 64,
        }
    }
}

impl Drop for TestEngine {
    fn drop(&mut self) {
        let engine = self.engine.clone();
        let removed = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(engine.remove_all())
        });
        let removed = removed.join();
        if !std::thread::panicking() {
            removed.expect("cleaning up").expect("nothing is left");
        }
    }
}

/// Waits until `ready`, or fails after half a minute.
pub async fn until<F: Future<Output = bool>>(what: &str, mut ready: impl FnMut() -> F) {
    let waited = tokio::time::timeout(Duration::from_secs(30), async {
        while !ready().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    waited.await.unwrap_or_else(|_| panic!("waited in vain until {what}"));
}

/// A tiny root: busybox, and the folders that builds need.
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

fn import_busybox(socket: &std::path::Path, tag: &str) {
    let tar = busybox_tar();
    let (repo, version) = tag.rsplit_once(':').unwrap();
    let mut engine = UnixStream::connect(socket).unwrap();
    let head = format!(
        "POST /images/create?fromSrc=-&repo={repo}&tag={version} HTTP/1.1\r\nHost: docker\r\nConnection: close\r\n\
         Content-Type: application/x-tar\r\nContent-Length: {}\r\n\r\n",
        tar.len()
    );
    engine.write_all(head.as_bytes()).unwrap();
    // One that refuses does not read to the end, and says why.
    let _ = engine.write_all(&tar);
    let mut answer = String::new();
    engine.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && !answer.contains("errorDetail"), "{answer}");
}
