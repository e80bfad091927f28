//! One process that reads a repository, and the frames to and from it.

use std::{fmt, io, os::unix::process::ExitStatusExt as _, time::Duration};

use bytes::{Bytes, BytesMut};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    process::{Child, ChildStdin, ChildStdout, Command},
};

use crate::{
    git::{
        error::{GitError, Result},
        groups::{Group, Joining},
        protocol::{self, Answer, HEAD, Kind, Request, invalid},
    },
    model::Line,
};

/// Time that a process which closed its output has to exit, so that its exit status can be reported.
const EXIT_TIMEOUT: Duration = Duration::from_secs(1);

/// Maximum length of what a process wrote to stderr that is logged, in bytes.
const MAX_STDERR_LEN: u64 = 2000;

/// What a process sent.
pub(super) enum Frame {
    Answer(Answer),
    Data(Bytes),
}

/// A running process; it is killed when this is dropped.
pub(super) struct Connection {
    child: Child,
    /// The process's control group, which is in use as long as the process runs.
    _control_group: Group,
    /// Until it is in that group, it gets no request.
    joining: Joining,
    /// The process, which leads a process group of its own.
    group: Option<Pid>,
    stdin: ChildStdin,
    stdout: ChildStdout,
    timeout: Duration,
    buffer: BytesMut,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("process", &self.child.id()).finish_non_exhaustive()
    }
}

impl Connection {
    /// Starts a process in a control group; a request, or its next frame, may take `timeout`.
    pub(super) fn start(mut command: Command, control_group: Group, timeout: Duration) -> Result<Self> {
        let failed = |e: io::Error| lost(&format!("does not start ({e})"));
        let (mut child, joining) = control_group.spawn(&mut command).map_err(failed)?;
        let group = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        match (child.stdin.take(), child.stdout.take()) {
            (Some(stdin), Some(stdout)) => {
                let buffer = BytesMut::new();
                Ok(Self { child, _control_group: control_group, joining, group, stdin, stdout, timeout, buffer })
            }
            _ => Err(lost("has no pipes")),
        }
    }

    /// Sends a request and waits for the answer. After an error the process is of no use.
    pub(super) async fn ask(&mut self, request: &Request) -> Result<Answer> {
        self.send(request).await?;
        match self.receive().await? {
            Frame::Answer(answer) => Ok(answer),
            Frame::Data(_) => Err(self.explain(invalid("bytes without an answer")).await),
        }
    }

