//! A tar, which may be compressed, as the files of a commit.

use std::io::{self, BufRead, Read};

use flate2::bufread::MultiGzDecoder;
use tar::{Archive, EntryType};

use super::{
    fast_import::FastImport,
    tree::{EntryPath, File, FileMode, MAX_PATH_LEN, Tree, entry_path, shown},
};
use crate::git::{
    import::{ImportFailure, ImportRequest, ImportedCommit},
    protocol::{MAX_FILES, MAX_PATHS_BYTES},
};

/// Maximum size of a tar without the contents of its files, in bytes.
const MAX_HEADERS_BYTES: u64 = (MAX_FILES * 4096 + MAX_PATHS_BYTES) as u64;

/// Maximum number of entries, folders included.
const MAX_ENTRIES: usize = 2 * MAX_FILES;

/// How the formats begin that are not read.
const OTHER_FORMATS: [(&[u8], &str); 5] = [
    (b"PK\x03\x04", "a zip file"),
    (b"BZh", "compressed with bzip2"),
    (b"\xfd7zXZ\0", "compressed with xz"),
    (b"\x28\xb5\x2f\xfd", "compressed with zstd"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z file"),
];

/// Makes the commit of an archive.
pub(super) fn import(mut input: impl BufRead, request: &ImportRequest) -> Result<ImportedCommit, ImportFailure> {
    let begin = input.fill_buf().map_err(|error| incomplete(&error))?;
    if begin.is_empty() {
        return Err(ImportFailure::Archive("is empty; send a tar, or a tar.gz".to_owned()));
    }
    if let Some((_, what)) = OTHER_FORMATS.iter().find(|(magic, _)| begin.starts_with(magic)) {
        return Err(ImportFailure::Archive(format!("is {what}; send a tar, or a tar.gz")));
    }
    let is_gzip = begin.starts_with(&[0x1f, 0x8b]);
    let git = FastImport::start().map_err(|error| ImportFailure::Git(format!("cannot run git: {error}")))?;
    let max = request.max_bytes.saturating_add(MAX_HEADERS_BYTES);
    if is_gzip {
        unpack(MultiGzDecoder::new(input).take(max), git, request)
    } else {
        unpack(input.take(max), git, request)
    }
}

/// How reading an archive ends before the commit.
enum Stop {
    Archive(String),
    /// git does not read any further.
    Git(io::Error),
}

impl From<String> for Stop {
    fn from(message: String) -> Self {
        Self::Archive(message)
    }
}

fn unpack(tar: impl Read, mut git: FastImport, request: &ImportRequest) -> Result<ImportedCommit, ImportFailure> {
    let mut left_out = 0;
    let mut tree = match read(tar, &mut git, request.max_bytes, &mut left_out) {
        Ok(tree) => tree,
        Err(Stop::Archive(message)) => return Err(ImportFailure::Archive(message)),
        Err(Stop::Git(error)) => return Err(git.ended::<()>(Err(error)).err().unwrap_or(ImportFailure::PackTooLarge)),
    };
    let top_folder = if request.strips_top_folder { tree.strip_top_folder() } else { None };
    tree.check().map_err(ImportFailure::Archive)?;
    if tree.len() == 0 {
        return Err(ImportFailure::Archive("has no files; send a tar, or a tar.gz, of the app's folder".to_owned()));
    }
    let commit = git.commit(&request.commit, &tree)?;
    Ok(ImportedCommit { commit, files: tree.len() as u64, top_folder, left_out })
}

fn read(tar: impl Read, git: &mut FastImport, max_bytes: u64, left_out: &mut u64) -> Result<Tree, Stop> {
    let mut archive = Archive::new(tar);
    let (mut tree, mut bytes, mut count) = (Tree::default(), 0_u64, 0);
    for entry in archive.entries().map_err(|error| not_complete(&error))? {
        let mut entry = entry.map_err(|error| not_complete(&error))?;
        count += 1;
        if count > MAX_ENTRIES {
            return Err(format!("has more than {MAX_ENTRIES} entries").into());
        }
        let kind = entry.header().entry_type();
        if kind.is_pax_global_extensions() {
            continue;
        }
        let written = entry.path_bytes().into_owned();
        let refused = |reason: &str| format!("cannot be deployed: {} {reason}", shown(&written));
        let path = match entry_path(&written).map_err(refused)? {
            EntryPath::Valid(path) => path,
            EntryPath::Root => continue,
            EntryPath::OfGit => {
                *left_out += 1;
                continue;
            }
        };
        let file = match kind {
            EntryType::Directory => continue,
            EntryType::Regular | EntryType::Continuous => {
                let size = entry.size();
                bytes = bytes.saturating_add(size);
                if bytes > max_bytes {
                    let text = "MiB of files, and a build disk has no more (build.disk_mib); leave out what the app does not need";
                    return Err(format!("has more than {} {text}", max_bytes >> 20).into());
                }
                let is_program = entry.header().mode().is_ok_and(|mode| mode & 0o100 != 0);
                let mode = if is_program { FileMode::Executable } else { FileMode::Regular };
                let mark = git.blob(size, &mut entry).map_err(Stop::Git)?.map_err(|error| not_complete(&error))?;
                File { mode, mark, target: None }
            }
            EntryType::Symlink => {
                let target = entry.link_name_bytes().filter(|target| is_target(target));
                let target = target.ok_or_else(|| refused("is a symbolic link without a valid target"))?.into_owned();
                bytes = bytes.saturating_add(target.len() as u64);
                let mark = git.blob(target.len() as u64, &target[..]).map_err(Stop::Git)?;
                File {
                    mode: FileMode::Symlink,
                    mark: mark.map_err(|error| not_complete(&error))?,
                    target: Some(target),
                }
            }
            EntryType::Link => {
                let target = entry.link_name_bytes().and_then(|target| match entry_path(&target) {
                    Ok(EntryPath::Valid(path)) => tree.get(&path).cloned(),
                    Ok(EntryPath::Root | EntryPath::OfGit) | Err(_) => None,
                });
                target.ok_or_else(|| refused("is a hard link to no file that precedes it in the archive"))?
            }
            _ => return Err(refused("is neither a file, a folder nor a link; leave it out").into()),
        };
        tree.add(path, file)?;
    }
    // Behind the tar is its checksum, if it is compressed.
    io::copy(&mut archive.into_inner(), &mut io::sink()).map_err(|error| not_complete(&error))?;
    Ok(tree)
}

fn is_target(target: &[u8]) -> bool {
    (1..=MAX_PATH_LEN).contains(&target.len()) && !target.contains(&0)
}

fn not_complete(error: &io::Error) -> String {
    format!("is not a complete tar or tar.gz ({error}); send it again")
}

fn incomplete(error: &io::Error) -> ImportFailure {
    ImportFailure::Archive(not_complete(error))
}
