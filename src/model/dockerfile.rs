//! Translates Dockerfiles for the engine's classic builder. BuildKit features are dropped if they only save time,
//! translated if the result is the same (except that bind-mounted files stay in the layer), and otherwise refused with
//! their line number.

use std::{collections::HashMap, fmt::Write as _};

use super::Files;

/// Why a Dockerfile cannot be built; lines count from 1.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidDockerfile {
    /// An instruction needs BuildKit.
    #[error("Dockerfile line {line}: {what} needs BuildKit, which paas does not use; {remedy}")]
    NeedsBuildKit {
        /// Line number.
        line: usize,
        /// Instruction or flag.
        what: String,
        /// What to do instead.
        remedy: &'static str,
    },
    /// The Dockerfile has no FROM.
    #[error("the Dockerfile has no FROM: begin it with a base image, such as FROM debian:13")]
    NoFrom,
    /// A heredoc is not terminated.
    #[error("Dockerfile line {0}: the end of the heredoc that begins here is missing")]
    OpenHeredoc(usize),
    /// An image name that paas cannot resolve.
    #[error(
        "the Dockerfile contains {0}, with which paas cannot resolve an image name: write the name literally, and give its ARG a default"
    )]
    UnresolvableImageName(String),
    /// The Dockerfile is too large.
    #[error("the Dockerfile is larger than 256 KiB; shorten it, or move commands to scripts")]
    TooLarge,
}

/// Maximum size of a Dockerfile, in bytes.
const MAX_BYTES: usize = 256 * 1024;

/// Translates a Dockerfile. Every stage, and so the image of every step, gets these labels.
pub fn for_engine(text: &str, labels: &[(String, String)]) -> Result<TranslatedDockerfile, InvalidDockerfile> {
    if text.len() > MAX_BYTES {
        return Err(InvalidDockerfile::TooLarge);
    }
    let quoted: Vec<_> = labels.iter().map(|(name, value)| format!("{name:?}={value:?}")).collect();
    let label = format!("LABEL {}\n", quoted.join(" "));
    let mut made = String::new();
    let mut origins = Vec::new();
    let mut stages = 0;
    let mut unused = UnusedInstructions::default();
    let mut shell = default_shell();
    let mut lines = text.trim_start_matches('\u{feff}').lines().enumerate().map(|(i, line)| (i + 1, line)).peekable();
    while let Some((number, line)) = lines.next() {
        let trimmed = line.trim();
        if trimmed.is_empty() || trimmed.starts_with('#') {
            // A `# syntax=` line selects a BuildKit frontend; the classic builder treats it as a comment.
            made.push_str(line);
            made.push('\n');
            origins.push(number);
            continue;
        }
        let begun = made.len();
        let (mut instruction, mut goes_on) = (line.to_owned(), trimmed.ends_with('\\'));
        while goes_on {
            let Some((_, next)) = lines.next() else { break };
            instruction.push('\n');
            instruction.push_str(next);
            // A comment between continuation lines does not end the instruction.
            goes_on = next.trim().is_empty() || next.trim_start().starts_with('#') || next.trim_end().ends_with('\\');
        }
        let (keyword, rest) = instruction.trim_start().split_once(char::is_whitespace).unwrap_or((trimmed, ""));
        let keyword = keyword.to_ascii_uppercase();
        let (flags, rest) = flags(rest);
        let (kept, copies) = translate_flags(&keyword, &flags, number)?;
        for copy in copies {
            let _ = writeln!(made, "{copy}");
        }
        let kept = kept.into_iter().chain([""]).collect::<Vec<_>>().join(" ");
        let ends = if matches!(keyword.as_str(), "RUN" | "COPY" | "ADD") { heredocs(rest) } else { Vec::new() };
        if ends.is_empty() {
            let rest = if keyword == "ARG" { with_platform_defaults(rest) } else { rest.to_owned() };
            let _ = writeln!(made, "{keyword} {kept}{rest}");
        } else {
            let bodies = bodies(&mut lines, &ends).ok_or(InvalidDockerfile::OpenHeredoc(number))?;
            let command =
                heredoc_command(&keyword, rest, &ends, &bodies).map_err(|what| InvalidDockerfile::NeedsBuildKit {
                    line: number,
                    what,
                    remedy: "put the text into a file and copy that",
                })?;
            let words: Vec<&str> = shell.iter().map(String::as_str).chain([command.as_str()]).collect();
            let _ = writeln!(made, "RUN {kept}{}", serde_json::json!(words));
        }
        if keyword == "SHELL" {
            shell = serde_json::from_str(rest).unwrap_or_else(|_| default_shell());
        }
        if keyword == "FROM" {
            stages += 1;
            shell = default_shell();
            made.push_str(&label);
        }
        unused.note(&keyword, rest, number);
        origins.extend(made[begun..].matches('\n').map(|_| number));
    }
    if stages == 0 {
        Err(InvalidDockerfile::NoFrom)
    } else {
        Ok(TranslatedDockerfile { text: made, origins, warnings: unused.into_warnings() })
    }
}

