//! `app.json`: formation, health checks, scripts and scheduled jobs, with Dokku's keys. Keys without effect are told; those of
//! jobs and of `scripts.dokku` are refused, because a misspelt one would change what is run.

mod checks;
mod node;
mod repeated;

use std::collections::BTreeMap;

use jsonc_parser::{CollectOptions, ParseOptions, errors::ParseError, parse_to_ast, parse_to_serde_value};
use serde_json::Value;

use super::{
    Concurrency, CronJob, DeclaredCheck, Exposure, Line, ProcessType, ReleaseManifest, Scripts, cron,
    ignored_keys::{self, shown_key},
};
use checks::health_check;
pub use node::InvalidAppJson;
use node::Node;

/// JSON with comments and trailing commas, which people write into files such as this, and nothing else of JSON5.
const JSON_WITH_COMMENTS: ParseOptions = ParseOptions {
    allow_comments: true,
    allow_trailing_commas: true,
    allow_loose_object_property_names: false,
    allow_missing_commas: false,
    allow_single_quoted_strings: false,
    allow_hexadecimal_numbers: false,
    allow_unary_plus_numbers: false,
    allow_bare_decimal_point_numbers: false,
    allow_non_finite_numbers: false,
    allow_extended_string_escapes: false,
};

/// The parts of an `app.json` that paas reads.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AppJson {
    /// Declared number of instances of each process type.
    pub formation: BTreeMap<ProcessType, u32>,
    /// Declared health checks of each process type.
    pub health_checks: BTreeMap<ProcessType, Vec<DeclaredCheck>>,
    /// What is run when a release is deployed, and on a schedule.
    pub manifest: ReleaseManifest,
    /// Warnings for the developer about keys that have no effect.
    pub notices: Vec<String>,
    /// A line for the developer about keys that describe the app and are not meant to have an effect.
    pub metadata: Option<String>,
}

/// Largest number of health checks of one process type.
const MAX_CHECKS: usize = 16;

impl AppJson {
    /// The largest number of instances of one process type that may be declared.
    pub const MAX_INSTANCES: u32 = 100;

    /// Parses the text of an `app.json`.
    pub fn parse(text: &str) -> Result<Self, InvalidAppJson> {
        if text.len() > 256 * 1024 {
            return Err(InvalidAppJson("larger than 256 KiB; shorten it".to_owned()));
        }
        let not_json = |e: ParseError| {
            InvalidAppJson(format!(
                "not valid JSON: {}; fix it, or delete the file",
                Line::beginning(&e.to_string(), 200)
            ))
        };
        let document: Value = parse_to_serde_value(text, &JSON_WITH_COMMENTS).map_err(not_json)?;
        // The parser of values takes no value for null, and of keys that are given more than once it keeps only the last.
        let syntax = parse_to_ast(text, &CollectOptions::default(), &JSON_WITH_COMMENTS).map_err(not_json)?;
        let empty = || InvalidAppJson("the file is empty; fill it, or delete it".to_owned());
        let repeated = repeated::keys(&syntax.value.ok_or_else(empty)?, &SECTIONS);
        let (metadata, unused): (Vec<_>, Vec<_>) =
            without_effect(&document).into_iter().partition(|key| METADATA.contains(&key.as_str()));
        let mut notices = ignored_keys::lines("app.json", unused, advice);
        notices.extend(ignored_keys::repeated("app.json", &repeated));
        let document = Node { path: String::new(), value: &document };
        let metadata = match metadata.as_slice() {
            [] => None,
            [key] => Some(format!("app.json: {key} has no effect here")),
            keys => Some(format!("app.json: {} have no effect here", keys.join(", "))),
        };
        let mut parsed = Self { notices, metadata, ..Self::default() };
        for (process_type, entry) in document.by_process_type("formation")? {
            if let Some(quantity) = entry.get("quantity")? {
                parsed.formation.insert(process_type, quantity.integer(0..=Self::MAX_INSTANCES)?);
            }
        }
        for (process_type, checks) in document.by_process_type("healthchecks")? {
            let exposure = Exposure::by_convention(&process_type);
            let items = checks.items()?;
            if items.len() > MAX_CHECKS {
                let text = format!("{} has more than {MAX_CHECKS} checks; merge some of them", checks.path);
                return Err(InvalidAppJson(text));
            }
            let read = |check| health_check(check, exposure, &mut parsed.notices);
            let declared = items.iter().map(read).collect::<Result<Vec<_>, _>>()?;
            if !declared.is_empty() {
                parsed.health_checks.insert(process_type, declared);
            }
        }
        parsed.manifest = ReleaseManifest { scripts: scripts(&document)?, cron: cron(&document)? };
        Ok(parsed)
    }

