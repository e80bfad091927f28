//! The process that reads repositories, `paas git-reader`: a child of the server that runs as git's user, in the folder of
//! one repository, and answers requests until its stdin ends. It also records where the history of shallow clones ends (file
//! `shallow`). Everything that a push contains is parsed here, by libgit2, and not in the server. Replace refs and grafts are
//! ignored, because libgit2 does not know the former, and the latter only change the parents of commits, which are read from
//! the objects themselves.

mod commit;
mod folder;
mod lfs;
mod listing;
mod names;
mod objects;
mod refs;
mod shallow;
mod tar_writer;
mod tree;

use std::{
    fs::File,
    io::{self, Read, Write},
    path::Path,
    process::ExitCode,
    sync::mpsc,
};

use git2::{Repository, RepositoryOpenFlags};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::{
    filter::file_filter,
    protocol::{self, Answer, Failure, Kind, Request, encode},
};
use crate::model::{CommitId, Files};
use listing::{Entry, Listing};
use objects::{Objects, commit_id, oid, unreadable};
use refs::target;

/// Size that the pipe to the server gets, in bytes: fewer switches between the two processes.
const PIPE_SIZE: usize = 1 << 20;

/// Maximum size of the memory that this process allocates, in bytes.
const MAX_MEMORY: u64 = 2 << 30;

/// The ref of which git makes a note when it has fetched something.
const FETCHED: &str = "FETCH_HEAD";

/// Runs the process to its end.
pub fn run() -> ExitCode {
    match answer_all() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "git-reader: {error}");
            ExitCode::FAILURE
        }
    }
}

fn answer_all() -> io::Result<()> {
    limit_memory()?;
    // git does not verify the id of each object that it reads either; they were verified when they were pushed.
    git2::opts::strict_hash_verification(false);
    // Objects are read once; libgit2 would keep up to 256 MiB of them.
    git2::opts::enable_caching(false);
    let mut out = File::from(rustix::stdio::stdout().try_clone_to_owned()?);
    // A smaller pipe works as well.
    let _ = rustix::pipe::fcntl_setpipe_size(&out, PIPE_SIZE);
    let requests = requests(io::stdin());
    let repository = open();
    let mut session = match &repository {
        Ok(repository) => Session::new(repository),
        Err(failure) => Err(failure.clone()),
    };
    for request in requests {
        match &mut session {
            Ok(session) => session.answer(request?, &mut out)?,
            Err(failure) => out.write_all(&encode(Kind::Answer, &Answer::Failed(failure.clone()))?)?,
        }
    }
    Ok(())
}

/// A delta in a pack that was pushed says itself how large its base and its result are, and libgit2 allocates both. The limit is
/// that of data and not of the address space: packs are mapped, and may be larger than all the memory of the machine.
fn limit_memory() -> io::Result<()> {
    let inherited = getrlimit(Resource::Data).maximum;
    let limit = Some(inherited.map_or(MAX_MEMORY, |inherited| inherited.min(MAX_MEMORY)));
    Ok(setrlimit(Resource::Data, Rlimit { current: limit, maximum: limit })?)
}

/// Opens the repository in the working folder. The environment is the one that the server chose for git, of which this
/// flag makes libgit2 honour `GIT_CONFIG_NOSYSTEM`.
fn open() -> Result<Repository, Failure> {
    let flags = RepositoryOpenFlags::NO_SEARCH | RepositoryOpenFlags::BARE | RepositoryOpenFlags::FROM_ENV;
    Repository::open_ext(".", flags, &[] as &[&Path]).map_err(|e| unreadable(&e))
}

/// The requests of the server. At their end the process is killed, whatever it is doing: the server has ended, or does
/// not need it any longer.
fn requests(mut from: impl Read + Send + 'static) -> mpsc::Receiver<io::Result<Request>> {
    let (sender, receiver) = mpsc::sync_channel(1);
    std::thread::spawn(move || {
        while let Some(request) = protocol::read_request(&mut from).transpose() {
            let is_last = request.is_err();
            if sender.send(request).is_err() || is_last {
                return;
            }
        }
        let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    });
    receiver
}

/// What is read from one repository.
struct Session<'r> {
    objects: Objects<'r>,
    /// The files that were listed last.
    source: Vec<Entry>,
}

impl<'r> Session<'r> {
    fn new(repository: &'r Repository) -> Result<Self, Failure> {
        Ok(Self { objects: Objects::new(repository)?, source: Vec::new() })
    }

