//! The output lines of a push or a command, in the format of Heroku and Dokku.

use std::fmt;

/// One line of output; `Display` writes it with its prefix and without a line end, safe for a terminal whoever wrote its
/// text.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase", tag = "kind", content = "text")]
#[cfg_attr(feature = "server", derive(schemars::JsonSchema))]
pub enum Line {
    /// Step: `-----> ` and what begins.
    Step(String),
    /// Header: `=====> ` and a title of what follows.
    Header(String),
    /// Detail: seven spaces and a detail of the step, such as a line of a buildpack's output.
    Detail(String),
    /// Warning or error: ` !     `, what is wrong and what to do.
    Trouble(String),
}

impl Line {
    /// Maximum length of a printed line, in bytes.
    const MAX_LEN: usize = 4096;

    /// Makes one printable line of text from a user's program: without control characters and ANSI escapes, and not too
    /// long.
    pub fn sanitize(text: &str) -> String {
        clean(text, Self::MAX_LEN, Colours::Dropped)
    }

    /// The same, however long it is.
    pub fn printable(text: &str) -> String {
        clean(text, usize::MAX, Colours::Dropped)
    }

    /// What a person sent, for an error message: printable, and of a long text at most 80 characters of its beginning and its
    /// end: an error message may contain two of these.
    pub fn excerpt(text: &str) -> String {
        const MAX: usize = 80;
        const END: usize = 20;
        let length = text.chars().count();
        if length <= MAX {
            return Self::printable(text);
        }
        let begin: String = text.chars().take(MAX - END).collect();
        let end: String = text.chars().skip(length - END).collect();
        format!("{}…{}", Self::printable(&begin), Self::printable(&end))
    }

    /// The beginning of a text that a message repeats: printable, and at most this many characters.
    pub fn beginning(text: &str, max_chars: usize) -> String {
        let clean = clean(text, max_chars.saturating_mul(char::MAX.len_utf8()), Colours::Dropped);
        match clean.char_indices().nth(max_chars) {
            Some((end, _)) => format!("{}…", &clean[..end]),
            None => clean,
        }
    }

    /// The same, with its colours (SGR, ECMA-48, section 8.3.117), which end with the text.
    pub fn coloured(text: &str) -> String {
        clean(text, usize::MAX, Colours::Kept)
    }

    /// The same line with a printable text.
    #[must_use]
    pub fn sanitized(&self) -> Self {
        match self {
            Self::Step(text) => Self::Step(Self::sanitize(text)),
            Self::Header(text) => Self::Header(Self::sanitize(text)),
            Self::Detail(text) => Self::Detail(Self::sanitize(text)),
            Self::Trouble(text) => Self::Trouble(Self::sanitize(text)),
        }
    }

    /// The text without prefix.
    pub fn as_text(&self) -> &str {
        match self {
            Self::Step(text) | Self::Header(text) | Self::Detail(text) | Self::Trouble(text) => text,
        }
    }
}

/// What becomes of escape sequences that only set colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Colours {
    Kept,
    Dropped,
}

fn clean(text: &str, max_bytes: usize, colours: Colours) -> String {
    const RESET: &str = "\u{1b}[0m";
    let mut clean = String::with_capacity(text.len().min(max_bytes));
    let mut coloured = false;
    let mut strings = StringEnds::default();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        if clean.len() >= max_bytes {
            clean.push('…');
            break;
        }
        if let Some(escape) = Escape::at(rest, &mut strings) {
            if escape.sets_colours && colours == Colours::Kept {
                coloured = true;
                clean.push_str(&rest[..escape.len]);
            }
            rest = &rest[escape.len..];
            continue;
        }
        match c {
            '\t' => clean.push_str("    "),
            '\n' => clean.push(' '),
            c if is_unsafe(c) => {}
            c => clean.push(c),
        }
        rest = &rest[c.len_utf8()..];
    }
    if coloured {
        clean.push_str(RESET);
    }
    clean
}

/// An escape sequence (ECMA-48, sections 5.4 and 5.6).
struct Escape {
    /// Length in bytes.
    len: usize,
    sets_colours: bool,
}

impl Escape {
    /// That with which a text begins. Of a string without an end, such as of a title, only the beginning is one: the rest is
    /// text. Texts are passed from the beginning to the end, with the same `strings`.
    fn at(text: &str, strings: &mut StringEnds) -> Option<Self> {
        let rest = text.strip_prefix('\u{1b}')?;
        let plain = |len| Self { len, sets_colours: false };
        Some(match rest.chars().next() {
            Some('[') => {
                let body = &rest[1..];
                let parameters = body.find(|c| !('0'..='?').contains(&c)).unwrap_or(body.len());
                let after = &body[parameters..];
                let between = after.find(|c| !(' '..='/').contains(&c)).unwrap_or(after.len());
                let last = after[between..].chars().next().filter(|c| ('@'..='~').contains(c));
                let only_numbers = body[..parameters].bytes().all(|b| b.is_ascii_digit() || b == b';' || b == b':');
                let len = "\u{1b}[".len() + parameters + between + last.map_or(0, char::len_utf8);
                Self { len, sets_colours: last == Some('m') && between == 0 && only_numbers }
            }
            // OSC, DCS, SOS, PM and APC.
            Some(']' | 'P' | 'X' | '^' | '_') => plain(1 + strings.next(rest).unwrap_or(0)),
            Some(_) | None => plain(1),
        })
    }
}

/// The ends of the strings in a text. What was searched once is not searched again: a text of beginnings alone would take a
/// time that grows with the square of its length.
#[derive(Debug, Default)]
struct StringEnds {
    /// Whether none follows in the text.
    passed: bool,
    /// Number of bytes that were searched.
    #[cfg(test)]
    searched: usize,
}