    /// Refuses a job whose timeout is longer than this server lets jobs run.
    pub fn check_timeouts(&self, max_seconds: u64) -> Result<(), InvalidAppJson> {
        // Jobs are in the order of the file.
        let timeouts = self.manifest.cron.iter().enumerate().filter_map(|(i, job)| Some((i, job.timeout_seconds?)));
        for (i, seconds) in timeouts {
            if seconds > max_seconds {
                return Err(InvalidAppJson(format!(
                    "cron[{i}].timeout must be at most {max_seconds}, the limit of this server (tasks.cron_seconds), not {seconds}"
                )));
            }
        }
        Ok(())
    }
}

/// The keys of the document that have an effect.
const SECTIONS: [&str; 4] = ["formation", "healthchecks", "scripts", "cron"];

/// Keys that describe the app.
const METADATA: [&str; 7] = ["name", "description", "keywords", "repository", "website", "logo", "success_url"];

/// The keys of an entry of `formation`, of `scripts`, and of `scripts.postdeploy`, that have an effect.
const OF_FORMATION: [&str; 1] = ["quantity"];
const OF_SCRIPTS: [&str; 2] = ["dokku", "postdeploy"];
const OF_POSTDEPLOY: [&str; 1] = ["command"];

/// The keys that have no effect. Keys of jobs and of `scripts.dokku` are not among them (unknown ones are refused), nor those of
/// health checks (`checks.rs`).
fn without_effect(document: &Value) -> Vec<String> {
    let mut keys = Vec::new();
    let mut note = |path: &str, value: &Value, known: &[&str]| {
        let found = value
            .as_object()
            .into_iter()
            .flatten()
            .filter(|(key, value)| !value.is_null() && !known.contains(&key.as_str()));
        let dot = if path.is_empty() { "" } else { "." };
        keys.extend(found.map(|(key, _)| format!("{path}{dot}{}", shown_key(key))));
    };
    note("", document, &SECTIONS);
    for (process_type, entry) in document["formation"].as_object().into_iter().flatten() {
        note(&format!("formation.{}", shown_key(process_type)), entry, &OF_FORMATION);
    }
    note("scripts", &document["scripts"], &OF_SCRIPTS);
    note("scripts.postdeploy", &document["scripts"]["postdeploy"], &OF_POSTDEPLOY);
    if document["formation"]["release"].is_object() {
        keys.push("formation.release".to_owned());
    }
    keys
}

/// What to do instead of a key that has no effect.
fn advice(key: &str) -> Option<String> {
    let (parent, last) = key.rsplit_once('.').unwrap_or(("", key));
    let known: &[&str] = match parent {
        "" => &SECTIONS,
        "scripts" => &OF_SCRIPTS,
        "scripts.postdeploy" => &OF_POSTDEPLOY,
        _ if parent.starts_with("formation.") => &OF_FORMATION,
        _ => &[],
    };
    let text = match key {
        "env" => "config:set sets config vars",
        "addons" => "config:set passes on the address of a database or of another service",
        "buildpacks" => "buildpacks:add, or io.buildpacks.group in project.toml, names buildpacks",
        "stack" => "apps:stack chooses the stack",
        "image" => "the image is built from a Dockerfile or by buildpacks",
        "environments" => "there are no review apps: an app of its own serves as one",
        "scripts.release" => "a line release: of the Procfile names the command that is run for each release",
        "formation.release" => "release is run once for each release",
        _ => match ignored_keys::meant(last, known) {
            Some(meant) => return Some(format!("did you mean {meant}?")),
            None if key.starts_with("formation.") => {
                "only quantity is read; the limits of instances are those of the server"
            }
            None => return None,
        },
    };
    Some(text.to_owned())
}

