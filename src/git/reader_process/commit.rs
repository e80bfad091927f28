//! Commits and tags: only the beginning of such an object is read, since the rest may be as long as the pack.

use git2::{ObjectType, Oid};

use super::objects::{Objects, oid};
use crate::{git::protocol::Failure, model::Line};

/// Number of bytes of a commit or tag that are read.
const MAX_BYTES: u64 = 1 << 20;

/// Maximum length of a subject, in characters.
const MAX_SUBJECT_CHARS: usize = 200;

/// Maximum number of tags that point to each other.
const MAX_TAGS: usize = 16;

/// The tree of a commit.
pub(super) fn tree(objects: &Objects<'_>, commit: Oid) -> Result<Oid, Failure> {
    reference(&objects.prefix(commit, ObjectType::Commit, MAX_BYTES)?, b"tree ")
        .ok_or_else(|| Failure::Unreadable(format!("the commit {commit} has no tree")))
}

/// The parents of a commit; `None` if its headers do not end within what is read.
pub(super) fn parents(objects: &Objects<'_>, commit: Oid) -> Result<Option<Vec<Oid>>, Failure> {
    parents_of(&objects.prefix(commit, ObjectType::Commit, MAX_BYTES)?)
        .map_err(|()| Failure::Unreadable(format!("the commit {commit} has an invalid parent")))
}

/// The commit to which a tag, or a commit itself, leads.
pub(super) fn peel(objects: &Objects<'_>, id: Oid) -> Result<Oid, Failure> {
    let mut id = id;
    for _ in 0..MAX_TAGS {
        match objects.header(id)?.kind {
            ObjectType::Commit => return Ok(id),
            ObjectType::Tag => {
                let tagged = reference(&objects.prefix(id, ObjectType::Tag, MAX_BYTES)?, b"object ");
                id = tagged.ok_or_else(|| Failure::Unreadable(format!("the tag {id} points to nothing")))?;
            }
            ObjectType::Any | ObjectType::Tree | ObjectType::Blob => break,
        }
    }
    Err(Failure::Unreadable(format!("{id} leads to no commit")))
}

/// The subject of a commit's message, as `git show --format=%s` prints it, without control characters and shortened.
pub(super) fn subject(objects: &Objects<'_>, commit: Oid) -> Result<String, Failure> {
    Ok(subject_of(&objects.prefix(commit, ObjectType::Commit, MAX_BYTES)?))
}

/// The parents, which are between the tree and the author.
fn parents_of(commit: &[u8]) -> Result<Option<Vec<Oid>>, ()> {
    let mut parents = Vec::new();
    for line in commit.split_inclusive(|byte| *byte == b'\n').skip(1) {
        if line.last() != Some(&b'\n') {
            return Ok(None);
        }
        if !line.starts_with(b"parent ") {
            return Ok(Some(parents));
        }
        parents.push(reference(line, b"parent ").ok_or(())?);
    }
    Ok(None)
}

/// The object that the first line of a commit or tag names.
fn reference(bytes: &[u8], key: &[u8]) -> Option<Oid> {
    let line = bytes.split(|byte| *byte == b'\n').next()?;
    let id = std::str::from_utf8(line.strip_prefix(key)?).ok()?.parse().ok()?;
    oid(&id).ok()
}

fn subject_of(commit: &[u8]) -> String {
    let end = commit.windows(2).position(|pair| pair == b"\n\n").unwrap_or(commit.len());
    let (headers, message) = (&commit[..end], commit.get(end + 2..).unwrap_or_default());
    let encoding = headers.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(b"encoding "));
    let lines = message.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii_end);
    let lines = lines.skip_while(|line| line.is_empty()).take_while(|line| !line.is_empty());
    // Escape sequences and invisible characters make a line longer than what remains of it.
    let line: Vec<u8> = lines.collect::<Vec<_>>().join(&b' ').into_iter().take(8 * MAX_SUBJECT_CHARS).collect();
    let text = if encoding.is_some_and(is_latin_1) {
        line.iter().copied().map(char::from).collect()
    } else {
        String::from_utf8_lossy(&line).into_owned()
    };
    let line = Line::sanitize(text.trim());
    let mut subject: String = line.chars().take(MAX_SUBJECT_CHARS).collect();
    if subject.len() < line.len() {
        subject.push('…');
    }
    subject
}

/// Whether this is the one encoding besides UTF-8 that some commits still have.
fn is_latin_1(encoding: &[u8]) -> bool {
    [&b"iso-8859-1"[..], b"iso8859-1", b"latin1", b"latin-1"].iter().any(|name| encoding.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subject(message: &str) -> String {
        subject_of(format!("tree 1\nauthor x\n\n{message}").as_bytes())
    }

    #[test]
    fn a_subject_is_the_first_paragraph_on_one_line() {
        assert_eq!(subject("one\n\ntwo"), "one");
        assert_eq!(subject("\n  \none  \ntwo\n \nthree"), "one two");
        assert_eq!(subject("ünder\u{1b}[31m red\n\nbody"), "ünder red");
        assert_eq!(subject(""), "");
        assert_eq!(subject_of(b"tree 1\nauthor x"), "");
    }

    #[test]
    fn a_long_subject_is_shortened() {
        assert_eq!(subject(&"ü".repeat(200)), "ü".repeat(200));
        assert_eq!(subject(&"ü".repeat(201)), format!("{}…", "ü".repeat(200)));
    }

    #[test]
    fn a_message_in_latin_1_is_decoded_and_other_bytes_are_replaced() {
        assert_eq!(subject_of(b"tree 1\nencoding ISO-8859-1\n\nf\xfcr"), "für");
        assert_eq!(subject_of(b"tree 1\n\nf\xfcr"), "f\u{fffd}r");
    }

    #[test]
    fn parents_are_read_whole_or_not_at_all() {
        let (id, other) = ("1".repeat(40), "2".repeat(40));
        let commit = format!("tree {id}\nparent {id}\nparent {other}\nauthor x\n\nparent {id}\n");
        let parents = parents_of(commit.as_bytes()).unwrap().unwrap();
        assert_eq!(parents.iter().map(Oid::to_string).collect::<Vec<_>>(), [id.clone(), other]);
        assert_eq!(parents_of(format!("tree {id}\nauthor x\n").as_bytes()), Ok(Some(Vec::new())));
        // Cut off in the middle of a line, and between two.
        for length in [60, 93, 94, 141, 142, 145] {
            assert_eq!(parents_of(&commit.as_bytes()[..length]), Ok(None), "{length}");
        }
        for bad in ["1", &format!("{id}0"), "x"] {
            assert_eq!(parents_of(format!("tree {id}\nparent {bad}\nauthor x\n").as_bytes()), Err(()), "{bad}");
        }
    }

    #[test]
    fn the_first_line_names_the_object() {
        let id = "1".repeat(40);
        assert_eq!(reference(format!("tree {id}\nparent x").as_bytes(), b"tree ").unwrap().to_string(), id);
        for bad in [format!("object {id}\n"), "tree 1\n".to_owned(), format!("tree {id}0\n"), String::new()] {
            let found = reference(bad.as_bytes(), b"tree ");
            assert!(found.is_none(), "{bad}: {found:?}");
        }
    }
}
