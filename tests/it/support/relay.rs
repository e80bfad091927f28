//! A socket that leads to the engine's, and can be cut: for a server, the engine is then as good as killed.

use std::{
    io,
    net::Shutdown,
    os::unix::net::{UnixListener, UnixStream},
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    thread,
};

use super::engine::other_socket;

pub struct Relay {
    pub socket: PathBuf,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    is_cut: bool,
    connections: Vec<UnixStream>,
}

impl Relay {
    /// A relay with its socket in this folder.
    pub fn new(dir: &Path) -> Self {
        let socket = dir.join("engine.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let state = Arc::<Mutex<State>>::default();
        let relayed = Arc::clone(&state);
        thread::spawn(move || {
            for client in listener.incoming() {
                let engine = UnixStream::connect(other_socket().unwrap_or("/var/run/docker.sock".into())).unwrap();
                relayed.lock().unwrap().relay(client.unwrap(), engine);
            }
        });
        Self { socket, state }
    }

    /// Ends all connections; new ones are closed at once.
    pub fn cut(&self) {
        let mut state = self.state.lock().unwrap();
        state.is_cut = true;
        for connection in state.connections.drain(..) {
            let _ = connection.shutdown(Shutdown::Both);
        }
    }

    /// Lets connections pass again.
    pub fn restore(&self) {
        self.state.lock().unwrap().is_cut = false;
    }
}

impl State {
    fn relay(&mut self, client: UnixStream, engine: UnixStream) {
        if self.is_cut {
            return;
        }
        for (from, to) in [(&client, &engine), (&engine, &client)] {
            let (mut from, mut to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
            thread::spawn(move || {
                let _ = io::copy(&mut from, &mut to);
                let _ = to.shutdown(Shutdown::Write);
            });
        }
        self.connections.extend([client, engine]);
    }
}