/// Instructions that have no effect on instances; a stage inherits those of its base stage.
#[derive(Default)]
struct UnusedInstructions {
    /// Lines of those of the current stage.
    lines: Vec<usize>,
    name: String,
    /// Those of earlier stages, by stage name.
    stages: HashMap<String, Vec<usize>>,
}

impl UnusedInstructions {
    fn note(&mut self, keyword: &str, rest: &str, line: usize) {
        match keyword {
            "FROM" => {
                let before = std::mem::take(&mut self.lines);
                self.stages.insert(std::mem::take(&mut self.name), before);
                let words: Vec<_> = rest.split_whitespace().map(str::to_ascii_lowercase).collect();
                self.lines = words.first().and_then(|base| self.stages.get(base)).cloned().unwrap_or_default();
                self.name = words.get(2).cloned().unwrap_or_default();
            }
            "VOLUME" => self.lines.push(line),
            _ => {}
        }
    }

    fn into_warnings(self) -> Vec<String> {
        let warnings = self.lines.into_iter().map(|line| {
            format!(
                "Dockerfile line {line}: VOLUME is not kept: files that an instance writes are deleted with it, so \
                 store data in a database or another service"
            )
        });
        warnings.collect()
    }
}

/// A Dockerfile for the engine's classic builder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TranslatedDockerfile {
    /// Text of the Dockerfile.
    pub text: String,
    /// Original line number of each line.
    origins: Vec<usize>,
    /// Warnings about instructions of the last stage that have no effect.
    pub warnings: Vec<String>,
}

impl TranslatedDockerfile {
    /// An engine message with the line numbers of the original.
    pub fn in_original(&self, message: &str) -> String {
        let Some((before, rest)) = message.split_once("parse error line ") else { return message.to_owned() };
        let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let line = rest[..end].parse::<usize>().ok().and_then(|line| self.origins.get(line.checked_sub(1)?));
        line.map_or_else(|| message.to_owned(), |line| format!("{before}parse error line {line}{}", &rest[end..]))
    }
}

/// Splits the arguments of an instruction into its flags and the rest.
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

fn default_shell() -> Vec<String> {
    vec!["/bin/sh".to_owned(), "-c".to_owned()]
}

/// Returns the flags for the classic builder, and the instructions to insert before this one. Flags that only save time
/// are dropped.
fn translate_flags<'a>(
    keyword: &str,
    flags: &[&'a str],
    line: usize,
) -> Result<(Vec<&'a str>, Vec<String>), InvalidDockerfile> {
    let (mut kept, mut copies) = (Vec::new(), Vec::new());
    for flag in flags {
        let name = flag.split('=').next().unwrap_or_default();
        match (keyword, name) {
            ("RUN", "--mount") if flag.contains("type=cache") => {}
            ("RUN", "--mount") if bind_mount_as_copy(flag).is_some() => copies.extend(bind_mount_as_copy(flag)),
            // Starts are checked at short intervals anyway.
            ("FROM", "--platform") | ("COPY" | "ADD", "--link") | ("HEALTHCHECK", "--start-interval") => {}
            ("RUN", "--network") if *flag == "--network=default" => {}
            ("COPY" | "ADD", "--chown") | ("COPY", "--from") | ("HEALTHCHECK", _) => kept.push(*flag),
            _ => {
                let remedy = match name {
                    "--chmod" => "add a RUN chmod after it",
                    "--mount" => {
                        "pass it as a build argument (config:set --build), which is visible in the image's history"
                    }
                    _ => "leave it out",
                };
                return Err(InvalidDockerfile::NeedsBuildKit { line, what: format!("{keyword} {flag}"), remedy });
            }
        }
    }
    Ok((kept, copies))
}

