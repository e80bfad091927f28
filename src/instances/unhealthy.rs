//! Why a health check failed, in words for the user: what was sent, and what came.

use std::{fmt, time::Duration};

/// Why an attempt failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unhealthy {
    /// Nothing listens at this port.
    Refused {
        /// Port of the instance.
        port: u16,
    },
    /// The instance listens, but does not accept connections.
    NotAccepted,
    /// No connection within this time.
    NoConnection(Duration),
    /// The connection failed.
    Broken(String),
    /// A request did not get the response that it needs.
    Http {
        /// What was sent.
        request: SentRequest,
        /// What came.
        fault: HttpFault,
    },
    /// A command did not exit with status 0.
    Command {
        /// The command.
        command: String,
        /// What it did.
        fault: CommandFault,
    },
    /// The instance runs for less than this time.
    Uptime(Duration),
}

/// The request of an HTTP check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SentRequest {
    /// Path, and query if there is one.
    pub path: String,
    /// Host and port that it asked for.
    pub host: String,
    /// Port of the instance.
    pub port: u16,
    /// Whether the app declares the host.
    pub declared_host: bool,
}

/// What is wrong with a response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HttpFault {
    /// None came within this time.
    TimedOut(Duration),
    /// It had this status.
    Status {
        /// Status.
        status: u16,
        /// Beginning of the body.
        body: String,
    },
    /// Its body lacks the text.
    Content {
        /// Status.
        status: u16,
        /// The text.
        content: String,
        /// Beginning of the body.
        body: String,
    },
    /// It was no valid HTTP, or the connection broke.
    Invalid(String),
}

/// What a command did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommandFault {
    /// It exited with this status.
    Status {
        /// Exit status.
        status: i64,
        /// The last line that it printed.
        last_line: Option<String>,
    },
    /// It ran for longer than this, and was killed.
    TimedOut {
        /// Longest duration.
        limit: Duration,
        /// The last line that it printed.
        last_line: Option<String>,
    },
    /// The engine did not run it.
    NotRun(String),
}

/// `: text`, if there is text.
fn colon(text: Option<&str>) -> String {
    text.filter(|text| !text.is_empty()).map(|text| format!(": {text}")).unwrap_or_default()
}

impl fmt::Display for Unhealthy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused { port } => write!(f, "nothing accepts connections on port {port}"),
            Self::NotAccepted => f.write_str("it listens but accepts no connections, as if it were still starting"),
            Self::NoConnection(limit) => write!(f, "no connection within {} s", limit.as_secs_f32()),
            Self::Broken(why) => write!(f, "the connection failed: {why}"),
            Self::Http { request, fault } => write!(f, "{request} {fault}"),
            Self::Command { command, fault } => write!(f, "the command {command} {fault}"),
            Self::Uptime(uptime) => write!(f, "it runs for less than {} s", uptime.as_secs_f32()),
        }
    }
}

impl fmt::Display for SentRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GET {} on port {} with Host {}", self.path, self.port, self.host)
    }
}

impl fmt::Display for HttpFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TimedOut(limit) => write!(f, "got no response within {} s", limit.as_secs_f32()),
            Self::Status { status, body } => write!(f, "got status {status}{}", colon(Some(body))),
            Self::Content { status, content, body } => {
                write!(f, "got status {status} without the content {content:?}")?;
                if body.is_empty() { f.write_str(": the body is empty") } else { write!(f, ": it begins with {body}") }
            }
            Self::Invalid(why) => write!(f, "got no valid response: {why}"),
        }
    }
}

impl fmt::Display for CommandFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status { status, last_line } => {
                write!(f, "exited with status {status}{}", colon(last_line.as_deref()))
            }
            Self::TimedOut { limit, last_line } => {
                write!(f, "ran for more than {} s{}", limit.as_secs_f32(), colon(last_line.as_deref()))
            }
            Self::NotRun(why) => write!(f, "was not run: {why}"),
        }
    }
}

impl Unhealthy {
    /// The status of the response, if the app answers so whatever it is asked for and however often: a wrong path or a
    /// host that it does not serve.
    pub(super) fn final_status(&self) -> Option<u16> {
        match self {
            Self::Http { fault: HttpFault::Status { status: status @ (400 | 404), .. }, .. } => Some(*status),
            Self::Http { .. }
            | Self::Refused { .. }
            | Self::NotAccepted
            | Self::NoConnection(_)
            | Self::Broken(_)
            | Self::Command { .. }
            | Self::Uptime(_) => None,
        }
    }

