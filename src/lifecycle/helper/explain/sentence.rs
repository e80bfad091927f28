//! Sentences with placeholders: `{name}`, `{name|text if it is empty}`, `{name? text if it is not}`; after `name` may
//! stand a filter, as in `{name:lower}`. `{{` and `}}` are braces.

use std::collections::BTreeMap;

use crate::model::Line;

/// How deep sentences within placeholders may be nested.
const MAX_DEPTH: usize = 16;

/// A sentence that was parsed.
#[derive(Debug, Clone, Default)]
pub(super) struct Sentence(Vec<Part>);

#[derive(Debug, Clone)]
enum Part {
    Text(String),
    Value(Reference),
    /// The value, or the sentence if the value is empty.
    Otherwise(Reference, Sentence),
    /// The sentence, if the value is not empty.
    Optional(Reference, Sentence),
}

/// A value, and what is made of it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Reference {
    pub(super) name: String,
    pub(super) filter: Option<Filter>,
}

/// What is made of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Filter {
    /// Lower case.
    Lower,
    /// The Debian package that has a header, library or program of this name, or nothing.
    Debian,
    /// All values of the log in place of the first one.
    All,
    /// The last value of the log in place of the first one.
    Last,
}

impl Reference {
    /// `name` or `name:filter`.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let (name, filter) = text.split_once(':').map_or((text, None), |(name, filter)| (name, Some(filter)));
        if name.is_empty() || !name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_') {
            let name = Line::excerpt(name);
            return Err(format!("{name:?} is not a valid name: use small letters, digits and _"));
        }
        let filter = match filter {
            None => None,
            Some("lower") => Some(Filter::Lower),
            Some("debian") => Some(Filter::Debian),
            Some("all") => Some(Filter::All),
            Some("last") => Some(Filter::Last),
            Some(other) => {
                let other = Line::excerpt(other);
                return Err(format!("there is no filter {other:?}: use lower, debian, all or last"));
            }
        };
        Ok(Self { name: name.to_owned(), filter })
    }
}

impl Sentence {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut rest = text;
        let sentence = Self::parse_from(&mut rest, 0)?;
        Ok(sentence)
    }

    /// Parses to the end of the text, or, within a placeholder, to the brace that closes it.
    fn parse_from(rest: &mut &str, depth: usize) -> Result<Self, String> {
        let nested = depth > 0;
        if depth > MAX_DEPTH {
            return Err(format!("placeholders are nested more than {MAX_DEPTH} deep"));
        }
        let (mut parts, mut text) = (Vec::new(), String::new());
        loop {
            let Some(at) = rest.find(['{', '}']) else {
                if nested {
                    return Err("a placeholder lacks its closing brace".to_owned());
                }
                text.push_str(rest);
                break;
            };
            text.push_str(&rest[..at]);
            *rest = &rest[at..];
            if let Some(after) = rest.strip_prefix("{{") {
                text.push('{');
                *rest = after;
            } else if let Some(after) = rest.strip_prefix('{') {
                *rest = after;
                if !text.is_empty() {
                    parts.push(Part::Text(std::mem::take(&mut text)));
                }
                parts.push(Part::parse(rest, depth + 1)?);
            } else if nested {
                *rest = &rest[1..];
                break;
            } else if let Some(after) = rest.strip_prefix("}}") {
                text.push('}');
                *rest = after;
            } else {
                return Err("a closing brace stands alone: write it twice".to_owned());
            }
        }
        if !text.is_empty() {
            parts.push(Part::Text(text));
        }
        Ok(Self(parts))
    }

    /// Values that the sentence refers to.
    pub(super) fn references(&self) -> Vec<&Reference> {
        self.0.iter().flat_map(Part::references).collect()
    }

    /// Puts the values in.
    pub(super) fn render(&self, value: &dyn Fn(&Reference) -> String) -> String {
        let text = |part: &Part| match part {
            Part::Text(text) => text.clone(),
            Part::Value(reference) => value(reference),
            Part::Otherwise(reference, sentence) => {
                Some(value(reference)).filter(|text| !text.is_empty()).unwrap_or_else(|| sentence.render(value))
            }
            Part::Optional(reference, _) if value(reference).is_empty() => String::new(),
            Part::Optional(_, sentence) => sentence.render(value),
        };
        self.0.iter().map(text).collect()
    }

    /// Puts sentences in place of values; an empty one counts as an empty value.
    pub(super) fn with_words(&self, words: &BTreeMap<String, Self>) -> Self {
        let mut parts = Vec::new();
        for part in &self.0 {
            match part {
                Part::Text(_) => parts.push(part.clone()),
                Part::Value(reference) => match words.get(&reference.name) {
                    Some(word) => parts.extend(word.0.clone()),
                    None => parts.push(part.clone()),
                },
                Part::Otherwise(reference, sentence) => match words.get(&reference.name) {
                    Some(word) if word.0.is_empty() => parts.extend(sentence.with_words(words).0),
                    Some(word) => parts.extend(word.0.clone()),
                    None => parts.push(Part::Otherwise(reference.clone(), sentence.with_words(words))),
                },
                Part::Optional(reference, sentence) => match words.get(&reference.name) {
                    Some(word) if word.0.is_empty() => {}
                    Some(_) => parts.extend(sentence.with_words(words).0),
                    None => parts.push(Part::Optional(reference.clone(), sentence.with_words(words))),
                },
            }
        }
        Self(parts)
    }
}

