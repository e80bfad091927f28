use proptest::{collection::vec, prelude::Strategy, sample::select};

use super::{
    env_file::{Notation, export, import},
    parse::{Parsed, parse},
};
use crate::{
    model::{ConfigKey, Secret},
    properties::{assert_message, check, check_one_in, text_near},
};

#[test]
fn command_lines_are_read_or_refused_in_one_line() {
    let lines = [
        "ps:scale app web=3 worker=0",
        "config:set --encoded app A=b C=d",
        "logs app -n 10 --since 1h30m --process-type web",
        "run --timeout 5 app -- sh -c ls",
        "buildpacks:add app https://u:s3cret@example.com/x.git#v1 --index 2",
        "ports:set app http:80:5000 tcp:99:99",
        "network:allow app 10.0.0.0/8:443",
        "registry:login app ghcr.io name",
        "builds:set app dir services/api",
        "checks:set app wait 2.5",
        "ps:set app stop-timeout web=30",
        "releases:rollback app v12 --format json",
        "git:set app deploy-branch main",
        "apps:create --help",
    ];
    let words = select(lines.to_vec()).prop_flat_map(|line| {
        let words: Vec<&str> = line.split(' ').collect();
        let changed = vec(text_near(&words), 0..3);
        (select(vec![words]), changed, 0..words_of(line)).prop_map(|(words, changed, at)| {
            let mut words: Vec<String> = words.into_iter().map(str::to_owned).collect();
            let end = (at + changed.len()).min(words.len());
            words.splice(at..end, changed);
            words
        })
    });
    // Each defines all commands, and a help text has all that one says.
    check_one_in(8, words, |words| {
        if let (_, Parsed::Invalid(message)) = parse(words) {
            assert_message(&message);
        }
    });
}

fn words_of(line: &str) -> usize {
    line.split(' ').count()
}

#[test]
fn config_vars_are_read_or_refused_in_one_line() {
    let samples = [
        "# x\nexport A='it'\\''s'\nB=\"a\\nb \\$C\"\nC=d # e\r\n",
        "A=\n B = 'two\nlines' # c\nexport\tD=\"\\\\\"\n",
        "{\"A\": \"b\", \"C_1\": \"\\u0000\\n\", \"D\": 1}",
        "A=b",
    ];
    check(text_near(&samples), |text| {
        for notation in [None, Some(Notation::Json), Some(Notation::Env), Some(Notation::Shell)] {
            if let Err(error) = import(&text, notation) {
                assert_message(&error);
            }
        }
    });
}

#[test]
fn config_vars_are_imported_as_they_were_exported() {
    let value = text_near(&["it's", "a\\nb\r\n$C `d` \"e\"", "{\"a\": 1}", " # x ", "-----BEGIN\nx\n-----END\n"]);
    check(vec(value, 0..4), |values| {
        let vars = values.iter().enumerate().map(|(n, value)| (format!("A_{n}").parse().unwrap(), Secret::new(value)));
        let vars: Vec<(ConfigKey, Secret)> = vars.collect();
        for notation in [Notation::Json, Notation::Env, Notation::Shell] {
            let text = export(vars.iter().map(|(name, value)| (name, value)), notation);
            for read_as in [None, Some(notation)] {
                let read = import(&text, read_as).unwrap();
                assert!(read.into_iter().eq(vars.iter().cloned()), "{text}");
            }
        }
    });
}
