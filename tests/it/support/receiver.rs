//! A receiver of pushes, a handler whose behaviour depends on the branch's name, and a git client whose "ssh" is a short
//! script. Real ssh has tests of its own.

use std::{
    collections::HashMap,
    fs,
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use paas::{
    config::{Config, Quota},
    git::{Reader, RefChange, Repositories, Repository},
    model::CommitId,
    progress::Progress,
    receive::{
        Decided, Fetcher, Imports, PushHandler, Pusher, Receiver, RefUpdate, Rejection, RequestedPush, ServedApp,
        Streams,
    },
    store::{Actor, AppId, Door},
};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    net::{TcpListener, TcpStream},
    runtime::Runtime,
    sync::{Semaphore, oneshot},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    command::{CommandOutput, output},
    waiting::{DEADLINE, eventually},
};

/// Acts on the branch's name: `refused…` is refused, `held…` waits for the gate and is cancelled when the client disconnects,
/// `committed…` waits for the gate and completes in any case, `talks…` prints many lines; others are accepted.
pub struct Handler {
    repositories: Repositories,
    pub seen: Mutex<Vec<RefUpdate>>,
    pub cancelled: Mutex<Vec<String>>,
    /// Number of pushes that ended without an update.
    pub without_update: AtomicUsize,
    pub gate: Semaphore,
}

#[derive(Clone)]
struct Handle(Arc<Handler>);

impl PushHandler for Handle {
    fn ended_without_update(&self, _: &ServedApp, _: &Actor) {
        self.0.without_update.fetch_add(1, Ordering::AcqRel);
    }

    async fn push(
        &self,
        push: RequestedPush,
        reader: &Reader,
        progress: &Progress,
        cancel: CancellationToken,
    ) -> Vec<Decided> {
        let repository = self.0.repositories.get(&push.app.name);
        let mut decided = Vec::new();
        for update in push.updates {
            decided.push(self.0.update(&repository, update, reader, progress, &cancel).await);
        }
        decided
    }
}

impl Handler {
    async fn update(
        &self,
        repository: &Repository,
        update: RefUpdate,
        reader: &Reader,
        progress: &Progress,
        cancel: &CancellationToken,
    ) -> Decided {
        self.seen.lock().unwrap().push(update.clone());
        let branch = update.name.to_string();
        progress.step(format!("Deploying {branch}")).await;
        let open = async { self.gate.acquire().await.unwrap().forget() };
        if branch.starts_with("held") {
            tokio::select! {
                () = open => {}
                () = cancel.cancelled() => {
                    self.cancelled.lock().unwrap().push(branch);
                    return Err(Rejection("cancelled".to_owned()));
                }
            }
        } else if branch.starts_with("committed") {
            open.await;
        } else if branch.starts_with("talks") {
            for n in 0..20_000 {
                progress.detail(format!("line {n} \u{1b}[31m of very many")).await;
            }
        } else if branch.starts_with("refused") {
            repository.gc().await.unwrap();
            return Err(Rejection(format!("no {branch}\nhere")));
        }
        let failed = |e: paas::git::GitError| Rejection(e.to_string());
        let actual = reader.ref_states(std::slice::from_ref(&update.name)).await.map_err(failed)?;
        if actual[0].id != update.old {
            return Err(Rejection("stale: fetch first".to_owned()));
        }
        let change = RefChange { name: &update.name, old: update.old.as_ref(), new: update.new.as_ref() };
        repository.update_refs(&[change]).await.map_err(failed)
    }
}

pub struct Server {
    pub runtime: Runtime,
    dir: tempfile::TempDir,
    pub handler: Arc<Handler>,
    pub repositories: Repositories,
    pub receiver: Receiver,
    pub config: Config,
    tracker: TaskTracker,
    shutdown: CancellationToken,
    port: u16,
}

impl Server {
    pub fn new() -> Self {
        Self::with(|_| {})
    }

    /// With another configuration.
    pub fn with(change: impl FnOnce(&mut Config)) -> Self {
        Self::with_hook(change, |_| None)
    }

