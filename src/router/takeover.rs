//! One router at a time for a data folder, and the handover from one to the next: a new router asks the running one for
//! its route table and its listening sockets, begins to accept, and only then the old one stops. Both processes share the
//! sockets, so no connection is lost.

use std::{
    fs::{self, File, TryLockError},
    io::{self, IoSlice, IoSliceMut, Read as _, Write as _},
    mem::MaybeUninit,
    net::{SocketAddr, TcpListener},
    os::{
        fd::{AsFd as _, BorrowedFd, OwnedFd},
        unix::{
            fs::PermissionsExt as _,
            net::{UnixListener as StdListener, UnixStream as StdStream},
        },
    },
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use tokio::{
    io::AsyncReadExt as _,
    net::{UnixListener, UnixStream},
};

use super::{
    error::RouterError,
    listeners::Listeners,
    protocol::{Protocol, Table, line, unknown::Unknown, v1::Inventory},
};
use crate::{data_dir::open_private, model::InstanceId};

/// Maximum number of file descriptors in one message; the kernel allows 253.
const MAX_DESCRIPTORS: usize = 64;

/// With it, a router confirms that it has taken everything over.
const CONFIRMATION: &[u8; 1] = b"!";

/// How long the other router has for each step.
const STEP_TIMEOUT: Duration = Duration::from_secs(10);

/// The time between two attempts to take over.
const RETRY_INTERVAL: Duration = Duration::from_millis(100);

/// What the previous router handed over.
pub(super) struct Inherited {
    pub(super) table: Table,
    pub(super) sockets: Vec<(SocketAddr, Protocol, TcpListener)>,
    pub(super) active: Vec<InstanceId>,
    /// What was ignored in the previous router's message.
    pub(super) unknown: Unknown,
}

/// The previous router, which still serves the connections that it accepted.
pub(super) struct Predecessor(UnixStream);

impl Predecessor {
    /// Waits until the process has ended, which closes its end of the stream. Cancel-safe.
    pub(super) async fn ended(&mut self) {
        while let Ok(1..) = self.0.read(&mut [0]).await {}
    }
}

/// The routers before and after this one, if there are any.
#[derive(Default)]
pub(super) struct Neighbours {
    pub(super) predecessor: Option<Predecessor>,
    /// Closed when this router ends, which tells the successor.
    pub(super) successor: Option<StdStream>,
}

/// The data folder, locked by this router or handed over to it.
pub(super) struct RouterDir {
    dir: PathBuf,
    lock: File,
    locked: bool,
    predecessor: Option<StdStream>,
    inherited: Option<Inherited>,
}

fn failed(act: &'static str, path: &Path) -> impl FnOnce(io::Error) -> RouterError {
    let path = path.to_owned();
    move |source| RouterError::File { act, path, source }
}

impl RouterDir {
    /// Locks the folder, or takes over from the router that has it, with at most `max` sockets. Waits for a router that is
    /// starting or stopping.
    pub(super) fn open(dir: &Path, max: usize) -> Result<Self, RouterError> {
        let path = dir.join("router.lock");
        let lock = open_private(&path).map_err(failed("open", &path))?;
        let mut opened = Self { dir: dir.to_owned(), lock, locked: false, predecessor: None, inherited: None };
        let until = Instant::now() + STEP_TIMEOUT;
        loop {
            match opened.lock.try_lock() {
                Ok(()) => {
                    opened.locked = true;
                    return Ok(opened);
                }
                Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(source)) => return Err(RouterError::File { act: "lock", path, source }),
            }
            match inherit(&opened.handover(), max) {
                Ok((stream, inherited)) => {
                    opened.predecessor = Some(stream);
                    opened.inherited = Some(inherited);
                    return Ok(opened);
                }
                Err(source) if Instant::now() > until => return Err(RouterError::Running { path, source }),
                Err(_) => std::thread::sleep(RETRY_INTERVAL),
            }
        }
    }

    fn handover(&self) -> PathBuf {
        self.dir.join("router-handover.sock")
    }

    /// Listens for the server.
    pub(super) fn control(&self) -> Result<UnixListener, RouterError> {
        listen(&self.dir.join("router.sock"))
    }

    /// Listens for a successor; only the router that has the lock does.
    pub(super) fn successors(&self) -> Result<UnixListener, RouterError> {
        listen(&self.handover())
    }

    pub(super) fn inherited(&mut self) -> Option<Inherited> {
        self.inherited.take()
    }

    /// Confirms the handover to the previous router, and waits for the lock.
    pub(super) fn confirm(&mut self) -> Result<Option<Predecessor>, RouterError> {
        let predecessor = self.predecessor.take().and_then(|mut before| {
            before.write_all(CONFIRMATION).ok()?;
            before.set_nonblocking(true).ok()?;
            UnixStream::from_std(before).ok().map(Predecessor)
        });
        if !self.locked {
            self.lock.lock().map_err(failed("lock", &self.dir.join("router.lock")))?;
            self.locked = true;
        }
        Ok(predecessor)
    }

    /// Hands everything over to a successor. If this fails, nothing has changed.
    pub(super) async fn hand_over(
        &mut self,
        stream: UnixStream,
        table: &Table,
        listeners: &Listeners,
        active: Vec<InstanceId>,
    ) -> io::Result<StdStream> {
        let sockets: Vec<_> = listeners.sockets().collect();
        let inventory = Inventory {
            table: table.into(),
            sockets: sockets.iter().map(|(address, protocol, _)| (*address, *protocol)).collect(),
            active,
        };
        let sockets: Vec<Arc<TcpListener>> = sockets.into_iter().map(|(_, _, socket)| Arc::clone(socket)).collect();
        let stream = stream.into_std()?;
        let giving = tokio::task::spawn_blocking(move || give(stream, &inventory, &sockets));
        let stream = giving.await.map_err(io::Error::other)??;
        self.lock.unlock()?;
        self.locked = false;
        Ok(stream)
    }
}

