//! Backend of SSH and the local socket: commands, and git's two programs.

use tokio_util::sync::CancellationToken;

use crate::{
    api,
    commands::{Caller, Commands, Streams},
    deploy::Deployer,
    model::AppName,
    receive::{self, Pusher, Receiver},
    ssh,
    store::{App, UserId},
};

#[derive(Clone)]
pub(super) struct ServerBackend {
    pub(super) commands: Commands,
    pub(super) receiver: Receiver,
    pub(super) deployer: Deployer,
}

fn git_streams(streams: Streams) -> receive::Streams {
    let Streams { stdin, stdout, stderr, .. } = streams;
    receive::Streams { stdin, stdout, stderr }
}

fn status(code: u32) -> u8 {
    u8::try_from(code).unwrap_or(u8::MAX)
}

impl ssh::Backend for ServerBackend {
    async fn create_app(&self, name: AppName, owner: Option<UserId>) -> Result<App, String> {
        self.deployer.create_app(name, owner).await.map_err(|e| e.to_string())
    }

    async fn receive_pack(
        &self,
        caller: &Caller,
        app: App,
        git_protocol: Option<String>,
        streams: Streams,
        hangup: CancellationToken,
    ) -> u8 {
        let pusher = Pusher { name: caller.name.clone(), user: caller.user };
        status(self.receiver.receive_pack(app.name, pusher, git_protocol, git_streams(streams), hangup).await)
    }

    async fn upload_pack(
        &self,
        _caller: &Caller,
        app: App,
        git_protocol: Option<String>,
        streams: Streams,
        hangup: CancellationToken,
    ) -> u8 {
        status(self.receiver.upload_pack(app.name, git_protocol, git_streams(streams), hangup).await)
    }

    async fn command(&self, caller: &Caller, words: Vec<String>, streams: Streams, hangup: CancellationToken) -> u8 {
        self.commands.run(caller, words, streams, hangup).await
    }

    fn greeting(&self, caller: &Caller) -> String {
        self.commands.greeting(caller)
    }
}

impl api::Runner for ServerBackend {
    async fn run(&self, caller: &Caller, words: Vec<String>, streams: Streams, hangup: CancellationToken) -> u8 {
        self.commands.run(caller, words, streams, hangup).await
    }
}
