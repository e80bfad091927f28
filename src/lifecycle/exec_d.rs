//! Programs of layers that run before the process starts (platform.md, "launcher"): what they write to their third
//! file descriptor becomes part of its environment (buildpack.md, "Exec.d Output").

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read as _},
    path::Path,
    process::Command,
};

use command_fds::{CommandFdExt as _, FdMapping};

use super::{env::Env, files};

/// The most that such a program may write, in bytes.
const MOST: u64 = 1 << 20;

/// Where a program finds its output, as the specification says.
const DESCRIPTOR: i32 = 3;

/// Runs one, in the app's folder, and takes over what it says.
pub(super) fn run(program: &Path, env: &mut Env, folder: &Path) -> Result<(), String> {
    let wrong = |what: &dyn std::fmt::Display| format!("{}: {what}", program.display());
    let output = output_of(program, env, folder).map_err(|e| wrong(&e))?;
    let variables: BTreeMap<String, String> = files::parse_toml(&output).map_err(|e| wrong(&e))?;
    for (name, value) in variables {
        if name.is_empty() || name.contains(['=', '\0']) || value.contains('\0') {
            return Err(wrong(&format!("{name:?} cannot be set to this value")));
        }
        env.insert(name, value);
    }
    Ok(())
}

fn output_of(program: &Path, env: &Env, folder: &Path) -> io::Result<String> {
    let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    let mut command = Command::new(program);
    command.env_clear().envs(env).current_dir(folder);
    let mapping = FdMapping { parent_fd: writer, child_fd: DESCRIPTOR };
    command.fd_mappings(vec![mapping]).map_err(io::Error::other)?;
    let mut child = command.spawn()?;
    // It holds our end of the pipe for writing.
    drop(command);
    let mut output = String::new();
    let read = File::from(reader).take(MOST + 1).read_to_string(&mut output);
    if output.len() as u64 > MOST {
        let _ = child.kill();
    }
    let status = child.wait()?;
    read?;
    if output.len() as u64 > MOST {
        return Err(io::Error::other("it wrote more than 1 MiB"));
    }
    if status.success() { Ok(output) } else { Err(io::Error::other(format!("it ended with {status}"))) }
}