    /// With another configuration, and perhaps another program as the hook.
    pub fn with_hook(change: impl FnOnce(&mut Config), hook: impl FnOnce(&Path) -> Option<PathBuf>) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o711)).unwrap();
        let mut config = Config { data_dir: dir.path().join("data"), ..Config::default() };
        change(&mut config);
        fs::create_dir(&config.data_dir).unwrap();
        fs::set_permissions(&config.data_dir, fs::Permissions::from_mode(0o711)).unwrap();
        let repositories = runtime.block_on(open_repositories(&config));
        let handler = Arc::new(Handler {
            repositories: repositories.clone(),
            seen: Mutex::default(),
            cancelled: Mutex::default(),
            without_update: AtomicUsize::new(0),
            gate: Semaphore::new(0),
        });
        let (tracker, shutdown) = (TaskTracker::new(), CancellationToken::new());
        let hook = hook(dir.path()).unwrap_or_else(|| repositories.program().to_owned());
        let entered = runtime.enter();
        let handle = Handle(Arc::clone(&handler));
        let imports = Imports::new(&config, repositories.clone(), tracker.clone());
        let receiver =
            Receiver::start_with(hook, &config, repositories.clone(), handle, &imports, &tracker, shutdown.clone())
                .unwrap();
        drop(entered);
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let port = listener.local_addr().unwrap().port();
        let door = door(listener, receiver.clone(), pusher(&config.quota), dir.path().to_owned());
        let stopped = shutdown.clone();
        runtime.spawn(async move {
            tokio::select! {
                () = door => {}
                () = stopped.cancelled() => {}
            }
        });
        let server = Self { runtime, dir, handler, repositories, receiver, config, tracker, shutdown, port };
        server.create("app");
        server
    }

    pub fn create(&self, app: &str) {
        self.runtime.block_on(self.repositories.create(&app.parse().unwrap())).unwrap();
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub fn repository(&self) -> Repository {
        self.repositories.get(&"app".parse().unwrap())
    }

    /// A reader of the repository; each has a process of its own.
    pub fn reader(&self) -> Reader {
        self.repository().reader()
    }

    pub fn id(&self, branch: &str) -> Option<CommitId> {
        self.runtime.block_on(self.reader().ref_value(&branch.parse().unwrap())).unwrap()
    }

    pub fn updates(&self) -> Vec<RefUpdate> {
        self.handler.seen.lock().unwrap().clone()
    }

    /// Processes whose working folder is this server's.
    pub fn children(&self) -> Vec<i32> {
        let pids = fs::read_dir("/proc").unwrap().filter_map(|e| e.ok()?.file_name().to_str()?.parse().ok());
        pids.filter(|pid: &i32| {
            fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd.starts_with(&self.config.data_dir))
        })
        .collect()
    }

    /// Those of them that read the repository.
    pub fn readers(&self) -> Vec<i32> {
        self.children().into_iter().filter(|pid| command_line(*pid).ends_with("\0git-reader\0")).collect()
    }

    /// Waits until all processes of pushes have exited, including the clean-up.
    pub fn quiet(&self) {
        eventually("no child is left", || self.children().is_empty().then_some(()));
        let free = || self.runtime.block_on(self.repository().gc_if_needed()).is_ok();
        assert!(free());
    }

    /// A working folder with one commit and the remote `app`.
    pub fn work(&self, name: &str) -> Work {
        let folder = self.dir().join(name);
        fs::create_dir(&folder).unwrap();
        let ssh = self.dir().join("ssh");
        if !ssh.exists() {
            fs::write(&ssh, SSH.replace("PORT", &self.port.to_string())).unwrap();
            fs::set_permissions(&ssh, fs::Permissions::from_mode(0o755)).unwrap();
        }
        let work = Work { folder, ssh };
        work.git(&["init", "-q", "-b", "main", "."]).success();
        work.git(&["remote", "add", "paas", "paas@host:app"]).success();
        work.commit("first");
        work
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.handler.gate.close();
        self.shutdown.cancel();
        self.tracker.close();
        let ended = self.runtime.block_on(async { tokio::time::timeout(DEADLINE, self.tracker.wait()).await });
        if !std::thread::panicking() {
            ended.expect("every task of the receiver ends");
            eventually("no child outlives the server", || self.children().is_empty().then_some(()));
        }
    }
}

/// The arguments of a process, each with a NUL at its end.
pub fn command_line(pid: i32) -> String {
    fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default()
}

/// The repositories of a data folder, which `paas` reads: the program of the tests is another one.
pub async fn open_repositories(config: &Config) -> Repositories {
    Repositories::open_with(Path::new(env!("CARGO_BIN_EXE_paas")), config, None).await.unwrap()
}

