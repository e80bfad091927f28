//! Commands of other platforms (Dokku, Heroku, piku, Kamal, CapRover) that do not exist here, with what to do instead.

/// What to say about commands of other platforms.
enum Answer {
    /// Another command does it.
    Use(&'static str),
    /// What is not here, and what to do instead.
    Absent(&'static str, &'static str),
}

use Answer::{Absent, Use};

const NO_DATABASES: Answer = Absent(
    "no databases are run here",
    "use one that runs elsewhere, and give its address to the app: `config:set APP DATABASE_URL=…`",
);

/// Patterns and their answers; the first that matches counts. `noun:*` is the noun and its verbs; any other `*` at the end
/// is any text.
const ELSEWHERE: &[(&[&str], Answer)] = &[
    // How apps are reached.
    (
        &["domains:*", "redirect:*"],
        Absent(
            "apps are reached by port, not by domain",
            "`ports:list` shows the port, to which a web server in front can lead a domain",
        ),
    ),
    (
        &["certs:*", "letsencrypt:*", "ssl:*"],
        Absent(
            "there are no certificates and no TLS here",
            "a web server in front of the port that `ports:list` shows can do that",
        ),
    ),
    (
        &["proxy:*", "nginx:*", "caddy:*", "haproxy:*", "traefik:*", "openresty:*"],
        Absent("the router is part of the server and has no settings for an app", "`ports:set` maps its ports"),
    ),
    (
        &["http-auth:*"],
        Absent("the router asks for no passwords", "the app, or a web server in front of it, can ask for them"),
    ),
    (
        &["maintenance:*"],
        Absent("there is no maintenance page", "`ps:stop` stops an app, and `ps:start` starts it again"),
    ),
    (
        &[
            "network:create",
            "network:destroy",
            "network:exists",
            "network:info",
            "network:rebuild",
            "network:rebuildall",
            "network:set",
        ],
        Absent(
            "apps have no networks to set up",
            "`apps:link` lets one app reach another, and `network:allow` opens an address to an app",
        ),
    ),
    // Processes.
    (
        &["ps:exec", "exec", "shell", "console", "bash"],
        Absent(
            "a shell is a command like others",
            "`run APP bash` starts one, and `enter APP web.1` one in an instance",
        ),
    ),
    (
        &["ps:copy", "ps:forward", "ps:socks"],
        Absent(
            "no files or ports are passed through to an app's container",
            "`enter APP web.1 cat FILE` prints a file, and `ports:add` makes a port reachable",
        ),
    ),
    (
        &["ps:inspect"],
        Absent(
            "containers are not shown by a command",
            "`ps:report APP` shows instances; the operator can give the id of one to `docker inspect`",
        ),
    ),
    (&["ps:restore"], Absent("apps start with the server", "`ps:start` starts one that was stopped")),
    (
        &["ps:kill", "dyno:kill", "dyno:stop"],
        Absent(
            "no single instance is stopped by a command",
            "`ps:restart APP TYPE` replaces instances, and `ps:scale` sets their number",
        ),
    ),
    (&["ps:wait"], Absent("commands wait until their work is done", "`ps:report` shows the instances")),
    (&["ps:autoscale:*"], Absent("the number of instances does not follow the load", "`ps:scale` sets it")),
    (&["ps:resize", "ps:type", "dyno:resize"], Use("resource:limit")),
    (&["dyno:restart"], Use("ps:restart")),
    (&["dyno:scale"], Use("ps:scale")),
    (&["dyno:*", "status"], Use("ps:report")),
    (
        &["scheduler:*", "scheduler-*"],
        Absent("there is no scheduler to choose", "`ps:scale` sets the number of instances"),
    ),
    (
        &["docker-options:*"],
        Absent(
            "containers get no options of Docker",
            "`config:set` sets config vars, `config:set --build` also for builds, `builds:set APP target` chooses a stage of \
             the Dockerfile, and `ports:add` maps ports",
        ),
    ),
    // Data.
    (&["postgres:*", "pg:*", "psql", "mysql:*", "mariadb:*", "mongo:*", "couchdb:*", "clickhouse:*"], NO_DATABASES),
    (&["redis:*", "memcached:*", "rabbitmq:*", "elasticsearch:*", "addons:*", "accessory", "data:*"], NO_DATABASES),
    (
        &["storage:ensure-directory"],
        Absent(
            "no folders of the machine are made for apps",
            "`storage:create APP NAME` makes a volume, which `storage:mount` mounts",
        ),
    ),
    (&["storage:set"], Use("storage:resize")),
    (
        &["storage:exec"],
        Absent("a volume has no shell of its own", "`run APP bash` has all that is mounted into the app"),
    ),
    (&["volumes:create"], Use("storage:create")),
    (&["volumes:*"], Use("storage:report")),
    // Apps.
    (
        &["apps:rename"],
        Absent(
            "apps are not renamed",
            "push to the new name, copy the config vars (`config:export`, `config:import`), then `apps:destroy` the old app",
        ),
    ),
    (
        &["apps:clone", "apps:fork", "fork"],
        Absent(
            "apps are not copied by a command",
            "push to the new name, and copy the config vars (`config:export`, `config:import`)",
        ),
    ),
    (
        &["apps:lock", "apps:unlock", "apps:locked", "lock"],
        Absent(
            "apps are not locked against pushes",
            "`access:add APP USER viewer` takes the right to push from a member",
        ),
    ),
    (&["apps:transfer"], Use("access:transfer")),
    (&["apps:open", "open"], Absent("a server opens no browser", "`url APP` prints the address")),
    (&["info", "details"], Use("apps:info")),
    (&["list", "ls"], Use("apps:list")),
    (&["spaces:*", "regions"], Absent("there is one server, without spaces and regions", "`apps:list` lists its apps")),
    // Logs and events.
    (
        &["drains:*", "logs:set", "logs:vector-*"],
        Absent("the server does not forward logs", "`logs APP --tail` sends them to any program that reads them"),
    ),
    (&["logs:failed"], Absent("the output of failed instances is in the app's log", "`logs APP` shows it")),
    (
        &["notifications:*"],
        Absent("the server calls nobody", "`git push` prints its result, and `events` lists what was done"),
    ),
    (&["audit"], Use("events")),
    // Config vars.
    (
        &["config:edit"],
        Absent(
            "config vars are not edited in an editor",
            "`config:set` sets some; `config:export` and `config:import` write and read a file of all",
        ),
    ),
    (
        &["config:clear"],
        Absent("config vars are not removed all at once", "`config:unset APP NAME …` removes those that it names"),
    ),
    (&["config:bundle"], Use("config:export")),
    (&["config:live"], Use("config:list")),
    // Service bindings.
    (&["bindings:set", "bindings:create"], Use("bindings:add")),
    (&["bindings:unset", "bindings:destroy", "bindings:rm"], Use("bindings:remove")),
    (&["bindings:info", "bindings:show"], Use("bindings:report")),
    (
        &["env:*", "secrets:*"],
        Absent("variables are called config vars here", "`config:set` sets them, and `config:list` lists them"),
    ),
    // Pushes, builds and releases.
    (
        &["deploy", "redeploy", "push"],
        Absent(
            "a push deploys, not a command",
            "`git push paas main` deploys, and `ps:rebuild APP` builds the tip of the deploy branch again",
        ),
    ),
    (
        &["setup", "setup:ssh", "init", "serversetup"],
        Absent(
            "nothing is set up by a command",
            "`git remote add paas ssh://paas@HOST:PORT/APP`, then `git push paas main` makes the app",
        ),
    ),
    (
        &["git:allow-host", "git:auth", "git:auth-status", "git:public-key"],
        Absent(
            "the server fetches only repositories that can be read without a login",
            "`git push` brings others; CI can push with a key of its own (`ssh-keys:add`)",
        ),
    ),
    (&["git:generate-deploy-key"], Absent("the server has no key of its own", "`git push` brings the sources of apps")),
    (
        &["git:load-image", "container:*"],
        Absent(
            "images are not sent as they are",
            "`git:from-image APP IMAGE` deploys one of a registry, or one that an admin offers (`images:offer`)",
        ),
    ),
    (
        &["registry:set", "registry:unset", "registry:push"],
        Absent(
            "the server keeps the images of apps itself and pushes them nowhere",
            "`registry:login` gives builds access to base images, and `releases:list` lists an app's releases",
        ),
    ),
    (&["git:initialize"], Use("apps:create")),
    (&["git:status"], Use("git:report")),
    (&["git:unlock"], Use("builds:cancel")),
    (
        &["git:remote", "git:clone"],
        Absent(
            "commands do not change your own repository",
            "`git remote add paas ssh://paas@HOST:PORT/APP` and `git clone ssh://paas@HOST:PORT/APP` do that",
        ),
    ),
    (&["repo:purge-cache"], Use("builds:clear-cache")),
    (
        &["repo:gc", "cleanup", "prune"],
        Absent(
            "the server removes what is no longer used by itself",
            "only the build cache of an app is yours to delete: `builds:clear-cache`",
        ),
    ),
    (
        &[
            "builder",
            "builder-herokuish:*",
            "builder-lambda:*",
            "builder-nixpacks:*",
            "builder-null:*",
            "builder-pack:*",
            "builder-railpack:*",
        ],
        Absent(
            "the builder is not chosen by a command",
            "a Dockerfile is built, unless `buildpacks:set` names buildpacks; `builds:set APP dir` chooses the folder",
        ),
    ),
    (&["builder:report", "builder-dockerfile:report"], Use("apps:info")),
    (
        &["app-json:*"],
        Absent("app.json is read from the folder that is built", "`builds:set APP dir` chooses that folder"),
    ),
    (&["stack:set", "buildpacks:set-property"], Use("apps:stack")),
    (
        &["tags:*"],
        Absent(
            "images have no tags of users",
            "`releases:list` lists releases, and `releases:rollback` goes back to one",
        ),
    ),
    (
        &["releases:info"],
        Absent(
            "there is no page of one release",
            "`releases:list` lists releases, and `builds:info` shows how an image was built",
        ),
    ),
    (&["releases:output"], Use("builds:log")),
    (
        &["pipelines:*", "reviewapps:*", "ci:*"],
        Absent("there are no pipelines", "make an app for each stage, and `git push` a commit from one to the next"),
    ),
    (&["plugin:*", "plugins:*"], Absent("there are no plugins", "`buildpacks:install` adds languages")),
    (&["features:*", "labs:*"], Absent("there are no features to switch on", "`help` lists all commands")),
    // Users.
    (
        &["login", "logout", "auth:*", "authorizations:*", "2fa:*"],
        Absent("the SSH key is the login", "`whoami` shows whose it is; an admin registers others: `ssh-keys:add`"),
    ),
    (&["keys:add"], Use("ssh-keys:add")),
    (&["keys:remove", "keys:clear"], Use("ssh-keys:remove")),
    (&["keys:*"], Use("ssh-keys:list")),
    (
        &["members:*", "sharing:*", "teams:*", "orgs:*"],
        Absent("members belong to an app", "`access:add APP USER ROLE` adds one, and `access:list` lists them"),
    ),
];

/// The error message for a command of another platform.
pub(super) fn answer(typed: &str) -> Option<String> {
    let (_, answer) = ELSEWHERE.iter().find(|(patterns, _)| patterns.iter().any(|pattern| matches(pattern, typed)))?;
    Some(match answer {
        Use(command) => format!("there is no command {typed}; use {command}"),
        Absent(what, instead) => format!("there is no command {typed}: {what}; {instead}"),
    })
}

fn matches(pattern: &str, typed: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(prefix) => typed.starts_with(prefix) || prefix.strip_suffix(':') == Some(typed),
        None => typed == pattern,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use clap::CommandFactory as _;

    use super::{super::command::CommandLine, *};

    fn commands() -> BTreeSet<String> {
        let all = CommandLine::command();
        let names = all.get_subcommands().flat_map(|c| std::iter::once(c.get_name()).chain(c.get_all_aliases()));
        names.map(str::to_owned).collect()
    }

    /// The commands that a text names: words with a colon, and what is between backticks.
    fn named(text: &str) -> BTreeSet<&str> {
        let is_word = |word: &str| !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase() || b == b'-');
        let separators = |c: char| c.is_whitespace() || "`,;()".contains(c);
        let words = text
            .split(separators)
            .filter(|word| word.split_once(':').is_some_and(|(noun, verb)| is_word(noun) && is_word(verb)));
        let quoted = text.split('`').skip(1).step_by(2).filter_map(|text| text.split(' ').next());
        words.chain(quoted).filter(|word| !["git", "docker"].contains(word)).collect()
    }

