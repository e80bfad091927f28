//! Programs that the launcher treats in a way of their own.

use std::path::Path;

use crate::lifecycle::shells::{file_name, is_shell};

/// Inits: as the first process of a container they take over all that the launcher would do, and some of them refuse to run
/// as any other. An image that starts one of them means it.
const INITS: [&str; 12] = [
    "tini",
    "tini-static",
    "dumb-init",
    "catatonit",
    "docker-init",
    "init",
    "s6-svscan",
    "s6-overlay-suexec",
    "systemd",
    "runit-init",
    "my_init",
    "pid1",
];

/// Package managers and others that run the commands of a project's file.
const PACKAGE_MANAGERS: [&str; 19] = [
    "npm", "npx", "yarn", "yarnpkg", "pnpm", "pnpx", "corepack", "bunx", "make", "gmake", "just", "uv", "uvx",
    "poetry", "pipenv", "pdm", "hatch", "composer", "mise",
];

/// Whether the program of this path is an init.
pub(super) fn is_init(program: &Path) -> bool {
    program.file_name().and_then(|name| name.to_str()).is_some_and(|name| INITS.contains(&name))
}

/// Whether a process is a shell or a package manager, by its name and its words, which end with a zero byte each. npm and
/// others set both to a title, such as `npm start`.
pub(super) fn is_wrapper(name: &str, words: &[u8]) -> bool {
    let words: Vec<_> = words.split(|byte| *byte == 0).map(|word| String::from_utf8_lossy(word)).collect();
    let first = words.first().map_or("", AsRef::as_ref);
    if is_wrapper_name(name) || is_wrapper_name(first) {
        return true;
    }
    if runs_project_script(&words) {
        return true;
    }
    // A script of a package manager, by the interpreter: `node /usr/lib/node_modules/npm/bin/npm-cli.js start`.
    let interpreters = ["node", "nodejs", "bun", "deno", "php", "ruby", "python"];
    let interpreter = file_name(first).trim_end_matches(|c: char| c.is_ascii_digit() || c == '.');
    let script = words[1..].iter().find(|word| !word.starts_with('-'));
    interpreters.contains(&interpreter) && script.is_some_and(|script| is_wrapper_script(file_name(script)))
}

/// `/usr/bin/npm`, `-bash` (a login shell), `npm start` (a title).
fn is_wrapper_name(name: &str) -> bool {
    let name = file_name(name.split_ascii_whitespace().next().unwrap_or_default()).trim_start_matches('-');
    is_shell(name) || PACKAGE_MANAGERS.contains(&name)
}

/// `npm-cli.js`, `yarn.js`, `yarn-4.9.1.cjs`, `pnpm.cjs`, `composer.phar`.
fn is_wrapper_script(script: &str) -> bool {
    let known = |name: &str| PACKAGE_MANAGERS.contains(&name);
    let Some((stem, "js" | "cjs" | "mjs" | "phar")) = script.rsplit_once('.') else { return known(script) };
    known(stem) || stem.split_once('-').is_some_and(|(name, rest)| known(name) && is_cli_or_version(rest))
}

fn is_cli_or_version(text: &str) -> bool {
    text == "cli" || text.starts_with(|c: char| c.is_ascii_digit())
}

/// `bun run start`, `bun x serve`, `deno task start`. Both programs also run servers: `bun run server.ts`.
fn runs_project_script<T: AsRef<str>>(words: &[T]) -> bool {
    let mut words = words.iter().map(AsRef::as_ref).filter(|word| !word.starts_with('-'));
    match (words.next().map(file_name), words.next(), words.next()) {
        (Some("bun"), Some("run"), Some(name)) => Path::new(name).extension().is_none(),
        (Some("bun"), Some("x"), Some(_)) | (Some("deno"), Some("task"), Some(_)) => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shells_and_package_managers_are_recognised() {
        for (name, words) in [
            ("bash", "bash\0-c\0a | b\0"),
            ("start.sh", "/bin/sh\0./start.sh\0"),
            ("bash", "-bash\0"),
            ("npm start", "npm start\0\0\0"),
            ("node", "node\0/usr/lib/node_modules/npm/bin/npm-cli.js\0start\0"),
            ("node", "node\0/opt/node_modules/.bin/yarn\0start\0"),
            ("node", "/usr/bin/node\0--no-warnings\0.yarn/releases/yarn-4.9.1.cjs\0start\0"),
            ("MainThread", "node\0/x/pnpm.cjs\0run\0start\0"),
            ("make", "make\0run\0"),
            ("python3", "/usr/bin/python3.11\0/usr/bin/pipenv\0run\0x\0"),
            ("bun", "bun\0--silent\0run\0start\0"),
            ("deno", "/usr/bin/deno\0task\0start\0"),
        ] {
            assert!(is_wrapper(name, words.as_bytes()), "{words:?}");
        }
        for (name, words) in [
            ("node", "node\0server.js\0"),
            ("node", "node\0yarn-server.js\0"),
            ("node", "node\0server.js\0npm\0"),
            ("python3", "python3\0-u\0server.py\0"),
            ("celery", "/usr/bin/python3\0/usr/bin/celery\0worker\0"),
            ("gunicorn", "gunicorn: master [app]\0"),
            ("cat", "cat\0"),
            ("bun", "bun\0server.js\0"),
            ("bun", "bun\0run\0server.ts\0"),
            ("deno", "deno\0run\0server.ts\0"),
            ("task", "/app/bin/task\0"),
            ("kthread", ""),
        ] {
            assert!(!is_wrapper(name, words.as_bytes()), "{words:?}");
        }
    }

    #[test]
    fn inits_are_recognised() {
        for program in ["/usr/bin/tini", "/init", "/sbin/init", "dumb-init"] {
            assert!(is_init(Path::new(program)), "{program}");
        }
        for program in ["/docker-entrypoint.sh", "initdb", "/bin/sh"] {
            assert!(!is_init(Path::new(program)), "{program}");
        }
    }
}
