use std::{
    fmt::{Debug, Display},
    str::FromStr,
};

use proptest::{
    prelude::{Just, Strategy, prop_oneof},
    sample::select,
};
use serde::{Serialize, de::DeserializeOwned};

use super::*;
use crate::properties::{assert_line, assert_message, check, text_near};

/// Properties of what is one word of text: what is read is written so that it is read again, also as JSON, and what is refused
/// has a message that may be shown.
fn check_word<T>(samples: &[&str], is_valid: impl Fn(&str) -> bool)
where
    T: FromStr<Err: Display> + Display + Debug + PartialEq + Serialize + DeserializeOwned,
{
    check(text_near(samples), |text| match text.parse::<T>() {
        Ok(value) => {
            let written = value.to_string();
            assert!(is_valid(&written), "{written:?} is accepted");
            assert_line(&written);
            assert_eq!(written.parse::<T>().ok().as_ref(), Some(&value), "{written}");
            let json = serde_json::to_string(&value).unwrap();
            assert_eq!(serde_json::from_str::<T>(&json).unwrap(), value);
        }
        Err(error) => {
            assert_message(&error);
            let json = serde_json::to_string(&text).unwrap();
            assert!(serde_json::from_str::<T>(&json).is_err(), "{json} is accepted");
        }
    });
}

/// Whether it can be one file or folder of a path, and no option of a program.
fn is_file_name(text: &str) -> bool {
    !text.is_empty() && !text.contains('/') && text != "." && text != ".." && !text.starts_with('-')
}

fn is_path_inside(text: &str, max: usize) -> bool {
    let is_part = |part: &str| is_file_name(part) || part.starts_with('-');
    text.len() <= max && !text.starts_with('-') && text.split('/').all(is_part)
}

#[test]
fn names_keep_to_their_rules() {
    let samples = ["my-app", "a", "xn--bcher-kva", "web.1", "A_b", "ann@example.com", "debian-13", "DATABASE_URL"];
    check_word::<AppName>(&samples, |name| is_file_name(name) && name.len() <= 63 && !name.contains('.'));
    check_word::<StackName>(&samples, |name| is_file_name(name) && name.len() <= 30);
    check_word::<ProcessType>(&samples, |name| is_file_name(name) && name.len() <= 63);
    check_word::<StageName>(&samples, |name| is_file_name(name) && name.len() <= 128);
    check_word::<ConfigKey>(&samples, |name| is_file_name(name) && name.len() <= 256 && !name.contains('='));
    check_word::<UserName>(&samples, |name| is_file_name(name) && name.len() <= 64);
    check_word::<KeyName>(&samples, |name| is_file_name(name) && name.len() <= 64);
    check_word::<InstanceId>(&samples, |name| is_file_name(name) && name.len() <= 120);
    check_word::<TaskId>(&samples, |name| is_file_name(name) && name.len() <= 120);
    check_word::<ServiceKey>(&["my-app/web/8080", "a/b.c/1"], |key| key.len() <= 63 + 63 + 7 && !key.contains(' '));
}

#[test]
fn paths_stay_in_their_folder() {
    let samples = ["services/api", "Dockerfile", "./docker/Dockerfile.prod", "a b/c", "ä/ö"];
    check_word::<SourceFolder>(&samples, |path| is_path_inside(path, 400));
    check_word::<DockerfilePath>(&samples, |path| is_path_inside(path, 400));
}

/// What is refused here may be a ref for git.
#[test]
fn refs_are_also_refs_for_git() {
    let samples = ["main", "feature/a", "refs/heads/main", "refs/tags/v1.2", "refs/notes/commits", "a.lock/b", "x@{1}"];
    check_word::<BranchName>(&samples, |name| {
        name.len() <= 200 && git2::Reference::is_valid_name(&format!("refs/heads/{name}"))
    });
    check_word::<OtherRef>(&samples, |name| name.len() <= 200 && git2::Reference::is_valid_name(name));
    check(text_near(&samples), |text| match RefName::parse(&text) {
        Ok(name) => {
            assert_eq!(name.full(), text);
            assert_line(&name.to_string());
            assert!(git2::Reference::is_valid_name(&text), "{text}");
        }
        Err(error) => assert_message(&error),
    });
}

#[test]
fn digests_are_safe_as_file_names() {
    let hex = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    let samples = [&format!("sha256:{hex}"), hex, &hex[..40], "sha512:00"];
    check_word::<Digest>(&samples, |digest| digest.len() == 71 && is_file_name(digest));
    check_word::<CommitId>(&samples, |id| matches!(id.len(), 40 | 64) && id.bytes().all(|b| b.is_ascii_hexdigit()));
}

#[test]
fn images_and_registries_keep_to_their_rules() {
    let samples = [
        "base:1",
        "ghcr.io/company/base:1.2-rc_3",
        "registry.example.com:5000/a/b__c",
        "[::1]:5000",
        "localhost",
        "index.docker.io/library/base",
        "user:s3cret@host.example/a",
    ];
    check_word::<RegistryHost>(&samples, |host| host.len() <= 260 && !host.contains(['/', '@', ' ']));
    check_word::<ImageName>(&samples, |name| {
        let full = name.parse::<ImageName>().unwrap().full().to_owned();
        full.len() <= 255 + 129 && full.split('/').count() > 1 && !full.contains(['@', ' '])
    });
}