/// Translates a bind mount of the context or of another stage to a COPY; the copied files stay in the layer. `None` for
/// options that have no such translation.
fn bind_mount_as_copy(flag: &str) -> Option<String> {
    let (mut from, mut source, mut target) = (None, None, None);
    for option in flag.strip_prefix("--mount=")?.split(',') {
        match option.split_once('=').unwrap_or((option, "")) {
            ("type", "bind") | ("ro" | "readonly" | "rw" | "readwrite", _) => {}
            ("from", stage) => from = Some(stage),
            ("source" | "src", path) => source = Some(path),
            ("target" | "dst" | "destination", path) => target = Some(path),
            _ => return None,
        }
    }
    let from = from.map(|stage| format!("--from={stage} ")).unwrap_or_default();
    let whole = if from.is_empty() { "." } else { "/" };
    Some(format!("COPY {from}{} {}", source.unwrap_or(whole), target?))
}

/// Delimiters of the heredocs that an instruction begins.
fn heredocs(rest: &str) -> Vec<String> {
    let ends = rest.split_whitespace().filter_map(|word| {
        let word = word.trim_start_matches(|c: char| c.is_ascii_digit()).strip_prefix("<<")?;
        let word = word.strip_prefix('-').unwrap_or(word).trim_matches(['"', '\'']);
        let plain = word.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        (plain && word.starts_with(|c: char| !c.is_ascii_digit())).then(|| word.to_owned())
    });
    ends.collect()
}

/// The lines of heredocs, including their delimiter lines; `None` if a delimiter is missing.
fn bodies<'a>(lines: &mut impl Iterator<Item = (usize, &'a str)>, ends: &[String]) -> Option<String> {
    let mut bodies = String::new();
    for end in ends {
        loop {
            let (_, line) = lines.next()?;
            bodies.push_str(line);
            bodies.push('\n');
            if line.trim_start_matches('\t') == end {
                break;
            }
        }
    }
    Some(bodies)
}

/// Shell command of a RUN with heredocs: the heredoc itself, or the command that reads the heredocs. The error names the
/// unsupported instruction.
fn heredoc_command(keyword: &str, rest: &str, ends: &[String], bodies: &str) -> Result<String, String> {
    let alone = rest.trim().starts_with("<<") && !rest.trim().contains(char::is_whitespace);
    match ends {
        _ if keyword != "RUN" => Err(format!("{keyword} with a heredoc")),
        _ if !alone => Ok(format!("{}\n{bodies}", rest.trim())),
        _ if bodies.starts_with("#!") => Err("RUN with a heredoc that names its interpreter".to_owned()),
        ends => {
            let last = ends.last().map_or(0, String::len) + 1;
            let script = &bodies[..bodies.len() - last];
            Ok(script.trim_end_matches('\t').to_owned())
        }
    }
}

/// Arguments of an ARG, where BuildKit's platform variables have their values as defaults.
fn with_platform_defaults(rest: &str) -> String {
    let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    if rest.contains(['"', '\'']) {
        return rest.to_owned();
    }
    let words = rest.split(' ').map(|word| match word {
        "TARGETPLATFORM" | "BUILDPLATFORM" => format!("{word}=linux/{architecture}"),
        "TARGETOS" | "BUILDOS" => format!("{word}=linux"),
        "TARGETARCH" | "BUILDARCH" => format!("{word}={architecture}"),
        _ => word.to_owned(),
    });
    let words: Vec<_> = words.collect();
    words.join(" ")
}

/// Images that a [translated](for_engine) Dockerfile names.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct ReferencedImages {
    /// Base images (not earlier stages).
    pub bases: Vec<String>,
    /// Images in `COPY --from`.
    pub copied: Vec<String>,
}

