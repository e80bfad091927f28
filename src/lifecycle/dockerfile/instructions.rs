//! The instructions of a Dockerfile with their line numbers. What they mean is up to buildah: this is for messages, for the
//! names of images that need a login, and for leaving out flags that buildah does not know.

use std::collections::BTreeMap;

/// A Dockerfile (docs.docker.com/reference/dockerfile).
#[derive(Debug)]
pub(super) struct Dockerfile {
    /// Path in the source.
    pub(super) name: String,
    text: String,
    instructions: Vec<Instruction>,
    /// Line of a heredoc whose end is missing.
    pub(super) open_heredoc: Option<usize>,
}

/// A git repository that an `ADD` names.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct AddedRepository<'a> {
    /// Line of the instruction.
    pub(super) line: usize,
    /// The instruction.
    pub(super) text: &'a str,
    pub(super) url: String,
    /// Branch, tag or commit.
    pub(super) reference: Option<String>,
}

/// One instruction.
#[derive(Debug, PartialEq, Eq)]
struct Instruction {
    /// Line on which it begins, from 1.
    line: usize,
    /// Number of its stage, from 1; 0 before the first stage.
    stage: usize,
    /// Name, in capitals.
    keyword: String,
    /// All of it but the bodies of heredocs, with continuation lines joined.
    text: String,
}

impl Dockerfile {
    pub(super) fn parse(name: &str, text: &str) -> Self {
        let text = text.replace("\r\n", "\n");
        let escape = escape_character(&text);
        let mut parsed =
            Self { name: name.to_owned(), text: String::new(), instructions: Vec::new(), open_heredoc: None };
        let (mut stage, mut lines) = (0, text.lines().enumerate());
        while let Some((number, line)) = lines.next() {
            if line.trim().is_empty() || line.trim_start().starts_with('#') {
                parsed.add_line(line);
                continue;
            }
            let (mut instruction, mut rest) = (String::new(), Some(line));
            let takes_link = takes_link(line);
            while let Some(line) = rest {
                let line = if takes_link { without_link(line) } else { line.to_owned() };
                parsed.add_line(&line);
                // A comment or an empty line between continuation lines does not end the instruction.
                let is_nothing = line.trim().is_empty() || line.trim_start().starts_with('#');
                let ended = line.trim_end();
                let continued = ended.strip_suffix(escape);
                if !is_nothing {
                    instruction += continued.unwrap_or(ended);
                }
                rest = (continued.is_some() || (is_nothing && !instruction.is_empty()))
                    .then(|| lines.next().map(|(_, line)| line))
                    .flatten();
            }
            let keyword = instruction.split_whitespace().next().unwrap_or_default().to_ascii_uppercase();
            if matches!(keyword.as_str(), "RUN" | "COPY" | "ADD") {
                for end in heredocs(&instruction) {
                    if !parsed.add_heredoc(&mut lines, &end) {
                        parsed.open_heredoc.get_or_insert(number + 1);
                    }
                }
            }
            stage += usize::from(keyword == "FROM");
            parsed.instructions.push(Instruction { line: number + 1, stage, keyword, text: instruction });
        }
        parsed
    }

    fn add_line(&mut self, line: &str) {
        self.text.push_str(line);
        self.text.push('\n');
    }

