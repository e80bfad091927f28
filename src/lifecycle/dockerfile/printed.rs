//! What buildah prints: passed on as the lines of a push, and read for the step that fails.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{instructions::Dockerfile, reason};
use crate::{lifecycle::output::Output, model::Line};

/// Longest text of a step in a message, in characters.
const MAX_STEP_CHARS: usize = 100;

/// Longest explanation of a failure, in characters.
const MAX_FAILURE_CHARS: usize = 900;

/// How buildah's last line begins if a step has failed.
const AT_STEP: &str = "building at STEP \"";

/// What begins lines that tell nothing.
const OMITTED: [&str; 9] = [
    "--> ",
    "Successfully tagged ",
    "Getting image source signatures",
    "Copying blob ",
    "Copying config ",
    "Writing manifest to image destination",
    "subprocess exited with status ",
    "process exited with error: ",
    // Each app has variables that its Dockerfile does not name.
    "one or more build args were not consumed",
];

/// Reads and passes on the output of a build.
pub(super) struct Printed<'a> {
    dockerfile: &'a Dockerfile,
    output: &'a Output,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    step: Option<Step>,
    /// buildah's last line, as far as it is known.
    error: String,
    /// A line that begins like it, which may be one of a command.
    pending: Option<String>,
    cached: Vec<String>,
}

/// A step that has begun.
#[derive(Debug, PartialEq, Eq)]
struct Step {
    stage: usize,
    number: usize,
    text: String,
}

