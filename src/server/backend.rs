//! Backend of SSH and the local socket: commands, and git's two programs.

use tokio_util::sync::CancellationToken;

use crate::{
    commands::{self, Commands, Streams},
    model::AppName,
    operations::{Caller, Operations},
    receive::{self, Receiver},
    socket, ssh,
};

#[derive(Clone)]
pub(super) struct ServerBackend {
    pub(super) commands: Commands,
    pub(super) operations: Operations,
    pub(super) receiver: Receiver,
}

fn git_streams(streams: Streams) -> receive::Streams {
    let Streams { stdin, stdout, stderr, .. } = streams;
    receive::Streams { stdin, stdout, stderr }
}

fn status(code: u32) -> u8 {
    u8::try_from(code).unwrap_or(u8::MAX)
}

impl ssh::Backend for ServerBackend {
    async fn receive_pack(
        &self,
        caller: &Caller,
        app: AppName,
        git_protocol: Option<String>,
        streams: Streams,
        hangup: CancellationToken,
    ) -> u8 {
        match self.operations.authorize_push(caller, app).await {
            Ok((app, pusher)) => {
                let streams = git_streams(streams);
                status(self.receiver.receive_pack((&app).into(), pusher, git_protocol, streams, hangup).await)
            }
            Err(failure) => commands::refuse(streams, "", &failure).await,
        }
    }

    async fn upload_pack(
        &self,
        caller: &Caller,
        app: AppName,
        git_protocol: Option<String>,
        streams: Streams,
        hangup: CancellationToken,
    ) -> u8 {
        match self.operations.authorize_fetch(caller, app).await {
            Ok((app, fetcher)) => {
                let streams = git_streams(streams);
                status(self.receiver.upload_pack((&app).into(), fetcher, git_protocol, streams, hangup).await)
            }
            Err(failure) => commands::refuse(streams, "", &failure).await,
        }
    }

    async fn command(&self, caller: &Caller, words: Vec<String>, streams: Streams, hangup: CancellationToken) -> u8 {
        self.commands.run(caller, words, streams, hangup).await
    }

    fn greeting(&self, caller: &Caller) -> String {
        self.commands.greeting(caller)
    }
}

impl socket::Runner for ServerBackend {
    async fn run(&self, caller: &Caller, words: Vec<String>, streams: Streams, hangup: CancellationToken) -> u8 {
        self.commands.run(caller, words, streams, hangup).await
    }
}