    /// Sends a request.
    pub(super) async fn send(&mut self, request: &Request) -> Result<()> {
        let frame = match protocol::encode(Kind::Request, request) {
            Ok(frame) => frame,
            Err(error) => return Err(GitError::Unreadable(format!("the request is too long ({error})"))),
        };
        self.joining.wait().await;
        let sent = tokio::time::timeout(self.timeout, self.stdin.write_all(&frame)).await;
        match sent.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
            Ok(()) => Ok(()),
            Err(error) => Err(self.explain(error).await),
        }
    }

    /// Waits for the next frame.
    pub(super) async fn receive(&mut self) -> Result<Frame> {
        let received = tokio::time::timeout(self.timeout, self.read_frame()).await;
        match received.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
            Ok(frame) => Ok(frame),
            Err(error) => Err(self.explain(error).await),
        }
    }

    async fn read_frame(&mut self) -> io::Result<Frame> {
        let mut head = [0; HEAD];
        self.stdout.read_exact(&mut head).await?;
        let (kind, length) = protocol::parse_head(head)?;
        self.buffer.reserve(length);
        while self.buffer.len() < length {
            let left = (length - self.buffer.len()) as u64;
            if (&mut self.stdout).take(left).read_buf(&mut self.buffer).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        let payload = self.buffer.split().freeze();
        match kind {
            Kind::Data => Ok(Frame::Data(payload)),
            Kind::Answer => Ok(Frame::Answer(serde_json::from_slice(&payload)?)),
            Kind::Request => Err(invalid("a request")),
        }
    }

    /// Makes one line of what happened to the process. What it wrote to stderr is logged: it may be a bug of ours.
    async fn explain(&mut self, error: io::Error) -> GitError {
        let reason = match error.kind() {
            io::ErrorKind::TimedOut => format!("did not respond within {} seconds", self.timeout.as_secs()),
            io::ErrorKind::UnexpectedEof | io::ErrorKind::BrokenPipe => self.ending().await,
            _ => format!("sent an invalid response ({})", Line::sanitize(&error.to_string())),
        };
        self.kill();
        let mut text = Vec::new();
        if let Some(stderr) = self.child.stderr.take() {
            let _ = tokio::time::timeout(EXIT_TIMEOUT, stderr.take(MAX_STDERR_LEN).read_to_end(&mut text)).await;
        }
        let stderr = Line::sanitize(&String::from_utf8_lossy(&text));
        tracing::warn!(%reason, %stderr, "the process that reads a repository failed");
        lost(&reason)
    }

    /// How the process ended.
    async fn ending(&mut self) -> String {
        let ended = tokio::time::timeout(EXIT_TIMEOUT, self.child.wait()).await;
        match ended.ok().and_then(io::Result::ok) {
            Some(status) => match (status.signal(), status.code()) {
                (Some(signal), _) => format!("was ended by signal {signal}"),
                (None, Some(code)) => format!("ended with status {code}"),
                (None, None) => "ended".to_owned(),
            },
            None => "closed its output".to_owned(),
        }
    }

    /// Kills the process and the git that it may have started.
    fn kill(&self) {
        // Once the process is reaped, its id may belong to another.
        if let (Some(_), Some(group)) = (self.child.id(), self.group) {
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The error of a process that cannot be used any longer.
fn lost(reason: &str) -> GitError {
    GitError::Reader(reason.to_owned())
}

#[cfg(test)]
mod tests {
    use std::process::Stdio;

    use futures_util::FutureExt as _;

    use super::*;

    fn connection(script: &str, timeout: Duration) -> Connection {
        let mut command = Command::new("sh");
        command.args(["-c", script]).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0).kill_on_drop(true);
        let groups = crate::git::groups::Groups::none(&crate::config::Git::default());
        let group = groups.group().now_or_never().unwrap();
        Connection::start(command, group, timeout).unwrap()
    }

    async fn failure_of(script: &str) -> String {
        let mut connection = connection(script, Duration::from_secs(20));
        connection.ask(&Request::HasRefs).await.unwrap_err().to_string()
    }

    #[tokio::test]
    async fn an_answer_is_read() {
        let mut connection = connection(r#"printf 'A\0\0\0\013{"Is":true}'; sleep 1000"#, Duration::from_secs(20));
        assert_eq!(connection.ask(&Request::HasRefs).await.unwrap(), Answer::Is(true));
    }

    #[tokio::test]
    async fn a_process_that_breaks_the_protocol_gives_one_clear_error() {
        for (script, reason) in [
            ("kill -9 $$", "was ended by signal 9"),
            ("printf 'A\\0\\0\\0\\011{'; exit 3", "ended with status 3"),
            ("exec >&-; sleep 1000", "closed its output"),
            ("printf 'A\\377\\377\\377\\377'; sleep 1000", "sent an invalid response (a frame of 4294967295 bytes)"),
            ("printf 'x\\0\\0\\0\\0'; sleep 1000", "sent an invalid response (a frame of the unknown kind 120)"),
            ("printf 'Q\\0\\0\\0\\0'; sleep 1000", "sent an invalid response (a request)"),
            ("printf 'D\\0\\0\\0\\01x'; sleep 1000", "sent an invalid response (bytes without an answer)"),
            ("printf 'A\\0\\0\\0\\02{}'; sleep 1000", "sent an invalid response ("),
        ] {
            let failure = failure_of(script).await;
            let expected = format!("the process that reads the repository {reason}");
            assert!(failure.starts_with(&expected), "{script}: {failure}");
            assert!(!failure.contains('\n'), "{failure}");
        }
    }

    #[tokio::test]
    async fn a_process_that_is_stuck_is_given_up_and_killed_with_its_children() {
        let mut connection = connection("sleep 1000 & echo $! >&2; wait", Duration::from_millis(300));
        let mut stderr = connection.child.stderr.take().unwrap();
        let failure = connection.ask(&Request::HasRefs).await.unwrap_err().to_string();
        assert!(failure.contains("did not respond within 0 seconds"), "{failure}");
        // The end of the stream: no process of the group has it open.
        let mut text = String::new();
        tokio::time::timeout(Duration::from_secs(20), stderr.read_to_string(&mut text)).await.unwrap().unwrap();
        assert!(!text.is_empty());
    }
}
