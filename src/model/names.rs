//! Names that users choose, each with its rule.

use std::{fmt, str::FromStr};

use super::line::is_unsafe;

/// A name that breaks its rule; prints as one line with the rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{value:?} is not a valid {what}: {rule}")]
pub struct InvalidName {
    /// Kind of the name, such as "app name".
    pub what: &'static str,
    /// Invalid name, shortened.
    pub value: String,
    /// Rule that the name breaks.
    pub rule: &'static str,
}

macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $what:literal, $rule:literal, $schema:tt, $valid:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $type(String);

        impl $type {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $type {
            type Err = InvalidName;

            fn from_str(text: &str) -> Result<Self, InvalidName> {
                let valid: fn(&str) -> bool = $valid;
                if valid(text) {
                    return Ok(Self(text.to_owned()));
                }
                Err(InvalidName { what: $what, value: text.chars().take(80).collect(), rule: $rule })
            }
        }

        impl TryFrom<String> for $type {
            type Error = InvalidName;

            fn try_from(text: String) -> Result<Self, InvalidName> {
                text.parse()
            }
        }

        impl From<$type> for String {
            fn from(name: $type) -> Self {
                name.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        #[cfg(feature = "server")]
        impl schemars::JsonSchema for $type {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($type).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                let mut schema = schemars::json_schema!({ "type": "string", "title": $what, "description": $rule });
                let (keyword, value) = $schema;
                schema.insert(keyword.to_owned(), value.into());
                schema
            }
        }

        impl AsRef<str> for $type {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }
    };
}

fn length(text: &str, max: usize) -> bool {
    (1..=max).contains(&text.len())
}

/// What a container needs as its image has it.
const NOT_MOUNTED_OVER: [&str; 25] = [
    "/bin",
    "/boot",
    "/cnb",
    "/dev",
    "/etc",
    "/etc/group",
    "/etc/hostname",
    "/etc/hosts",
    "/etc/passwd",
    "/etc/resolv.conf",
    "/etc/ssl",
    "/layers",
    "/lib",
    "/lib32",
    "/lib64",
    "/proc",
    "/run",
    "/sbin",
    "/sys",
    "/usr",
    "/usr/bin",
    "/usr/lib",
    "/usr/sbin",
    "/var",
    "/workspace",
];

/// The specification allows lowercase alone, but buildpacks have types such as `ApplicationInsights`.
fn is_binding_word(text: &str) -> bool {
    length(text, 253) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
}

/// Whether this is a plain absolute path below the root, without a colon, which separates paths.
fn is_absolute_path(text: &str) -> bool {
    length(text, 400)
        && !text.contains(':')
        && !text.chars().any(char::is_control)
        && text.strip_prefix('/').is_some_and(|path| path.split('/').all(|part| !matches!(part, "" | "." | "..")))
}

fn user_or_key(text: &str) -> bool {
    length(text, 64)
        && starts_with(text, u8::is_ascii_alphanumeric)
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b".-_@+".contains(&b))
}

/// What the full names of branches begin with.
pub(super) const BRANCHES: &str = "refs/heads/";

/// Refs that no push may store: our own, those that would change what git reads for everybody, and those of one working
/// tree (gitrepository-layout(5)).
const NOT_STORED: [&str; 5] = ["paas", "replace", "bisect", "worktree", "rewritten"];

/// The rules of git-check-ref-format(1) for what may follow `refs/`; control characters are refused, too.
fn is_ref_path(text: &str) -> bool {
    !text.contains("..")
        && !text.contains("@{")
        && text.bytes().all(|b| b > b' ' && !b"~^:?*[\\".contains(&b))
        && !text.chars().any(is_unsafe)
        && text.split('/').all(|part| {
            !part.is_empty()
                && !part.starts_with('.')
                && !part.ends_with('.')
                && !part.to_ascii_lowercase().ends_with(".lock")
        })
}

fn starts_with(text: &str, first: fn(&u8) -> bool) -> bool {
    text.as_bytes().first().is_some_and(first)
}