#[test]
fn what_the_network_opens_is_written_as_it_is_read() {
    let samples =
        ["10.1.2.3:5432", "10.0.0.0/8", "[fd00::7]:443", "fd00::/8", "host:80", "db.example.com:5432", "a.localhost"];
    check_word::<NetworkTarget>(&samples, |target| target.len() <= 270);
    check(text_near(&samples), |text| match text.parse::<AddressBlock>() {
        Ok(block) => {
            assert_eq!(block.to_string().parse(), Ok(block));
            assert!(block.contains(block.first()) && block.covers(block));
            assert_eq!(
                block.single().is_some(),
                block.covers(block.first().into()) && AddressBlock::from(block.first()) == block
            );
        }
        Err(error) => assert_message(&error),
    });
    check(text_near(&["10.210.0.0/16", "192.168.0.0/16"]), |text| match text.parse::<AddressPlan>() {
        Ok(plan) => assert_eq!(plan.range(), text),
        Err(error) => assert_message(&error),
    });
}

#[test]
fn small_words_are_written_as_they_are_read() {
    check(text_near(&["30", "30s", "3600"]), |text| match text.parse::<StopTimeout>() {
        Ok(timeout) => {
            assert!((1..=StopTimeout::MAX_SECONDS).contains(&timeout.seconds()));
            assert_eq!(timeout.seconds().to_string().parse(), Ok(timeout));
        }
        Err(error) => assert_message(&error),
    });
    check(text_near(&["run.7", "first-deploy.1", "cron.12"]), |text| match text.parse::<TaskName>() {
        Ok(name) => assert_eq!(name.to_string().parse(), Ok(name)),
        Err(error) => assert_message(&error),
    });
    check(text_near(&["viewer", "owner"]), |text| match text.parse::<Role>() {
        Ok(role) => assert_eq!(role.as_str(), text),
        Err(error) => assert_message(&error),
    });
}

#[test]
fn sources_of_buildpacks_are_written_as_they_are_read() {
    let samples = [
        "heroku/nodejs",
        "urn:cnb:builder:a/b@1.2.3",
        "https://example.com/x.git#v1:buildpacks/go",
        "https://user:s3cret@example.com/x.git",
        "docker://example.com/x:1",
        "/srv/x.cnb",
        "./mine/bp",
    ];
    check(text_near(&samples), |text| match text.parse::<BuildpackSource>() {
        Ok(source) => {
            assert_line(&source.to_string());
            assert_eq!(source.expose().parse().as_ref(), Ok(&source));
            assert!(source.is_shown_as(&source.to_string().parse().unwrap_or_else(|error| panic!("{error}"))));
            if let BuildpackSource::App(folder) = &source {
                assert!(folder.split('/').all(|part| part != "..") && !folder.starts_with('/'), "{folder}");
            }
        }
        Err(error) => assert_message(&error),
    });
}

/// An address with a password, and the password.
fn address_with_password() -> impl Strategy<Value = (String, String)> {
    let scheme = select(vec!["https://", "http://", "HTTPS://", "docker://", "ssh://", "git+ssh://", "git://", ""]);
    let user = select(vec!["", "u", "git", "a%40b", "ann.lee"]);
    let tail = select(vec!["", "%2f", ":x", "%40x", "!$&'()*+,;=", "-._~", "ä"]);
    let host = select(vec!["example.com", "h", "h:8080", "[::1]", "[fd00::1]:80", "127.0.0.1"]);
    let path = select(vec!["", "/", "/x.git", "/a/b:1", "/x#v1", "/x?a=b", "/x?s3cret", "/x?a=s3cret&s3cret"]);
    (scheme, user, tail, host, path).prop_map(|(scheme, user, tail, host, path)| {
        let password = format!("s3cret{tail}");
        (format!("{scheme}{user}:{password}@{host}{path}"), password)
    })
}

#[test]
fn addresses_never_show_their_passwords() {
    let around = prop_oneof![Just(("", "")), Just(("fatal: unable to access '", "': 403")), Just(("(", ")"))];
    check((address_with_password(), around), |((text, password), (before, after))| {
        let address = Address::new(text.as_str());
        for shown in [address.to_string(), format!("{address:?}"), format!("{:?}", ImageReference::new(text.as_str()))]
        {
            assert!(!shown.contains("s3cret"), "{shown}");
        }
        let message = address.hide_in(&format!("{before}{text}{after}, password {password}"));
        assert!(!message.contains("s3cret"), "{message}");
        if text.contains("://") {
            let shown = address::with_shown_urls(&format!("{before}{text}{after}"));
            assert!(!shown.contains("s3cret") || text.contains("'()"), "{shown}");
        }
    });
    check(text_near(&["https://u:p@h/x?a=b#c", "git@h:x", "docker://h/x@sha256:00"]), |text| {
        let address = Address::new(text.as_str());
        let _ = (address.to_string(), address.hide_in(&text), address::with_shown_urls(&text), host_and_port(&text));
        assert_eq!(address.expose(), text);
    });
}

