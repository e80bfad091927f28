//! What a client may do, request by request. All that is not here the library refuses.

use std::{collections::HashMap, net::SocketAddr, sync::Arc};

use russh::{
    Channel, ChannelId, ChannelOpenFailure, ChannelWriteHalf, Pty, Sig,
    keys::{Algorithm, PublicKey},
    server::{Auth, ChannelOpenHandle, Msg, PublicKeyOffer, Session, VerifiedPublicKey},
};
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};

use super::{
    Door, Sessions,
    answer::{Answer, Running},
    connection::Link,
    flow::{Inbox, WINDOW},
    limits::Unauthenticated,
};
use crate::{commands::Caller, keys, store::Key};

/// Channels of one connection.
const MOST_CHANNELS: usize = 10;
const CTRL_C: u8 = 3;
const CTRL_D: u8 = 4;

pub(super) struct Handler<S> {
    door: Arc<Door<S>>,
    tracker: TaskTracker,
    peer: SocketAddr,
    link: Arc<Link>,
    unauthenticated: Option<Unauthenticated>,
    /// Of the key that the client has proved to have.
    fingerprint: Option<String>,
    channels: HashMap<ChannelId, Open>,
}

/// An open channel; when it is dropped, with its connection or alone, what runs on it hears the hang-up.
struct Open {
    write: Option<ChannelWriteHalf<Msg>>,
    inbox: Arc<Inbox>,
    tty: bool,
    git_protocol: Option<String>,
    hangup: CancellationToken,
    gone: DropGuard,
    /// Its request is answered, and we have closed it.
    answered: CancellationToken,
}

impl<S: Sessions> Handler<S> {
    pub(super) fn new(
        door: Arc<Door<S>>,
        tracker: TaskTracker,
        peer: SocketAddr,
        link: Arc<Link>,
        unauthenticated: Unauthenticated,
    ) -> Self {
        let unauthenticated = Some(unauthenticated);
        Self { door, tracker, peer, link, unauthenticated, fingerprint: None, channels: HashMap::new() }
    }

    async fn lookup(&self, key: &PublicKey, algorithm: &Algorithm) -> Option<Key> {
        if !keys::is_accepted(algorithm) {
            tracing::debug!(peer = %self.peer, %algorithm, "ssh signature algorithm refused");
            return None;
        }
        match self.door.store.key_by_fingerprint(keys::fingerprint(key)).await {
            Ok(key) => key,
            Err(error) => {
                tracing::error!(%error, "cannot look up an ssh key");
                None
            }
        }
    }

    /// Starts what is asked for; a channel runs one thing in its life. The key must still be known, and what it may do is
    /// what it may do now.
    async fn start(&mut self, id: ChannelId, command: &[u8], session: &mut Session) -> Result<(), russh::Error> {
        let Some(fingerprint) = self.fingerprint.clone() else { return Err(russh::Error::Inconsistent) };
        let key = match self.door.store.key_by_fingerprint(fingerprint).await {
            Ok(Some(key)) => key,
            Ok(None) => {
                tracing::info!(peer = %self.peer, "the ssh key of a connection was removed");
                return Err(russh::Error::NotAuthenticated);
            }
            Err(error) => {
                tracing::error!(%error, "cannot look up an ssh key");
                return session.channel_failure(id);
            }
        };
        let caller = Caller { name: key.name.into(), key: Some(key.id), admin: key.admin };
        self.link.touch();
        let Some(open) = self.channels.get_mut(&id) else { return session.channel_failure(id) };
        let Some(write) = open.write.take() else { return session.channel_failure(id) };
        session.channel_success(id)?;
        let answer = Answer {
            door: Arc::clone(&self.door),
            caller,
            command: command.to_vec(),
            tty: open.tty,
            git_protocol: open.git_protocol.take(),
            stdin: open.inbox.reader(),
            write,
            hangup: open.hangup.clone(),
            gone: open.gone.token().clone(),
            running: Running::new(Arc::clone(&self.link)),
            answered: open.answered.clone().drop_guard(),
        };
        self.tracker.spawn(answer.run());
        Ok(())
    }
}

impl Open {
    fn keys_typed(&self, data: &[u8]) -> Vec<u8> {
        let mut typed = Vec::with_capacity(data.len());
        for &byte in data {
            match byte {
                CTRL_C => self.hangup.cancel(),
                CTRL_D => break,
                b'\r' => typed.push(b'\n'),
                byte => typed.push(byte),
            }
        }
        typed
    }
}

impl<S: Sessions> russh::server::Handler for Handler<S> {
    type Error = russh::Error;

    async fn auth_publickey_offered(&mut self, _: &str, offer: PublicKeyOffer<'_>) -> Result<Auth, Self::Error> {
        // Nothing is proved yet: this only tells the client which of its keys to sign with.
        let known = self.lookup(offer.public_key, offer.algorithm).await.is_some();
        Ok(if known { Auth::Accept } else { Auth::reject() })
    }

    async fn auth_publickey(&mut self, _: &str, key: VerifiedPublicKey<'_>) -> Result<Auth, Self::Error> {
        let Some(key) = self.lookup(key.public_key, key.algorithm).await else {
            return Ok(Auth::reject());
        };
        tracing::info!(peer = %self.peer, key = %key.name, "ssh client authenticated");
        self.fingerprint = Some(key.fingerprint);
        self.unauthenticated = None;
        self.link.touch();
        self.link.authenticated.cancel();
        Ok(Auth::Accept)
    }

    async fn channel_open_session(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Self::Error> {
        // The library does not tell us when the client closes what we have closed first.
        self.channels.retain(|_, open| !open.answered.is_cancelled());
        if self.channels.len() >= MOST_CHANNELS {
            reply.reject(ChannelOpenFailure::ResourceShortage).await;
            return Ok(());
        }
        let (id, (read, write)) = (channel.id(), channel.split());
        // Unread, it would stop the whole session when full; `data` takes what comes.
        drop(read);
        let gone = CancellationToken::new();
        let open = Open {
            write: Some(write),
            inbox: Inbox::new(Arc::clone(&self.link.flow)),
            tty: false,
            git_protocol: None,
            hangup: gone.child_token(),
            gone: gone.drop_guard(),
            answered: CancellationToken::new(),
        };
        self.channels.insert(id, open);
        self.link.touch();
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
        if self.link.flow.arrived(data.len()) {
            self.link.touch();
        }
        let Some(open) = self.channels.get(&channel) else { return Ok(()) };
        let kept = if open.tty { open.inbox.push(&open.keys_typed(data)) } else { open.inbox.push(data) };
        if open.tty && data.contains(&CTRL_D) {
            open.inbox.end();
        }
        kept.map_err(|_| {
            tracing::warn!(peer = %self.peer, "ssh client sends more than its window");
            russh::Error::Inconsistent
        })
    }

    async fn window_adjusted(&mut self, _: ChannelId, _: u32, _: &mut Session) -> Result<(), Self::Error> {
        self.link.flow.window_adjusted();
        Ok(())
    }

    fn adjust_window(&mut self, _: ChannelId, _: u32) -> u32 {
        self.link.flow.window().min(WINDOW)
    }

    async fn pty_request(
        &mut self,
        channel: ChannelId,
        _: &str,
        _: u32,
        _: u32,
        _: u32,
        _: u32,
        _: &[(Pty, u32)],
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        match self.channels.get_mut(&channel).filter(|open| open.write.is_some()) {
            Some(open) => {
                open.tty = true;
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
        _: u32,
        _: u32,
        _: u32,
        _: u32,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
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