impl StringEnds {
    /// The end of a string in what is left of the text: after BEL or ST, whichever comes first.
    fn next(&mut self, rest: &str) -> Option<usize> {
        if self.passed {
            return None;
        }
        let bytes = rest.as_bytes();
        let end = bytes.iter().enumerate().find_map(|(at, byte)| match byte {
            b'\x07' => Some(at + 1),
            b'\x1b' if bytes.get(at + 1) == Some(&b'\\') => Some(at + 2),
            _ => None,
        });
        self.passed = end.is_none();
        #[cfg(test)]
        {
            self.searched += end.unwrap_or(bytes.len());
        }
        end
    }
}

/// Whether a character moves the cursor, begins an escape sequence, or reorders the line.
pub fn is_unsafe(c: char) -> bool {
    c.is_control() || is_bidirectional(c)
}

/// Whether a character changes the direction of the text after it (UAX #9, section 2), which can reorder a line.
fn is_bidirectional(c: char) -> bool {
    matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Step(text) => write!(f, "-----> {}", Self::sanitize(text)),
            Self::Header(text) => write!(f, "=====> {}", Self::sanitize(text)),
            Self::Detail(text) if text.is_empty() => Ok(()),
            Self::Detail(text) => write!(f, "       {}", Self::sanitize(text)),
            Self::Trouble(text) => write!(f, " !     {}", Self::sanitize(text)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_and_control_characters_are_removed() {
        assert_eq!(Line::sanitize("\u{1b}[31mred\u{1b}[0m\r\u{7}\tx\u{1b}]0;title"), "red    x]0;title");
        assert_eq!(Line::sanitize("x\u{202e}y\u{2066}z"), "xyz");
        assert_eq!(Line::sanitize(&"x".repeat(5000)).chars().count(), 4097);
    }

    #[test]
    fn an_excerpt_has_the_beginning_and_the_end_of_a_long_text() {
        let whole = "é".repeat(80);
        assert_eq!(Line::excerpt(&whole), whole);
        let long = format!("{}{}", "a".repeat(100_000), "é".repeat(50));
        assert_eq!(Line::excerpt(&long), format!("{}…{}", "a".repeat(60), "é".repeat(20)));
        assert_eq!(Line::excerpt("\u{1b}[31mred\n"), "red ");
    }

    #[test]
    fn a_beginning_is_cut_between_characters() {
        assert_eq!(Line::beginning("äöü", 3), "äöü");
        assert_eq!(Line::beginning("äöüß\n", 3), "äöü…");
        assert_eq!(Line::beginning("\u{1b}[1ma\u{7}b", 1), "a…");
        assert_eq!(Line::beginning(&"x".repeat(1 << 20), 200).chars().count(), 201);
    }

    #[test]
    fn titles_and_the_clipboard_are_left_alone() {
        for text in [
            "a\u{1b}]0;title\u{7}b",
            "a\u{1b}]52;c;cm0gLXJm\u{1b}\\b",
            "a\u{1b}P1$r\u{1b}\\b",
            "a\u{1b}[2J\u{1b}[1;1Hb",
            "a\u{1b}[?25lb",
            "a\u{9b}\u{1b}[6nb",
            "a\u{1b}c\u{8}\u{1b}[>0qb",
        ] {
            for clean in [Line::printable(text), Line::coloured(text)] {
                assert!(clean == "ab" || clean == "acb", "{text:?}: {clean:?}");
            }
        }
        assert_eq!(Line::sanitize("a\nb"), "a b", "a text is one line");
    }

    #[test]
    fn strings_without_an_end_take_linear_time() {
        for piece in [
            "\u{1b}]",
            "\u{1b}P",
            "\u{1b}X",
            "\u{1b}^",
            "\u{1b}_",
            "\u{1b}]\u{7}",
            "\u{1b}]\u{1b}\\",
            "\u{1b}]\u{7}\u{1b}P",
        ] {
            let text = piece.repeat((64 << 10) / piece.len());
            let (mut strings, mut rest) = (StringEnds::default(), text.as_str());
            while !rest.is_empty() {
                let len = Escape::at(rest, &mut strings).map_or(1, |escape| escape.len);
                rest = &rest[len..];
            }
            assert!(strings.searched <= text.len(), "{piece:?}: {} of {} bytes", strings.searched, text.len());
        }
        let beginnings = "\u{1b}]".repeat(32 << 10);
        assert_eq!(Line::printable(&beginnings), "]".repeat(32 << 10));
        assert_eq!(Line::printable(&format!("{beginnings}\u{7}b")), "b");
    }

    #[test]
    fn colours_can_be_kept_and_end_with_the_text() {
        assert_eq!(Line::coloured("\u{1b}[1;31mred"), "\u{1b}[1;31mred\u{1b}[0m");
        assert_eq!(Line::coloured("\u{1b}[38:5:9mred\u{1b}[K"), "\u{1b}[38:5:9mred\u{1b}[0m");
        assert_eq!(Line::coloured("\u{1b}[>4;2mx\u{1b}[1 my"), "xy", "not a colour");
        assert_eq!(Line::coloured("\u{1b}[31"), "");
    }

    #[test]
    fn a_printed_line_is_safe() {
        let line = Line::Trouble("no app \u{1b}]0;x\u{7}\u{1b}[31mred\r\n".into());
        assert_eq!(line.to_string(), " !     no app red ");
        assert_eq!(line.sanitized().as_text(), "no app red ");
    }

    #[test]
    fn each_kind_has_its_prefix() {
        assert_eq!(Line::Step("Building".into()).to_string(), "-----> Building");
        assert_eq!(Line::Trouble("no".into()).to_string(), " !     no");
        assert_eq!(Line::Detail(String::new()).to_string(), "");
    }
}