#[test]
fn lines_cannot_control_a_terminal() {
    check(text_near(&["\u{1b}[31mred\u{1b}[0m", "\u{1b}]0;title\u{7}", "a\tb", "50 %\r60 %"]), |text| {
        let line = Line::sanitize(&text);
        assert_line(&line);
        assert!(line.len() <= 4096 + "    …".len(), "{}", line.len());
        assert_line(&Line::printable(&text));
        assert_eq!(Line::sanitize(&line), line);
    });
}

#[test]
fn procfiles_are_read_or_refused_in_one_line() {
    let samples = ["web: node a.js --x=1:2\nworker : sh w\n", "# hi\r\nweb: a\r\n\r\nrelease: b\r\n"];
    check(text_near(&samples), |text| match Procfile::parse(&text) {
        Ok(procfile) => {
            assert!(procfile.0.iter().all(|(_, command)| !command.is_empty() && !command.contains(['\n', '\0'])));
            let written: Vec<_> = procfile.0.iter().map(|(name, command)| format!("{name}: {command}")).collect();
            assert_eq!(Procfile::parse(&written.join("\n")), Ok(procfile));
        }
        Err(error) => assert_message(&error),
    });
}

#[test]
fn app_json_is_read_or_refused_in_one_line() {
    let samples = [
        r#"{"name": "x", "formation": {"web": {"quantity": 2}, "worker": {"quantity": 0, "size": "x"}}, "environments": {}}"#,
        r#"{"healthchecks": {"web": [{"type": "startup", "name": "db", "path": "/up?a=1", "content": "ok", "attempts": 4, "wait": 0.5,
           "httpHeaders": [{"name": "Host", "value": "a.example"}], "scheme": "https", "port": 9000, "warn": true}]}}"#,
        r#"{"healthchecks": {"web": [{"type": "readiness", "command": ["true", "a b"]}, {"uptime": 1.5}, {"listening": true}]}}"#,
        r#"{"scripts": {"dokku": {"predeploy": "a", "postdeploy": "b"}, "postdeploy": {"command": "c"}}, // x
           "cron": [{"name": "j", "command": "x", "schedule": "*/5 8-18 * jan mon-fri", "timezone": "Europe/Vienna",
           "concurrency_policy": "forbid", "timeout": 60, "maintenance": false}, {"command": "y", "schedule": "@daily"}],}"#,
        r#"{"cron": [{"command": "x", "schedule": "0 0 L * 5#2"}, {"command": "y", "schedule": "0 0 15W 2 ?"}]}"#,
    ];
    check(text_near(&samples), |text| match AppJson::parse(&text) {
        Ok(parsed) => {
            parsed.notices.iter().chain(&parsed.metadata).for_each(|line| assert_line(line));
            assert!(parsed.formation.values().all(|quantity| *quantity <= AppJson::MAX_INSTANCES));
            let stored = serde_json::to_string(&parsed.manifest).unwrap();
            assert_eq!(serde_json::from_str::<ReleaseManifest>(&stored).unwrap(), parsed.manifest);
            for checks in parsed.health_checks.values() {
                let stored = serde_json::to_string(checks).unwrap();
                assert_eq!(serde_json::from_str::<Vec<DeclaredCheck>>(&stored).unwrap(), *checks);
                let settings = CheckSettings::default();
                for check in settings.all_checks(checks, Exposure::PortMappings) {
                    let _ = (check.limit(), check.at_start().limit(), check.label(), check.description());
                }
            }
        }
        Err(error) => assert_message(&error),
    });
}

#[test]
fn project_toml_is_read_or_refused_in_one_line() {
    let samples = [
        "[_]\nschema-version = \"0.2\"\n[io.buildpacks]\nexclude = [\"spec/\"]\n[[io.buildpacks.group]]\nid = \"heroku/nodejs\"\n\
         version = \"1.0\"\n[[io.buildpacks.group]]\nuri = \"https://u:s3cret@example.com/x.git\"\n",
        "[[io.buildpacks.pre.group]]\nid = 'a/b'\nscript = { api = '0.10', inline = 'x', shell = '/bin/sh' }\n",
        "[build]\ninclude = ['a']\n[[build.env]]\nname = 'A'\nvalue = '1'\n[[build.env]]\nname = 'A'\nvalue = '2'\n",
        "[_]\nschema-version = \"9\"\n[[io.buildpacks.build.env]]\nname = \"A\\u001bB\"\nvalue = 'b'\n",
    ];
    check(text_near(&samples), |text| match ProjectToml::parse(&text) {
        Ok(parsed) => {
            parsed.notices.iter().for_each(assert_message);
            assert!(parsed.env.keys().all(|name| !name.contains(['/', '=', '\0']) && !name.starts_with('.')));
        }
        Err(error) => assert_message(&error),
    });
}
