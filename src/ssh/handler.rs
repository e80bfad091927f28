//! What a client may do, request by request. The library refuses the requests that are not handled here.

use std::{collections::HashMap, net::SocketAddr, sync::Arc};

use russh::{
    Channel, ChannelId, ChannelOpenFailure, Pty, Sig,
    keys::{Algorithm, PublicKey},
    server::{Auth, ChannelOpenHandle, Msg, PublicKeyOffer, Session, VerifiedPublicKey},
};
use tokio_util::task::TaskTracker;

use super::{
    answer::Answer,
    backend::{Backend, SshServer},
    channel::{ChannelTerminal, OpenChannel},
    connection_state::{ConnectionState, Running},
    flow::WINDOW,
    limits::{Limits, LogKind},
    shares::{LimitReached, Share},
    unauthenticated::UnauthenticatedSlot,
};
use crate::{
    keys,
    model::{ClientNetwork, Resource, TerminalSize},
    operations::Caller,
    store::Key,
};

/// Maximum number of open channels of one connection.
const MAX_CHANNELS: usize = 10;

pub(super) struct Handler<B> {
    server: Arc<SshServer<B>>,
    tracker: TaskTracker,
    limits: Arc<Limits>,
    peer: SocketAddr,
    network: ClientNetwork,
    connection: Arc<ConnectionState>,
    /// Released when the client is authenticated and has a share.
    unauthenticated: Option<UnauthenticatedSlot>,
    /// The share of an authenticated client, or why it has none. Without one its requests are refused with this reason, and
    /// the connection ends like one that is not authenticated.
    share: Option<Result<Share, LimitReached>>,
    /// Fingerprint of the key that the client has proved to own.
    fingerprint: Option<String>,
    channels: HashMap<ChannelId, OpenChannel>,
}

impl<B: Backend> Handler<B> {
    pub(super) fn new(
        server: Arc<SshServer<B>>,
        tracker: TaskTracker,
        limits: Arc<Limits>,
        peer: SocketAddr,
        connection: Arc<ConnectionState>,
        unauthenticated: UnauthenticatedSlot,
    ) -> Self {
        Self {
            server,
            tracker,
            limits,
            peer,
            network: ClientNetwork::of(peer.ip()),
            connection,
            unauthenticated: Some(unauthenticated),
            share: None,
            fingerprint: None,
            channels: HashMap::new(),
        }
    }

    /// Logs that a client was refused, unless its key has been refused often in the last minute.
    fn log_refusal(&self, key: &Key, limit: &LimitReached) {
        if let Some(suppressed) = self.limits.log.admit(LogKind::Refused(key.id)) {
            tracing::warn!(peer = %self.peer, key = %key.name, suppressed, "ssh client refused: {limit}");
        }
    }

    /// A session of the key, for one request, of a user who may have at most `max`.
    fn session(&self, key: &Key, max: Option<u64>) -> Result<Share, LimitReached> {
        if let Some(Err(limit)) = &self.share {
            return Err(limit.clone());
        }
        let session = self.limits.shares.session(key, self.network, max);
        if let Err(limit) = &session {
            self.log_refusal(key, limit);
        }
        session
    }

    async fn lookup(&self, key: &PublicKey, algorithm: &Algorithm) -> Option<Key> {
        if !keys::is_accepted(algorithm) {
            tracing::debug!(peer = %self.peer, %algorithm, "ssh signature algorithm refused");
            return None;
        }
        match self.server.store.key_by_fingerprint(keys::fingerprint(key)).await {
            Ok(key) => key,
            Err(error) => {
                tracing::error!(%error, "cannot look up an ssh key");
                None
            }
        }
    }