    #[test]
    fn every_command_that_an_answer_names_exists() {
        let commands = commands();
        for (patterns, answer) in ELSEWHERE {
            let text = match answer {
                Use(command) => format!("`{command}`"),
                Absent(what, instead) => format!("{what}; {instead}"),
            };
            for command in named(&text) {
                assert!(commands.contains(command), "the answer to {patterns:?} names {command}");
            }
        }
    }

    #[test]
    fn commands_are_found_in_a_text() {
        let text = "use a:b, `logs APP`, (c-d:e) or `git push ssh://x:22/y`; http:80:5000 and E:f are none";
        assert_eq!(named(text), BTreeSet::from(["a:b", "c-d:e", "logs"]));
    }

    #[test]
    fn no_command_that_exists_is_answered_for() {
        for command in commands() {
            assert_eq!(answer(&command), None);
        }
    }

    #[test]
    fn every_pattern_leads_to_its_own_answer() {
        for (index, (patterns, _)) in ELSEWHERE.iter().enumerate() {
            for pattern in *patterns {
                let typed = pattern.replace('*', "x");
                let found = ELSEWHERE.iter().position(|(patterns, _)| patterns.iter().any(|p| matches(p, &typed)));
                assert_eq!(found, Some(index), "{pattern} is hidden by an earlier pattern");
            }
        }
    }

    #[test]
    fn answers_are_one_line_with_a_remedy() {
        for (patterns, _) in ELSEWHERE {
            let text = answer(patterns[0].trim_end_matches(":*")).or_else(|| answer(patterns[0])).unwrap();
            assert!(text.contains("; ") && !text.contains('\n') && !text.ends_with('.'), "{text}");
        }
        let domains = "there is no command domains:add: apps are reached by port, not by domain; `ports:list` shows the \
                       port, to which a web server in front can lead a domain";
        assert_eq!(answer("domains:add").as_deref(), Some(domains));
        assert_eq!(answer("keys:add").as_deref(), Some("there is no command keys:add; use ssh-keys:add"));
    }

    #[test]
    fn patterns_match_a_noun_and_its_verbs_and_nothing_else() {
        for typed in
            ["domains", "domains:add", "domains:set-global", "ps:autoscale:enable", "logs:vector-start", "shell"]
        {
            assert!(answer(typed).is_some(), "{typed}");
        }
        for typed in ["domain:add", "domainsx", "runs", "apps:renames", "", ":", "*", "keysadd"] {
            assert_eq!(answer(typed), None, "{typed}");
        }
    }
}
