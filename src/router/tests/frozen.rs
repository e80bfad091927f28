//! Server and router as they were before they greeted each other, to test against: their messages, and what they did with
//! them. Never changed.

use std::{
    fs::File,
    io::{self, IoSlice, IoSliceMut, Read as _, Write as _},
    mem::MaybeUninit,
    net::{SocketAddr, TcpListener},
    os::{
        fd::{AsFd as _, BorrowedFd, OwnedFd},
        unix::net::{UnixListener as StdListener, UnixStream as StdStream},
    },
    path::Path,
};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    recvmsg, sendmsg,
};
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines},
    net::{
        UnixListener, UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::mpsc,
    task::JoinSet,
};

use super::kit::soon;
use crate::model::{InstanceId, ReleaseNumber};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum ToRouter {
    Table(Table),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum FromRouter {
    Applied { version: u64, draining: Vec<InstanceId>, failed: Vec<(SocketAddr, String)> },
    Drained(InstanceId),
    Unanswered(Unanswered),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Unanswered {
    pub(super) service: String,
    pub(super) status: u16,
    pub(super) instance: Option<InstanceId>,
    pub(super) method: String,
    pub(super) path: String,
    pub(super) request_id: String,
    #[serde(rename = "untold")]
    pub(super) suppressed: u64,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Table {
    pub(super) version: u64,
    pub(super) listeners: Vec<Listener>,
    pub(super) services: Vec<Service>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Protocol {
    Http,
    Tcp,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Listener {
    pub(super) address: SocketAddr,
    pub(super) protocol: Protocol,
    pub(super) routes: Vec<Route>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Route {
    pub(super) host: String,
    pub(super) path: String,
    #[serde(default)]
    pub(super) certificate: Option<String>,
    pub(super) service: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Service {
    pub(super) name: String,
    pub(super) targets: Vec<Target>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Target {
    pub(super) instance: InstanceId,
    pub(super) container: String,
    pub(super) release: ReleaseNumber,
    pub(super) address: SocketAddr,
}

#[derive(Serialize, Deserialize)]
pub(super) struct Inventory {
    pub(super) table: Table,
    pub(super) sockets: Vec<(SocketAddr, Protocol)>,
    pub(super) active: Vec<InstanceId>,
}

/// The old router's side of the connection: it has a table, and listens on nothing.
pub(super) struct Router {
    /// Tables that were put in force.
    pub(super) applied: mpsc::Receiver<Table>,
    /// What the router reports.
    pub(super) reports: mpsc::Sender<FromRouter>,
    /// Why connections were closed.
    pub(super) closed: mpsc::UnboundedReceiver<String>,
    _task: JoinSet<()>,
}

impl Router {
    pub(super) fn start(socket: &Path, mut table: Table, draining: Vec<InstanceId>) -> Self {
        let control = UnixListener::bind(socket).unwrap();
        let (put, applied) = mpsc::channel(64);
        let (reports, mut reported) = mpsc::channel::<FromRouter>(64);
        let (reasons, closed) = mpsc::unbounded_channel();
        let mut task = JoinSet::new();
        task.spawn(async move {
            let mut server: Option<(Lines<BufReader<OwnedReadHalf>>, OwnedWriteHalf)> = None;
            loop {
                tokio::select! {
                    accepted = control.accept() => {
                        let (read, write) = accepted.unwrap().0.into_split();
                        server = Some((BufReader::new(read).lines(), write));
                    }
                    line = next(&mut server) => match line.map(|line| serde_json::from_str::<ToRouter>(&line)) {
                        Some(Ok(ToRouter::Table(new))) => {
                            if new.version >= table.version {
                                table = new.clone();
                                put.send(new).await.unwrap();
                            }
                            let (version, draining) = (table.version, draining.clone());
                            send(&mut server, &FromRouter::Applied { version, draining, failed: vec![] }).await;
                        }
                        Some(Err(error)) => {
                            reasons.send(error.to_string()).unwrap();
                            server = None;
                        }
                        None => {
                            let _ = reasons.send("closed by the server".to_owned());
                            server = None;
                        }
                    },
                    Some(report) = reported.recv() => send(&mut server, &report).await,
                }
            }
        });
        Self { applied, reports, closed, _task: task }
    }
}

async fn next(server: &mut Option<(Lines<BufReader<OwnedReadHalf>>, OwnedWriteHalf)>) -> Option<String> {
    match server {
        Some((lines, _)) => lines.next_line().await.ok().flatten(),
        None => std::future::pending().await,
    }
}

async fn send(server: &mut Option<(Lines<BufReader<OwnedReadHalf>>, OwnedWriteHalf)>, message: &FromRouter) {
    let Some((_, write)) = server else { return };
    let mut text = serde_json::to_vec(message).unwrap();
    text.push(b'\n');
    write.write_all(&text).await.unwrap();
}

/// The old server's side of the connection.
pub(super) struct Server {
    lines: Lines<BufReader<OwnedReadHalf>>,
    write: OwnedWriteHalf,
}

impl Server {
    pub(super) async fn connect(socket: &Path) -> Self {
        // A router that is starting does not listen yet.
        let stream = soon("the router listens", async {
            loop {
                match UnixStream::connect(socket).await {
                    Ok(stream) => return stream,
                    Err(_) => tokio::task::yield_now().await,
                }
            }
        });
        let (read, write) = stream.await.into_split();
        Self { lines: BufReader::new(read).lines(), write }
    }

    pub(super) async fn publish(&mut self, table: Table) {
        let mut text = serde_json::to_vec(&ToRouter::Table(table)).unwrap();
        text.push(b'\n');
        self.write.write_all(&text).await.unwrap();
    }

    /// The next message; an error is what made the old server close the connection.
    pub(super) async fn message(&mut self) -> io::Result<FromRouter> {
        let line = soon("a message of the router", self.lines.next_line()).await?;
        Ok(serde_json::from_str(&line.ok_or(io::ErrorKind::UnexpectedEof)?)?)
    }
}

/// What an old router does for its successor: waits for it, hands everything over, waits for its confirmation, and unlocks.
pub(super) fn hand_over(dir: &Path, lock: &File, inventory: &Inventory, descriptors: &[OwnedFd]) -> StdStream {
    let listener = StdListener::bind(dir.join("router-handover.sock")).unwrap();
    let (mut stream, _) = listener.accept().unwrap();
    let text = serde_json::to_vec(inventory).unwrap();
    stream.write_all(&u32::try_from(text.len()).unwrap().to_be_bytes()).unwrap();
    stream.write_all(&text).unwrap();
    for batch in descriptors.chunks(64) {
        let borrowed: Vec<BorrowedFd<'_>> = batch.iter().map(OwnedFd::as_fd).collect();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(64))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        assert!(control.push(SendAncillaryMessage::ScmRights(&borrowed)));
        sendmsg(&stream, &[IoSlice::new(b".")], &mut control, SendFlags::empty()).unwrap();
    }
    let mut confirmed = [0];
    stream.read_exact(&mut confirmed).unwrap();
    assert_eq!(&confirmed, b"!");
    lock.unlock().unwrap();
    stream
}

/// What an old router gets from its predecessor, and the confirmation of it.
pub(super) fn take_over(dir: &Path) -> io::Result<(StdStream, Inventory, Vec<TcpListener>)> {
    let mut stream = StdStream::connect(dir.join("router-handover.sock"))?;
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let mut text = vec![0; u32::from_be_bytes(length) as usize];
    stream.read_exact(&mut text)?;
    let inventory: Inventory = serde_json::from_slice(&text)?;
    let mut descriptors: Vec<OwnedFd> = Vec::new();
    while descriptors.len() < inventory.sockets.len() {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(64))];
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
            return Err(io::Error::other("it closed the connection early"));
        }
    }
    stream.write_all(b"!")?;
    Ok((stream, inventory, descriptors.into_iter().map(TcpListener::from).collect()))
}
