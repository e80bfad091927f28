//! The words of all commands, and the help that is made of them.

use std::fmt::Write as _;

use clap::{CommandFactory as _, Parser, Subcommand, ValueEnum, error::ErrorKind};

use crate::model::{AppName, BranchName, BuildpackSource, ConfigKey, KeyName, ProcessType, StackName};

/// How tables are printed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// Aligned columns.
    #[default]
    Text,
    /// JSON, for programs.
    Json,
}

#[derive(Debug, Parser)]
#[command(name = "paas", no_binary_name = true, disable_help_subcommand = true, disable_version_flag = true)]
struct Words {
    #[command(subcommand)]
    command: Command,
}

/// Each variant is a command; its first doc line is its help.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// List the commands, or explain those of a noun.
    #[command(name = "help")]
    Help {
        /// A noun such as `ps`, or a command such as `ps:scale`.
        topic: Option<String>,
    },
    /// Print the server's version.
    #[command(name = "version")]
    Version,
    /// Print whose key this is.
    #[command(name = "whoami")]
    Whoami,

    /// Make an app (the first push does that, too).
    #[command(name = "apps:create", after_help = "Example: apps:create my-app")]
    AppsCreate { app: AppName },
    /// List your apps.
    #[command(name = "apps:list", alias = "apps", after_help = "Example: apps:list --format json")]
    AppsList {
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Show an app.
    #[command(name = "apps:info", alias = "apps:report", after_help = "Example: apps:info my-app")]
    AppsInfo {
        app: AppName,
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Destroy an app: instances, releases, repository. Asks for its name.
    #[command(name = "apps:destroy", after_help = "Example: apps:destroy my-app --force")]
    AppsDestroy {
        app: AppName,
        /// Do not ask.
        #[arg(long)]
        force: bool,
        /// The name, instead of being asked for it.
        #[arg(long, value_name = "NAME")]
        confirm: Option<String>,
    },

    /// Choose the stack that an app is built in and runs on; without a name, show it.
    #[command(name = "apps:stack", after_help = "Example: apps:stack my-app debian-13")]
    AppsStack {
        app: AppName,
        /// As stacks:list lists it.
        stack: Option<StackName>,
        /// Take the server's default again.
        #[arg(long, conflicts_with = "stack")]
        default: bool,
    },
    /// Put apps on the newest revision of their stack, without a build.
    #[command(
        name = "apps:rebase",
        after_help = "Examples: apps:rebase my-app\n          apps:rebase --all --stack debian-13"
    )]
    AppsRebase {
        app: Option<AppName>,
        /// All apps that are behind.
        #[arg(long)]
        all: bool,
        /// Only those on this stack.
        #[arg(long, requires = "all")]
        stack: Option<StackName>,
    },

    /// List the stacks of the server.
    #[command(name = "stacks:list", alias = "stacks", after_help = "Example: stacks:list")]
    StacksList {
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Make a stack of two images, or of a definition (TOML) that is sent (admins).
    #[command(
        name = "stacks:create",
        after_help = "Examples: stacks:create noble --run-image registry/run:noble --build-image registry/build:noble\n          stacks:create slim < slim.toml"
    )]
    StacksCreate {
        name: StackName,
        /// The image that apps run on.
        #[arg(long, value_name = "IMAGE")]
        run_image: Option<String>,
        /// The image that they are built in.
        #[arg(long, value_name = "IMAGE")]
        build_image: Option<String>,
    },
    /// Get what the packages or images of a stack are by now (admins).
    #[command(name = "stacks:update", after_help = "Example: stacks:update debian-13")]
    StacksUpdate { name: StackName },
    /// Remove a stack that no app has chosen (admins).
    #[command(name = "stacks:remove", after_help = "Example: stacks:remove noble")]
    StacksRemove { name: StackName },
    /// Show which apps stand on which revision of their stack, and what the newest of one changed.
    #[command(name = "stacks:report", after_help = "Example: stacks:report debian-13")]
    StacksReport {
        name: Option<StackName>,
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },

    /// Set config vars, and release the app with them.
    #[command(name = "config:set", after_help = "Example: config:set my-app DATABASE_URL=postgres://… LEVEL=2")]
    ConfigSet {
        app: AppName,
        /// NAME=value
        #[arg(required = true, value_name = "NAME=VALUE")]
        pairs: Vec<String>,
        /// Set them for the next release only.
        #[arg(long)]
        no_restart: bool,
        /// The values are base64, so that anything can be in them.
        #[arg(long)]
        encoded: bool,
        /// Builds see them, too, until they are unset.
        #[arg(long)]
        build: bool,
    },
    /// Print a config var.
    #[command(name = "config:get", after_help = "Example: config:get my-app DATABASE_URL")]
    ConfigGet { app: AppName, name: ConfigKey },
    /// Remove config vars, and release the app without them.
    #[command(name = "config:unset", after_help = "Example: config:unset my-app DATABASE_URL")]
    ConfigUnset {
        app: AppName,
        #[arg(required = true)]
        names: Vec<ConfigKey>,
        /// Remove them for the next release only.
        #[arg(long)]
        no_restart: bool,
    },
    /// List config vars with their values.
    #[command(name = "config:list", aliases = ["config", "config:show"], after_help = "Example: config:list my-app")]
    ConfigList {
        app: AppName,
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },

    /// Declare how many instances run; without numbers, show it.
    #[command(name = "ps:scale", after_help = "Example: ps:scale my-app web=3 worker=1")]
    PsScale {
        app: AppName,
        /// TYPE=number
        #[arg(value_name = "TYPE=N")]
        quantities: Vec<String>,
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Show the instances of an app, or of all.
    #[command(name = "ps:report", alias = "ps", after_help = "Example: ps:report my-app")]
    PsReport {
        app: Option<AppName>,
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Replace all instances by new ones, without a gap.
    #[command(name = "ps:restart", after_help = "Example: ps:restart my-app")]
    PsRestart { app: AppName },
    /// Build the deployed commit again, and release it.
    #[command(name = "ps:rebuild", after_help = "Example: ps:rebuild my-app")]
    PsRebuild { app: AppName },
    /// Stop all instances; the declared numbers stay.
    #[command(name = "ps:stop", after_help = "Example: ps:stop my-app")]
    PsStop { app: AppName },
    /// Start a stopped app.
    #[command(name = "ps:start", after_help = "Example: ps:start my-app")]
    PsStart { app: AppName },

    /// Print what the instances said.
    #[command(name = "logs", after_help = "Example: logs my-app -t -p web")]
    Logs {
        app: AppName,
        /// Go on with what they say next.
        #[arg(short, long)]
        tail: bool,
        /// How many lines of the past.
        #[arg(short, long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(0..=100_000))]
        num: u32,
        /// Only of this process type; `release` and `router` tell of releases, and of requests that nothing answered.
        #[arg(short, long, value_name = "TYPE")]
        ps: Option<ProcessType>,
    },

    /// List releases, newest first.
    #[command(name = "releases:list", alias = "releases", after_help = "Example: releases:list my-app")]
    ReleasesList {
        app: AppName,
        /// How many.
        #[arg(short, long, default_value_t = 20)]
        num: u32,
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Bring an older release back, as a new one.
    #[command(name = "releases:rollback", alias = "rollback", after_help = "Example: releases:rollback my-app 12")]
    ReleasesRollback {
        app: AppName,
        /// Its number; without one, the release before the current.
        #[arg(value_parser = parse_release)]
        release: Option<u64>,
    },

    /// List port mappings.
    #[command(name = "ports:list", aliases = ["ports", "ports:report"], after_help = "Example: ports:list my-app")]
    PortsList {
        app: AppName,
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Replace the port mappings.
    #[command(name = "ports:set", after_help = "Example: ports:set my-app http:8080:5000")]
    PortsSet {
        app: AppName,
        /// scheme:host-port:container-port
        #[arg(required = true, value_name = "SCHEME:HOST:CONTAINER")]
        mappings: Vec<String>,
    },
    /// Add port mappings.
    #[command(name = "ports:add", after_help = "Example: ports:add my-app tcp:9000:9000")]
    PortsAdd {
        app: AppName,
        /// scheme:host-port:container-port
        #[arg(required = true, value_name = "SCHEME:HOST:CONTAINER")]
        mappings: Vec<String>,
    },
    /// Remove port mappings.
    #[command(name = "ports:remove", after_help = "Example: ports:remove my-app tcp:9000:9000")]
    PortsRemove {
        app: AppName,
        /// scheme:host-port:container-port
        #[arg(required = true, value_name = "SCHEME:HOST:CONTAINER")]
        mappings: Vec<String>,
    },
    /// Go back to the app's own port.
    #[command(name = "ports:clear", after_help = "Example: ports:clear my-app")]
    PortsClear { app: AppName },

    /// Register an SSH key, given on standard input (admins only).
    #[command(name = "ssh-keys:add", after_help = "Example: ssh-keys:add alice < id_ed25519.pub")]
    SshKeysAdd {
        name: KeyName,
        /// It may act on every app, and on keys.
        #[arg(long)]
        admin: bool,
    },
    /// List SSH keys (admins only).
    #[command(name = "ssh-keys:list", alias = "ssh-keys", after_help = "Example: ssh-keys:list")]
    SshKeysList {
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Remove an SSH key (admins only).
    #[command(name = "ssh-keys:remove", after_help = "Example: ssh-keys:remove alice")]
    SshKeysRemove { name: KeyName },

    /// Set a property of the repository: deploy-branch.
    #[command(name = "git:set", after_help = "Example: git:set my-app deploy-branch live")]
    GitSet {
        app: AppName,
        /// deploy-branch
        property: String,
        /// Its value.
        value: String,
    },
    /// Show the repository: deploy branch, address, deployed commit.
    #[command(name = "git:report", after_help = "Example: git:report my-app")]
    GitReport {
        app: AppName,
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },

    /// List builds, newest first.
    #[command(name = "builds:list", alias = "builds", after_help = "Example: builds:list my-app")]
    BuildsList {
        app: AppName,
        /// How many.
        #[arg(short, long, default_value_t = 20)]
        num: u32,
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Print what a build printed; the last one's, without a number.
    #[command(name = "builds:log", alias = "builds:output", after_help = "Example: builds:log my-app 3")]
    BuildsLog { app: AppName, number: Option<u64> },
    /// Show a build: its buildpacks with their digests, its stack, its image.
    #[command(name = "builds:info", after_help = "Example: builds:info my-app 12")]
    BuildsInfo {
        app: AppName,
        /// Its number; the last one without it.
        number: Option<u64>,
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Set a property of the builds of an app: dir, the folder of the repository that is built.
    #[command(name = "builds:set", after_help = "Example: builds:set my-app dir services/api")]
    BuildsSet {
        app: AppName,
        /// dir
        property: String,
        /// Its value; none to go back to the default.
        value: Option<String>,
    },
    /// Forget what builds of an app have cached.
    #[command(name = "builds:clear-cache", after_help = "Example: builds:clear-cache my-app")]
    BuildsClearCache { app: AppName },

    /// List the buildpacks that an app has chosen.
    #[command(name = "buildpacks:list", alias = "buildpacks", after_help = "Example: buildpacks:list my-app")]
    BuildpacksList {
        app: AppName,
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Add a buildpack to those of an app; it then builds with these and no others.
    #[command(
        name = "buildpacks:add",
        after_help = "Examples: buildpacks:add my-app paas/nodejs\n          buildpacks:add my-app https://host/go.git#v1:folder\n          buildpacks:add my-app docker://registry/image:tag --index 1"
    )]
    BuildpacksAdd {
        app: AppName,
        /// An id with an optional @version, a git URL with an optional #ref:folder, docker://IMAGE, ./FOLDER of the app, or (admins) a path.
        #[arg(value_name = "BUILDPACK")]
        source: BuildpackSource,
        /// Its place, counted from 1; the last without it.
        #[arg(long, short)]
        index: Option<usize>,
    },
    /// Make a buildpack the only one of an app, or put it in the place of another.
    #[command(name = "buildpacks:set", after_help = "Example: buildpacks:set my-app heroku/nodejs --index 2")]
    BuildpacksSet {
        app: AppName,
        /// As for buildpacks:add.
        #[arg(value_name = "BUILDPACK")]
        source: BuildpackSource,
        /// The place, counted from 1.
        #[arg(long, short)]
        index: Option<usize>,
    },
    /// Take a buildpack out of those of an app.
    #[command(name = "buildpacks:remove", after_help = "Example: buildpacks:remove my-app heroku/nodejs")]
    BuildpacksRemove {
        app: AppName,
        /// As buildpacks:list shows it.
        #[arg(value_name = "BUILDPACK")]
        source: BuildpackSource,
    },
    /// Leave an app's buildpacks to its files again.
    #[command(name = "buildpacks:clear", after_help = "Example: buildpacks:clear my-app")]
    BuildpacksClear { app: AppName },
    /// Show what an app has chosen, and what its last build ran.
    #[command(name = "buildpacks:report", after_help = "Example: buildpacks:report my-app")]
    BuildpacksReport {
        app: AppName,
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// List the buildpacks of the server, which every app may name.
    #[command(name = "buildpacks:installed", after_help = "Example: buildpacks:installed")]
    BuildpacksInstalled {
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Install buildpacks on the server (admins).
    #[command(name = "buildpacks:install", after_help = "Example: buildpacks:install /srv/buildpacks/elixir.cnb")]
    BuildpacksInstall {
        /// A git URL with an optional #ref:folder, docker://IMAGE, or a folder, .tgz or .cnb of the server.
        #[arg(value_name = "SOURCE")]
        source: BuildpackSource,
    },
    /// Uninstall buildpacks of the server (admins).
    #[command(name = "buildpacks:uninstall", after_help = "Example: buildpacks:uninstall acme/elixir@1.2.0")]
    BuildpacksUninstall {
        /// An id, or id@version.
        #[arg(value_name = "BUILDPACK")]
        name: String,
    },

    /// Print where the app answers.
    #[command(name = "url", alias = "urls", after_help = "Example: url my-app")]
    Url {
        app: AppName,
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
}

/// `12` or `v12`.
fn parse_release(text: &str) -> Result<u64, String> {
    text.strip_prefix('v')
        .unwrap_or(text)
        .parse()
        .map_err(|_| "use the number of a release, such as 12 or v12".to_owned())
}

/// What the words mean.
pub(super) enum Parsed {
    Command(Box<Command>),
    /// Help that was asked for.
    Text(String),
    /// What is off, in one line.
    Wrong(String),
}

pub(super) fn parse(mut words: Vec<String>) -> Parsed {
    if words.is_empty() || words[0] == "--help" || words[0] == "-h" {
        words = vec!["help".to_owned()];
    }
    if words[0] == "--version" {
        words = vec!["version".to_owned()];
    }
    let first = words[0].clone();
    match Words::try_parse_from(words) {
        Ok(words) => Parsed::Command(Box::new(words.command)),
        Err(error) if error.kind() == ErrorKind::DisplayHelp => Parsed::Text(error.render().to_string()),
        Err(error) if error.kind() == ErrorKind::InvalidSubcommand => Parsed::Wrong(unknown(&first)),
        Err(error) => {
            let text = error.render().to_string();
            let said = |line: &&str| !line.starts_with("Usage:") && !line.starts_with("For more information");
            let text: Vec<&str> = text.lines().take_while(said).map(str::trim).collect();
            let text = text.join(" ").trim().trim_start_matches("error: ").to_owned();
            Parsed::Wrong(format!("{}; `help {first}` explains it", crate::model::Line::sanitize(text.trim())))
        }
    }
}

fn unknown(word: &str) -> String {
    let said: String = crate::model::Line::sanitize(word).chars().take(60).collect();
    match meant(&said) {
        Some(near) => format!("there is no command {said}; did you mean {near}?"),
        None => format!("there is no command {said}; `help` lists all"),
    }
}

/// The command that was surely meant: its noun or verb mistyped, the two in another order, or a verb that only it has.
fn meant(said: &str) -> Option<String> {
    let words = Words::command();
    let names = words.get_subcommands().flat_map(|c| std::iter::once(c.get_name()).chain(c.get_all_aliases()));
    let names: Vec<&str> = names.collect();
    let turned = said.split_once(':').map(|(first, second)| format!("{second}:{first}"));
    let mistyped = names.iter().filter_map(|name| Some((mistakes(said, name)?, *name))).min();
    let mut by_verb = names.iter().filter(|name| name.split_once(':').is_some_and(|(_, verb)| verb == said));
    let only = by_verb.next().filter(|_| by_verb.next().is_none());
    let found = names.iter().find(|name| turned.as_deref() == Some(**name)).or(only).copied();
    mistyped.map(|(_, name)| name).or(found).map(str::to_owned)
}

/// How many letters to change to come from one to the other, if it is one a word at most: two in one make another verb
/// (`rename`, `rebase`). In a word of two or three letters, one does.
fn mistakes(said: &str, name: &str) -> Option<usize> {
    let (said, name): (Vec<_>, Vec<_>) = (said.split(':').collect(), name.split(':').collect());
    let each = said.iter().zip(&name).map(|(said, name)| strsim::osa_distance(said, name));
    let (most, all) = each.fold((0, 0), |(most, all), one| (most.max(one), all + one));
    let short = name.concat().len() < 4;
    (said.len() == name.len() && most <= 1 && !short).then_some(all)
}

/// The list of all commands, or the explanation of some.
pub(super) fn help(topic: Option<&str>) -> Result<String, String> {
    let mut all = Words::command();
    all.build();
    let Some(topic) = topic else {
        let mut text =
            "Commands, as `ssh paas@host COMMAND` or, on the server's own machine, `paas COMMAND`:\n".to_owned();
        let mut noun = String::new();
        for command in all.get_subcommands() {
            let (name, about) = (command.get_name(), command.get_about().map(ToString::to_string).unwrap_or_default());
            let of = name.split_once(':').map_or("", |(noun, _)| noun);
            if of != noun || text.ends_with(":\n") {
                text.push('\n');
                of.clone_into(&mut noun);
            }
            let _ = writeln!(text, "  {name:<18} {about}");
        }
        text.push_str("\n`help NOUN` and `COMMAND --help` explain more; tables take --format json.\n");
        return Ok(text);
    };
    let mut text = String::new();
    for command in all.get_subcommands_mut() {
        let name = command.get_name().to_owned();
        let is_it =
            name == topic || name.split(':').next() == Some(topic) || command.get_all_aliases().any(|a| a == topic);
        if is_it {
            let _ = writeln!(text, "{}\n{}", name, command.render_help());
        }
    }
    if text.is_empty() {
        return Err(format!("there is no command or noun {}; `help` lists all", crate::model::Line::sanitize(topic)));
    }
    Ok(text)
}

/// `deploy-branch` is the only property; its value is a branch.
pub(super) fn branch(text: &str) -> Result<BranchName, crate::model::InvalidName> {
    text.trim_start_matches("refs/heads/").parse()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(words: &[&str]) -> String {
        match parse(words.iter().map(|w| (*w).to_owned()).collect()) {
            Parsed::Wrong(text) => text,
            Parsed::Command(_) | Parsed::Text(_) => panic!("{words:?} was accepted"),
        }
    }

    #[test]
    fn the_definitions_are_sound_and_each_is_explained() {
        Words::command().debug_assert();
        let all = help(None).unwrap();
        for command in Words::command().get_subcommands() {
            let name = command.get_name();
            assert!(all.contains(name), "{name} is not in the list");
            assert!(command.get_about().is_some(), "{name} says nothing of itself");
            assert!(help(Some(name)).unwrap().contains("Usage:"), "{name}");
            assert!(!name.contains(':') || command.get_after_help().is_some(), "{name} has no example");
        }
        assert!(help(Some("ps")).unwrap().contains("ps:scale"));
        assert!(help(Some("nonsense")).is_err());
    }

    #[test]
    fn near_misses_are_suggested() {
        for (said, near) in [
            ("ps:scal", "ps:scale"),
            ("pss:sacle", "ps:scale"),
            ("app:create", "apps:create"),
            ("scale:ps", "ps:scale"),
            ("scale", "ps:scale"),
            ("lgos", "logs"),
            ("log", "logs"),
            ("stack", "stacks"),
        ] {
            assert_eq!(wrong(&[said, "x"]), format!("there is no command {said}; did you mean {near}?"));
        }
    }

    #[test]
    fn what_is_not_near_is_not_suggested() {
        for said in ["domains:add", "apps:rename", "ps:exec", "add", "ls", "run", "qqqq", "ps:scale:x", ":"] {
            assert_eq!(wrong(&[said, "x"]), format!("there is no command {said}; `help` lists all"));
        }
    }

    #[test]
    fn trouble_is_one_line() {
        let long = "x".repeat(5000);
        for words in [
            vec!["apps:create"],
            vec!["apps:create", "Bad Name"],
            vec!["apps:create", "a\nb"],
            vec!["apps:create", &long],
            vec!["apps:create", "--nonsense"],
            vec!["config:set", "app"],
            vec!["logs", "app", "-n", "-5"],
            vec!["releases:rollback", "app", "latest"],
            vec!["a\u{1b}[31mb"],
        ] {
            let text = wrong(&words);
            assert!(!text.contains('\n') && !text.contains('\u{1b}') && text.len() < 5200, "{text}");
        }
        assert!(wrong(&["apps:create", "Bad Name"]).contains("use 1 to 30 lowercase letters"));
        assert!(wrong(&["apps:create", "X"]).ends_with("with a letter; `help apps:create` explains it"));
    }

    #[test]
    fn help_is_everywhere() {
        for words in [["ps:scale", "--help"], ["apps:create", "-h"]] {
            assert!(matches!(parse(words.map(str::to_owned).to_vec()), Parsed::Text(_)), "{words:?}");
        }
    }
}