name!(
    /// The name of an app: a label of a host name (RFC 1123, section 2.1), in lowercase, such as an internationalized one
    /// in its ASCII form (`xn--…`). It is also used as a folder and in image names.
    AppName,
    "app name",
    "use 1 to 63 lowercase letters, digits and hyphens, beginning and ending with a letter or digit",
    ("pattern", r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"),
    |t| length(t, 63)
        && !t.starts_with('-')
        && !t.ends_with('-')
        && t.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
);
name!(
    /// The name of a stack.
    StackName,
    "stack name",
    "use 1 to 30 lowercase letters, digits, dots and hyphens, beginning with a letter",
    ("pattern", r"^[a-z][a-z0-9.-]{0,29}$"),
    |t| length(t, 30)
        && starts_with(t, u8::is_ascii_lowercase)
        && t.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.')
);
name!(
    /// A process type, such as `web` or `worker`.
    ProcessType,
    "process type",
    "use 1 to 63 letters, digits, dots, hyphens and underscores, beginning with a letter or digit",
    ("pattern", r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$"),
    |t| length(t, 63)
        && starts_with(t, u8::is_ascii_alphanumeric)
        && t.bytes().all(|b| b.is_ascii_alphanumeric() || b".-_".contains(&b))
);
name!(
    /// Whose lines of an app's log are meant: a process type, an instance such as `web.1`, or what events are about, such as
    /// `release`.
    LogSource,
    "process type or instance",
    "use a process type such as web, or an instance such as web.1",
    ("pattern", r"^[A-Za-z0-9][A-Za-z0-9._-]{0,79}$"),
    |t| length(t, 80)
        && starts_with(t, u8::is_ascii_alphanumeric)
        && t.bytes().all(|b| b.is_ascii_alphanumeric() || b".-_".contains(&b))
);
name!(
    /// A folder of a repository, such as `services/api`.
    SourceFolder,
    "folder of a repository",
    "use a relative path such as services/api, without . and .. in it",
    ("format", "source-folder"),
    |t| length(t, 400)
        && !t.starts_with('-')
        && !t.chars().any(is_unsafe)
        && t.split('/').all(|part| !matches!(part, "" | "." | ".."))
);
name!(
    /// A stage of a Dockerfile: its name, or its number, counted from 0.
    StageName,
    "stage of a Dockerfile",
    "use its name or number: 1 to 128 letters, digits, dots, hyphens and underscores, beginning with a letter or digit",
    ("pattern", r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$"),
    |t| length(t, 128)
        && starts_with(t, u8::is_ascii_alphanumeric)
        && t.bytes().all(|b| b.is_ascii_alphanumeric() || b".-_".contains(&b))
);
name!(
    /// The name of a config var: what a POSIX shell accepts as a variable.
    ConfigKey,
    "config var name",
    "use letters, digits and underscores, not beginning with a digit",
    ("pattern", r"^[A-Za-z_][A-Za-z0-9_]{0,255}$"),
    |t| length(t, 256)
        && !starts_with(t, u8::is_ascii_digit)
        && t.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
);
name!(
    /// The name of a service binding: that of its folder (servicebinding.io, "Workload Projection").
    BindingName,
    "binding name",
    "use 1 to 253 lowercase letters, digits, hyphens and dots, beginning with a letter or digit",
    ("pattern", r"^[a-z0-9][a-z0-9.-]{0,252}$"),
    |t| length(t, 253)
        && !t.starts_with(['-', '.'])
        && t.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-.".contains(&b))
);
name!(
    /// The key of a value of a service binding: the name of its file.
    BindingKey,
    "key of a binding",
    "use 1 to 253 letters, digits and any of . _ -, not beginning with two dots and not type or provider, which are options",
    ("pattern", r"^(?!(type|provider|\.|\.\..*)$)[A-Za-z0-9._-]{1,253}$"),
    |t| length(t, 253)
        && t != "."
        && !t.starts_with("..")
        && !["type", "provider"].contains(&t)
        && t.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
);
name!(
    /// The type of a service binding, such as `postgresql`: what reads it knows by that which keys it has.
    BindingType,
    "binding type",
    "use 1 to 253 letters, digits and any of . _ -",
    ("pattern", r"^[A-Za-z0-9._-]{1,253}$"),
    is_binding_word
);
name!(
    /// The provider of a service binding, which tells several of a type apart.
    BindingProvider,
    "provider of a binding",
    "use 1 to 253 letters, digits and any of . _ -",
    ("pattern", r"^[A-Za-z0-9._-]{1,253}$"),
    is_binding_word
);
name!(
    /// The name of a user: a person or a machine.
    UserName,
    "user name",
    "use 1 to 64 letters, digits and any of . _ @ - +, beginning with a letter or digit",
    ("pattern", r"^[A-Za-z0-9][A-Za-z0-9._@+-]{0,63}$"),
    user_or_key
);
name!(
    /// The name of an SSH key.
    KeyName,
    "key name",
    "use 1 to 64 letters, digits and any of . _ @ - +, beginning with a letter or digit",
    ("pattern", r"^[A-Za-z0-9][A-Za-z0-9._@+-]{0,63}$"),
    user_or_key
);
name!(
    /// The name of a token of a user.
    TokenName,
    "token name",
    "use 1 to 64 letters, digits and any of . _ @ - +, beginning with a letter or digit",
    ("pattern", r"^[A-Za-z0-9][A-Za-z0-9._@+-]{0,63}$"),
    user_or_key
);
name!(
    /// The name of a volume of an app.
    VolumeName,
    "volume name",
    "use 1 to 63 lowercase letters, digits and hyphens, beginning and ending with a letter or digit",
    ("pattern", r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"),
    |t| length(t, 63)
        && !t.starts_with('-')
        && !t.ends_with('-')
        && t.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
);
name!(
    /// The path at which something is mounted in a container.
    MountPath,
    "path in a container",
    "use an absolute path such as /data, without a colon, . or .., and not a folder that the system or the app needs as a \
     whole, such as /, /usr, /etc or /workspace, or one below /proc, /sys, /dev or /cnb",
    ("format", "mount-path"),
    |t| is_absolute_path(t)
        && !NOT_MOUNTED_OVER.contains(&t)
        && !["/proc/", "/sys/", "/dev/", "/cnb/"].iter().any(|folder| t.starts_with(folder))
);
name!(
    /// The path of a folder of the server's machine.
    HostPath,
    "folder of this machine",
    "use an absolute path such as /srv/files, without a colon, . or ..",
    ("format", "host-path"),
    is_absolute_path
);
name!(
    /// A branch, without `refs/heads/`, as `git check-ref-format --branch` accepts it, and without control characters.
    BranchName,
    "branch name",
    "use what `git check-ref-format` accepts, at most 200 bytes and no control characters",
    ("format", "branch-name"),
    |t| length(t, 200) && !t.starts_with('-') && t != "@" && is_ref_path(t)
);
name!(
    /// The full name of a ref that is no branch, such as `refs/tags/v1`, as `git check-ref-format` accepts it, and
    /// without control characters.
    OtherRef,
    "ref name",
    "use refs/heads/BRANCH or refs/tags/TAG, as `git check-ref-format` accepts it, at most 200 bytes; others are not stored",
    ("format", "other-ref"),
    |t| length(t, 200)
        && t.starts_with("refs/")
        && !t.starts_with(BRANCHES)
        && t.split('/').nth(2).is_some()
        && !t.split('/').nth(1).is_some_and(|kind| NOT_STORED.contains(&kind))
        && is_ref_path(t)
);
name!(
    /// The random id of an instance, which is never reused; also the name of its container.
    InstanceId,
    "instance id",
    "use 1 to 120 lowercase letters, digits and hyphens",
    ("pattern", r"^[a-z0-9][a-z0-9-]{0,119}$"),
    |t| length(t, 120)
        && !t.starts_with('-')
        && t.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
);
name!(
    /// The random id of a task, which is never reused; also the name of its container.
    TaskId,
    "task id",
    "use 1 to 120 lowercase letters, digits and hyphens",
    ("pattern", r"^[a-z0-9][a-z0-9-]{0,119}$"),
    |t| length(t, 120)
        && !t.starts_with('-')
        && t.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
);

impl ProcessType {
    /// `web`: by convention the default process of an image; [`Exposure`](super::Exposure) says what it exposes.
    pub fn web() -> Self {
        Self("web".to_owned())
    }

    /// Whether this is `release`: the release phase, which is run once for each release, and has no instances.
    pub fn is_release(&self) -> bool {
        self.0 == "release"
    }

    /// Whether this is `web`.
    pub fn is_web(&self) -> bool {
        self.0 == "web"
    }
}

impl LogSource {
    /// Whether lines of this source are meant, which is an instance, such as `web.1`, or what an event is about.
    pub fn includes(&self, source: &str) -> bool {
        let of_type = || source.rsplit_once('.').is_some_and(|(process_type, _)| process_type == self.0);
        source == self.0 || of_type()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_source_is_a_process_type_or_an_instance() {
        let source = |text: &str| text.parse::<LogSource>().unwrap();
        for (wanted, included) in
            [("web", &["web.1", "web.12"][..]), ("web.1", &["web.1"]), ("release", &["release"]), ("a.b", &["a.b.1"])]
        {
            let all = ["web.1", "web.12", "webhook.1", "release", "router", "a.b.1"];
            let found: Vec<_> = all.into_iter().filter(|name| source(wanted).includes(name)).collect();
            assert_eq!(found, included, "{wanted}");
        }
    }

    #[test]
    fn hostile_app_names_are_refused() {
        for bad in ["", "A", "-a", "a-", "a.b", "a_b", "a/b", "..", "a b", "a\n", "a\0", "ä", &"a".repeat(64)] {
            assert!(bad.parse::<AppName>().is_err(), "{bad:?}");
        }
        for good in ["a", "my-app", "a1", "1a", "a--b", "xn--bcher-kva", &"a".repeat(63)] {
            assert!(good.parse::<AppName>().is_ok(), "{good:?}");
        }
    }

    #[test]
    fn branches_follow_check_ref_format() {
        for bad in
            ["", "-x", "a..b", "a.lock", "a/.b", "a//b", "/a", "a/", "a~b", "a b", "@", "a@{b", "a\u{7f}", "a\u{85}"]
        {
            assert!(bad.parse::<BranchName>().is_err(), "{bad:?}");
        }
        for good in ["main", "feature/x", "v1.2", "ümlaut"] {
            assert!(good.parse::<BranchName>().is_ok(), "{good:?}");
        }
    }

    #[test]
    fn the_error_states_the_rule_in_one_line() {
        let error = "Bad\nname".parse::<AppName>().expect_err("must be refused").to_string();
        assert!(error.starts_with("\"Bad\\nname\" is not a valid app name: use 1 to 63"), "{error}");
        assert!(!error.contains('\n'));
    }
}
