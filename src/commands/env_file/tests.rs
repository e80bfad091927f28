use super::*;

fn vars(pairs: &[(&str, &str)]) -> ConfigVars {
    pairs.iter().map(|(name, value)| (name.parse().unwrap(), Secret::new(*value))).collect()
}

fn read(text: &str) -> Vec<(String, String)> {
    let vars = import(text, None).unwrap_or_else(|error| panic!("{text:?}: {error}"));
    vars.iter().map(|(name, value)| (name.to_string(), value.expose().to_owned())).collect()
}

fn value(text: &str) -> String {
    let read = read(text);
    assert_eq!(read.len(), 1, "{text:?}: {read:?}");
    read[0].1.clone()
}

const VALUES: [&str; 22] = [
    "",
    " ",
    "plain",
    " spaces around ",
    "it's \"quoted\"",
    "'",
    "''",
    "\"",
    "'\\''",
    "$HOME ${HOME} $(id) `id` \\$HOME",
    "back\\slash \\n \\\\ \\",
    "line\nbreak\n",
    "\n\nexport A='b'\n# no comment\nC=d",
    "carriage\r\nreturn\r",
    "tab\there",
    "a # b",
    "#a",
    "=a=b=",
    "über 日本語 🚀 \u{301}",
    "{\"json\": [1, 2]}",
    "!event! *glob* ~ a;b&c|d <e>",
    "-----BEGIN KEY-----\nMIIE/+=\n-----END KEY-----\n",
];

#[test]
fn every_value_that_is_exported_is_imported_unchanged() {
    let all: ConfigVars =
        (0..).zip(VALUES).map(|(n, value)| (format!("V{n}").parse().unwrap(), Secret::new(value))).collect();
    for notation in [Notation::Shell, Notation::Env, Notation::Json] {
        let text = export(all.iter(), notation);
        for given in [None, Some(notation)] {
            assert_eq!(import(&text, given).unwrap(), all, "{notation:?} {given:?}: {text}");
        }
        for (name, value) in &all {
            let text = export([(name, value)].into_iter(), notation);
            assert_eq!(import(&text, None).unwrap()[name], *value, "{notation:?}: {text}");
        }
    }
}

#[test]
fn a_shell_reads_the_exported_values_unchanged() {
    for expected in VALUES {
        let script = export(vars(&[("VALUE", expected)]).iter(), Notation::Shell) + "printf %s \"$VALUE\"";
        let output = std::process::Command::new("sh").args(["-euc", &script]).output().unwrap();
        assert_eq!(String::from_utf8(output.stdout).unwrap(), expected, "{script}");
    }
}

#[test]
fn exported_text_has_the_form_that_its_readers_expect() {
    let all = vars(&[("A", "it's"), ("B", "two\n\"lines\" $x")]);
    assert_eq!(export(all.iter(), Notation::Shell), "export A='it'\\''s'\nexport B='two\n\"lines\" $x'\n");
    assert_eq!(export(all.iter(), Notation::Env), "A=\"it's\"\nB=\"two\\n\\\"lines\\\" \\$x\"\n");
    let json: Value = serde_json::from_str(&export(all.iter(), Notation::Json)).unwrap();
    assert_eq!(json, serde_json::json!({ "A": "it's", "B": "two\n\"lines\" $x" }));
    let none = ConfigVars::new();
    assert_eq!(export(none.iter(), Notation::Shell), "");
    assert_eq!(export(none.iter(), Notation::Json), "{}\n");
}

#[test]
fn an_env_file_is_read_with_comments_blank_lines_and_export() {
    let text = "# comment\r\n\r\n  A=1\r\nexport B=two words  # comment\n\n\texport\tC = 'x' # y\n#D=4\n\
                export=5\nexport2=6\nE=\nA=7";
    let expected = [("A", "7"), ("B", "two words"), ("C", "x"), ("E", ""), ("export", "5"), ("export2", "6")];
    assert_eq!(read(text), expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    for empty in ["", "\n\n", "# only a comment", "{}"] {
        assert!(read(empty).is_empty(), "{empty:?}");
    }
}

#[test]
fn values_without_quotes_are_literal() {
    for (text, expected) in [
        ("A=b#c", "b#c"),
        ("A=#c", "#c"),
        ("A= #c", ""),
        ("A=b #c", "b"),
        ("A=b#c #d", "b#c"),
        ("A=$HOME\\n$(id)", "$HOME\\n$(id)"),
        ("A=b\"c\"'d", "b\"c\"'d"),
        ("A=b=c==", "b=c=="),
        ("A=\tb \t\r\n", "b"),
        ("A=ü # ü", "ü"),
    ] {
        assert_eq!(value(text), expected, "{text:?}");
    }
}

#[test]
fn quotes_are_read_as_in_a_shell_or_an_env_file() {
    for (text, expected) in [
        (r"A='b\n$c'", r"b\n$c"),
        (r#"A="b\nc\td\r""#, "b\nc\td\r"),
        (r#"A="\"\\\$\`""#, "\"\\$`"),
        (r#"A="\d$HOME""#, r"\d$HOME"),
        ("A=\"two\nlines\"", "two\nlines"),
        ("A='two\nlines'", "two\nlines"),
        ("A=\"one \\\nline\"", "one line"),
        ("A='it'\\''s'", "it's"),
        ("A='it'\"'\"'s'", "it's"),
        ("A='a#b' # comment", "a#b"),
        ("A= \"b\" \r\n", "b"),
        ("A=''", ""),
    ] {
        assert_eq!(value(text), expected, "{text:?}");
    }
}

#[test]
fn json_is_one_object_of_strings() {
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(read("\n {\"B\": \"x\\ny\", \"A\": \"\"}"), [pair("A", ""), pair("B", "x\ny")]);
    assert_eq!(import("[]", Some(Notation::Json)), Err(InvalidVars::NotAnObject));
    assert_eq!(import("{", Some(Notation::Env)), Err(InvalidVars::NoAssignment(1)));
}

#[test]
fn an_error_names_the_line_and_never_a_value() {
    for (text, expected) in [
        ("A=1\nhunter2", "line 2 is not NAME=value;"),
        ("export hunter2\n", "line 1 is not NAME=value;"),
        ("\nA=1\nhunter2-=1", "line 3 begins with an invalid name; use letters, digits and underscores"),
        ("=hunter2", "line 1 begins with an invalid name;"),
        ("A B=hunter2", "line 1 begins with an invalid name;"),
        ("A=1\nB='hunter2\nC=2\n", "line 2 opens a quote that is never closed;"),
        ("B=\"hunter2\\\"", "line 1 opens a quote that is never closed;"),
        ("A='x\ny'\nB='hunter2' hunter2", "line 3 has text after the closing quote;"),
        ("B=\"hunter2\n\"#hunter2", "line 2 has text after the closing quote;"),
        ("{\n\"A\": \"hunter2\",\n\"B\": hunter2}", "line 3 is not valid JSON;"),
        ("{\"A\": \"hunter2\"} hunter2", "line 1 is not valid JSON;"),
        ("{\"A\": \"1\", \"hunter2!\": \"x\"}", "key 2 of the JSON object is an invalid name; use letters"),
        ("{\"A\": {\"hunter2\": 2}}", "the value of A is not a string;"),
        ("{\"A\": 5}", "the value of A is not a string;"),
    ] {
        let error = import(text, None).expect_err(text).to_string();
        assert!(error.starts_with(expected), "{text:?}: {error}");
        assert!(!error.contains("hunter2") && !error.contains('\n'), "{error}");
    }
}
