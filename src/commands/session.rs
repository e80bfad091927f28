//! A running command: runs operations, and prints what they return.

use std::pin::pin;

use futures_util::StreamExt as _;
use serde::Serialize;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite},
    sync::{Mutex, mpsc, watch},
};
use tokio_util::sync::CancellationToken;

use super::output::{Format, Output, Rendering, Text};
use crate::{
    engine::Printed,
    model::{Secret, decode_text},
    operations::{Attachment, Call, Caller, Failure, FailureKind, Follow, Operation, Operations, Result, Target},
    progress,
    store::Effect,
    tasks::{TaskStreams, Terminal},
};

/// The standard streams of a command.
pub struct Streams {
    /// Input from the client.
    pub stdin: Box<dyn AsyncRead + Send + Unpin>,
    /// Results.
    pub stdout: Box<dyn AsyncWrite + Send + Unpin>,
    /// Errors and warnings.
    pub stderr: Box<dyn AsyncWrite + Send + Unpin>,
    /// The client's terminal, if it has one.
    pub terminal: Option<ClientTerminal>,
}

/// The terminal of a client.
#[derive(Debug, Clone)]
pub struct ClientTerminal {
    /// Its name and size.
    pub terminal: Terminal,
    /// Set while keys and output are handed on unchanged, for a program that has the terminal.
    pub raw: watch::Sender<bool>,
}

/// Number of pieces of a task's output that may wait.
const MAX_PENDING_PIECES: usize = 8;

/// Maximum length of a secret that is typed, in bytes.
const MAX_TYPED_BYTES: usize = 64 * 1024;

/// A result that ends a command with an exit status of the user's.
pub(super) trait ExitStatus {
    fn exit_status(&self) -> i64;
}

/// A running command.
pub(super) struct Session<'a> {
    pub(super) operations: &'a Operations,
    pub(super) caller: &'a Caller,
    pub(super) stdin: Mutex<Box<dyn AsyncRead + Send + Unpin>>,
    pub(super) terminal: Option<ClientTerminal>,
    pub(super) out: Output,
    pub(super) hangup: CancellationToken,
}