/// The client: one connection for data, one for stderr; the exit status is written to a file.
const SSH: &str = r#"#!/bin/bash
shift
exec 3<>/dev/tcp/127.0.0.1/PORT 4<>/dev/tcp/127.0.0.1/PORT
id="$$-$RANDOM-$RANDOM"
printf '%s err\n' "$id" >&4
printf '%s %s\n' "$id" "$*" >&3
cat <&4 >&2 & err=$!
cat <&0 >&3 & up=$!
cat <&3
wait $err
kill $up 2>/dev/null
exit "$(cat "${0%/*}/$id")"
"#;

/// Takes the place of the SSH server. Its clients cannot half-close, so the end of their data is a disconnect.
async fn door(listener: TcpListener, receiver: Receiver, pusher: Pusher, dir: PathBuf) {
    let errors: Arc<Mutex<HashMap<String, oneshot::Sender<TcpStream>>>> = Arc::default();
    let waiting: Arc<Mutex<HashMap<String, oneshot::Receiver<TcpStream>>>> = Arc::default();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let (errors, waiting, receiver, dir) = (errors.clone(), waiting.clone(), receiver.clone(), dir.clone());
        let pusher = pusher.clone();
        tokio::spawn(async move {
            let mut stream = BufReader::with_capacity(1, stream);
            let mut line = String::new();
            stream.read_line(&mut line).await.unwrap();
            let (id, command) = line.trim().split_once(' ').unwrap();
            {
                let mut errors = errors.lock().unwrap();
                let mut waiting = waiting.lock().unwrap();
                if !errors.contains_key(id) && !waiting.contains_key(id) {
                    let (sender, receiver) = oneshot::channel();
                    errors.insert(id.to_owned(), sender);
                    waiting.insert(id.to_owned(), receiver);
                }
            }
            if command == "err" {
                let sender = errors.lock().unwrap().remove(id).unwrap();
                return drop(sender.send(stream.into_inner()));
            }
            let err = waiting.lock().unwrap().remove(id).unwrap();
            let mut err = err.await.unwrap();
            let (stderr, mut printed) = tokio::io::duplex(64 * 1024);
            let saying = tokio::spawn(async move {
                let _ = tokio::io::copy(&mut printed, &mut err).await;
                err
            });
            let (mut read, stdout) = stream.into_inner().into_split();
            let (hangup, (stdin, mut feed)) = (CancellationToken::new(), tokio::io::duplex(64 * 1024));
            let gone = hangup.clone();
            tokio::spawn(async move {
                let _ = tokio::io::copy(&mut read, &mut feed).await;
                gone.cancel();
            });
            let streams = Streams { stdin: Box::new(stdin), stdout: Box::new(stdout), stderr: Box::new(stderr) };
            let app = served(command.split('\'').nth(1).unwrap());
            let status = if command.starts_with("git-receive-pack") {
                receiver.receive_pack(app, pusher, None, streams, hangup).await
            } else {
                let fetcher = Fetcher { user: pusher.actor.user, max_fetches: pusher.max_pushes };
                receiver.upload_pack(app, fetcher, None, streams, hangup).await
            };
            // The client reads it when its second connection is closed.
            let err = saying.await.unwrap();
            let _ = fs::write(dir.join(id), status.to_string());
            drop(err);
        });
    }
}

/// A user with the quota that the configuration gives to all.
pub fn pusher(quota: &Quota) -> Pusher {
    Pusher {
        actor: Actor { user: None, name: "ann".to_owned(), fingerprint: None, address: None, door: Door::Ssh },
        max_pushes: usize::try_from(quota.pushes).unwrap(),
        max_repository_bytes: quota.repository_mib_per_app << 20,
    }
}

pub fn served(name: &str) -> ServedApp {
    ServedApp { id: AppId(1), name: name.parse().unwrap() }
}

/// A developer's working folder.
pub struct Work {
    pub folder: PathBuf,
    ssh: PathBuf,
}

impl Work {
    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new("git");
        command
            .args(words)
            .current_dir(&self.folder)
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .env("HOME", "/nonexistent")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_SSH", &self.ssh)
            .env("GIT_SSH_VARIANT", "simple")
            // Version 0 of the protocol needs no end-of-file, which this client cannot send.
            .envs([("GIT_CONFIG_COUNT", "1"), ("GIT_CONFIG_KEY_0", "protocol.version"), ("GIT_CONFIG_VALUE_0", "0")])
            .env("GIT_ALLOW_PROTOCOL", "ssh:file")
            .envs([("GIT_AUTHOR_NAME", "Ann"), ("GIT_AUTHOR_EMAIL", "ann@example.org")])
            .envs([("GIT_COMMITTER_NAME", "Ann"), ("GIT_COMMITTER_EMAIL", "ann@example.org")])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0);
        command
    }

    #[track_caller]
    pub fn git(&self, words: &[&str]) -> CommandOutput {
        output(self.command(words).spawn().unwrap())
    }

    #[track_caller]
    pub fn push(&self, refs: &[&str]) -> CommandOutput {
        self.git(&[&["push", "paas"], refs].concat())
    }

    /// A push that is not waited for.
    pub fn pushing(&self, refs: &[&str]) -> Child {
        self.command(&[&["push", "paas"], refs].concat()).spawn().unwrap()
    }

    /// A client that runs a command of git on the server, whose input is held.
    pub fn ssh(&self, command: &str) -> Child {
        let mut ssh = Command::new(&self.ssh);
        ssh.args(["paas@host", command]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        ssh.process_group(0).spawn().unwrap()
    }

    /// Commits a change; returns its id.
    pub fn commit(&self, text: &str) -> CommitId {
        fs::write(self.folder.join("file"), text).unwrap();
        self.git(&["add", "-A"]).success();
        self.git(&["commit", "-q", "--allow-empty", "-m", text]).success();
        self.head()
    }

    pub fn head(&self) -> CommitId {
        self.git(&["rev-parse", "HEAD"]).success().out.trim().parse().unwrap()
    }
}