    /// Takes the lines of a heredoc; whether its end is there.
    fn add_heredoc<'a>(&mut self, lines: &mut impl Iterator<Item = (usize, &'a str)>, end: &Heredoc) -> bool {
        for (_, line) in lines {
            self.add_line(line);
            let line = if end.strips_tabs { line.trim_start_matches('\t') } else { line };
            if line == end.name {
                return true;
            }
        }
        false
    }

    /// Text for buildah: without the flag `--link`, which only saves time, and with plain line ends.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// Line of the step that buildah names: its stage and its number in it, both from 1, and its text. Steps that a base
    /// image adds with ONBUILD have none.
    pub(super) fn line_of(&self, stage: usize, number: usize, step: &str) -> Option<usize> {
        let of_stage: Vec<_> = self.instructions.iter().filter(|one| one.stage == stage).collect();
        let step = squeezed(step);
        // A heredoc's text follows in brackets.
        let is_it = |one: &&Instruction| {
            let one = squeezed(&one.text);
            one == step || step.strip_prefix(&one).is_some_and(|rest| rest.starts_with('('))
        };
        // buildah resolves the variables in the name of a base image.
        let is_from = number == 1 && step.starts_with("from");
        let counted = number.checked_sub(1).and_then(|at| of_stage.get(at).copied());
        let counted = counted.filter(|one| is_it(one) || (is_from && one.keyword == "FROM"));
        counted.or_else(|| of_stage.iter().copied().find(is_it)).map(|one| one.line)
    }

    /// The instruction `FROM` if the step is one: buildah names the image of an earlier stage by its id.
    pub(super) fn stage_begin(&self, stage: usize, number: usize) -> Option<&str> {
        let from = self.instructions.iter().find(|one| one.stage == stage && number == 1)?;
        Some(from.text.trim()).filter(|_| from.keyword == "FROM")
    }

    /// Line of the first instruction with this keyword.
    pub(super) fn line_of_keyword(&self, keyword: &str) -> Option<usize> {
        self.instructions.iter().find(|one| one.keyword.eq_ignore_ascii_case(keyword)).map(|one| one.line)
    }

    /// The first `FROM` whose image is named by a variable alone.
    pub(super) fn nameless_base(&self) -> Option<(usize, &str)> {
        let of_variable =
            |one: &&Instruction| one.text.split_whitespace().nth(1).is_some_and(|word| word.starts_with('$'));
        self.instructions
            .iter()
            .filter(|one| one.keyword == "FROM")
            .find(of_variable)
            .map(|one| (one.line, one.text.trim()))
    }

    /// The git repositories that it adds, as far as no variable names them.
    pub(super) fn repositories(&self) -> Vec<AddedRepository<'_>> {
        let adds = self.instructions.iter().filter(|one| one.keyword == "ADD");
        adds.flat_map(|one| {
            let words = one.text.split_whitespace().skip(1).filter(|word| !word.starts_with("--"));
            let added = |word: &str| {
                let (url, rest) = word.split_once('#').map_or((word, None), |(url, rest)| (url, Some(rest)));
                let is_git =
                    url.starts_with("git://") || (url.contains("://") && url.rsplit('.').next() == Some("git"));
                let reference = rest.and_then(|rest| rest.split(':').next()).filter(|name| !name.is_empty());
                let reference = reference.map(str::to_owned);
                (is_git && !word.contains('$')).then(|| AddedRepository {
                    line: one.line,
                    text: one.text.trim(),
                    url: url.to_owned(),
                    reference,
                })
            };
            words.filter_map(added).collect::<Vec<_>>()
        })
        .collect()
    }

    /// What of it has no effect, in lines for the developer.
    pub(super) fn without_effect(&self) -> Vec<String> {
        let runs = self.instructions.iter().filter(|one| one.keyword == "RUN");
        let of_run = |one: &Instruction| {
            let flags = one.text.split_whitespace().skip(1).take_while(|word| word.starts_with("--"));
            let why = flags.filter_map(|flag| match flag {
                "--network=none" | "--network=host" => Some((flag, "a command has the network of builds")),
                _ if flag.starts_with("--mount=type=ssh") => {
                    Some(("--mount=type=ssh", "there is no ssh agent; a key can be a secret"))
                }
                _ => None,
            });
            let line = |(flag, why)| format!("{} line {}: {flag} has no effect: {why}", self.name, one.line);
            why.map(line).collect::<Vec<_>>()
        };
        runs.flat_map(of_run).collect()
    }

    /// Names of the images that it is based on or copies from, each with its line. `given` has the values of build
    /// arguments.
    pub(super) fn images(&self, given: &BTreeMap<String, String>) -> Vec<(String, usize)> {
        let mut arguments = platform();
        let (mut stages, mut images) = (Vec::new(), Vec::<(String, usize)>::new());
        for one in &self.instructions {
            let mut words = one.text.split_whitespace().skip(1).peekable();
            let mut names = Vec::new();
            while let Some(flag) = words.next_if(|word| word.starts_with("--")) {
                names.extend(flag.strip_prefix("--from=").map(str::to_owned));
                let options = flag.strip_prefix("--mount=").into_iter().flat_map(|mount| mount.split(','));
                names.extend(options.filter_map(|option| option.strip_prefix("from=")).map(str::to_owned));
            }
            if one.keyword == "ARG" && one.stage == 0 {
                for word in words {
                    let (name, default) =
                        word.split_once('=').map_or((word, None), |(name, value)| (name, Some(value)));
                    let default = default.map(|value| expanded(value.trim_matches(['"', '\'']), &arguments));
                    if let Some(value) = given.get(name).cloned().or(default) {
                        arguments.insert(name.to_owned(), value);
                    }
                }
            } else if one.keyword == "FROM" {
                names.extend(words.next().map(str::to_owned));
                let alias = words.nth(1).map(str::to_lowercase);
                images.extend(Self::new_images(names, &arguments, &stages, one.line));
                stages.push(alias.unwrap_or_default());
                continue;
            }
            images.extend(Self::new_images(names, &arguments, &stages, one.line));
        }
        images
    }

    fn new_images(
        names: Vec<String>,
        arguments: &BTreeMap<String, String>,
        stages: &[String],
        line: usize,
    ) -> Vec<(String, usize)> {
        let names = names.into_iter().map(|name| expanded(&name, arguments));
        let is_image = |name: &String| {
            let is_stage = stages.contains(&name.to_lowercase()) || name.parse::<usize>().is_ok();
            !name.is_empty() && name != "scratch" && !is_stage
        };
        names.filter(is_image).map(|name| (name, line)).collect()
    }
}

