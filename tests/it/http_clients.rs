//! Servers and clients of HTTP as they are, behind the router.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    thread,
    time::Duration,
};

use crate::support::world::World;

/// gunicorn, as the build starts it, closes a connection that has been idle for two seconds and does not say so. Clients that send a
/// POST at this moment lose nothing.
#[test]
#[ignore = "slow"]
fn a_flask_app_on_gunicorn_loses_no_request() {
    const CLIENTS: u32 = 68;
    const ROUNDS: u32 = 60;
    let world = World::new();
    let app = "from flask import Flask\n\napp = Flask(__name__)\n\n\n@app.post(\"/\")\ndef index():\n    return \"posted\"\n\n\n\
               @app.get(\"/\")\ndef home():\n    return \"hello\"\n";
    let folder =
        world.repository("flask", &[("app.py", app), ("requirements.txt", "flask==3.1.1\ngunicorn==23.0.0\n")]);
    world.push(&folder).success();
    let url = world.url("flask");
    world.answers(&url, "hello");
    let address = url.strip_prefix("http://").unwrap().trim_end_matches('/').to_owned();
    let clients: Vec<_> = (0..CLIENTS)
        .map(|client| {
            let address = address.clone();
            thread::spawn(move || {
                let mut stream = TcpStream::connect(address).unwrap();
                stream.set_read_timeout(Some(Duration::from_mins(1))).unwrap();
                let mut lost = Vec::new();
                for round in 0..ROUNDS {
                    stream.write_all(b"POST / HTTP/1.1\r\nhost: flask\r\ncontent-length: 1\r\n\r\nx").unwrap();
                    let mut answer = Vec::new();
                    while !answer.ends_with(b"posted") && !answer.ends_with(b"</html>\n") {
                        let mut bytes = [0; 4096];
                        let count = stream.read(&mut bytes).unwrap();
                        assert!(count > 0, "closed after {:?}", String::from_utf8_lossy(&answer));
                        answer.extend_from_slice(&bytes[..count]);
                    }
                    if !answer.starts_with(b"HTTP/1.1 200 ") {
                        lost.push(String::from_utf8_lossy(&answer).lines().next().unwrap_or_default().to_owned());
                    }
                    thread::sleep(Duration::from_micros(1_998_500 + u64::from(50 * round + 100 * (client % 8))));
                }
                lost
            })
        })
        .collect();
    let lost: Vec<_> = clients.into_iter().flat_map(|client| client.join().unwrap()).collect();
    assert!(lost.is_empty(), "{} of {} requests: {lost:?}", lost.len(), CLIENTS * ROUNDS);
}