/// Finds the images that a Dockerfile names; a name that cannot be resolved is an error.
pub fn referenced_images<'a>(
    text: &'a str,
    given: impl Fn(&str) -> Option<&'a str>,
) -> Result<ReferencedImages, InvalidDockerfile> {
    let mut found = ReferencedImages::default();
    let (mut stages, mut args) = (Vec::new(), HashMap::new());
    let instructions = instructions(text)?;
    for instruction in &instructions {
        let mut words = instruction.split_whitespace().peekable();
        // An ONBUILD instruction runs in stages based on this one.
        words.next_if(|word| word.eq_ignore_ascii_case("ONBUILD"));
        let Some(keyword) = words.next() else { continue };
        let mut flags = Vec::new();
        while let Some(flag) = words.next_if(|word| word.starts_with("--")) {
            flags.push(flag);
        }
        match keyword.to_ascii_uppercase().as_str() {
            "ARG" if stages.is_empty() => {
                for pair in words {
                    let (name, default) =
                        pair.split_once('=').map_or((pair, None), |(name, value)| (name, Some(value)));
                    if let Some(value) = given(name).or(default.map(|value| value.trim_matches(['"', '\'']))) {
                        args.insert(name, value);
                    }
                }
            }
            "FROM" => {
                let name = expand(words.next().unwrap_or_default(), &args)?;
                let is_stage = stages.contains(&name.to_lowercase());
                if !is_stage && name != "scratch" && !name.is_empty() {
                    found.bases.push(name);
                }
                stages.push(words.nth(1).map(str::to_lowercase).unwrap_or_default());
            }
            _ => {
                for name in flags.iter().filter_map(|flag| flag.strip_prefix("--from=")) {
                    let name = expand(name, &HashMap::new())?;
                    let is_stage = stages.contains(&name.to_lowercase()) || name.bytes().all(|b| b.is_ascii_digit());
                    if !is_stage {
                        found.copied.push(name);
                    }
                }
                let is_unsupported =
                    |flag: &&&str| flag.split('=').next().unwrap_or_default().contains(UNSUPPORTED_NAME_CHARS);
                if let Some(unsupported) = flags.iter().find(is_unsupported) {
                    return Err(InvalidDockerfile::UnresolvableImageName((*unsupported).to_owned()));
                }
            }
        }
    }
    for names in [&mut found.bases, &mut found.copied] {
        names.sort();
        names.dedup();
    }
    Ok(found)
}

/// Characters that the engine's builder interprets, so that they are not supported in names of images.
const UNSUPPORTED_NAME_CHARS: [char; 4] = ['"', '\'', '\\', '$'];

/// The instructions, each in one line and without comments.
fn instructions(text: &str) -> Result<Vec<String>, InvalidDockerfile> {
    let mut instructions = Vec::new();
    let mut goes_on = false;
    for line in text.lines().map(str::trim_end) {
        if let Some(comment) = line.trim_start().strip_prefix('#') {
            let words: String = comment.split_whitespace().collect();
            if words.to_ascii_lowercase().starts_with("escape=`") {
                return Err(InvalidDockerfile::UnresolvableImageName("# escape=`".to_owned()));
            }
            continue;
        }
        if line.is_empty() {
            continue;
        }
        let (part, more) = line.strip_suffix('\\').map_or((line, false), |part| (part, true));
        match instructions.last_mut() {
            Some(last) if goes_on => *last = format!("{last}{part}"),
            _ => instructions.push(part.to_owned()),
        }
        goes_on = more;
    }
    Ok(instructions)
}

/// Expands the arguments in a name: `$NAME`, `${NAME}`, `${NAME:-default}` and `${NAME-default}`.
fn expand(name: &str, args: &HashMap<&str, &str>) -> Result<String, InvalidDockerfile> {
    let unresolvable = || InvalidDockerfile::UnresolvableImageName(name.to_owned());
    let mut made = String::new();
    let mut rest = name;
    while let Some((before, after)) = rest.split_once('$') {
        made.push_str(before);
        let (inner, behind) = match after.strip_prefix('{') {
            Some(braced) => braced.split_once('}').ok_or_else(unresolvable)?,
            None => after.split_at(after.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(after.len())),
        };
        let (arg, default) = match inner.split_once('-') {
            Some((arg, default)) => (arg.trim_end_matches(':'), Some(default)),
            None => (inner, None),
        };
        let value = args.get(arg).copied().filter(|value| !value.is_empty());
        made.push_str(value.or(default).ok_or_else(unresolvable)?);
        rest = behind;
    }
    made.push_str(rest);
    if made.contains(UNSUPPORTED_NAME_CHARS) { Err(unresolvable()) } else { Ok(made) }
}

/// Selects the files for the build of a Dockerfile: by `project.toml`, otherwise by `.dockerignore`.
pub fn files(project: &Files, dockerignore: Option<&str>) -> Files {
    match (project, dockerignore) {
        // The context contains a .dockerignore that paas writes.
        (Files::All, Some(text)) => {
            Files::Exclude([gitignore_patterns(text), vec!["/.dockerignore".to_owned()]].concat())
        }
        (Files::Exclude(patterns), Some(_)) => {
            Files::Exclude(patterns.iter().cloned().chain(["/.dockerignore".to_owned()]).collect())
        }
        (files, _) => files.clone(),
    }
}

