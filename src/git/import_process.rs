//! The process that makes a commit from an archive, `paas git-import`: a child of the server that runs as git's user, in the
//! folder of one repository. It reads one line of JSON and then a tar from stdin, has `git fast-import` write the objects, and
//! prints one answer.

mod archive;
mod fast_import;
mod tree;

use std::{
    io::{self, BufRead, BufReader, Read as _, Write as _},
    process::ExitCode,
};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::import::{ImportFailure, ImportRequest, ImportedCommit};

/// Maximum size of the memory that this process and git allocate, in bytes each.
const MAX_MEMORY: u64 = 2 << 30;

/// Maximum length of the request, in bytes.
const MAX_REQUEST_BYTES: u64 = 64 * 1024;

/// Runs the process to its end.
pub fn run() -> ExitCode {
    match answer() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "git-import: {error}");
            ExitCode::FAILURE
        }
    }
}

fn answer() -> io::Result<()> {
    let mut input = BufReader::with_capacity(256 << 10, io::stdin().lock());
    let mut line = Vec::new();
    input.by_ref().take(MAX_REQUEST_BYTES).read_until(b'\n', &mut line)?;
    let request: ImportRequest = serde_json::from_slice(&line)?;
    limit(Resource::Data, MAX_MEMORY)?;
    // Of git's pack: what is sent may be far larger when it is not compressed.
    limit(Resource::Fsize, request.max_pack_bytes)?;
    let answer: Result<ImportedCommit, ImportFailure> = archive::import(input, &request);
    let mut out = io::stdout();
    out.write_all(&serde_json::to_vec(&answer)?)?;
    out.flush()
}

fn limit(resource: Resource, value: u64) -> io::Result<()> {
    let inherited = getrlimit(resource).maximum;
    let limit = Some(inherited.map_or(value, |inherited| inherited.min(value)));
    Ok(setrlimit(resource, Rlimit { current: limit, maximum: limit })?)
}