/// Host of the registry of an image's name: the first part, if it looks like a host, otherwise Docker Hub.
pub(super) fn registry_of(image: &str) -> String {
    let first = image.split_once('/').map(|(first, _)| first);
    let host = first.filter(|first| first.contains(['.', ':']) || *first == "localhost");
    match host {
        Some("index.docker.io" | "registry-1.docker.io") | None => "docker.io".to_owned(),
        Some(host) => host.to_lowercase(),
    }
}

/// The build arguments that each Dockerfile has, with their values.
fn platform() -> BTreeMap<String, String> {
    let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    let both = format!("linux/{architecture}");
    let values = [("OS", "linux"), ("ARCH", architecture), ("PLATFORM", &both), ("VARIANT", "")];
    let names = values
        .into_iter()
        .flat_map(|(name, value)| ["TARGET", "BUILD"].map(|kind| (format!("{kind}{name}"), value.to_owned())));
    names.collect()
}

/// The character that continues a line: that of the parser directive `escape`, or a backslash.
fn escape_character(text: &str) -> char {
    for line in text.lines() {
        let Some((name, value)) = line.trim().strip_prefix('#').and_then(|line| line.split_once('=')) else { break };
        if name.trim().eq_ignore_ascii_case("escape") {
            return if value.trim() == "`" { '`' } else { '\\' };
        }
    }
    '\\'
}

/// Whether an instruction, or what it has for images that are based on this one, may have the flag `--link`.
fn takes_link(line: &str) -> bool {
    let mut words = line.split_whitespace().skip_while(|word| word.eq_ignore_ascii_case("ONBUILD"));
    words.next().is_some_and(is_copy)
}

fn is_copy(word: &str) -> bool {
    ["COPY", "ADD"].iter().any(|keyword| word.eq_ignore_ascii_case(keyword))
}

/// The line without `--link` and `--link=true`, if these are flags: before the first word that is none.
fn without_link(line: &str) -> String {
    let mut kept = String::new();
    let mut rest = line;
    let mut may_be_flag = true;
    while !rest.is_empty() {
        let blank = rest.len() - rest.trim_start().len();
        let end = rest[blank..].find(char::is_whitespace).map_or(rest.len(), |at| blank + at);
        let word = &rest[blank..end];
        let is_link = matches!(word, "--link" | "--link=true" | "--link=false");
        if !(may_be_flag && is_link) {
            kept.push_str(&rest[..end]);
        }
        may_be_flag &= word.starts_with("--") || is_copy(word) || word.eq_ignore_ascii_case("ONBUILD");
        rest = &rest[end..];
    }
    kept
}