fn scripts(document: &Node<'_>) -> Result<Scripts, InvalidAppJson> {
    let Some(scripts) = document.get("scripts")? else { return Ok(Scripts::default()) };
    let dokku = scripts.get("dokku")?;
    if let Some(dokku) = &dokku {
        dokku.has_only(&["predeploy", "postdeploy"])?;
    }
    let of_dokku = |key: &str| match &dokku {
        Some(dokku) => dokku.get(key)?.map(|script| script.command()).transpose(),
        None => Ok(None),
    };
    // Heroku also accepts an object with a command and a size.
    let first_deploy = match scripts.get("postdeploy")? {
        Some(script) if script.value.is_object() => script.get("command")?,
        script => script,
    };
    Ok(Scripts {
        predeploy: of_dokku("predeploy")?,
        postdeploy: of_dokku("postdeploy")?,
        first_deploy: first_deploy.map(|script| script.command()).transpose()?,
    })
}

/// Largest number of scheduled jobs.
const MAX_JOBS: usize = 50;

fn cron(document: &Node<'_>) -> Result<Vec<CronJob>, InvalidAppJson> {
    let Some(entries) = document.get("cron")? else { return Ok(Vec::new()) };
    let mut jobs: Vec<CronJob> = Vec::new();
    for entry in entries.items()? {
        let job = cron_job(&entry)?;
        if jobs.iter().any(|other| other.id == job.id) {
            return Err(InvalidAppJson(format!(
                "{}: two jobs are named {}; give each its own name",
                entry.path, job.id
            )));
        }
        jobs.push(job);
    }
    if jobs.len() > MAX_JOBS {
        return Err(InvalidAppJson(format!("cron has more than {MAX_JOBS} jobs; merge some of them")));
    }
    Ok(jobs)
}