    /// Starts the command of a channel; each channel runs one. The key is looked up again: it must still be registered, and
    /// its present rights apply.
    async fn start(&mut self, id: ChannelId, command: &[u8], session: &mut Session) -> Result<(), russh::Error> {
        let Some(fingerprint) = self.fingerprint.clone() else { return Err(russh::Error::Inconsistent) };
        let key = match self.server.store.key_by_fingerprint(fingerprint).await {
            Ok(Some(key)) => key,
            Ok(None) => {
                if let Some(suppressed) = self.limits.log.admit(LogKind::Disconnected) {
                    tracing::info!(peer = %self.peer, suppressed, "the ssh key of a connection was removed");
                }
                return Err(russh::Error::NotAuthenticated);
            }
            Err(error) => {
                tracing::error!(%error, "cannot look up an ssh key");
                return session.channel_failure(id);
            }
        };
        let max_sessions = match self.server.store.limit_of(key.user, Resource::Sessions).await {
            Ok(max) => max,
            Err(error) => {
                tracing::error!(%error, "cannot look up the limit of a user's sessions");
                return session.channel_failure(id);
            }
        };
        let share = self.session(&key, max_sessions);
        let caller = Caller::of_key(key, self.peer.ip().to_canonical().to_string());
        self.connection.touch();
        let Some(open) = self.channels.get_mut(&id) else { return session.channel_failure(id) };
        let Some(write) = open.write.take() else { return session.channel_failure(id) };
        session.channel_success(id)?;
        let answer = Answer {
            server: Arc::clone(&self.server),
            share,
            caller,
            command: command.to_vec(),
            terminal: open.terminal.as_ref().map(|terminal| terminal.client.clone()),
            git_protocol: open.git_protocol.take(),
            stdin: open.inbox.reader(),
            write,
            hangup: open.hangup.clone(),
            closed: open.closed.token().clone(),
            running: Running::new(Arc::clone(&self.connection)),
            answered: open.answered.clone().drop_guard(),
        };
        self.tracker.spawn(answer.run());
        Ok(())
    }
}

impl<B: Backend> russh::server::Handler for Handler<B> {
    type Error = russh::Error;

    async fn auth_publickey_offered(&mut self, _: &str, offer: PublicKeyOffer<'_>) -> Result<Auth, Self::Error> {
        // The client has not proved anything yet: the reply only tells it which of its keys to sign with.
        let known = self.lookup(offer.public_key, offer.algorithm).await.is_some();
        Ok(if known { Auth::Accept } else { Auth::reject() })
    }

    async fn auth_publickey(&mut self, _: &str, key: VerifiedPublicKey<'_>) -> Result<Auth, Self::Error> {
        let Some(key) = self.lookup(key.public_key, key.algorithm).await else {
            return Ok(Auth::reject());
        };
        let share = self.limits.shares.connection(&key, self.network);
        match &share {
            Ok(_) => {
                if let Some(suppressed) = self.limits.log.admit(LogKind::Login(key.id)) {
                    tracing::info!(peer = %self.peer, key = %key.name, suppressed, "ssh client authenticated");
                }
                self.unauthenticated = None;
                self.connection.touch();
                self.connection.authenticated.cancel();
            }
            Err(limit) => self.log_refusal(&key, limit),
        }
        self.share = Some(share);
        self.fingerprint = Some(key.fingerprint);
        Ok(Auth::Accept)
    }