impl Session<'_> {
    /// Runs an operation and prints its result.
    pub(super) async fn answer<O>(&self, operation: O) -> Result
    where
        O: Operation<Output: Serialize + Text>,
    {
        self.print(operation, O::Output::RENDERING, O::Output::text).await
    }

    /// The same, with another text of the result.
    pub(super) async fn answer_as<O>(&self, operation: O, text: impl Fn(&O::Output) -> String + Send) -> Result
    where
        O: Operation<Output: Serialize>,
    {
        self.print(operation, Rendering::Plain, text).await
    }

    async fn print<O>(&self, operation: O, rendering: Rendering, text: impl Fn(&O::Output) -> String + Send) -> Result
    where
        O: Operation<Output: Serialize>,
    {
        let result = self.run(operation).await?;
        match (self.out.format(), O::EFFECT) {
            (Format::Text, _) => self.out.text(&text(&result), rendering).await,
            (Format::Json, Effect::Change) => self.out.json_line(&result).await,
            (Format::Json, Effect::Read) => self.out.json(&result).await,
        };
        Ok(())
    }

    /// Runs an operation whose result goes on, and prints its items as they come.
    pub(super) async fn follow<O, T>(&self, operation: O) -> Result
    where
        O: Operation<Output = Follow<T>>,
        T: Serialize + Text + Send + 'static,
    {
        self.follow_as(operation, T::RENDERING, T::text).await
    }

    /// The same, with another text of the items.
    pub(super) async fn follow_as<O, T>(
        &self,
        operation: O,
        rendering: Rendering,
        mut text: impl FnMut(&T) -> String + Send,
    ) -> Result
    where
        O: Operation<Output = Follow<T>>,
        T: Serialize + Send + 'static,
    {
        let mut revoked = pin!(self.operations.revoked::<O>(self.caller, operation.target()));
        let Follow(mut items) = self.run(operation).await?;
        loop {
            // Not while an item is written, which would end in the middle of a line.
            let item = tokio::select! {
                biased;
                failure = &mut revoked => return Err(failure),
                () = self.hangup.cancelled() => return Ok(()),
                item = items.next() => item,
            };
            let Some(item) = item else { return Ok(()) };
            let reads = match self.out.format() {
                Format::Text => self.out.text(&text(&item), rendering).await,
                Format::Json => self.out.json_line(&item).await,
            };
            if !reads {
                return Ok(());
            }
        }
    }

    /// Finds what an operation of this kind is about and checks the caller's right, before something is asked or read.
    pub(super) async fn check<O: Operation>(&self, named: <O::Target as Target>::Named) -> Result<O::Target> {
        self.operations.check::<O>(self.caller, named).await
    }

    /// Runs an operation and prints its progress.
    pub(super) async fn run<O: Operation>(&self, operation: O) -> Result<O::Output> {
        let work = |progress| async move {
            let call = Call { caller: self.caller, progress: &progress, attachment: None, hangup: &self.hangup };
            Box::pin(self.operations.run(&call, operation)).await
        };
        progress::relay(work, |line| self.out.progress(line)).await
    }

    /// Runs an operation that connects a task to the standard streams. Returns the task's exit status. A caller who loses
    /// the right to it is disconnected.
    pub(super) async fn attach<O: Operation<Output: ExitStatus + Serialize>>(&self, operation: O) -> Result<u8> {
        let (output, mut printed) = mpsc::channel(MAX_PENDING_PIECES);
        let (stdin, terminal) = (self.take_input().await, self.terminal.clone());
        let attachment = Attachment::new(move || {
            let raw = terminal.as_ref().map(|client| client.raw.clone());
            // Not before the process begins: until then Ctrl-C ends the command, and messages are printed as always.
            let on_begin = raw.map(|raw| -> Box<dyn FnOnce() + Send> {
                Box::new(move || {
                    raw.send_replace(true);
                })
            });
            TaskStreams { stdin, output, terminal: terminal.map(|client| client.terminal), on_begin }
        });
        let hangup = self.hangup.child_token();
        let (caller, disconnect) = (self.caller, hangup.clone());
        let revoked = self.operations.revoked::<O>(caller, operation.target());
        let work = |progress| async move {
            let call = Call { caller, progress: &progress, attachment: Some(&attachment), hangup: &hangup };
            let result = Box::pin(self.operations.run(&call, operation)).await;
            // Its end is the end of the output, if the operation has not taken the streams.
            drop(attachment);
            result
        };
        let work = progress::relay(work, |line| self.out.progress(line));
        let work = async {
            tokio::pin!(work);
            tokio::select! {
                result = &mut work => result,
                failure = revoked => {
                    disconnect.cancel();
                    let _ = work.await;
                    Err(failure)
                }
            }
        };
        // Returns whether the last line of the output is not ended.
        let forward = async {
            let mut in_line = false;
            while let Some(piece) = printed.recv().await {
                if let Printed::Stdout(bytes) = &piece {
                    in_line = !bytes.ends_with(b"\n");
                }
                if !self.out.piece(piece).await {
                    // The sender sees that nobody reads any more.
                    printed.close();
                }
            }
            in_line
        };
        let (result, in_line) = tokio::join!(work, forward);
        if let Some(client) = &self.terminal {
            client.raw.send_replace(false);
        }
        if in_line && self.out.format() == Format::Json {
            self.out.text("\n", Rendering::Plain).await;
        }
        let result = result?;
        if self.out.format() == Format::Json {
            self.out.json_line(&result).await;
        }
        Ok(u8::try_from(result.exit_status()).unwrap_or(u8::MAX))
    }

    /// Standard input, for an operation that reads it. What is read later is empty.
    pub(super) async fn take_input(&self) -> Box<dyn AsyncRead + Send + Unpin> {
        std::mem::replace(&mut *self.stdin.lock().await, Box::new(tokio::io::empty()))
    }

    /// Reads standard input to its end, but not more than `max` bytes of text.
    pub(super) async fn read_input(&self, max: u64) -> Result<String> {
        let text = self.read_bytes(max).await?;
        decode_text(text).map_err(|_| Failure::invalid("standard input is neither UTF-8 nor UTF-16 text"))
    }

    /// Reads standard input to its end, but not more than `max` bytes.
    pub(super) async fn read_bytes(&self, max: u64) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let mut stdin = self.stdin.lock().await;
        let read = (&mut *stdin).take(max + 1).read_to_end(&mut bytes).await;
        read.map_err(|error| Failure::new(FailureKind::Failed, format!("cannot read standard input: {error}")))?;
        if bytes.len() as u64 > max {
            return Err(Failure::invalid(format!("standard input has more than {max} bytes")));
        }
        Ok(bytes)
    }

    /// Asks for a secret at the client's terminal, which does not show what is typed.
    pub(super) async fn ask_secret(&self, question: &str) -> Result<Secret> {
        let raw = self.terminal.as_ref().map(|client| &client.raw);
        let set_raw = |on| raw.map(|raw| raw.send_replace(on));
        set_raw(true);
        self.out.text(question, Rendering::Plain).await;
        let typed = self.hangup.run_until_cancelled(self.read_keys()).await.flatten();
        set_raw(false);
        self.out.text("\n", Rendering::Plain).await;
        let typed = typed.ok_or_else(|| Failure::new(FailureKind::Failed, "cancelled: nothing was changed"))?;
        String::from_utf8(typed).map(Secret::new).map_err(|_| Failure::invalid("what was typed is not UTF-8 text"))
    }

    /// The keys of one line, without those that were erased; `None` if the user ends it with Ctrl-C or Ctrl-D.
    async fn read_keys(&self) -> Option<Vec<u8>> {
        const CTRL_C: u8 = 3;
        const CTRL_D: u8 = 4;
        const BACKSPACE: u8 = 8;
        const DELETE: u8 = 127;
        let mut stdin = self.stdin.lock().await;
        let mut keys = Vec::new();
        while keys.len() < MAX_TYPED_BYTES {
            match stdin.read_u8().await {
                Ok(b'\n' | b'\r') => break,
                Ok(CTRL_C | CTRL_D) | Err(_) => return None,
                Ok(BACKSPACE | DELETE) => {
                    // A character may have several bytes (RFC 3629, section 3).
                    while keys.pop().is_some_and(|byte: u8| byte & 0xc0 == 0x80) {}
                }
                Ok(key) => keys.push(key),
            }
        }
        Some(keys)
    }

    /// Reads one line of standard input.
    pub(super) async fn read_line(&self) -> String {
        let mut stdin = self.stdin.lock().await;
        let mut line = Vec::new();
        while line.len() < 256 {
            match stdin.read_u8().await {
                Ok(b'\n' | b'\r') | Err(_) => break,
                Ok(byte) => line.push(byte),
            }
        }
        String::from_utf8_lossy(&line).trim().to_owned()
    }
}
