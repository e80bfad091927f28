//! Programs of layers that run before the process starts (platform.md, "launcher"). Their output on file descriptor 3
//! becomes part of its environment (buildpack.md, "Exec.d Output").

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read as _},
    path::Path,
    process::Command,
};

use command_fds::{CommandFdExt as _, FdMapping};

use super::{env::Env, files};

/// Largest output of such a program, in bytes.
const MAX_OUTPUT_BYTES: u64 = 1 << 20;

/// File descriptor of the output, as the specification defines it.
const DESCRIPTOR: i32 = 3;

/// Runs a program in the app's folder, and adds its output to the environment.
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
    // It holds the writing end of the pipe.
    drop(command);
    let mut output = String::new();
    let read = File::from(reader).take(MAX_OUTPUT_BYTES + 1).read_to_string(&mut output);
    if output.len() as u64 > MAX_OUTPUT_BYTES {
        let _ = child.kill();
    }
    let status = child.wait()?;
    read?;
    if output.len() as u64 > MAX_OUTPUT_BYTES {
        return Err(io::Error::other("it wrote more than 1 MiB"));
    }
    if status.success() { Ok(output) } else { Err(io::Error::other(format!("it ended with {status}"))) }
}
