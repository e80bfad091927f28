//! One router at a time for a data folder, and the way from one to the next: a new router asks the running one for its
//! table and its listening sockets, accepts from them too, and only then the old one stops. The sockets are the same in
//! both processes, so no connection is lost.

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
    time::{Duration, Instant},
};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    recvmsg, sendmsg,
};
use serde::{Deserialize, Serialize};
use tokio::{
    io::AsyncReadExt as _,
    net::{UnixListener, UnixStream},
};

use super::{
    RouterError,
    listeners::Listeners,
    protocol::{Protocol, Table},
};
use crate::model::InstanceId;

/// Descriptors that one message carries; the kernel takes 253.
const BATCH: usize = 64;

/// How long the other router has for each step.
const PATIENCE: Duration = Duration::from_secs(10);

/// Between two attempts to take over.
const AGAIN: Duration = Duration::from_millis(100);

/// What comes before the descriptors.
#[derive(Serialize, Deserialize)]
struct Inventory {
    table: Table,
    sockets: Vec<(SocketAddr, Protocol)>,
    /// Instances that may be answering requests.
    active: Vec<InstanceId>,
}

/// What a router before left.
pub(super) struct Inherited {
    pub(super) table: Table,
    pub(super) sockets: Vec<(SocketAddr, Protocol, TcpListener)>,
    pub(super) active: Vec<InstanceId>,
}

/// The router before, which still answers what it had accepted.
pub(super) struct Predecessor(UnixStream);

impl Predecessor {
    /// Waits until it has ended: then its end of the stream is closed. Cancel-safe.
    pub(super) async fn ended(&mut self) {
        while let Ok(1..) = self.0.read(&mut [0]).await {}
    }
}

/// The routers before and after this one, as far as they are there.
#[derive(Default)]
pub(super) struct Neighbours {
    pub(super) predecessor: Option<Predecessor>,
    /// Closed when this router has ended, which is how the successor knows.
    pub(super) successor: Option<StdStream>,
}

/// The data folder, as this router's own.
pub(super) struct Place {
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

impl Place {
    /// Takes the folder, or all that the router which has it can give. One that starts or ends is waited for.
    pub(super) fn enter(dir: &Path) -> Result<Self, RouterError> {
        let path = dir.join("router.lock");
        let lock = File::create(&path).map_err(failed("open", &path))?;
        let mut place = Self { dir: dir.to_owned(), lock, locked: false, predecessor: None, inherited: None };
        let until = Instant::now() + PATIENCE;
        loop {
            match place.lock.try_lock() {
                Ok(()) => {
                    place.locked = true;
                    return Ok(place);
                }
                Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(source)) => return Err(RouterError::File { act: "lock", path, source }),
            }
            match inherit(&place.handover()) {
                Ok((stream, inherited)) => {
                    place.predecessor = Some(stream);
                    place.inherited = Some(inherited);
                    return Ok(place);
                }
                Err(source) if Instant::now() > until => return Err(RouterError::Running { path, source }),
                Err(_) => std::thread::sleep(AGAIN),
            }
        }
    }

    fn handover(&self) -> PathBuf {
        self.dir.join("router-handover.sock")
    }

    /// Where the server comes.
    pub(super) fn control(&self) -> Result<UnixListener, RouterError> {
        listen(&self.dir.join("router.sock"))
    }

    /// Where a successor comes; only the one router that has the lock listens there.
    pub(super) fn successors(&self) -> Result<UnixListener, RouterError> {
        listen(&self.handover())
    }

    pub(super) fn inherited(&mut self) -> Option<Inherited> {
        self.inherited.take()
    }

    /// Tells the router before that it is not needed any more, and waits for the lock.
    pub(super) fn confirm(&mut self) -> Result<Option<Predecessor>, RouterError> {
        let predecessor = self.predecessor.take().and_then(|mut before| {
            before.write_all(b"!").ok()?;
            before.set_nonblocking(true).ok()?;
            UnixStream::from_std(before).ok().map(Predecessor)
        });
        if !self.locked {
            self.lock.lock().map_err(failed("lock", &self.dir.join("router.lock")))?;
            self.locked = true;
        }
        Ok(predecessor)
    }

    /// Gives everything to a successor. When this fails, nothing has changed.
    pub(super) async fn hand_over(
        &mut self,
        stream: UnixStream,
        table: &Table,
        listeners: &Listeners,
        active: Vec<InstanceId>,
    ) -> io::Result<StdStream> {
        let sockets: Vec<_> = listeners.sockets().collect();
        let inventory = Inventory {
            table: table.clone(),
            sockets: sockets.iter().map(|(address, protocol, _)| (*address, *protocol)).collect(),
            active,
        };
        let descriptors: Vec<OwnedFd> =
            sockets.iter().map(|(_, _, socket)| socket.as_fd().try_clone_to_owned()).collect::<io::Result<_>>()?;
        let stream = stream.into_std()?;
        let give = tokio::task::spawn_blocking(move || give(stream, &inventory, &descriptors));
        let stream = give.await.map_err(io::Error::other)??;
        self.lock.unlock()?;
        self.locked = false;
        Ok(stream)
    }
}

/// Listens on a path that only this user may use; what a router before left there is replaced in one step.
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

fn give(mut stream: StdStream, inventory: &Inventory, descriptors: &[OwnedFd]) -> io::Result<StdStream> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let text = serde_json::to_vec(inventory)?;
    let length = u32::try_from(text.len()).map_err(io::Error::other)?;
    stream.write_all(&length.to_be_bytes())?;
    stream.write_all(&text)?;
    for batch in descriptors.chunks(BATCH) {
        let borrowed: Vec<BorrowedFd<'_>> = batch.iter().map(OwnedFd::as_fd).collect();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(BATCH))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !control.push(SendAncillaryMessage::ScmRights(&borrowed)) {
            return Err(io::Error::other("too many descriptors for one message"));
        }
        sendmsg(&stream, &[IoSlice::new(b".")], &mut control, SendFlags::empty())?;
    }
    stream.read_exact(&mut [0])?;
    Ok(stream)
}

fn inherit(path: &Path) -> io::Result<(StdStream, Inherited)> {
    const MOST: usize = 256 << 20;
    let mut stream = StdStream::connect(path)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let length = u32::from_be_bytes(length) as usize;
    if length > MOST {
        return Err(io::Error::other("its table is too large"));
    }
    let mut text = vec![0; length];
    stream.read_exact(&mut text)?;
    let Inventory { table, sockets, active } = serde_json::from_slice(&text)?;
    let mut descriptors: Vec<OwnedFd> = Vec::new();
    while descriptors.len() < sockets.len() {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(BATCH))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut byte = [0];
        let received = recvmsg(&stream, &mut [IoSliceMut::new(&mut byte)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
        let before = descriptors.len();
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(rights) = message {
                descriptors.extend(rights);
            }
        }
        if received.bytes == 0 || descriptors.len() == before {
            return Err(io::Error::other("it broke off"));
        }
    }
    let sockets = sockets.into_iter().zip(descriptors).map(|((a, p), fd)| (a, p, TcpListener::from(fd))).collect();
    Ok((stream, Inherited { table, sockets, active }))
}