    /// Whether the instance has responded, so that it listens where it should.
    pub(super) fn responded(&self) -> bool {
        match self {
            Self::Http { fault: HttpFault::Status { .. } | HttpFault::Content { .. }, .. } => true,
            Self::Http { fault: HttpFault::TimedOut(_) | HttpFault::Invalid(_), .. }
            | Self::Refused { .. }
            | Self::NotAccepted
            | Self::NoConnection(_)
            | Self::Broken(_)
            | Self::Command { .. }
            | Self::Uptime(_) => false,
        }
    }

    /// What to do about a failed request or command.
    pub(super) fn hint(&self) -> Option<String> {
        match self {
            Self::Http { request, fault: HttpFault::Status { status, body } } => {
                Some(request.hint(*status, body.to_ascii_lowercase().contains("blocked host")))
            }
            Self::Http { fault: HttpFault::Content { .. }, .. } => {
                Some("the body must contain it: change the app, or content in app.json".to_owned())
            }
            Self::Http { .. } | Self::Command { fault: CommandFault::NotRun(_), .. } => None,
            Self::Command { fault: CommandFault::Status { status: 126 | 127, .. }, .. } => {
                Some("is the program in the image?".to_owned())
            }
            Self::Command { .. } => Some("the command must exit with status 0".to_owned()),
            Self::Refused { .. } | Self::NotAccepted | Self::NoConnection(_) | Self::Broken(_) | Self::Uptime(_) => {
                None
            }
        }
    }
}

impl SentRequest {
    fn hint(&self, status: u16, blocked: bool) -> String {
        let Self { path, host, .. } = self;
        let name = host.rsplit_once(':').map_or(host.as_str(), |(name, _)| name);
        let refuses_host = status == 400 || (status == 403 && blocked);
        if !refuses_host {
            return format!("GET {path} must return a status from 200 to 399; or change the path in app.json");
        }
        let setting = if blocked { "Rails: config.hosts" } else { "Django: ALLOWED_HOSTS, Rails: config.hosts" };
        let send = if self.declared_host {
            "change the header Host of the check"
        } else {
            "have the check send a host that it serves (httpHeaders in app.json: name Host)"
        };
        format!("if the app serves only some hosts ({setting}), add {name} to them, or {send}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn http(status: u16, body: &str, declared_host: bool) -> Unhealthy {
        let request = SentRequest { path: "/up".into(), host: "paas.example:10001".into(), port: 8080, declared_host };
        Unhealthy::Http { request, fault: HttpFault::Status { status, body: body.into() } }
    }

    #[test]
    fn the_reason_says_what_was_sent_and_what_came() {
        let unhealthy = http(400, "<h1>Bad Request (400)</h1>", false);
        assert_eq!(
            unhealthy.to_string(),
            "GET /up on port 8080 with Host paas.example:10001 got status 400: <h1>Bad Request (400)</h1>"
        );
        let failed = CommandFault::Status { status: 1, last_line: Some("no database".into()) };
        let command = Unhealthy::Command { command: "bin/ready --now".into(), fault: failed };
        assert_eq!(command.to_string(), "the command bin/ready --now exited with status 1: no database");
    }

    #[test]
    fn the_hint_names_the_settings_that_refuse_hosts() {
        assert_eq!(
            http(400, "", false).hint().unwrap(),
            "if the app serves only some hosts (Django: ALLOWED_HOSTS, Rails: config.hosts), add paas.example to them, or have \
             the check send a host that it serves (httpHeaders in app.json: name Host)"
        );
        let rails = http(403, "Blocked hosts: paas.example", true).hint().unwrap();
        assert!(
            rails.contains("(Rails: config.hosts)") && rails.ends_with("change the header Host of the check"),
            "{rails}"
        );
        let other = "GET /up must return a status from 200 to 399; or change the path in app.json";
        assert_eq!(http(403, "no", false).hint().unwrap(), other);
        assert_eq!(http(404, "no", false).hint().unwrap(), other);
    }

    #[test]
    fn the_hint_about_a_command_depends_on_what_it_did() {
        let hint = |fault| Unhealthy::Command { command: "bin/ready".into(), fault }.hint();
        assert_eq!(
            hint(CommandFault::Status { status: 127, last_line: None }).unwrap(),
            "is the program in the image?"
        );
        assert_eq!(
            hint(CommandFault::Status { status: 1, last_line: None }).unwrap(),
            "the command must exit with status 0"
        );
        assert_eq!(hint(CommandFault::NotRun("Docker does not respond".into())), None);
    }

    #[test]
    fn only_a_status_that_will_not_change_is_final() {
        assert_eq!(http(404, "", false).final_status(), Some(404));
        assert_eq!(http(503, "", false).final_status(), None);
        assert_eq!(Unhealthy::NotAccepted.final_status(), None);
    }
}
