//! The output lines of a push or a command, in the format of Heroku and Dokku.

use std::fmt;

/// One line of output; `Display` writes it with its prefix and without a line end.
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
    /// Makes one printable line of text from a user's program: without control characters and ANSI escapes, and not too
    /// long.
    pub fn sanitize(text: &str) -> String {
        Self::clean(text, 4096)
    }

    /// The same, however long it is.
    pub fn printable(text: &str) -> String {
        Self::clean(text, usize::MAX)
    }

    /// What a person sent, for an error message: printable, and of a long text at most 120 characters of its beginning and its
    /// end: an error message may contain two of these.
    pub fn excerpt(text: &str) -> String {
        const MAX: usize = 120;
        const END: usize = 30;
        let length = text.chars().count();
        if length <= MAX {
            return Self::printable(text);
        }
        let begin: String = text.chars().take(MAX - END).collect();
        let end: String = text.chars().skip(length - END).collect();
        format!("{}…{}", Self::printable(&begin), Self::printable(&end))
    }

    fn clean(text: &str, max_bytes: usize) -> String {
        let mut clean = String::with_capacity(text.len().min(max_bytes));
        let mut rest = text.chars().peekable();
        while let Some(c) = rest.next() {
            if clean.len() >= max_bytes {
                clean.push('…');
                break;
            }
            match c {
                '\u{1b}' => {
                    if rest.next_if_eq(&'[').is_some() {
                        while rest.next_if(|c| !('@'..='~').contains(c)).is_some() {}
                        rest.next();
                    }
                }
                '\t' => clean.push_str("    "),
                c if c.is_control() || is_bidirectional(c) => {}
                c => clean.push(c),
            }
        }
        clean
    }
}

/// Whether a character changes the direction of the text after it (UAX #9, section 2), which can reorder a line.
fn is_bidirectional(c: char) -> bool {
    matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Step(text) => write!(f, "-----> {text}"),
            Self::Header(text) => write!(f, "=====> {text}"),
            Self::Detail(text) if text.is_empty() => Ok(()),
            Self::Detail(text) => write!(f, "       {text}"),
            Self::Trouble(text) => write!(f, " !     {text}"),
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
        let whole = "é".repeat(120);
        assert_eq!(Line::excerpt(&whole), whole);
        let long = format!("{}{}", "a".repeat(100_000), "é".repeat(50));
        assert_eq!(Line::excerpt(&long), format!("{}…{}", "a".repeat(90), "é".repeat(30)));
        assert_eq!(Line::excerpt("\u{1b}[31mred\n"), "red");
    }

    #[test]
    fn each_kind_has_its_prefix() {
        assert_eq!(Line::Step("Building".into()).to_string(), "-----> Building");
        assert_eq!(Line::Trouble("no".into()).to_string(), " !     no");
        assert_eq!(Line::Detail(String::new()).to_string(), "");
    }
}
