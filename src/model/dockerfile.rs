//! Dockerfiles, as far as they must be known to hand them to the engine's own builder: what that one does not know is
//! put in its words where that changes nothing, and named with its line where it would.

use std::fmt::Write as _;

use super::Files;

/// Why a Dockerfile cannot be built; lines count from 1.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidDockerfile {
    /// It wants what only BuildKit has.
    #[error("Dockerfile line {line}: {what} is known to BuildKit only, and paas builds without it; {remedy}")]
    Unknown {
        /// Where.
        line: usize,
        /// What.
        what: String,
        /// What to do instead.
        remedy: &'static str,
    },
    /// It makes nothing.
    #[error("the Dockerfile has no FROM: begin it with the image that yours stands on, such as FROM debian:13")]
    NoFrom,
    /// A heredoc without its end.
    #[error("Dockerfile line {0}: the end of the heredoc that begins here is missing")]
    OpenHeredoc(usize),
    /// Too large.
    #[error("the Dockerfile is larger than 256 KiB; shorten it, or move commands to scripts")]
    TooLarge,
}

/// The largest one, in bytes.
const LARGEST: usize = 256 * 1024;

/// The text for the engine's builder. Every stage, and so every image that comes of a step, gets these labels.
pub fn for_engine(text: &str, labels: &[(String, String)]) -> Result<String, InvalidDockerfile> {
    if text.len() > LARGEST {
        return Err(InvalidDockerfile::TooLarge);
    }
    let quoted: Vec<_> = labels.iter().map(|(name, value)| format!("{name:?}={value:?}")).collect();
    let label = format!("LABEL {}\n", quoted.join(" "));
    let mut made = String::new();
    let mut stages = 0;
    let mut lines = text.trim_start_matches('\u{feff}').lines().enumerate().map(|(i, line)| (i + 1, line)).peekable();
    while let Some((number, line)) = lines.next() {
        let trimmed = line.trim();
        if trimmed.is_empty() || trimmed.starts_with('#') {
            // A frontend of another image would be BuildKit's; to this builder it is a comment anyway.
            made.push_str(line);
            made.push('\n');
            continue;
        }
        let (mut instruction, mut goes_on) = (line.to_owned(), trimmed.ends_with('\\'));
        while goes_on {
            let Some((_, next)) = lines.next() else { break };
            instruction.push('\n');
            instruction.push_str(next);
            // A comment in between does not end it.
            goes_on = next.trim_start().starts_with('#') || next.trim_end().ends_with('\\');
        }
        let (keyword, rest) = instruction.trim_start().split_once(char::is_whitespace).unwrap_or((trimmed, ""));
        let keyword = keyword.to_ascii_uppercase();
        let (flags, rest) = flags(rest);
        let kept = kept(&keyword, &flags, number)?;
        let kept = kept.into_iter().chain([""]).collect::<Vec<_>>().join(" ");
        match (keyword.as_str(), heredoc(rest)) {
            ("RUN" | "COPY" | "ADD", Some(end)) => {
                let script = script(&mut lines, &end).ok_or(InvalidDockerfile::OpenHeredoc(number))?;
                if keyword != "RUN" || !rest.trim().starts_with("<<") || rest.trim().contains(char::is_whitespace) {
                    let (what, remedy) =
                        (format!("{keyword} with a heredoc"), "put the text into a file and copy that");
                    return Err(InvalidDockerfile::Unknown { line: number, what, remedy });
                }
                let words = serde_json::json!(["/bin/sh", "-c", script]);
                let _ = writeln!(made, "RUN {kept}{words}");
            }
            _ => {
                let _ = writeln!(made, "{keyword} {kept}{rest}");
            }
        }
        if keyword == "FROM" {
            stages += 1;
            made.push_str(&label);
        }
    }
    if stages == 0 { Err(InvalidDockerfile::NoFrom) } else { Ok(made) }
}

/// The flags of an instruction, and what comes after them.
fn flags(mut rest: &str) -> (Vec<&str>, &str) {
    let mut flags = Vec::new();
    loop {
        rest = rest.trim_start_matches(|c: char| c.is_whitespace() || c == '\\');
        if !rest.starts_with("--") {
            return (flags, rest);
        }
        let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
        flags.push(&rest[..end]);
        rest = &rest[end..];
    }
}

/// The flags that the engine's builder knows; those that only make a build quicker are left out.
fn kept<'a>(keyword: &str, flags: &[&'a str], line: usize) -> Result<Vec<&'a str>, InvalidDockerfile> {
    let mut kept = Vec::new();
    for flag in flags {
        let name = flag.split('=').next().unwrap_or_default();
        match (keyword, name) {
            ("RUN", "--mount") if flag.contains("type=cache") => {}
            ("FROM", "--platform") | ("COPY" | "ADD", "--link") => {}
            ("RUN", "--network") if *flag == "--network=default" => {}
            ("COPY" | "ADD", "--chown") | ("COPY", "--from") | ("HEALTHCHECK", _) => kept.push(*flag),
            _ => {
                let remedy = match name {
                    "--chmod" => "add a RUN chmod after it",
                    "--mount" => "copy the files, and pass what is not secret as a build argument",
                    _ => "leave it out",
                };
                return Err(InvalidDockerfile::Unknown { line, what: format!("{keyword} {flag}"), remedy });
            }
        }
    }
    Ok(kept)
}

