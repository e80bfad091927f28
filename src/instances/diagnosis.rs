//! Why an instance ended or is not healthy, in words for the user.

use std::sync::LazyLock;

use super::{listening::Listening, unhealthy::Unhealthy};
use crate::{
    engine::{Container, label},
    lifecycle::FailureRules,
    model::{AppName, CONTAINER_PORT, Probe},
    store::PortMapping,
    workload::{OutOfMemory, Overuse},
};

/// What the last lines of a process tell.
static START_FAILURES: LazyLock<FailureRules> = LazyLock::new(|| {
    #[expect(clippy::expect_used, reason = "a test parses them")]
    FailureRules::parse(include_str!("start_failures.toml")).expect("the rules are valid")
});

/// Why an instance failed, and how to fix it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Diagnosis {
    /// What is wrong with the instance: `it exited with status 3`.
    pub(super) reason: String,
    /// What to do.
    pub(super) hint: Option<String>,
    /// The status other than 0 with which it exited, while that is all that is known.
    unexplained_status: Option<i64>,
}

impl<T: Into<String>> From<T> for Diagnosis {
    fn from(reason: T) -> Self {
        Self { reason: reason.into(), hint: None, unexplained_status: None }
    }
}

impl Diagnosis {
    /// It has written more than it may.
    pub(super) fn overused(overuse: &Overuse) -> Self {
        Self::with_hint(overuse.reason(), overuse.hint())
    }