impl Part {
    fn references(&self) -> Vec<&Reference> {
        match self {
            Self::Text(_) => Vec::new(),
            Self::Value(reference) => vec![reference],
            Self::Otherwise(reference, sentence) | Self::Optional(reference, sentence) => {
                [vec![reference], sentence.references()].concat()
            }
        }
    }

    /// Parses a placeholder, from after its opening brace; `depth` is that of a sentence in it.
    fn parse(rest: &mut &str, depth: usize) -> Result<Self, String> {
        let end = rest.find(['}', '|', '?']).ok_or("a placeholder lacks its closing brace")?;
        let reference = Reference::parse(&rest[..end])?;
        let mark = &rest[end..=end];
        *rest = &rest[end + 1..];
        Ok(match mark {
            "|" => Self::Otherwise(reference, Sentence::parse_from(rest, depth)?),
            "?" => Self::Optional(reference, Sentence::parse_from(rest, depth)?),
            _ => Self::Value(reference),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered(text: &str) -> Result<String, String> {
        let value = |reference: &Reference| match (reference.name.as_str(), reference.filter) {
            ("it", Some(Filter::Lower)) => "boost".to_owned(),
            ("it", _) => "Boost".to_owned(),
            _ => String::new(),
        };
        Ok(Sentence::parse(text)?.render(&value))
    }

    #[test]
    fn placeholders_become_values() {
        for (text, expected) in [
            ("{it} is missing: lib{it:lower}-dev", "Boost is missing: libboost-dev"),
            ("{none|a registry} and {it|none}", "a registry and Boost"),
            ("failed{none? ({none})}{it? ({it})}", "failed (Boost)"),
            ("{none|of {it}}", "of Boost"),
            ("{{ a: {{}} }}", "{ a: {} }"),
        ] {
            assert_eq!(rendered(text).unwrap(), expected);
        }
        for (bad, why) in [
            ("{it", "lacks its closing brace"),
            ("{it? (", "lacks its closing brace"),
            ("a } b", "stands alone"),
            ("{It}", "is not a valid name"),
            ("{it:upper}", "no filter"),
            (&"{a|".repeat(100_000), "nested more than 16 deep"),
        ] {
            assert!(rendered(bad).unwrap_err().contains(why), "{bad}");
        }
    }

    #[test]
    fn words_take_the_place_of_values() {
        let word = |text: &str| Sentence::parse(text).unwrap();
        let words = [("what", word("the compiler of {gem}")), ("tool", word(""))];
        let words = words.map(|(name, word)| (name.to_owned(), word)).into();
        let sentence = word("{what} and {tool|a tool}: {it|{what}}{what?, {what}}{tool?, {tool}}").with_words(&words);
        let text = sentence.render(&|reference| reference.name.to_uppercase());
        assert_eq!(text, "the compiler of GEM and a tool: IT, the compiler of GEM");
    }
}