/// The word that ends the heredoc that an instruction begins.
fn heredoc(rest: &str) -> Option<String> {
    let rest = &rest[rest.find("<<")? + 2..];
    let word = rest.trim_start_matches('-').trim_start_matches(['"', '\'']);
    let word: String = word.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
    let begins = word.chars().next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_');
    begins.then_some(word)
}

/// The lines up to the end of a heredoc.
fn script<'a>(lines: &mut impl Iterator<Item = (usize, &'a str)>, end: &str) -> Option<String> {
    let mut script = String::new();
    for (_, line) in lines {
        if line.trim_start_matches('\t') == end {
            return Some(script);
        }
        script.push_str(line);
        script.push('\n');
    }
    None
}

/// Which files of a project go into the build of its Dockerfile: what the project itself says, else its `.dockerignore`.
pub fn files(project: &Files, dockerignore: Option<&str>) -> Files {
    match (project, dockerignore) {
        // The engine gets a .dockerignore of ours.
        (Files::All, Some(text)) => Files::Exclude([ignored(text), vec!["/.dockerignore".to_owned()]].concat()),
        (files, _) => files.clone(),
    }
}

/// The patterns of a `.dockerignore`, as those of a `.gitignore` that mean the same.
fn ignored(text: &str) -> Vec<String> {
    let lines = text.trim_start_matches('\u{feff}').lines().map(str::trim);
    let patterns = lines.filter(|line| !line.is_empty() && !line.starts_with('#')).filter_map(|line| {
        let (not, pattern) = line.strip_prefix('!').map_or(("", line), |pattern| ("!", pattern.trim()));
        let pattern = pattern.trim_start_matches("./").trim_start_matches('/').trim_end_matches('/');
        (!matches!(pattern, "" | ".")).then(|| format!("{not}/{pattern}"))
    });
    patterns.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels() -> Vec<(String, String)> {
        vec![("paas.server".into(), "a".into())]
    }

    fn made(text: &str) -> String {
        for_engine(text, &labels()).unwrap()
    }

    #[test]
    fn stages_are_labelled_and_the_rest_stays() {
        let text = "# syntax=docker/dockerfile:1\nARG V=1\nFROM --platform=$BUILDPLATFORM a:$V AS b\nRUN x \\\n  # why\n  && y\n\n\
                    from scratch\nCOPY --from=b --link --chown=1:1 /x /x\nCMD [\"/x\"]\n";
        let expected = "# syntax=docker/dockerfile:1\nARG V=1\nFROM a:$V AS b\nLABEL \"paas.server\"=\"a\"\nRUN x \\\n  # why\n  && y\n\n\
                        FROM scratch\nLABEL \"paas.server\"=\"a\"\nCOPY --from=b --chown=1:1 /x /x\nCMD [\"/x\"]\n";
        assert_eq!(made(text), expected);
    }

    #[test]
    fn what_only_makes_builds_quicker_is_left_out() {
        let text = "FROM a\nRUN --mount=type=cache,target=/root/.npm \\\n    --mount=type=cache,target=/x npm ci\n";
        assert!(made(text).ends_with("RUN npm ci\n"));
        assert!(
            made("FROM a\nRUN <<EOF\necho \"a\"\nb\nEOF\nCMD x\n")
                .contains("RUN [\"/bin/sh\",\"-c\",\"echo \\\"a\\\"\\nb\\n\"]\nCMD x")
        );
        assert!(made("FROM a\nRUN echo $((1 << 2)) && cat <<< x").ends_with("cat <<< x\n"));
    }

    #[test]
    fn what_would_change_something_is_named() {
        for (text, says) in [
            (
                "FROM a\n\nRUN --mount=type=secret,id=x y",
                "line 3: RUN --mount=type=secret,id=x is known to BuildKit only",
            ),
            ("FROM a\nCOPY --chmod=755 x /x", "add a RUN chmod after it"),
            ("FROM a\nCOPY <<EOF /x\nEOF", "line 2: COPY with a heredoc"),
            ("FROM a\nRUN <<EOF\nx", "line 2: the end of the heredoc"),
            ("RUN x", "has no FROM"),
            ("", "has no FROM"),
        ] {
            let error = for_engine(text, &labels()).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
        assert_eq!(for_engine(&"#".repeat(300_000), &labels()), Err(InvalidDockerfile::TooLarge));
    }

    #[test]
    fn ignored_files_are_anchored() {
        let text = "# no\nnode_modules\n/dist/\n*.md\n!README.md\n**/*.log\n.\n";
        assert_eq!(ignored(text), ["/node_modules", "/dist", "/*.md", "!/README.md", "/**/*.log"]);
    }
}
