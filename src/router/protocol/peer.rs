//! What a side knows of the other one, and so which messages it sends, in which form.

use std::io;

use super::{FromRouter, Hello, MessageKind, ToRouter, VERSION, line, v1};

impl Hello {
    /// The greeting of this server.
    pub(in crate::router) fn server() -> Self {
        Self { version: VERSION, accepts: vec![MessageKind::Applied, MessageKind::Drained, MessageKind::Unanswered] }
    }

    /// The greeting of this router.
    pub(in crate::router) fn router() -> Self {
        Self { version: VERSION, accepts: vec![MessageKind::Table] }
    }

    fn accepts(&self, kind: MessageKind) -> bool {
        kind == MessageKind::Hello || self.accepts.contains(&kind)
    }

    /// A message for a router that greeted so; `None` if the router does not accept it.
    pub(in crate::router) fn to_router(&self, message: &ToRouter) -> io::Result<Option<Vec<u8>>> {
        let kind = match message {
            ToRouter::Hello(_) => MessageKind::Hello,
            ToRouter::Table(_) => MessageKind::Table,
        };
        if !self.accepts(kind) {
            return Ok(None);
        }
        match self.version {
            0 | 1 => line::encode(&v1::ToRouter::from(message)),
            VERSION.. => line::encode(message),
        }
        .map(Some)
    }

    /// A message for a server that greeted so; `None` if the server does not accept it. All versions have the same form.
    pub(in crate::router) fn to_server(&self, message: &FromRouter) -> io::Result<Option<Vec<u8>>> {
        let kind = match message {
            FromRouter::Hello(_) => MessageKind::Hello,
            FromRouter::Applied(_) => MessageKind::Applied,
            FromRouter::Drained(_) => MessageKind::Drained,
            FromRouter::Unanswered(_) => MessageKind::Unanswered,
        };
        self.accepts(kind).then(|| line::encode(message)).transpose()
    }
}