    fn with_hint(reason: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..Self::from(reason) }
    }

    /// The engine refused to start the container. As a rule the image lacks the process.
    pub(super) fn cannot_start(error: &str) -> Self {
        let hint = "check the command of this process type in the Procfile";
        Self::with_hint(format!("it cannot be started: {error}"), hint)
    }

    /// The container ended.
    pub(super) fn exited(container: &Container) -> Self {
        let part = container.label(label::PROCESS).map(|name| format!("--process-type {name}"));
        let OutOfMemory { limit, remedy } = OutOfMemory::of(container, part.as_deref());
        let less = format!("use less memory, or have more: {remedy}");
        match container.exit_code {
            Some(137) | None if container.oom_killed => Self::with_hint(format!("it ran out of memory{limit}"), less),
            Some(137 | 255) if container.ended_in_outage && !container.oom_killed => {
                "it ended while Docker, this server or the machine was stopped".into()
            }
            // The engine says only that some process was killed.
            Some(code) if container.oom_killed => Self::with_hint(
                format!("it exited with status {code}, after one of its processes was killed: out of memory{limit}"),
                less,
            ),
            Some(0) => Self::with_hint(
                "it exited with status 0",
                "a process must keep running: do not let it fork into the background",
            ),
            Some(137) => "it was killed (SIGKILL)".into(),
            Some(code) => {
                let guess =
                    "its command was not found or cannot be executed: check the Procfile, or the CMD of the Dockerfile";
                let hint = matches!(code, 126..=127).then(|| guess.to_owned());
                Self { reason: format!("it exited with status {code}"), hint, unexplained_status: Some(code) }
            }
            None => "it ended".into(),
        }
    }

    /// Adds what the launcher printed about the process, if it did.
    pub(super) fn with_launcher_message(mut self, log: &[String]) -> Self {
        const PREFIX: &str = " !     ";
        let of_launcher = |message: &&str| message.starts_with("cannot start ") || message.contains("(CRLF)");
        if let Some(message) = log.iter().filter_map(|line| line.strip_prefix(PREFIX)).find(of_launcher) {
            let what = message.split_once(": ").filter(|(what, _)| what.starts_with("cannot start"));
            let message = what.map_or(message, |(_, why)| why);
            self.reason = format!("{}: {message}", self.reason);
            self.unexplained_status = None;
        }
        self
    }

    /// Adds the cause that the last lines of a process of this app name, if nothing else is known of it and they do.
    pub(super) fn with_cause_in_log(self, app: &AppName, log: &[String]) -> Self {
        let Some(status) = self.unexplained_status.map(|status| status.to_string()) else { return self };
        let Some(cause) = START_FAILURES.explain(log, &[("app", app.as_str()), ("status", &status)]) else {
            return self;
        };
        let (cause, remedy) = cause.split_once(": ").unwrap_or((&cause, ""));
        Self::with_hint(format!("{}: {cause}", self.reason), remedy)
    }

    /// What a health check found.
    pub(super) fn of_check(unhealthy: &Unhealthy) -> Self {
        Self { hint: unhealthy.hint(), ..Self::from(unhealthy.to_string()) }
    }

    /// The health check found the instance unhealthy on `port`. Where it listens tells more than the failed check.
    pub(super) fn unhealthy(unhealthy: &Unhealthy, listening: Listening, port: u16, probe: &Probe) -> Self {
        let hint = "make it listen on 0.0.0.0 and on the port that the variable PORT holds";
        match (listening, probe) {
            (Listening::Reachable, Probe::Tcp | Probe::Http(_)) | (_, Probe::Command(_) | Probe::Uptime(_)) => {
                Self::of_check(unhealthy)
            }
            (Listening::OnLocalhost, _) => {
                Self::with_hint(format!("it listens on port {port} of localhost only"), "make it listen on 0.0.0.0")
            }
            (Listening::OnIpv6Only, _) => Self::with_hint(
                format!("it listens on port {port} of IPv6 only, and requests arrive by IPv4"),
                "make it listen on 0.0.0.0, or on :: without the option IPV6_V6ONLY",
            ),
            (Listening::Elsewhere(other), _) => {
                Self::with_hint(format!("it listens on port {}, not on $PORT ({port})", other.port), hint)
            }
            (Listening::Nowhere, _) => Self::with_hint(format!("it does not listen on $PORT ({port})"), hint),
        }
    }

    /// A check of this port failed, which is not that of `$PORT`.
    pub(super) fn of_other_port(unhealthy: &Unhealthy, port: u16, port_var: u16) -> Self {
        match unhealthy {
            Unhealthy::Refused { .. } => Self::with_hint(
                format!(
                    "nothing accepts connections on port {port}, which the check in app.json names; $PORT is {port_var}"
                ),
                "leave port out of the check to use $PORT, or make the app listen there on 0.0.0.0",
            ),
            Unhealthy::NotAccepted
            | Unhealthy::NoConnection(_)
            | Unhealthy::Broken(_)
            | Unhealthy::Http { .. }
            | Unhealthy::Command { .. }
            | Unhealthy::Uptime(_) => Self::of_check(unhealthy),
        }
    }

    /// Adds to the hint that the app's port mapping can name the port on which the instance listens.
    pub(super) fn or_map_port(mut self, app: &AppName, mappings: &[PortMapping], listening: Listening) -> Self {
        if let (Listening::Elsewhere(other), [PortMapping { scheme, host_port, .. }]) = (listening, mappings)
            && !other.loopback
            // In a mapping, this port stands for the one on which the instance is to listen.
            && other.port != CONTAINER_PORT
        {
            let mapping = format!("{}:{host_port}:{}", scheme.as_str(), other.port);
            self.hint = self.hint.map(|hint| format!("{hint}, or declare its port: ports:set {app} {mapping}"));
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::{
        engine::{ContainerId, ContainerState, ListeningSocket},
        store::PortScheme,
    };

    #[test]
    fn the_reason_contains_what_the_launcher_printed() {
        let reason = |log: &[&str]| {
            let log: Vec<_> = log.iter().map(|line| (*line).to_owned()).collect();
            Diagnosis::from("it exited with status 82").with_launcher_message(&log).reason
        };
        let with_reason = "it exited with status 82: /a.sh has Windows line ends (CRLF)";
        assert_eq!(reason(&["x", " !     cannot start web: /a.sh has Windows line ends (CRLF)"]), with_reason);
        assert_eq!(reason(&[" !     /a.sh has Windows line ends (CRLF)"]), with_reason);
        assert_eq!(reason(&["x", " !     my own"]), "it exited with status 82");
    }

    fn exited_container(code: i64, oom_killed: bool) -> Container {
        Container {
            id: ContainerId("c".to_owned()),
            name: "c".to_owned(),
            labels: HashMap::new(),
            state: ContainerState::Exited,
            address: None,
            started_at: None,
            finished_at: None,
            ended_in_outage: false,
            exit_code: Some(code),
            oom_killed,
            memory_mib: None,
            pid: None,
            stop_grace: None,
            has_own_resolver: true,
            group_parent: None,
        }
    }

    #[test]
    fn the_cause_that_the_log_names_replaces_a_guess() {
        let missing =
            "uwsgi: error while loading shared libraries: libpython3.13.so.1.0: cannot open shared object file";
        let log = ["x".to_owned(), missing.to_owned()];
        let app = "shop".parse().unwrap();
        let exited = |code: i64, oom_killed: bool| Diagnosis::exited(&exited_container(code, oom_killed));
        for code in [1, 127] {
            let diagnosis = exited(code, false).with_cause_in_log(&app, &log);
            let reason = format!("it exited with status {code}: the library libpython3.13.so.1.0 is not in the image");
            assert_eq!(diagnosis.reason, reason);
            assert!(diagnosis.hint.unwrap().starts_with("add the Debian package"));
        }
        let known = [" !     cannot start web: known".to_owned()];
        let of_launcher = exited(1, false).with_launcher_message(&known);
        assert_eq!(of_launcher.reason, "it exited with status 1: known");
        for known in [exited(0, false), exited(137, true), exited(1, true), exited(137, false), of_launcher] {
            assert_eq!(known.clone().with_cause_in_log(&app, &log), known);
        }
        let other = exited(127, false);
        assert!(other.hint.as_ref().unwrap().contains("check the Procfile"));
        assert_eq!(other.clone().with_cause_in_log(&app, &["x".to_owned()]), other);
    }

    #[test]
    fn a_single_mapping_may_name_the_port_instead() {
        let mapping = |host_port| PortMapping { scheme: PortScheme::Http, host_port, container_port: CONTAINER_PORT };
        let app = "blog".parse().unwrap();
        let hint = |port, loopback, mappings: &[PortMapping]| {
            let listening = Listening::Elsewhere(ListeningSocket { port, loopback, waiting: 0, ipv6: false });
            let diagnosis = Diagnosis::unhealthy(&Unhealthy::Refused { port: 8080 }, listening, 8080, &Probe::Tcp);
            assert_eq!(diagnosis.reason, format!("it listens on port {port}, not on $PORT (8080)"));
            diagnosis.or_map_port(&app, mappings, listening).hint.unwrap()
        };
        let listen = "make it listen on 0.0.0.0 and on the port that the variable PORT holds";
        let or_map = format!("{listen}, or declare its port: ports:set blog http:10001:3000");
        assert_eq!(hint(3000, false, &[mapping(10_001)]), or_map);
        assert_eq!(hint(3000, true, &[mapping(10_001)]), listen, "nothing reaches a port of localhost");
        assert_eq!(hint(3000, false, &[]), listen);
        assert_eq!(hint(3000, false, &[mapping(10_001), mapping(10_002)]), listen, "it is unclear which one to change");
    }
}