    async fn channel_open_session(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Self::Error> {
        // The library does not report when the client closes a channel that the server closed first.
        self.channels.retain(|_, open| !open.answered.is_cancelled());
        if self.channels.len() >= MAX_CHANNELS {
            reply.reject(ChannelOpenFailure::ResourceShortage).await;
            return Ok(());
        }
        let (id, (read, write)) = (channel.id(), channel.split());
        // Unread data would stop the whole session when its queue is full; `data` receives it instead.
        drop(read);
        self.channels.insert(id, OpenChannel::new(write, Arc::clone(&self.connection.flow)));
        self.connection.touch();
        reply.accept().await;
        Ok(())
    }

    async fn channel_close(&mut self, channel: ChannelId, _: &mut Session) -> Result<(), Self::Error> {
        self.channels.remove(&channel);
        Ok(())
    }

    async fn channel_eof(&mut self, channel: ChannelId, _: &mut Session) -> Result<(), Self::Error> {
        if let Some(open) = self.channels.get(&channel) {
            open.inbox.end();
        }
        Ok(())
    }

    async fn data(&mut self, channel: ChannelId, data: &[u8], _: &mut Session) -> Result<(), Self::Error> {
        if self.connection.flow.arrived(data.len()) {
            self.connection.touch();
        }
        let Some(open) = self.channels.get(&channel) else { return Ok(()) };
        open.receive(data).map_err(|_| {
            if let Some(suppressed) = self.limits.log.admit(LogKind::Disconnected) {
                tracing::warn!(peer = %self.peer, suppressed, "ssh client sent more than its window");
            }
            russh::Error::Inconsistent
        })
    }

    async fn window_adjusted(&mut self, _: ChannelId, _: u32, _: &mut Session) -> Result<(), Self::Error> {
        self.connection.flow.window_adjusted();
        Ok(())
    }

    fn adjust_window(&mut self, _: ChannelId, _: u32) -> u32 {
        self.connection.flow.window().min(WINDOW)
    }

    async fn pty_request(
        &mut self,
        channel: ChannelId,
        name: &str,
        columns: u32,
        rows: u32,
        _: u32,
        _: u32,
        _: &[(Pty, u32)],
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        match self.channels.get_mut(&channel).filter(|open| open.write.is_some()) {
            Some(open) => {
                open.terminal = Some(ChannelTerminal::new(name, size(columns, rows)));
                session.channel_success(channel)
            }
            None => session.channel_failure(channel),
        }
    }

    async fn x11_request(
        &mut self,
        channel: ChannelId,
        _: bool,
        _: &str,
        _: &str,
        _: u32,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        session.channel_failure(channel)
    }

    async fn env_request(
        &mut self,
        channel: ChannelId,
        name: &str,
        value: &str,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        let known = name == "GIT_PROTOCOL" && ["version=0", "version=1", "version=2"].contains(&value);
        match self.channels.get_mut(&channel).filter(|_| known) {
            Some(open) => {
                open.git_protocol = Some(value.to_owned());
                session.channel_success(channel)
            }
            None => session.channel_failure(channel),
        }
    }

    async fn shell_request(&mut self, channel: ChannelId, session: &mut Session) -> Result<(), Self::Error> {
        self.start(channel, b"", session).await
    }

    async fn exec_request(
        &mut self,
        channel: ChannelId,
        data: &[u8],
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        self.start(channel, data, session).await
    }

    async fn subsystem_request(
        &mut self,
        channel: ChannelId,
        _: &str,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        session.channel_failure(channel)
    }

    async fn window_change_request(
        &mut self,
        channel: ChannelId,
        columns: u32,
        rows: u32,
        _: u32,
        _: u32,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        if let Some(terminal) = self.channels.get(&channel).and_then(|open| open.terminal.as_ref()) {
            terminal.size.send_replace(size(columns, rows));
        }
        session.channel_success(channel)
    }

    async fn signal(&mut self, channel: ChannelId, signal: Sig, _: &mut Session) -> Result<(), Self::Error> {
        if let (Some(open), Sig::INT | Sig::TERM | Sig::HUP | Sig::QUIT | Sig::KILL | Sig::ABRT) =
            (self.channels.get(&channel), signal)
        {
            open.hangup.cancel();
        }
        Ok(())
    }
}

/// A terminal's size, as the client reports it (RFC 4254, section 6.2).
fn size(columns: u32, rows: u32) -> TerminalSize {
    let number = |number: u32| u16::try_from(number).unwrap_or(u16::MAX);
    TerminalSize { columns: number(columns), rows: number(rows) }
}