/// Listens on a path that only this user may use; a socket that a previous router left there is replaced atomically.
fn listen(path: &Path) -> Result<UnixListener, RouterError> {
    let new = path.with_extension("new");
    let _ = fs::remove_file(&new);
    let bound = StdListener::bind(&new)
        .and_then(|listener| listener.set_nonblocking(true).map(|()| listener))
        .and_then(|listener| fs::set_permissions(&new, fs::Permissions::from_mode(0o600)).map(|()| listener))
        .and_then(|listener| fs::rename(&new, path).map(|()| listener))
        .and_then(UnixListener::from_std);
    bound.map_err(failed("listen on", path))
}

fn give(mut stream: StdStream, inventory: &Inventory, sockets: &[Arc<TcpListener>]) -> io::Result<StdStream> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(STEP_TIMEOUT))?;
    stream.set_write_timeout(Some(STEP_TIMEOUT))?;
    let text = serde_json::to_vec(inventory)?;
    let length = u32::try_from(text.len()).map_err(io::Error::other)?;
    stream.write_all(&length.to_be_bytes())?;
    stream.write_all(&text)?;
    for batch in sockets.chunks(MAX_DESCRIPTORS) {
        let borrowed: Vec<BorrowedFd<'_>> = batch.iter().map(|socket| socket.as_fd()).collect();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !control.push(SendAncillaryMessage::ScmRights(&borrowed)) {
            return Err(io::Error::other("too many descriptors for one message"));
        }
        sendmsg(&stream, &[IoSlice::new(b".")], &mut control, SendFlags::empty())?;
    }
    let mut answer = [0; CONFIRMATION.len()];
    stream.read_exact(&mut answer)?;
    if answer != *CONFIRMATION {
        return Err(io::Error::other("it is not a router that asked"));
    }
    Ok(stream)
}

fn inherit(path: &Path, max: usize) -> io::Result<(StdStream, Inherited)> {
    const MAX_BYTES: usize = 256 << 20;
    let mut stream = StdStream::connect(path)?;
    stream.set_read_timeout(Some(STEP_TIMEOUT))?;
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let length = u32::from_be_bytes(length) as usize;
    if length > MAX_BYTES {
        return Err(io::Error::other("its route table is too large"));
    }
    let mut text = vec![0; length];
    stream.read_exact(&mut text)?;
    let mut unknown = Unknown::default();
    let text = std::str::from_utf8(&text).map_err(io::Error::other)?;
    let Inventory { table, sockets, active } = line::read(text, &mut unknown)?;
    let descriptors = receive_descriptors(&stream, sockets.len(), max)?;
    if descriptors.len() < sockets.len() {
        // The others are closed, and then reported as ports that cannot be opened.
        let (taken, of) = (descriptors.len(), sockets.len());
        tracing::error!(taken, of, "too few file descriptors to take over all ports: raise their limit");
    }
    let sockets = sockets.into_iter().zip(descriptors).map(|((a, p), fd)| (a, p, TcpListener::from(fd))).collect();
    Ok((stream, Inherited { table: table.into(), sockets, active, unknown }))
}

/// Receives so many descriptors; returns the first of them: as many as this process can have, and at most `max`.
fn receive_descriptors(stream: &StdStream, count: usize, max: usize) -> io::Result<Vec<OwnedFd>> {
    let mut descriptors: Vec<OwnedFd> = Vec::new();
    let (mut sent, mut is_short) = (0, false);
    // All messages are read: the sockets in one that is not would stay open, and nobody would accept from them.
    while sent < count {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut byte = [0];
        let received = recvmsg(stream, &mut [IoSliceMut::new(&mut byte)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
        let mut batch: Vec<OwnedFd> = Vec::new();
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(rights) = message {
                batch.extend(rights);
            }
        }
        let is_cut = received.flags.contains(ReturnFlags::CTRUNC);
        if received.bytes == 0 || (batch.is_empty() && !is_cut) {
            return Err(io::Error::other("it closed the connection early"));
        }
        // How many were cut is not known, but every router sends as many as it may.
        sent += if is_cut { MAX_DESCRIPTORS } else { batch.len() };
        if !is_short {
            descriptors.extend(batch);
            descriptors.truncate(max);
        }
        is_short |= is_cut;
    }
    Ok(descriptors)
}
