//! Processes as an image's launcher starts them, with layers in a folder of the test.

use std::{fs, os::unix::fs::PermissionsExt as _};

use super::*;

struct Image {
    dir: tempfile::TempDir,
    dirs: Dirs,
}

/// Two buildpacks, of a new and of an old kind.
const CONFIG: &str = r#"
[[buildpacks]]
id = "new"
api = "0.10"
[[buildpacks]]
id = "old/one"
api = "0.8"
[[processes]]
type = "web"
command = ["printf", "%s,"]
args = ["default"]
direct = true
buildpack-id = "new"
[[processes]]
type = "legacy"
command = ["printf %s, $WHO"]
direct = false
buildpack-id = "old/one"
[[processes]]
type = "words"
command = ["printf"]
args = ["%s,", "$WHO and you"]
direct = false
working-dir = "sub"
buildpack-id = "old/one"
[[processes]]
type = "append"
command = ["printf"]
args = ["%s,", "one"]
direct = true
buildpack-id = "old/one"
"#;

impl Image {
    fn new(files: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let dirs = Dirs { layers: at("layers"), workspace: at("workspace"), ..Dirs::default() };
        fs::create_dir_all(dirs.workspace.join("sub")).unwrap();
        let image = Self { dir, dirs };
        image.write("layers/config/metadata.toml", CONFIG);
        for (name, text) in files {
            image.write(name, text);
        }
        image
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn start(&self, process_type: Option<&str>, words: &[&str]) -> Result<String, String> {
        self.start_in("", process_type, words)
    }

    fn start_in(&self, exec_env: &str, process_type: Option<&str>, words: &[&str]) -> Result<String, String> {
        let path = "/cnb/process:/cnb/lifecycle:/usr/bin:/bin";
        let env = [("PATH", path), ("CNB_APP_DIR", "x"), ("WHO", "me"), ("CNB_EXEC_ENV", exec_env)];
        let env = env.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let words: Vec<_> = words.iter().map(|word| (*word).to_owned()).collect();
        let output = launch(&self.dirs, env, process_type, &words)?.output().map_err(|e| e.to_string())?;
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8(output.stdout).unwrap())
    }
}

#[test]
fn words_replace_arguments_or_follow_them() {
    let image = Image::new(&[]);
    assert_eq!(image.start(Some("web"), &[]).unwrap(), "default,");
    assert_eq!(image.start(Some("web"), &["a b", "c"]).unwrap(), "a b,c,");
    assert_eq!(image.start(Some("append"), &["two"]).unwrap(), "one,two,");
    assert_eq!(image.start(Some("legacy"), &[]).unwrap(), "me,");
    assert_eq!(image.start(Some("words"), &[]).unwrap(), "me and you,");
    let error = image.start(Some("other"), &[]).unwrap_err();
    assert_eq!(error, "the image has no process type other; it has: web, legacy, words, append");
}

#[test]
fn a_process_runs_in_its_execution_environments() {
    let image = Image::new(&[]);
    let own = |names: &str| CONFIG.replacen("type = \"web\"", &format!("type = \"web\"\nexec-env = [{names}]"), 1);
    for (names, test, production) in
        [("'test'", true, false), ("'production', 'x'", false, true), ("'*'", true, true), ("", true, true)]
    {
        image.write("layers/config/metadata.toml", &own(names));
        assert_eq!(image.start_in("test", Some("web"), &[]).is_ok(), test, "{names}");
        assert_eq!(image.start(Some("web"), &[]).is_ok(), production, "{names}");
    }
    image.write("layers/config/metadata.toml", &own("'test'"));
    let error = image.start(Some("web"), &[]).unwrap_err();
    assert_eq!(
        error,
        "the process type web is for the execution environment test, not for production: set CNB_EXEC_ENV"
    );
}

#[test]
fn other_commands_run_with_the_environment() {
    let image = Image::new(&[("layers/new/a/env/A", "1"), ("layers/new/a/env.launch/web/A", "2")]);
    assert_eq!(image.start(None, &["--", "printf", "%s", "$A"]).unwrap(), "$A");
    assert_eq!(image.start(None, &["echo $A; pwd"]).unwrap(), format!("1\n{}\n", image.dirs.workspace.display()));
    assert!(image.start(None, &["--"]).is_err());
    assert_eq!(image.start(None, &["--", "bash", "-c", "echo $0"]).unwrap(), "bash\n", "not the path");
    let env = image.start(None, &["env"]).unwrap();
    assert!(!env.contains("CNB_APP_DIR"), "{env}");
    assert!(!env.contains("/cnb/"), "{env}");
    assert_eq!(image.start(Some("legacy"), &[]).unwrap(), "me,");
}

#[test]
fn exec_d_and_profile_d_set_the_environment() {
    let says = |text: &str| format!("#!/bin/bash\nset -eu\necho \"{text}\" >&3\n");
    let image = Image::new(&[
        ("layers/new/a/exec.d/1", &says(r#"A = \"first $PWD\""#)),
        ("layers/new/a/exec.d/2", &says(r#"B = \"$A\""#)),
        ("layers/new/a/exec.d/legacy/3", &says(r#"WHO = \"exec.d\""#)),
        ("layers/old_one/z/profile.d/p.sh", "export WHO=\"$WHO profile.d\""),
        ("layers/old_one/z/profile.d/legacy/p.sh", "export WHO=\"$WHO own\""),
        ("workspace/.profile", "export WHO=\"$WHO app\""),
    ]);
    let app = image.dirs.workspace.display();
    assert_eq!(image.start(None, &["--", "printenv", "B"]).unwrap(), format!("first {app}\n"));
    assert_eq!(image.start(None, &["--", "printenv", "WHO"]).unwrap(), "me\n");
    image.write("layers/config/metadata.toml", &CONFIG.replace("printf %s, $WHO", "echo \\\"$WHO\\\"; pwd"));
    assert_eq!(image.start(Some("legacy"), &[]).unwrap(), format!("exec.d profile.d own app\n{app}\n"));

    for (script, says) in [
        ("#!/bin/bash\nexit 3\n", "exit status: 3"),
        ("#!/bin/bash\necho x >&3\n", "line 1"),
        ("#!/bin/bash\nyes >&3\n", "more than 1 MiB"),
        ("#!/bin/bash\necho 'A = 3' >&3\n", "key A"),
    ] {
        image.write("layers/new/a/exec.d/1", script);
        let error = image.start(Some("web"), &[]).unwrap_err();
        assert!(error.contains("exec.d/1: ") && error.contains(says), "{error}");
    }
}

#[test]
fn search_paths_are_in_the_reverse_order_of_buildpacks() {
    let image = Image::new(&[
        ("layers/new/a/bin/x", ""),
        ("layers/new/b/bin/x", ""),
        ("layers/old_one/c/bin/x", ""),
        ("layers/new/a/env/PATH.append", "/last"),
        ("layers/new/a/env/PATH.delim", ":"),
    ]);
    let path = image.start(None, &["--", "printenv", "PATH"]).unwrap();
    let layers = image.dirs.layers.display();
    assert_eq!(path, format!("{layers}/old_one/c/bin:{layers}/new/b/bin:{layers}/new/a/bin:/usr/bin:/bin:/last\n"));
}