/// A heredoc that an instruction begins.
struct Heredoc {
    name: String,
    /// Whether tabs at the beginning of lines do not count.
    strips_tabs: bool,
}

fn heredocs(instruction: &str) -> Vec<Heredoc> {
    let found = instruction.split_whitespace().filter_map(|word| {
        let rest = word.trim_start_matches(|c: char| c.is_ascii_digit()).strip_prefix("<<")?;
        let (strips_tabs, rest) = rest.strip_prefix('-').map_or((false, rest), |rest| (true, rest));
        let quoted = ['"', '\''].iter().find_map(|quote| rest.strip_prefix(*quote)?.strip_suffix(*quote));
        let name = quoted.unwrap_or(rest);
        let is_name = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && name.chars().all(|c| c.is_ascii_alphanumeric() || "_-.".contains(c));
        is_name.then(|| Heredoc { name: name.to_owned(), strips_tabs })
    });
    found.collect()
}

/// Longest text that a variable becomes, in bytes: the names of images are shorter, and each variable may name others twice.
const MAX_EXPANDED: usize = 4096;

/// Replaces variables, with the modifiers that Dockerfiles know. What is too long to be the name of an image is cut.
fn expanded(text: &str, variables: &BTreeMap<String, String>) -> String {
    let mut made = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        if made.len() > MAX_EXPANDED {
            made.truncate(made.floor_char_boundary(MAX_EXPANDED));
            return made;
        }
        made.push_str(before);
        let braced = after.strip_prefix('{').and_then(|inner| inner.split_once('}'));
        if let Some((inner, after)) = braced {
            let end = inner.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(inner.len());
            let value = variables.get(&inner[..end]).map(String::as_str).filter(|value| !value.is_empty());
            made.push_str(match inner[end..].split_at_checked(2) {
                Some((":-", default)) => value.unwrap_or(default),
                Some((":+", other)) if value.is_some() => other,
                Some((":+", _)) => "",
                _ => value.unwrap_or_default(),
            });
            rest = after;
        } else {
            let end = after.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(after.len());
            made.push_str(variables.get(&after[..end]).map(String::as_str).unwrap_or_default());
            rest = &after[end..];
        }
    }
    made + rest
}

