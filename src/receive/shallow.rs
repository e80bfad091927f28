//! Pushes of shallow clones, which tell first where their history ends: gitprotocol-pack(5), "Reference Update Request".
//!
//! git's own support for that does not work together with the hook `proc-receive`: receive-pack refuses the refs, or fails
//! after the hook. So git does not get these lines. Before it gets what follows them, the repository learns where the history
//! ends.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt as _};

use super::pkt_line;
use crate::{git::Reader, model::CommitId};

/// Maximum number of commits at which the history of a clone may end; git gets the lines of a clone that has more, and
/// refuses the push.
const MAX_ROOTS: usize = 10_000;

/// Maximum length of such a line: the word, and an object id.
const MAX_LINE_LEN: usize = 4 + "shallow \n".len() + 64;

/// The beginning of what a client sends.
#[derive(Debug, Default, PartialEq, Eq)]
struct Beginning {
    roots: Vec<CommitId>,
    /// All bytes that were read.
    bytes: Vec<u8>,
    /// Length of the lines that name the roots.
    roots_len: usize,
}

/// What git gets first, and why it will refuse a shallow clone, if it will.
#[derive(Debug)]
pub(super) struct Begun {
    pub(super) bytes: Vec<u8>,
    pub(super) refused: Option<String>,
}

/// Reads the beginning of a push, and records the ends of a shallow history.
pub(super) async fn begin(from: &mut (impl AsyncRead + Unpin), reader: &Reader) -> io::Result<Begun> {
    let Beginning { roots, mut bytes, roots_len } = read(from).await?;
    let recorded = match roots.len() {
        0 => Ok(()),
        1..=MAX_ROOTS => reader.mark_shallow(&roots).await.map_err(|error| error.to_string()),
        _ => Err(format!("it ends at more than {MAX_ROOTS} commits")),
    };
    match recorded {
        Ok(()) => Ok(Begun { bytes: bytes.split_off(roots_len), refused: None }),
        Err(reason) => {
            tracing::warn!(repository = %reader.path().display(), reason, "a shallow clone cannot push");
            Ok(Begun { bytes, refused: Some(refusal(&reason)) })
        }
    }
}

fn refusal(reason: &str) -> String {
    format!(
        "the history of this shallow clone cannot be recorded ({reason}): run git fetch --unshallow, then push again"
    )
}

async fn read(from: &mut (impl AsyncRead + Unpin)) -> io::Result<Beginning> {
    let mut begun = Beginning::default();
    while begun.roots.len() <= MAX_ROOTS {
        if !read_more(from, 4, &mut begun.bytes).await? {
            break;
        }
        let Some(length @ 5..=MAX_LINE_LEN) = pkt_line::length(&begun.bytes[begun.roots_len..]) else { break };
        if !read_more(from, length - 4, &mut begun.bytes).await? {
            break;
        }
        let line = std::str::from_utf8(&begun.bytes[begun.roots_len + 4..]).ok();
        let root = line.and_then(|line| line.trim_end_matches('\n').strip_prefix("shallow "));
        let Some(Ok(root)) = root.map(str::parse) else { break };
        begun.roots.push(root);
        begun.roots_len = begun.bytes.len();
    }
    Ok(begun)
}

/// Appends this many bytes; returns false at the end of the input.
async fn read_more(from: &mut (impl AsyncRead + Unpin), count: usize, to: &mut Vec<u8>) -> io::Result<bool> {
    Ok(from.take(count as u64).read_to_end(to).await? == count)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::{config::Config, git::Repositories};

    #[tokio::test]
    async fn a_history_with_too_many_ends_is_told() {
        let lines = format!("0035shallow {}\n", "1".repeat(40)).repeat(MAX_ROOTS + 5);
        let folder = tempfile::tempdir().unwrap();
        let config = Config { data_dir: folder.path().to_owned(), ..Config::default() };
        let repositories = Repositories::open_with(Path::new("/bin/true"), &config, None).await.unwrap();
        let reader = repositories.get(&"app".parse().unwrap()).reader();
        let begun = begin(&mut lines.as_bytes(), &reader).await.unwrap();
        assert_eq!(begun.bytes, lines.as_bytes()[..53 * (MAX_ROOTS + 1)]);
        assert_eq!(
            begun.refused.unwrap(),
            "the history of this shallow clone cannot be recorded (it ends at more than 10000 commits): run git fetch \
             --unshallow, then push again"
        );
    }

    #[tokio::test]
    async fn only_the_lines_of_a_shallow_clone_are_taken() {
        let id = "1".repeat(40);
        let shallow = format!("0035shallow {id}\n0034shallow {id}");
        let command = format!("0068{id} {id} refs/heads/main");
        for (roots, rest) in [
            ("", ""),
            ("", "0000"),
            ("", "00"),
            ("", command.as_str()),
            (shallow.as_str(), command.as_str()),
            (shallow.as_str(), "0000"),
            (shallow.as_str(), "0035shall"),
            (shallow.as_str(), "0034shallow ../../../../../../../../../../../etc/x"),
            (shallow.as_str(), "zzzz"),
            (shallow.as_str(), "+034"),
        ] {
            let text = format!("{roots}{rest}");
            let mut input = text.as_bytes();
            let begun = read(&mut input).await.expect(rest);
            assert_eq!(
                (begun.roots.len(), begun.roots_len),
                (if roots.is_empty() { 0 } else { 2 }, roots.len()),
                "{rest}"
            );
            assert_eq!([&begun.bytes[..], input].concat(), text.as_bytes(), "{rest}");
        }
    }
}

#[cfg(test)]
mod properties {
    use super::*;
    use crate::properties::{Arriving, block_on, bytes_near, check, cuts};

    #[test]
    fn no_byte_of_a_push_is_lost_however_it_arrives() {
        let id = "1".repeat(40);
        let shallow = format!("0035shallow {id}\n0034shallow {id}");
        let samples = [format!("{shallow}0068{id} {id} refs/heads/main"), format!("{shallow}0000PACK"), "0000".into()];
        check((bytes_near(&samples), cuts()), |(input, cuts)| {
            let mut rest = &input[..];
            let begun = block_on(read(&mut rest)).unwrap();
            assert_eq!([&begun.bytes[..], rest].concat(), input);
            assert!(begun.roots_len >= begun.roots.len() * 52 && begun.roots_len <= begun.bytes.len());
            assert_eq!(block_on(read(&mut Arriving::new(&input, &cuts))).unwrap(), begun);
        });
    }
}