fn cron_job(entry: &Node<'_>) -> Result<CronJob, InvalidAppJson> {
    entry.has_only(&["name", "command", "schedule", "timezone", "concurrency_policy", "timeout", "maintenance"])?;
    let required = |key: &str| {
        let missing =
            || InvalidAppJson(format!("{}.{key} is missing; each job needs a schedule and a command", entry.path));
        entry.get(key)?.ok_or_else(missing)
    };
    let (schedule, command) = (required("schedule")?, required("command")?.command()?);
    let text = schedule.string()?.trim().to_owned();
    if let Err(reason) = cron::check_schedule(&text) {
        let rule = "a schedule in five fields, such as 30 4 * * *, or @hourly, @daily, @weekly or @monthly";
        return Err(InvalidAppJson(format!("{} ({})", schedule.must(rule).0, Line::beginning(&reason, 200))));
    }
    let time_zone = match entry.get("timezone")? {
        Some(zone) if cron::is_time_zone(zone.string()?) => zone.string()?.to_owned(),
        Some(zone) => return Err(zone.must("the name of a time zone, such as Europe/Vienna")),
        None => "UTC".to_owned(),
    };
    let concurrency = match entry.get("concurrency_policy")? {
        Some(policy) => policy.string()?.parse().map_err(|()| policy.must("allow, forbid or replace"))?,
        None => Concurrency::default(),
    };
    let id = match entry.get("name")? {
        Some(name) => {
            let valid = name.string()?.parse::<ProcessType>();
            valid.map_err(|_| name.must("1 to 63 letters, digits, dots, hyphens and underscores"))?.to_string()
        }
        None => CronJob::default_id(&text, &command),
    };
    let maintenance = entry.get("maintenance")?.map(|switch| switch.boolean()).transpose()?.unwrap_or(false);
    let timeout = entry.get("timeout")?.map(|timeout| timeout.integer(1..=86_400)).transpose()?;
    Ok(CronJob {
        id,
        command,
        schedule: text,
        time_zone,
        concurrency,
        timeout_seconds: timeout.map(u64::from),
        maintenance,
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::model::{CheckHeader, CheckType, HttpProbe, Probe, Scheme};

    #[test]
    fn formation_and_checks_are_read() {
        let text = r#"{"name":"x","formation":{"web":{"quantity":2},"worker":{"quantity":0}},
            "healthchecks":{"web":[{"type":"liveness","path":"/no"},{"type":"startup","path":"/up","attempts":5,"wait":0.5}]}}"#;
        let parsed = AppJson::parse(text).expect("valid");
        assert_eq!(parsed.formation[&ProcessType::web()], 2);
        let [live, start] = &parsed.health_checks[&ProcessType::web()][..] else { panic!("{parsed:?}") };
        let (probe, wait) = (Some(Probe::Http(HttpProbe::get("/up"))), Some(Duration::from_millis(500)));
        assert_eq!(*start, DeclaredCheck { probe, attempts: Some(5), wait, ..DeclaredCheck::default() });
        assert_eq!((live.check_type, live.attempts), (CheckType::Liveness, None));
        assert_eq!(parsed.notices, [""; 0]);
        assert_eq!(parsed.metadata.as_deref(), Some("app.json: name has no effect here"));
    }

    #[test]
    fn every_key_of_a_check_is_read() {
        let text = r#"{"healthchecks":{"web":[
            {"name":"db","description":"x","path":"/up?a=1","content":"ok","httpHeaders":[{"name":"Host","value":"a.example"}],
             "scheme":"HTTPS","port":9000,"initialDelay":1,"attempts":4,"wait":2,"timeout":3,"warn":true},
            {"type":"readiness","command":["true","a b"]},{"type":"liveness","listening":true},{"uptime":1.5}]}}"#;
        let parsed = AppJson::parse(text).expect("valid");
        let [http, command, listening, uptime] = &parsed.health_checks[&ProcessType::web()][..] else {
            panic!("{parsed:?}")
        };
        let host = CheckHeader { name: "Host".into(), value: "a.example".into() };
        let probe = HttpProbe {
            path: "/up?a=1".into(),
            content: Some("ok".into()),
            headers: vec![host],
            scheme: Scheme::Https,
        };
        let expected = DeclaredCheck {
            check_type: CheckType::Startup,
            name: Some("db".into()),
            probe: Some(Probe::Http(probe)),
            port: Some(9000),
            initial_delay: Duration::from_secs(1),
            attempts: Some(4),
            wait: Some(Duration::from_secs(2)),
            timeout: Some(Duration::from_secs(3)),
            warn: true,
        };
        assert_eq!(*http, expected);
        assert_eq!(command.probe, Some(Probe::Command(vec!["true".into(), "a b".into()])));
        assert_eq!((command.check_type, listening.check_type), (CheckType::Readiness, CheckType::Liveness));
        assert_eq!(listening.probe, Some(Probe::Tcp));
        assert_eq!(uptime.probe, Some(Probe::Uptime(Duration::from_millis(1500))));
        assert_eq!(parsed.notices, [""; 0]);
    }

    #[test]
    fn a_key_of_a_check_without_effect_is_named() {
        for (check, key, why) in [
            (r#"{"content":"x"}"#, "content", "the check sends no request; give it a path"),
            (r#"{"command":["a"],"httpHeaders":[]}"#, "httpHeaders", "the check sends no request"),
            (r#"{"uptime":1,"scheme":"http"}"#, "scheme", "the check sends no request"),
            (r#"{"command":["a"],"port":1}"#, "port", "the check connects to no port"),
            (r#"{"uptime":1,"attempts":1}"#, "attempts", "the check only waits"),
            (
                r#"{"path":"/","onFailure":{"url":"http://x"}}"#,
                "onFailure",
                "paas runs no command and sends no request",
            ),
            (r#"{"path":"/","intialDelay":3}"#, "intialDelay", "it is not known; the keys of a check are type, name,"),
        ] {
            let parsed = AppJson::parse(&format!(r#"{{"healthchecks":{{"web":[{check}]}}}}"#)).expect(check);
            let [line] = &parsed.notices[..] else { panic!("{check}: {:?}", parsed.notices) };
            assert!(line.starts_with(&format!("app.json: healthchecks.web[0].{key} has no effect: {why}")), "{line}");
        }
        let of_worker = AppJson::parse(r#"{"healthchecks":{"worker":[{"timeout":9}]}}"#).unwrap();
        assert_eq!(of_worker.notices.len(), 1, "{:?}", of_worker.notices);
    }

    #[test]
    fn a_readiness_or_liveness_check_that_only_waits_is_refused() {
        for (process_type, check, kind) in [
            ("web", r#"{"uptime":1,"type":"liveness"}"#, "liveness"),
            ("web", r#"{"uptime":1,"type":"readiness"}"#, "readiness"),
            // Without a URL, the default check is an uptime.
            ("worker", r#"{"type":"readiness"}"#, "readiness"),
        ] {
            let text = format!(r#"{{"healthchecks":{{"{process_type}":[{check}]}}}}"#);
            let expected = format!(
                "app.json: healthchecks.{process_type}[0] is a {kind} check that only waits, and only a startup check can; give it a \
                 path, a command or listening, or remove it"
            );
            assert_eq!(AppJson::parse(&text).expect_err(check).to_string(), expected);
        }
    }

    #[test]
    fn errors_name_the_value_and_the_rule() {
        let quantity = "formation.web.quantity must be a whole number from 0 to 100, not";
        let seconds = "must be a number of seconds from 0 to 3600, not";
        for (text, message) in [
            ("{", "not valid JSON: Unterminated object on line 1 column 2; fix it, or delete the file"),
            ("[1, 2]", "the file must be an object, in braces, not [1,2]"),
            (r#"{"formation":[]}"#, "formation must be an object with a key for each process type, not []"),
            (r#"{"formation":{"web":2}}"#, "formation.web must be an object, in braces, not 2"),
            (r#"{"formation":{"web":{"quantity":"2"}}}"#, &format!(r#"{quantity} "2""#)),
            (r#"{"formation":{"web":{"quantity":-1}}}"#, &format!("{quantity} -1")),
            (r#"{"formation":{"web":{"quantity":1.5}}}"#, &format!("{quantity} 1.5")),
            (r#"{"formation":{"web":{"quantity":101}}}"#, &format!("{quantity} 101")),
            (r#"{"formation":{"web":{"quantity":4294967296}}}"#, &format!("{quantity} 4294967296")),
            (r#"{"healthchecks":{"web":{}}}"#, "healthchecks.web must be a list, in square brackets, not {}"),
            (r#"{"healthchecks":{"web":[1]}}"#, "healthchecks.web[0] must be an object, in braces, not 1"),
            (r#"{"healthchecks":{"web":[{"type":1}]}}"#, "healthchecks.web[0].type must be a string, in quotes, not 1"),
            (
                r#"{"healthchecks":{"web":[{"type":"liveness"},{"path":"up"}]}}"#,
                r#"healthchecks.web[1].path must be a string that begins with / and has no spaces and no #, not "up""#,
            ),
            (r#"{"healthchecks":{"web":[{"wait":1e300}]}}"#, &format!("healthchecks.web[0].wait {seconds} 1e+300")),
            (
                r#"{"healthchecks":{"web":[{"type":"start"}]}}"#,
                r#"healthchecks.web[0].type must be startup, readiness or liveness, not "start""#,
            ),
            (
                r#"{"healthchecks":{"web":[{"command":"curl localhost"}]}}"#,
                r#"healthchecks.web[0].command must be a list of words, such as ["curl", "-f", "http://localhost"], not "curl localhost""#,
            ),
            (
                r#"{"healthchecks":{"web":[{"command":["a"],"path":"/"}]}}"#,
                "healthchecks.web[0] has both command and path; keep one of the two, or make two checks of it",
            ),
            (
                r#"{"healthchecks":{"web":[{"uptime":1,"listening":true}]}}"#,
                "healthchecks.web[0] has both uptime and listening; keep one of the two, or make two checks of it",
            ),
            (
                r#"{"healthchecks":{"web":[{"path":"/","port":"5000"}]}}"#,
                r#"healthchecks.web[0].port must be a port from 1 to 65535, not "5000""#,
            ),
            (
                r#"{"healthchecks":{"web":[{"path":"/","scheme":"ftp"}]}}"#,
                r#"healthchecks.web[0].scheme must be http or https, not "ftp""#,
            ),
            (
                r#"{"healthchecks":{"web":[{"path":"/","content":1}]}}"#,
                "healthchecks.web[0].content must be a string, in quotes, not 1",
            ),
            (
                r#"{"healthchecks":{"web":[{"path":"/","httpHeaders":{"Host":"x"}}]}}"#,
                r#"healthchecks.web[0].httpHeaders must be a list, in square brackets, not {"Host":"x"}"#,
            ),
            (
                r#"{"healthchecks":{"web":[{"path":"/","httpHeaders":[{"name":"Host"}]}]}}"#,
                "healthchecks.web[0].httpHeaders[0].value is missing; a header has a name and a value",
            ),
            (
                r#"{"healthchecks":{"web":[{"path":"/","httpHeaders":[{"name":"a b","value":""}]}]}}"#,
                r#"healthchecks.web[0].httpHeaders[0].name must be the name of a header, such as Host, not "a b""#,
            ),
            (
                r#"{"healthchecks":{"web":[{"path":"/","httpHeaders":[{"name":"A","value":"x\r\nB: y"}]}]}}"#,
                r#"healthchecks.web[0].httpHeaders[0].value must be the value of a header: one line of ASCII text, not "x\r\nB: y""#,
            ),
            (
                r#"{"healthchecks":{"web":[{"warn":"yes"}]}}"#,
                r#"healthchecks.web[0].warn must be true or false, not "yes""#,
            ),
            (
                r#"{"healthchecks":{"web":[{"attempts":0}]}}"#,
                "healthchecks.web[0].attempts must be a whole number from 1 to 1000, not 0",
            ),
        ] {
            assert_eq!(AppJson::parse(text).expect_err(text).to_string(), format!("app.json: {message}"));
        }
        let error = AppJson::parse(r#"{"formation":{"we b":{"quantity":1}}}"#).expect_err("a space").to_string();
        assert!(error.starts_with("app.json: formation: ") && error.contains("process type"), "{error}");
    }

    #[test]
    fn scripts_and_jobs_are_read() {
        let text = r#"{"scripts":{"postdeploy":{"command":"seed","size":"x"},"dokku":{"predeploy":"a","postdeploy":"b"}},
            "cron":[{"command":"send","schedule":"@daily"},
                    {"name":"tidy","command":"tidy up","schedule":"0 3 * * 1","timezone":"Europe/Vienna",
                     "concurrency_policy":"forbid","timeout":60,"maintenance":true}]}"#;
        let ReleaseManifest { scripts, cron } = AppJson::parse(text).expect("valid").manifest;
        assert_eq!(
            (scripts.predeploy.as_deref(), scripts.postdeploy.as_deref(), scripts.first_deploy.as_deref()),
            (Some("a"), Some("b"), Some("seed"))
        );
        assert_eq!((cron[0].id.len(), cron[0].time_zone.as_str()), (8, "UTC"));
        assert_eq!(
            (cron[1].id.as_str(), cron[1].concurrency, cron[1].timeout_seconds),
            ("tidy", Concurrency::Forbid, Some(60))
        );
        assert!(cron[1].maintenance && !cron[0].maintenance);
    }

    #[test]
    fn a_job_that_cannot_be_understood_is_refused_with_its_key() {
        let schedule = "cron[0].schedule must be a schedule in five fields, such as 30 4 * * *, or @hourly, @daily, @weekly or \
                        @monthly, not";
        for (job, message) in [
            (r#"{"command":"x"}"#, "cron[0].schedule is missing; each job needs a schedule and a command"),
            (r#"{"schedule":"@daily","command":" "}"#, r#"cron[0].command must be a command, not " ""#),
            (
                r#"{"schedule":"@daily","command":"x","timezone":"Mars"}"#,
                r#"cron[0].timezone must be the name of a time zone, such as Europe/Vienna, not "Mars""#,
            ),
            (
                r#"{"schedule":"@daily","command":"x","concurrency_policy":"never"}"#,
                r#"cron[0].concurrency_policy must be allow, forbid or replace, not "never""#,
            ),
            (
                r#"{"schedule":"@daily","command":"x","timeout":0}"#,
                "cron[0].timeout must be a whole number from 1 to 86400, not 0",
            ),
        ] {
            let error = AppJson::parse(&format!(r#"{{"cron":[{job}]}}"#)).expect_err(job).to_string();
            assert_eq!(error, format!("app.json: {message}"));
        }
        let error =
            AppJson::parse(r#"{"cron":[{"schedule":"every day","command":"x"}]}"#).expect_err("nonsense").to_string();
        assert!(error.starts_with(&format!(r#"app.json: {schedule} "every day" ("#)), "{error}");
        let twice = r#"{"cron":[{"schedule":"@daily","command":"x"},{"schedule":"@daily","command":"x"}]}"#;
        assert!(AppJson::parse(twice).expect_err("twice").to_string().contains("cron[1]: two jobs are named"));
    }

    #[test]
    fn a_timeout_above_the_limit_of_the_server_is_refused_with_its_key() {
        let text = r#"{"cron":[{"command":"a","schedule":"@daily"},{"command":"b","schedule":"@daily","timeout":61}]}"#;
        let parsed = AppJson::parse(text).expect("valid");
        assert_eq!(parsed.check_timeouts(61), Ok(()));
        assert_eq!(
            parsed.check_timeouts(60).expect_err("too long").to_string(),
            "app.json: cron[1].timeout must be at most 60, the limit of this server (tasks.cron_seconds), not 61"
        );
    }

    #[test]
    fn a_misspelt_key_of_a_job_or_script_is_refused() {
        for (text, message) in [
            (
                r#"{"cron":[{"schedule":"@daily","command":"x","concurency_policy":"forbid"}]}"#,
                "cron[0].concurency_policy is not known; the keys of cron[0] are name, command, schedule, timezone, \
                 concurrency_policy, timeout, maintenance",
            ),
            (
                r#"{"scripts":{"dokku":{"predploy":"x"}}}"#,
                "scripts.dokku.predploy is not known; the keys of scripts.dokku are predeploy, postdeploy",
            ),
            (
                r#"{"scripts":{"dokku":{"":"x"}}}"#,
                r#"scripts.dokku."" is not known; the keys of scripts.dokku are predeploy, postdeploy"#,
            ),
            (r#"{"scripts":{"dokku":"x"}}"#, r#"scripts.dokku must be an object, in braces, not "x""#),
        ] {
            assert_eq!(AppJson::parse(text).expect_err(text).to_string(), format!("app.json: {message}"));
        }
    }

    #[test]
    fn keys_without_effect_are_told() {
        let notices = |text: &str| AppJson::parse(text).expect("valid").notices;
        assert_eq!(notices(r#"{"formation":{"web":{"quantity":null},"clock":null},"healthchecks":null}"#), [""; 0]);
        assert_eq!(
            notices(
                r#"{"name":"x","formation":{"web":{"size":"x"}},"env":{"A":{"value":1}},"icon":"x","formaton":{},"scripts":{"test":"x"}}"#
            ),
            [
                "app.json: env has no effect; config:set sets config vars",
                "app.json: formaton has no effect; did you mean formation?",
                "app.json: formation.web.size has no effect; only quantity is read; the limits of instances are those of \
                 the server",
                "app.json: these keys have no effect: icon, scripts.test",
            ]
        );
        assert_eq!(notices(r#"{"scripts":{"postdeploy":{"command":"x","size":"y"}}}"#).len(), 1);
        assert_eq!(
            notices(
                r#"{"formation":{"web":{"quantitiy":1},"release":{"quantity":1}},"scripts":{"release":"x","dokk":{}},"helthchecks":{}}"#
            ),
            [
                "app.json: helthchecks has no effect; did you mean healthchecks?",
                "app.json: formation.web.quantitiy has no effect; did you mean quantity?",
                "app.json: scripts.release has no effect; a line release: of the Procfile names the command that is run for each \
                 release",
                "app.json: scripts.dokk has no effect; did you mean dokku?",
                "app.json: formation.release has no effect; release is run once for each release",
            ]
        );
        let described =
            AppJson::parse(r#"{"name":"x","repository":"y","success_url":"/","logo":null}"#).expect("valid");
        assert_eq!(described.notices, [""; 0]);
        assert_eq!(described.metadata.as_deref(), Some("app.json: name, repository, success_url have no effect here"));
        let many = (0..50).map(|n| format!(r#""k{n}\n":1,"#)).collect::<Vec<_>>().concat();
        let line = notices(&format!("{{{many}}}")).pop().expect("a line");
        assert!(line.ends_with(r#""k19\n" and 30 more"#) && !line.contains('\n'), "{line}");
        assert_eq!(
            notices(r#"{"":1,"formation":{"web":{"a b":1}},"formation.web":{}}"#),
            [
                r#"app.json: formation.web."a b" has no effect; only quantity is read; the limits of instances are those of the server"#,
                r#"app.json: these keys have no effect: "", "formation.web""#,
            ]
        );
    }

    #[test]
    fn of_a_key_that_is_given_more_than_once_the_last_counts_and_the_others_are_told() {
        let text = r#"{"formation":{"web":{"quantity":1}},"env":{},"env":{"A":1,"A":2},
            "formation":{"web":{"quantity":2,"quantity":3},"worker":{"quantity":4}}}"#;
        let parsed = AppJson::parse(text).expect("valid");
        assert_eq!(parsed.formation.values().copied().collect::<Vec<_>>(), [3, 4]);
        assert_eq!(
            parsed.notices,
            [
                "app.json: env has no effect; config:set sets config vars",
                "app.json: these keys are given more than once; of each the last one counts, and the others have no effect: \
                 formation.web.quantity, formation",
            ]
        );
        let text = r#"{"cron":[{"schedule":"@daily","command":"a","command":"b"}]}"#;
        let parsed = AppJson::parse(text).expect("valid");
        assert_eq!(parsed.manifest.cron[0].command, "b");
        assert_eq!(
            parsed.notices,
            ["app.json: cron[0].command is given more than once; the last one counts, and the others have no effect"]
        );
    }

    #[test]
    fn an_empty_file_is_told_as_such() {
        for text in ["", " \n", "// nothing\n"] {
            let error = AppJson::parse(text).expect_err(text).to_string();
            assert_eq!(error, "app.json: the file is empty; fill it, or delete it");
        }
        assert!(
            AppJson::parse("null").expect_err("null").to_string().ends_with("must be an object, in braces, not null")
        );
    }

    #[test]
    fn comments_and_trailing_commas_are_read() {
        let text = "// of the shop\n{\"formation\": {/* two */ \"web\": {\"quantity\": 2,},},}\n";
        assert_eq!(AppJson::parse(text).expect("valid").formation[&ProcessType::web()], 2);
        let nested = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
        for bad in ["", "{", "{'a':1}", "{a:1}", r#"{"a":1 "b":2}"#, r#"{"a":0x1}"#, r#"{"a":NaN}"#, "{} {}", &nested] {
            let error = AppJson::parse(bad).expect_err(bad).to_string();
            assert!(error.starts_with("app.json: ") && !error.contains('\n'), "{error}");
        }
    }
}