/// Without anything in which two spellings of an instruction may differ.
fn squeezed(text: &str) -> String {
    text.chars().filter(|c| !c.is_whitespace() && !matches!(c, '\\' | '`')).map(|c| c.to_ascii_lowercase()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_without_effect_are_named() {
        let text =
            "FROM a\nRUN --network=none x --network=none\nRUN --mount=type=cache,target=/c --mount=type=ssh y\nRUN z\n";
        let lines = Dockerfile::parse("D", text).without_effect();
        assert_eq!(lines.len(), 2, "{lines:?}");
        assert!(lines[0].starts_with("D line 2: --network=none has no effect"), "{lines:?}");
        assert!(lines[1].starts_with("D line 3: --mount=type=ssh has no effect"), "{lines:?}");
    }

    #[test]
    fn repositories_that_are_added_are_found() {
        let text =
            "FROM a\nADD --keep-git-dir=true https://h/x.git#v1:sub git://h/y /z\nADD https://h/x.tar $U.git /z\n";
        let dockerfile = Dockerfile::parse("D", text);
        let found: Vec<_> =
            dockerfile.repositories().into_iter().map(|one| (one.line, one.url, one.reference)).collect();
        let expected = [(2, "https://h/x.git".to_owned(), Some("v1".to_owned())), (2, "git://h/y".to_owned(), None)];
        assert_eq!(found, expected);
    }

    #[test]
    fn a_base_that_a_variable_names_is_found() {
        assert_eq!(Dockerfile::parse("D", "FROM a\nARG V\nFROM $V\n").nameless_base(), Some((3, "FROM $V")));
        assert_eq!(Dockerfile::parse("D", "FROM a:$V\n").nameless_base(), None);
    }

    #[test]
    fn steps_have_their_lines() {
        let text = "# syntax=docker/dockerfile:1\nARG A=1\n\nFROM debian:13 AS one\nRUN a \\\n  # why\n\n  b\nRUN <<EOF\n\
                    FROM x\nEOF\nfrom one\nRUN a   b\nCOPY --link --chmod=755 a /b\n";
        let dockerfile = Dockerfile::parse("Dockerfile", text);
        for (stage, number, step, line) in [
            (1, 1, "FROM debian:13 AS one", Some(4)),
            (1, 2, "RUN a   b", Some(5)),
            (1, 3, "RUN <<EOF (FROM x)", Some(9)),
            (2, 1, "FROM 0123", Some(12)),
            (2, 2, "RUN a b", Some(13)),
            // An ONBUILD of the base image comes first.
            (2, 3, "RUN a b", Some(13)),
            (2, 4, "COPY --chmod=755 a /b", Some(14)),
            (2, 2, "RUN of-onbuild", None),
            (3, 1, "RUN a b", None),
        ] {
            assert_eq!(dockerfile.line_of(stage, number, step), line, "{stage} {number} {step}");
        }
        assert_eq!(dockerfile.text(), text.replace(" --link", ""));
        assert_eq!(dockerfile.open_heredoc, None);
        assert_eq!(Dockerfile::parse("x", "FROM a\nRUN cat <<-'E'\n\tE\nRUN <<F\n").open_heredoc, Some(4));
        assert_eq!(
            Dockerfile::parse("x", "FROM a\nRUN (set -e; make check)\n").line_of(1, 2, "RUN (set -e; make check)"),
            Some(2)
        );
    }

    #[test]
    fn only_the_flag_link_is_left_out() {
        for (line, expected) in [
            ("COPY --link a b", "COPY a b"),
            ("  copy  --chown=1 --link=true --link a --link b", "  copy  --chown=1 a --link b"),
            ("ADD --linker a b", "ADD --linker a b"),
            ("ONBUILD COPY --link a b", "ONBUILD COPY a b"),
        ] {
            assert_eq!(without_link(line), expected);
        }
        let heredoc = "FROM a\nRUN <<E\nCOPY --link x y\nE\n";
        assert_eq!(Dockerfile::parse("x", heredoc).text(), heredoc);
        let windows = Dockerfile::parse("x", "# escape=`\r\nFROM a\r\nCOPY --link c:\\x `\r\n  y\r\n");
        assert_eq!(windows.text(), "# escape=`\nFROM a\nCOPY c:\\x `\n  y\n");
    }

    #[test]
    fn images_and_their_registries_are_found() {
        let text = "ARG HOST=r.example:5000\nARG TAG\nFROM --platform=linux/amd64 ${HOST}/base:${TAG:-1} AS Base\n\
                    FROM base\nCOPY --from=0 a b\nCOPY --from=docker.io/x/y a b\n\
                    RUN --mount=type=bind,from=z:2,target=/z true\nFROM ${NONE:+x}scratch\nFROM $HOST/other\n\
                    FROM scratch AS build-amd64\nFROM scratch AS build-arm64\nFROM build-${TARGETARCH}\n";
        let images = Dockerfile::parse("x", text).images(&BTreeMap::from([("TAG".to_owned(), "7".to_owned())]));
        let names: Vec<_> = images.iter().map(|(name, line)| format!("{line} {name}")).collect();
        assert_eq!(names, ["3 r.example:5000/base:7", "6 docker.io/x/y", "7 z:2", "9 r.example:5000/other"]);
        for (image, host) in [
            ("debian:13", "docker.io"),
            ("a/b", "docker.io"),
            ("index.docker.io/a/b", "docker.io"),
            ("R.example/a", "r.example"),
            ("localhost/a", "localhost"),
            ("r:5000/a/b@sha256:0", "r:5000"),
        ] {
            assert_eq!(registry_of(image), host, "{image}");
        }
    }

    #[test]
    fn variables_that_name_each_other_do_not_fill_the_memory() {
        let chain: Vec<_> = (1..40).map(|n| format!("ARG A{n}=$A{0}$A{0}$A{0}$A{0}\n", n - 1)).collect();
        let text = format!("ARG A0=aaaa\n{}FROM $A39\n", chain.concat());
        let images = Dockerfile::parse("x", &text).images(&BTreeMap::new());
        assert!(images.len() == 1 && images[0].0.len() < 20_000, "{}", images[0].0.len());
    }
}
