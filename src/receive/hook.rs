//! The hook itself, `paas hook`: a child of git that copies bytes between git and the server. It decides nothing, and
//! it fails if the server sends no verdict.

use std::{
    io::{self, Read as _, Write as _},
    net::Shutdown,
    os::unix::net::UnixStream,
    process::ExitCode,
};

/// Tag of a frame for the hook's stdout, which git reads. A frame is its tag, the payload's length as a 32-bit
/// big-endian number, and the payload.
pub(super) const OUT: u8 = b'o';
/// Tag of a frame for the hook's stderr, which the pusher reads.
pub(super) const ERR: u8 = b'e';
/// Tag of the last frame, the verdict, whose one byte is the hook's exit status.
pub(super) const VERDICT: u8 = b'x';

/// Maximum length of the payload of a frame, in bytes.
pub(super) const MAX_PAYLOAD_LEN: usize = 1 << 20;

/// Runs the hook to its end.
pub fn run() -> ExitCode {
    match copy_to_verdict() {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            let _ = writeln!(io::stderr(), " !     The push was not decided: {error}; push again");
            ExitCode::FAILURE
        }
    }
}

/// Copies between git and the server until the verdict. Returns the exit status.
fn copy_to_verdict() -> io::Result<u8> {
    let variable = |name: &str| std::env::var(name).map_err(|_| io::Error::other(format!("{name} is missing")));
    let (path, nonce) = (variable("PAAS_HOOK_SOCKET")?, variable("PAAS_HOOK_NONCE")?);
    let unreachable = |error| io::Error::other(format!("the server cannot be reached ({error})"));
    let mut server = UnixStream::connect(path).map_err(unreachable)?;
    let disconnected = |_| io::Error::other("the server closed the connection");
    server.write_all(format!("{nonce}\n").as_bytes()).map_err(disconnected)?;
    let mut up = server.try_clone()?;
    // Ends when git closes the pipe, from which the server learns that git has ended; or with this process.
    std::thread::spawn(move || {
        let _ = io::copy(&mut io::stdin().lock(), &mut up);
        let _ = up.shutdown(Shutdown::Write);
    });
    let unexpected = || io::Error::other("the server sent an unexpected response");
    loop {
        let mut head = [0; 5];
        server.read_exact(&mut head).map_err(disconnected)?;
        let [tag, length @ ..] = head;
        let length = u32::from_be_bytes(length) as usize;
        if length > MAX_PAYLOAD_LEN {
            return Err(unexpected());
        }
        let mut payload = vec![0; length];
        server.read_exact(&mut payload).map_err(disconnected)?;
        match (tag, payload.as_slice()) {
            (OUT, bytes) => {
                let mut out = io::stdout().lock();
                out.write_all(bytes)?;
                out.flush()?;
            }
            (ERR, bytes) => io::stderr().lock().write_all(bytes)?,
            (VERDICT, [status]) => return Ok(*status),
            _ => return Err(unexpected()),
        }
    }
}
