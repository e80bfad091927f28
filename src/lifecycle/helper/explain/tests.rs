use std::path::PathBuf;

use super::*;

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Files of rules of the built-in buildpacks.
fn built_in() -> Vec<PathBuf> {
    let mut found = Vec::new();
    for buildpack in fs::read_dir(repository().join("buildpacks")).unwrap().map(|entry| entry.unwrap().path()) {
        let one = buildpack.join("rules.toml");
        found.extend(one.is_file().then_some(one));
        let several = fs::read_dir(buildpack.join("rules")).into_iter().flatten();
        found.extend(several.map(|entry| entry.unwrap().path()));
    }
    found.push(repository().join("src/instances/start_failures.toml"));
    found.sort();
    found
}

#[test]
fn the_examples_of_the_built_in_rules_hold() {
    let mut wrong: Vec<String> = Vec::new();
    for (name, rules) in file::shared_rules().unwrap() {
        wrong.extend(check::check(&rules).into_iter().map(|line| format!("shared rule {name}: {line}")));
    }
    let files = built_in();
    for path in &files {
        match file::read(path) {
            Ok(rules) => {
                wrong.extend(check::check(&rules).into_iter().map(|line| format!("{}, {line}", path.display())));
            }
            Err(error) => wrong.push(error),
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    assert!(files.len() >= 10, "{files:?}");
}

#[test]
fn the_rules_of_the_guide_hold() {
    let guide = fs::read_to_string(repository().join("docs/buildpacks.md")).unwrap();
    let (_, rules) = guide.split_once("```toml\n# Variables").unwrap();
    let (rules, _) = rules.split_once("```").unwrap();
    let rules = file::parse(&format!("# {rules}")).unwrap();
    assert_eq!(check::check(&rules), Vec::<String>::new());
}

fn explained(rules: &str, log: &[u8], variables: &[(&str, &str)]) -> Option<(String, u8)> {
    let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let explanation = file::parse(rules).unwrap().explain(&Log::new(log), &variables)?;
    Some((explanation.sentence, explanation.status))
}

#[test]
fn the_first_rule_that_fits_explains() {
    let rules = r#"
        [variables]
        tool = ""
        [find]
        line = 'line ([0-9]+)'
        [[rule]]
        match = ['^cannot find -l(?P<library>[^: ]+)', 'cannot find .* -l([^: ]+)']
        and = 'ld returned'
        not = 'static'
        say = "no {library|{it}}{line? (line {line})}, {line:all}"
        [[rule]]
        match = 'Killed|killed'
        when = { tool = 'gcc|clang' }
        status = 3
        say = "{tool} was {it}"
    "#;
    let log =
        b"caf\xe9 \xff\r\ncannot find -lfoo: no\ncannot find -lbar: no\nline 3\nline 1\nld returned 1\nKilled\r\n";
    let gcc = [("tool", "gcc")];
    assert_eq!(explained(rules, log, &gcc).unwrap(), ("no foo (line 3), 1, 3".to_owned(), 0));
    assert_eq!(explained(rules, b"cannot find the -lfoo\nld returned", &gcc).unwrap().0, "no foo, ");
    assert_eq!(explained(rules, b"cannot find -lfoo\nld returned\nstatic", &gcc), None);
    assert_eq!(explained(rules, b"cannot find -lfoo\nKilled \r\n", &gcc).unwrap(), ("gcc was Killed".to_owned(), 3));
    assert_eq!(explained(rules, b"Killed", &[("tool", "gcc-14")]), None);
}

#[test]
fn rules_that_are_not_valid_are_refused_in_one_line() {
    for (rules, why) in [
        ("[[rule]]\nsay = 'x'\nmatches = 'y'", "line 3, key matches: unknown field"),
        ("[[rule]]\nsay = 'x'\nmatch = 7", "expected a pattern or a list of patterns"),
        ("[[rule]]\nmatch = 'y'", "rule 1: the key say is missing"),
        ("[[rule]]\nsay = 'x'\nmatch = ['y', '(']", "rule 1: \"(\" is not a valid pattern: unclosed group"),
        ("[[rule]]\nsay = 'x'\nwhen = { it = ')(' }", "is not a valid pattern"),
        ("[[rule]]\nsay = '{it}'", "rule 1: {it} is unknown"),
        ("[[rule]]\nsay = '{a|{b}}'\nmatch = '(?P<a>x)'", "rule 1: {b} is unknown"),
        ("[[rule]]\nsay = 'x'\nwhen = { tool = 'y' }", "{tool} is unknown"),
        ("[find]\na = 'x'\n[[rule]]\nmatch = '(?P<a>x)'\nsay = 'x'", "the name of another value"),
        ("[find]\na = 'x'\n[variables]\na = 'y'\n[[rule]]\nsay = 'x'", "cannot name a value"),
        ("[[rule]]\nshared = 'gremlins'", "there is no shared rule \"gremlins\""),
        ("[[rule]]\nshared = 'registry'\nwords = { who = 'x' }", "has no word \"who\""),
        ("[[rule]]\nshared = 'registry'\nsay = 'x'", "a shared rule has patterns and a sentence already"),
        ("[[rule]]\nsay = 'x'\nwords = { who = 'x' }", "only a shared rule has words"),
        ("[[rule]]\nsay = '{it}'\nmatch = 'y'\nexamples = [{ log = 'y' }]", "an example lacks says"),
        ("[[rule]]\nsay = 'x'\nexamples = [{ log = 'y', with = { a = 'b' } }]", "sets \"a\", which is no variable"),
    ] {
        let error = file::parse(rules).err().unwrap_or_else(|| panic!("{rules}"));
        assert!(error.contains(why) && !error.contains('\n'), "{rules}: {error}");
    }
}

#[test]
fn examples_are_checked() {
    let rules = |rest: &str| format!("[[rule]]\nmatch = ['a', 'b']\nsay = 'it is {{it}}'\n{rest}");
    let both = "examples = [{ log = 'a', says = 'it is a' }, { log = 'b', says = 'it is b' }]\n";
    let hidden = "[[rule]]\nmatch = 'ab'\nsay = 'x'\nexamples = [{ log = 'ab' }]\n";
    for (rest, wrong) in [
        (both, vec![]),
        ("", vec!["rule 1 has no example", "rule 1: no example for pattern 1", "rule 1: no example for pattern 2"]),
        ("examples = [{ log = 'b', says = 'it is b' }]", vec!["rule 1: no example for pattern 1"]),
        (
            "examples = [{ log = 'a', says = 'it is a' }, { log = 'b', says = 'it was b' }]",
            vec!["rule 1, example 2: it says \"it is b\", not \"it was b\"", "rule 1: no example for pattern 2"],
        ),
        (
            "examples = [{ log = 'a', says = 'it is a' }, { log = 'b', says = 'it is b' }, { log = 'c', says = 'it is c' }]",
            vec!["rule 1, example 3: no rule explains the log"],
        ),
        (
            &[both, hidden].concat(),
            vec!["rule 2, example 1: rule 1 explains the log already: it is a", "rule 2: no example for pattern 1"],
        ),
    ] {
        assert_eq!(check::check(&file::parse(&rules(rest)).unwrap()), wrong, "{rest}");
    }
    let find = "[find]\nx = ['a', 'c']\n[[rule]]\nmatch = 'a'\nsay = 'a {x}'\nexamples = [{ log = 'a', says = 'a a' }]";
    assert_eq!(check::check(&file::parse(find).unwrap()), ["find.x: no example for pattern 2"]);
}

#[test]
fn the_caller_passes_the_variables_of_the_rules() {
    let rules = file::parse("[variables]\na = ''\n[[rule]]\nsay = '{a}'").unwrap();
    assert_eq!(variables(&["a=b=c"], &rules).unwrap()["a"], "b=c");
    assert_eq!(variables(&[], &rules).unwrap_err(), "the variable a is missing");
    assert_eq!(variables(&["a=", "b="], &rules).unwrap_err(), "the rules have no variable b");
    assert_eq!(variables(&["a"], &rules).unwrap_err(), "\"a\" is not NAME=VALUE");
}
