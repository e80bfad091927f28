//! What a push or a command prints, in the grammar that Heroku and Dokku made common.

use std::fmt;

/// One line of output; `Display` writes it in the grammar, without a line end.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase", tag = "kind", content = "text")]
pub enum Line {
    /// `-----> ` a step begins.
    Step(String),
    /// `=====> ` a header over what follows.
    Header(String),
    /// Seven spaces, then detail of the step: also each line that a buildpack prints by itself.
    Detail(String),
    /// ` !     ` trouble: what is wrong and what to do.
    Trouble(String),
}

impl Line {
    /// Makes one line of `text` that a user's program wrote: no control characters, no ANSI escapes, of bounded length.
    pub fn sanitize(text: &str) -> String {
        const MOST: usize = 4096;
        let mut clean = String::with_capacity(text.len().min(MOST));
        let mut rest = text.chars().peekable();
        while let Some(c) = rest.next() {
            if clean.len() >= MOST {
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
                c if c.is_control() => {}
                c => clean.push(c),
            }
        }
        clean
    }
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
    fn escapes_and_controls_do_not_pass() {
        assert_eq!(Line::sanitize("\u{1b}[31mred\u{1b}[0m\r\u{7}\tx\u{1b}]0;title"), "red    x]0;title");
        assert_eq!(Line::sanitize(&"x".repeat(5000)).chars().count(), 4097);
    }

    #[test]
    fn the_grammar() {
        assert_eq!(Line::Step("Building".into()).to_string(), "-----> Building");
        assert_eq!(Line::Trouble("no".into()).to_string(), " !     no");
        assert_eq!(Line::Detail(String::new()).to_string(), "");
    }
}