    fn answer(&mut self, request: Request, out: &mut impl Write) -> io::Result<()> {
        let answer = match request {
            Request::Tar => {
                let entries = std::mem::take(&mut self.source);
                let written = tar_writer::write(&self.objects, &entries, &mut *out);
                written.map(|()| Answer::TarEnd).map_err(|e| Failure::Unreadable(e.to_string()))
            }
            Request::File { commit, folder, path, max } => {
                match folder::file(&self.objects, &commit, folder.as_deref(), &path, max) {
                    Ok(Ok(bytes)) => {
                        out.write_all(&encode(Kind::Answer, &Answer::File)?)?;
                        out.write_all(&protocol::head(Kind::Data, bytes.len())?)?;
                        return out.write_all(&bytes);
                    }
                    Ok(Err(none)) => Ok(Answer::NoFile(none)),
                    Err(failure) => Err(failure),
                }
            }
            other => self.look_up(other),
        };
        out.write_all(&encode(Kind::Answer, &answer.unwrap_or_else(Answer::Failed))?)
    }

    /// Answers a request whose answer is one frame.
    fn look_up(&mut self, request: Request) -> Result<Answer, Failure> {
        let objects = &self.objects;
        Ok(match request {
            Request::Ref { name } => Answer::Id(target(objects.repository, &name)?.map(commit_id).transpose()?),
            Request::Refs { names } => Answer::Refs(refs::states(objects.repository, &names)?),
            Request::HasRefs => {
                let mut refs = objects.repository.references().map_err(|e| unreadable(&e))?;
                Answer::Is(refs.next().is_some())
            }
            Request::CountRefs => Answer::Count(refs::count(objects.repository)?),
            Request::Fetched => {
                let fetched = target(objects.repository, FETCHED)?;
                let fetched = fetched.ok_or_else(|| Failure::Unreadable(format!("there is no {FETCHED}")))?;
                Answer::Id(Some(commit_id(commit::peel(objects, fetched)?)?))
            }
            // A SHA-256 id is none of this repository.
            Request::IsCommit { id } => Answer::Is(match oid(&id) {
                Ok(id) => objects.is_commit(id)?,
                Err(_) => false,
            }),
            Request::Peel { id } => Answer::Id(commit::peel(objects, oid(&id)?).ok().map(commit_id).transpose()?),
            Request::Descends { commit, from } => {
                let descends = objects.repository.graph_descendant_of(oid(&commit)?, oid(&from)?);
                Answer::Is(descends.map_err(|e| unreadable(&e))?)
            }
            Request::PruneShallow => {
                shallow::prune(objects)?;
                Answer::Done
            }
            Request::MarkShallow { roots } => {
                shallow::mark(objects, &roots)?;
                Answer::Done
            }
            Request::Subject { commit } => Answer::Subject(commit::subject(objects, oid(&commit)?)?),
            Request::HasFolder { commit, folder } => match folder::tree(objects, &commit, Some(&folder)) {
                Ok(_) => Answer::Is(true),
                Err(Failure::NoFolder(_)) => Answer::Is(false),
                Err(failure) => return Err(failure),
            },
            Request::FilesAmong { commit, paths } => Answer::Paths(folder::files_among(objects, &commit, paths)?),
            Request::Source { commit, folder, files, max_bytes } => {
                self.list(&commit, folder.as_deref(), &files, max_bytes)?
            }
            Request::Tar | Request::File { .. } => {
                return Err(Failure::Unreadable("the answer is several frames".to_owned()));
            }
        })
    }

    /// Lists the files of a commit, for the tar that is requested next.
    fn list(
        &mut self,
        commit: &CommitId,
        folder: Option<&str>,
        files: &Files,
        max_bytes: u64,
    ) -> Result<Answer, Failure> {
        self.source = Vec::new();
        let tree = folder::tree(&self.objects, commit, folder)?;
        let mut listing = Listing::of_tree(&self.objects, tree, max_bytes)?;
        if listing.entries.is_empty() {
            return Err(Failure::Empty);
        }
        let is_selected = file_filter(files).map_err(|e| Failure::Pattern(e.message))?;
        listing.entries.retain(|entry| is_selected(entry.path()));
        if listing.entries.is_empty() {
            return Err(Failure::NothingSelected);
        }
        let mut warnings = Vec::new();
        if let Some(names) = listing.submodules.summary() {
            warnings
                .push(format!("Submodules are not deployed: {names}; commit their files, or fetch them in the build"));
        }
        if let Some(names) = lfs::pointers(&self.objects, &listing.entries, folder.is_some())?.summary() {
            warnings.push(format!("Git LFS files are deployed as their pointers, without their contents: {names}"));
        }
        self.source = listing.entries;
        Ok(Answer::Source { tree: commit_id(tree)?, warnings })
    }
}