/// Translates the patterns of a `.dockerignore` to equivalent patterns of a `.gitignore`.
fn gitignore_patterns(text: &str) -> Vec<String> {
    let lines = text.trim_start_matches('\u{feff}').lines().map(str::trim);
    let patterns = lines.filter(|line| !line.is_empty() && !line.starts_with('#')).flat_map(|line| {
        let (not, pattern) = line.strip_prefix('!').map_or(("", line), |pattern| ("!", pattern.trim()));
        let pattern = pattern.trim_start_matches("./").trim_start_matches('/').trim_end_matches('/');
        let itself = (!matches!(pattern, "" | ".")).then(|| format!("{not}/{pattern}"));
        // A re-included folder also re-includes its contents.
        let below = itself.as_ref().filter(|_| !pattern.ends_with("**")).map(|itself| format!("{itself}/**"));
        itself.into_iter().chain(below)
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
        for_engine(text, &labels()).unwrap().text
    }

    #[test]
    fn lines_are_numbered_as_in_the_original() {
        let made = for_engine("FROM a\n\nRUN x \\\n  y\nFROM b\nRUNN\n", &labels()).unwrap();
        let number = made.text.lines().position(|line| line.starts_with("RUNN")).unwrap() + 1;
        let message = format!("dockerfile parse error line {number}: unknown instruction: RUNN");
        assert_eq!(made.in_original(&message), "dockerfile parse error line 6: unknown instruction: RUNN");
        for other in ["no number", "parse error line x", "parse error line 0", "./check 'line 3'"] {
            assert_eq!(made.in_original(other), other);
        }
    }

    #[test]
    fn unused_instructions_give_warnings() {
        let warnings = |text: &str| for_engine(text, &labels()).unwrap().warnings;
        let unused = warnings("FROM a AS b\nVOLUME /x\nFROM c\nHEALTHCHECK --retries=3 CMD x\nvolume /data\n");
        assert_eq!(unused.len(), 1, "{unused:?}");
        assert!(unused[0].starts_with("Dockerfile line 5: VOLUME is not kept"), "{unused:?}");
        let inherited = warnings("FROM a AS B\nVOLUME /x\nFROM c AS d\nFROM b\n");
        assert_eq!(inherited.len(), 1, "{inherited:?}");
        assert!(inherited[0].starts_with("Dockerfile line 2: VOLUME"), "{inherited:?}");
    }

    #[test]
    fn stages_are_labelled_and_other_lines_kept() {
        let text = "# syntax=docker/dockerfile:1\nARG V=1\nFROM --platform=$BUILDPLATFORM a:$V AS b\nRUN x \\\n  # why\n  && y\n\n\
                    from scratch\nCOPY --from=b --link --chown=1:1 /x /x\nCMD [\"/x\"]\n";
        let expected = "# syntax=docker/dockerfile:1\nARG V=1\nFROM a:$V AS b\nLABEL \"paas.server\"=\"a\"\nRUN x \\\n  # why\n  && y\n\n\
                        FROM scratch\nLABEL \"paas.server\"=\"a\"\nCOPY --from=b --chown=1:1 /x /x\nCMD [\"/x\"]\n";
        assert_eq!(made(text), expected);
    }

    #[test]
    fn flags_that_only_save_time_are_dropped() {
        let text = "FROM a\nRUN --mount=type=cache,target=/root/.npm \\\n    --mount=type=cache,target=/x npm ci\n";
        assert!(made(text).ends_with("RUN npm ci\n"));
        assert!(
            made("FROM a\nRUN <<EOF\necho \"a\"\nb\nEOF\nCMD x\n")
                .contains("RUN [\"/bin/sh\",\"-c\",\"echo \\\"a\\\"\\nb\\n\"]\nCMD x")
        );
        for plain in ["RUN echo $((1 << 2)) && cat <<< x\n", "RUN echo $((1<<n))\n"] {
            assert!(made(&format!("FROM a\n{plain}")).ends_with(plain));
        }
    }

    #[test]
    fn buildkit_syntax_is_translated() {
        for (text, expected) in [
            (
                "RUN cat > /x <<-'EOF'\n\ta $B\n\tEOF\n",
                "RUN [\"/bin/sh\",\"-c\",\"cat > /x <<-'EOF'\\n\\ta $B\\n\\tEOF\\n\"]\n",
            ),
            ("RUN cat <<A 3<<B\na\nA\nb\nB\n", "RUN [\"/bin/sh\",\"-c\",\"cat <<A 3<<B\\na\\nA\\nb\\nB\\n\"]\n"),
            ("SHELL [\"/bin/bash\", \"-c\"]\nRUN <<-X\n\tb\n\tX\n", "-c\"]\nRUN [\"/bin/bash\",\"-c\",\"\\tb\\n\"]\n"),
            (
                "RUN --mount=type=bind,source=go.mod,target=go.mod go mod download\n",
                "COPY go.mod go.mod\nRUN go mod download\n",
            ),
            (
                "RUN --mount=target=. --mount=type=bind,from=b,src=/y,dst=/z,ro x\n",
                "COPY . .\nCOPY --from=b /y /z\nRUN x\n",
            ),
            ("ARG TARGETOS BUILDOS V\n", "ARG TARGETOS=linux BUILDOS=linux V\n"),
            ("ARG V=\"a  b\"\n", "ARG V=\"a  b\"\n"),
            ("ARG TARGETOS V=1\n", "ARG TARGETOS=linux V=1\n"),
        ] {
            let made = made(&format!("FROM a\n{text}"));
            assert!(made.ends_with(expected), "{made}");
        }
    }

    #[test]
    fn base_images_are_found() {
        let text = "ARG V=3.1\nARG W\nfrom --platform=$BUILDPLATFORM a:$V AS One\nFROM one\nFROM scratch\nFROM b:${V}-slim\n\
                    FROM a:3.1\nARG V=4\nFROM d:$V\n";
        assert_eq!(referenced_images(text, |_| None).unwrap().bases, ["a:3.1", "b:3.1-slim", "d:3.1"]);
        assert_eq!(referenced_images("FROM\nRUN x", |_| None), Ok(ReferencedImages::default()));
        let text = "ARG V=1 VERSION=2\nFROM a:$VERSION\nRUN psql -c 'SELECT x \\\nFROM users'\n";
        assert_eq!(referenced_images(text, |_| None).unwrap().bases, ["a:2"]);
        assert_eq!(referenced_images(text, |name| (name == "VERSION").then_some("3")).unwrap().bases, ["a:3"]);
    }

    #[test]
    fn an_image_is_found_however_it_is_named() {
        let named = |text: &str| referenced_images(text, |name| (name == "GIVEN").then_some("given"));
        for text in [
            "FROM x",
            "from --platform=a x AS b\nFROM b",
            "FROM \\\n# why\n\n  x",
            "FROM\\  \n x",
            "ARG A=x\nFROM $A",
            "ARG A=\"x\"\nFROM ${A}",
            "FROM ${A:-x}",
            "ARG A\nFROM ${A-x}",
        ] {
            assert_eq!(named(text).unwrap().bases, ["x"], "{text}");
        }
        assert_eq!(named("ARG GIVEN\nFROM a/$GIVEN:1").unwrap().bases, ["a/given:1"]);
        for text in ["COPY --from=x /a /", "COPY --chown=1 \\\n --from=x /a /", "ONBUILD COPY --from=x /a /"] {
            let text = format!("FROM a AS b\nCOPY --from=0 / /\nCOPY --from=B / /\n{text}");
            assert_eq!(named(&text).unwrap().copied, ["x"], "{text}");
        }
        for text in [
            "FROM $A",
            "FROM ${A",
            "FROM ${A:+x}",
            "FROM \"x\"",
            "FROM 'x'",
            "FROM pa\\as/x",
            "FROM a\nONBUILD COPY --fr\\om=x / /",
            "FROM a\nONBUILD COPY --from=\"x\" / /",
            "FROM a\nCOPY --from=$A / /",
            "# escape=`\nFROM a",
        ] {
            assert!(matches!(named(text), Err(InvalidDockerfile::UnresolvableImageName(_))), "{text}");
        }
    }

    #[test]
    fn unsupported_instructions_are_refused() {
        for (text, says) in [
            ("FROM a\n\nRUN --mount=type=secret,id=x y", "line 3: RUN --mount=type=secret,id=x needs BuildKit"),
            ("FROM a\nCOPY --chmod=755 x /x", "add a RUN chmod after it"),
            ("FROM a\nCOPY <<EOF /x\nEOF", "line 2: COPY with a heredoc"),
            ("FROM a\nRUN <<EOF\nx", "line 2: the end of the heredoc"),
            ("FROM a\nRUN <<EOF\n#!/usr/bin/python3\nEOF", "line 2: RUN with a heredoc that names its interpreter"),
            ("FROM a\nRUN --mount=type=ssh x", "config:set --build"),
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
        let text = "# no\n/dist/\n!README.md\n**\n.\n";
        assert_eq!(gitignore_patterns(text), ["/dist", "/dist/**", "!/README.md", "!/README.md/**", "/**"]);
    }
}