impl<'a> Printed<'a> {
    pub(super) fn new(dockerfile: &'a Dockerfile, output: &'a Output) -> Self {
        Self { dockerfile, output, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a line. The announcement of a step may follow what the one before printed without a line ending.
    pub(super) fn show(&self, line: &str) {
        let next = self.state().step.as_ref().and_then(|step| step.announced_after(line));
        match next {
            Some(at) if at > 0 => [&line[..at], &line[at..]].into_iter().for_each(|part| self.show_line(part)),
            _ => self.show_line(line),
        }
    }

    fn show_line(&self, line: &str) {
        if let Some(pending) = self.state().pending.take() {
            self.output.detail(Line::sanitize(&pending));
        }
        if let Some(step) = Step::parse(line) {
            self.output
                .step(Line::sanitize(self.dockerfile.stage_begin(step.stage, step.number).unwrap_or(&step.text)));
            self.state().step = Some(step);
        } else if let Some(image) = line.strip_prefix("--> Using cache ") {
            self.output.detail("Using cache");
            self.state().cached.push(image.trim().to_owned());
        } else if let Some(error) = line.strip_prefix("Error: ") {
            self.error(line, error);
        } else if let Some(image) = line.strip_prefix("Trying to pull ") {
            self.output.detail(Line::sanitize(&format!("Pulling {}", image.trim_end_matches("..."))));
        } else if !is_omitted(line) {
            self.output.detail(Line::sanitize(line));
        }
    }

    /// Takes a line that may be buildah's last one. One that names the step is; another one may be of a command, and is shown
    /// if it is not the last.
    fn error(&self, line: &str, error: &str) {
        let mut state = self.state();
        if error.starts_with(AT_STEP) {
            error.clone_into(&mut state.error);
        } else if !state.error.starts_with(AT_STEP) {
            error.clone_into(&mut state.error);
            state.pending = Some(line.to_owned());
        } else {
            self.output.detail(Line::sanitize(line));
        }
    }

    /// Shows what is left when the build has succeeded.
    pub(super) fn end(&self) {
        if let Some(pending) = self.state().pending.take() {
            self.output.detail(Line::sanitize(&pending));
        }
    }

    /// Ids of the images that were taken from the cache.
    pub(super) fn cached(&self) -> Vec<String> {
        std::mem::take(&mut self.state().cached)
    }

    /// Why buildah failed, in one line.
    pub(super) fn failure(&self, status: i32) -> String {
        Line::beginning(&self.explained(status), MAX_FAILURE_CHARS)
    }

    fn explained(&self, status: i32) -> String {
        let state = self.state();
        let name = &self.dockerfile.name;
        let Failed { in_step, reason } = Failed::read(&state.error, status);
        if let (Some(line), true) = (self.dockerfile.open_heredoc, reason.contains("heredoc")) {
            return format!("{name} line {line}: the end of the heredoc that begins here is missing");
        }
        let Some(step) = state.step.as_ref() else {
            let nameless = self.dockerfile.nameless_base().filter(|_| reason.contains("no FROM statement found"));
            return match nameless {
                Some((line, text)) => format!(
                    "{name} line {line}, {text}: the variable is empty: give it a value in an ARG before the first FROM"
                ),
                None => format!("{name}: {}", reason::of_file(&reason)),
            };
        };
        if !in_step && !step.text.to_ascii_uppercase().starts_with("FROM ") && !reason::is_of_step(&reason) {
            return format!("{name}: {reason}");
        }
        let keyword = step.text.split_whitespace().next().unwrap_or_default();
        let line = self.dockerfile.line_of(step.stage, step.number, &step.text);
        let unknown = reason.contains("nknown instruction").then(|| self.dockerfile.line_of_keyword(keyword));
        let line = line.or(unknown.flatten()).map(|line| format!(" line {line}")).unwrap_or_default();
        format!("{name}{line}, {}: {}", shortened(&step.text), reason::of_step(&step.text, &reason))
    }
}

/// The parts of buildah's last line.
struct Failed {
    /// Whether it names the step.
    in_step: bool,
    reason: String,
}

impl Failed {
    fn read(error: &str, status: i32) -> Self {
        if error.is_empty() {
            return Self { in_step: true, reason: format!("buildah ended with exit status {status}") };
        }
        let Some(rest) = error.strip_prefix(AT_STEP) else {
            return Self { in_step: false, reason: error.to_owned() };
        };
        let reason = match rest.rsplit_once(": exit status ") {
            Some((_, status)) if status.bytes().all(|byte| byte.is_ascii_digit()) => format!("exit status {status}"),
            _ => rest.split_once("\": ").map_or(rest, |(_, reason)| reason).to_owned(),
        };
        Self { in_step: true, reason }
    }
}

impl Step {
    /// Where the announcement of the step after this one begins in a line.
    fn announced_after(&self, line: &str) -> Option<usize> {
        let at = line.find(&format!("STEP {}/", self.number + 1))?;
        let stage = format!("[{}/", self.stage);
        let begin = line[..at].rfind(&stage).filter(|begin| line[*begin..at].ends_with("] ")).unwrap_or(at);
        Self::parse(&line[begin..]).is_some().then_some(begin)
    }

    /// Reads `STEP 2/5: RUN x`, or `[1/2] STEP 2/5: RUN x`.
    fn parse(line: &str) -> Option<Self> {
        let (stage, rest) = match line.strip_prefix('[') {
            Some(rest) => {
                let (stages, rest) = rest.split_once("] ")?;
                (stages.split_once('/')?.0.parse().ok()?, rest)
            }
            None => (1, line),
        };
        let (numbers, text) = rest.strip_prefix("STEP ")?.split_once(": ")?;
        let number = numbers.split_once('/')?.0.parse().ok()?;
        Some(Self { stage, number, text: text.trim().to_owned() })
    }
}

/// The message in a line of buildah's or skopeo's log, or in their last line.
pub(super) fn error_of(line: &str) -> String {
    let line = line.strip_prefix("Error: ").unwrap_or(line);
    match line.split_once(" msg=").filter(|_| line.starts_with("time=")) {
        Some((_, message)) => serde_json::from_str(message).unwrap_or_else(|_| message.to_owned()),
        None => line.to_owned(),
    }
}

fn is_omitted(line: &str) -> bool {
    // Of one of several stages.
    let line = line.strip_prefix('[').and_then(|rest| rest.split_once("] ")).map_or(line, |(_, rest)| rest);
    let is_id = line.len() == 64 && line.bytes().all(|byte| byte.is_ascii_hexdigit());
    let of_log = |begin| line.starts_with("time=") && line.contains(&format!("msg=\"{begin}"));
    let is_search = line.starts_with("Resolving \"") && line.contains("\" using unqualified-search registries (");
    line.trim().is_empty()
        || line == "COMMIT"
        || is_id
        || is_search
        || of_log("Failed, retrying in ")
        // The parser's view of an instruction that it does not know.
        || of_log("+(UNHANDLED LOGLEVEL)")
        // It names an option of buildah; an unset argument is empty, as everywhere.
        || of_log("missing \\\"")
        || OMITTED.iter().any(|begin| line.starts_with(begin))
}

fn shortened(text: &str) -> String {
    if text.chars().count() <= MAX_STEP_CHARS {
        return text.to_owned();
    }
    text.chars().take(MAX_STEP_CHARS).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(dockerfile: &str, lines: &[&str]) -> String {
        let dockerfile = Dockerfile::parse("Dockerfile", dockerfile);
        let output = Output::new(std::io::sink());
        let printed = Printed::new(&dockerfile, &output);
        for line in lines {
            printed.show(line);
        }
        printed.failure(1)
    }

    #[test]
    fn a_failing_step_names_its_line_and_the_reason() {
        let text = "FROM a AS one\n\nRUN x\nFROM one\nCOPY gone /y\nRUN a && exit 3\n";
        for (lines, expected) in [
            (
                ["[2/2] STEP 3/3: RUN a && exit 3", "Error: building at STEP \"RUN a && exit 3\": exit status 3"],
                "Dockerfile line 6, RUN a && exit 3: the command ended with exit status 3",
            ),
            (
                [
                    "[2/2] STEP 2/3: COPY gone /y",
                    "Error: building at STEP \"COPY gone /y\": checking on sources under \"/workspace\": copier: stat: \"/gone\": no such file or directory",
                ],
                "Dockerfile line 5, COPY gone /y: gone does not exist in the app, or .dockerignore leaves it out",
            ),
            (
                [
                    "[1/2] STEP 1/2: FROM a AS one",
                    "Error: creating build container: initializing source docker://a:latest: reading manifest latest in docker.io/library/a: requested access to the resource is denied",
                ],
                "Dockerfile line 1, FROM a AS one: its registry does not give it out: correct the name, or log in (registry:login)",
            ),
            (
                ["", "Error: no FROM statement found"],
                "Dockerfile: it has no FROM: begin it with a base image, such as FROM debian:13",
            ),
            (
                [
                    "STEP 2/2: NONSENSE x",
                    "Error: building at STEP \"NONSENSE \": Build error: Unknown instruction: \"NONSENSE\" &imagebuilder.Step{}",
                ],
                "Dockerfile, NONSENSE x: there is no such instruction",
            ),
            (
                [
                    "[1/2] STEP 2/2: RUN x",
                    "Error: type=bind,from=y,target=/z from=y: no stage or image found with that name",
                ],
                "Dockerfile line 3, RUN x: there is no such stage, and no registry has an image of that name",
            ),
        ] {
            assert_eq!(failure(text, &lines), expected);
        }
        let unknown = failure(
            "FROM a\nNONSENSE x\n",
            &[
                "STEP 2/2: NONSENSE x",
                "Error: building at STEP \"NONSENSE \": Build error: Unknown instruction: \"NONSENSE\" &x{}",
            ],
        );
        assert_eq!(unknown, "Dockerfile line 2, NONSENSE x: there is no such instruction");
        let onbuild = failure("FROM a\n", &["STEP 2/2: RUN y", "Error: building at STEP \"RUN y\": exit status 7"]);
        assert_eq!(onbuild, "Dockerfile, RUN y: the command ended with exit status 7");
    }

    #[test]
    fn a_line_of_a_command_is_not_taken_for_the_reason() {
        let lines = [
            "STEP 2/2: RUN x",
            "Error: Cannot find module y",
            "Error: building at STEP \"RUN x\": exit status 1",
            "Error: late",
        ];
        assert_eq!(
            failure("FROM a\nRUN x\n", &lines),
            "Dockerfile line 2, RUN x: the command ended with exit status 1"
        );
        let quoted = "FROM a\nRUN sh -c 'cat <<EOF'\n";
        let lines = ["STEP 2/2: RUN sh -c 'cat <<EOF'", "Error: building at STEP \"RUN sh\": exit status 2"];
        assert!(failure(quoted, &lines).ends_with("the command ended with exit status 2"));
    }

    #[test]
    fn a_step_is_announced_after_output_without_a_line_ending() {
        let lines = [
            "STEP 2/3: RUN printf abc",
            "abcSTEP 3/3: RUN false",
            "Error: building at STEP \"RUN false\": exit status 1",
        ];
        let text = "FROM a\nRUN printf abc\nRUN false\n";
        assert_eq!(failure(text, &lines), "Dockerfile line 3, RUN false: the command ended with exit status 1");
        let step = Step { stage: 1, number: 2, text: String::new() };
        assert_eq!(step.announced_after("abc[1/2] STEP 3/3: RUN false"), Some(3));
        assert_eq!(step.announced_after("STEP 3/ or so"), None);
    }

    #[test]
    fn what_tells_nothing_is_left_out() {
        assert!(is_omitted("time=\"x\" level=error msg=\"+(UNHANDLED LOGLEVEL) &imagebuilder.Step{}\""));
        assert!(is_omitted("[Warning] one or more build args were not consumed: [A]"));
        assert!(is_omitted(
            "time=\"x\" level=warning msg=\"missing \\\"V\\\" build argument. Try adding \\\"--build-arg V=<VALUE>\\\"\""
        ));
        assert!(is_omitted("Resolving \"a/b\" using unqualified-search registries (/tmp/registries.conf)"));
        assert!(!is_omitted("Resolving deltas: 100%") && !is_omitted("time=\"x\" level=warning msg=\"y\""));
    }

    #[test]
    fn log_lines_become_messages() {
        assert_eq!(error_of("time=\"x\" level=fatal msg=\"a \\\"b\\\"\""), "a \"b\"");
        assert_eq!(error_of("Error: x"), "x");
    }
}
