//! Rust source as tokens, without comments, literals and test code: enough to read paths.

/// A token that matters to paths; literals and lifetimes are left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Token {
    /// An identifier, a keyword or a number.
    Word(String),
    /// `::`
    PathSeparator,
    /// Any other character.
    Mark(char),
}

impl Token {
    pub(super) fn word(&self) -> Option<&str> {
        match self {
            Self::Word(word) => Some(word),
            Self::PathSeparator | Self::Mark(_) => None,
        }
    }

    pub(super) fn is_word(&self, text: &str) -> bool {
        self.word() == Some(text)
    }
}

/// The tokens of a source file without the items under `#[cfg(test)]`.
pub(super) fn tokens(text: &str) -> Vec<Token> {
    without_tests(&all_tokens(text))
}

fn is_word_char(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn all_tokens(text: &str) -> Vec<Token> {
    let chars: Vec<char> = text.chars().collect();
    let next_is = |at: usize, c: char| chars.get(at) == Some(&c);
    let mut tokens = Vec::new();
    let mut at = 0;
    while at < chars.len() {
        let c = chars[at];
        if c == '/' && next_is(at + 1, '/') {
            at += chars[at..].iter().take_while(|c| **c != '\n').count();
        } else if c == '/' && next_is(at + 1, '*') {
            at = after_block_comment(&chars, at);
        } else if c == '"' {
            at = after_string(&chars, at);
        } else if c == '\'' {
            at = after_quote(&chars, at);
        } else if is_word_char(c) {
            let word: String = chars[at..].iter().take_while(|c| is_word_char(**c)).collect();
            at += word.chars().count();
            match raw_string_hashes(&chars, at, &word) {
                Some(hashes) => at = after_raw_string(&chars, at, hashes),
                // The literal itself is read next.
                None if matches!(word.as_str(), "b" | "c") && (next_is(at, '"') || next_is(at, '\'')) => {}
                None => tokens.push(Token::Word(word)),
            }
        } else if c == ':' && next_is(at + 1, ':') {
            tokens.push(Token::PathSeparator);
            at += 2;
        } else {
            if !c.is_whitespace() {
                tokens.push(Token::Mark(c));
            }
            at += 1;
        }
    }
    tokens
}

fn after_block_comment(chars: &[char], start: usize) -> usize {
    let (mut at, mut depth) = (start, 0);
    while at < chars.len() {
        match (chars[at], chars.get(at + 1)) {
            ('/', Some('*')) => (depth, at) = (depth + 1, at + 2),
            ('*', Some('/')) => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

fn after_string(chars: &[char], start: usize) -> usize {
    let mut at = start + 1;
    while at < chars.len() && chars[at] != '"' {
        at += if chars[at] == '\\' { 2 } else { 1 };
    }
    at + 1
}

/// Skips a character literal or a lifetime.
fn after_quote(chars: &[char], start: usize) -> usize {
    if chars.get(start + 1) == Some(&'\\') {
        let end = chars[start + 3..].iter().position(|c| *c == '\'');
        return end.map_or(chars.len(), |end| start + 3 + end + 1);
    }
    if chars.get(start + 2) == Some(&'\'') {
        return start + 3;
    }
    start + 1 + chars[start + 1..].iter().take_while(|c| is_word_char(**c)).count()
}

/// The number of `#` of a raw string literal that begins with `word`; none if no such literal begins here.
fn raw_string_hashes(chars: &[char], at: usize, word: &str) -> Option<usize> {
    let hashes = chars[at..].iter().take_while(|c| **c == '#').count();
    (matches!(word, "r" | "br" | "cr") && chars.get(at + hashes) == Some(&'"')).then_some(hashes)
}

fn after_raw_string(chars: &[char], at: usize, hashes: usize) -> usize {
    let end: Vec<char> = std::iter::once('"').chain(std::iter::repeat_n('#', hashes)).collect();
    let start = at + hashes + 1;
    chars[start..].windows(end.len()).position(|window| window == end).map_or(chars.len(), |n| start + n + end.len())
}

fn without_tests(tokens: &[Token]) -> Vec<Token> {
    let attribute = all_tokens("#[cfg(test)]");
    let mut kept = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        if tokens[at..].starts_with(&attribute) {
            at = after_item(tokens, at + attribute.len());
        } else {
            kept.push(tokens[at].clone());
            at += 1;
        }
    }
    kept
}

/// Skips an item: to its semicolon, or to the end of its braces.
fn after_item(tokens: &[Token], mut at: usize) -> usize {
    let mut depth = 0;
    let mut is_use = false;
    while at < tokens.len() {
        let token = &tokens[at];
        at += 1;
        is_use |= depth == 0 && token.is_word("use");
        match token {
            Token::Mark('{' | '(' | '[') => depth += 1,
            Token::Mark(')' | ']') => depth -= 1,
            Token::Mark('}') => {
                depth -= 1;
                if depth == 0 && !is_use {
                    break;
                }
            }
            Token::Mark(';') if depth == 0 => break,
            _ => {}
        }
    }
    at
}
