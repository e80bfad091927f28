//! What a tool printed, asked by patterns.

use std::fs;

use regex_automata::{nfa::thompson::pikevm::PikeVM, util::syntax};

use super::{Answer, wrong};

/// The first line of the file that fits the first of the patterns that fits any: of it, the first group that is not empty,
/// or else all that fits. Bytes, not characters: what a tool prints need not be UTF-8.
pub(super) fn said(file: &str, patterns: &[&str]) -> Answer {
    let text = fs::read(file).map_err(|e| wrong(format!("cannot read {file}: {e}")))?;
    for pattern in patterns {
        let bytes = syntax::Config::new().unicode(false).utf8(false);
        let regex = PikeVM::builder().syntax(bytes).build(pattern);
        let regex = regex.map_err(|e| wrong(format!("bp said: {pattern:?} is no pattern: {e}")))?;
        let (mut cache, mut captures) = (regex.create_cache(), regex.create_captures());
        for line in text.split(|byte| *byte == b'\n') {
            regex.captures(&mut cache, line, &mut captures);
            let group = captures.iter().skip(1).flatten().find(|group| !group.is_empty());
            if let Some(part) = group.or_else(|| captures.get_match().map(|all| all.span())) {
                return Ok(String::from_utf8_lossy(&line[part.range()]).trim_end().to_owned());
            }
        }
    }
    Err((1, String::new()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_that_fits_says_it() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(&file, b"caf\xe9 \xff\r\nld: cannot find -lfoo: no\nld: cannot find -lbar: no\nKilled\r\n").unwrap();
        let said = |patterns: &[&str]| said(file.path().to_str().unwrap(), patterns);
        assert_eq!(said(&["cannot find -l([^: ]+)"]).unwrap(), "foo");
        assert_eq!(said(&["no such thing", "Killed|killed"]).unwrap(), "Killed");
        // Whichever of the alternatives it was.
        assert_eq!(said(&["find '([^']+)'|-l([a-z]+)"]).unwrap(), "foo");
        assert_eq!(said(&["^(x?)Kil"]).unwrap(), "Kil");
        assert_eq!(said(&["caf. .$"]).unwrap_err().0, 1);
        assert_eq!(said(&["("]).unwrap_err().0, 2);
    }
}
