//! The hook's own side, `paas hook`: a child of git that carries bytes between git and the server. It decides nothing,
//! and without a verdict of the server it fails.

use std::{
    io::{self, Read as _, Write as _},
    net::Shutdown,
    os::unix::net::UnixStream,
    process::ExitCode,
};

/// Tag of a frame for the hook's stdout, which git reads.
pub(super) const OUT: u8 = b'o';
/// Tag of a frame for the hook's stderr, which the pusher reads.
pub(super) const ERR: u8 = b'e';
/// Tag of the last frame: the push is decided.
pub(super) const VERDICT: u8 = b'x';

/// The longest frame that the server sends, in bytes.
const LONGEST: usize = 1 << 20;

/// Runs the hook to its end.
pub fn run() -> ExitCode {
    match carry() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), " !     the push was not decided: {error}; push again");
            ExitCode::FAILURE
        }
    }
}

fn carry() -> io::Result<()> {
    let variable = |name: &str| std::env::var(name).map_err(|_| io::Error::other(format!("{name} is missing")));
    let (path, nonce) = (variable("PAAS_HOOK_SOCKET")?, variable("PAAS_HOOK_NONCE")?);
    let mut server = UnixStream::connect(path)?;
    server.write_all(format!("{nonce}\n").as_bytes())?;
    let mut up = server.try_clone()?;
    // It ends with git's end of the pipe, or with this process.
    std::thread::spawn(move || {
        let _ = io::copy(&mut io::stdin().lock(), &mut up);
        let _ = up.shutdown(Shutdown::Write);
    });
    loop {
        let mut head = [0; 5];
        server.read_exact(&mut head).map_err(|_| io::Error::other("the server went away"))?;
        let [tag, length @ ..] = head;
        let length = u32::from_be_bytes(length) as usize;
        if length > LONGEST {
            return Err(io::Error::other("the server said something unexpected"));
        }
        let mut payload = vec![0; length];
        server.read_exact(&mut payload).map_err(|_| io::Error::other("the server went away"))?;
        match tag {
            OUT => {
                let mut out = io::stdout().lock();
                out.write_all(&payload)?;
                out.flush()?;
            }
            ERR => io::stderr().lock().write_all(&payload)?,
            VERDICT => return Ok(()),
            _ => return Err(io::Error::other("the server said something unexpected")),
        }
    }
}
