//! Which language is detected in a folder with files of several: by the buildpacks' own `bin/detect`, in the order of
//! `order.toml`. Nothing is built, so the projects in `tests/detection.toml` are little more than names of files.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    process::{Command, Stdio},
};

use serde::Deserialize;

use crate::support::command::repository_root;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    project: Vec<Project>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Project {
    /// Name of the buildpack of the app's language, or `none`.
    is: String,
    /// Description of the project.
    has: String,
    /// Empty files.
    #[serde(default)]
    files: Vec<String>,
    /// Files with contents.
    #[serde(default)]
    write: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Order {
    order: Vec<Group>,
}

#[derive(Deserialize)]
struct Group {
    group: Vec<Member>,
}

#[derive(Deserialize)]
struct Member {
    id: String,
    #[serde(default)]
    optional: bool,
}

/// Language of a folder: the last required buildpack of the first group whose required buildpacks all pass.
fn language(order: &Order, app: &Path, tools: &Path) -> String {
    let mut outcomes = BTreeMap::new();
    let mut passes = |member: &Member| {
        let name = member.id.strip_prefix("paas/").unwrap().to_owned();
        *outcomes.entry(name.clone()).or_insert_with(|| detects(&name, app, tools))
    };
    for Group { group } in &order.order {
        let required: Vec<_> = group.iter().filter(|member| !member.optional).collect();
        if required.iter().all(|member| passes(member)) {
            return required.last().unwrap().id["paas/".len()..].to_owned();
        }
    }
    "none".to_owned()
}

fn detects(buildpack: &str, app: &Path, tools: &Path) -> bool {
    let folder = repository_root().join("buildpacks").join(buildpack);
    let plan = tools.join("plan.toml");
    fs::write(&plan, "").unwrap();
    let mut command = Command::new(folder.join("bin/detect"));
    command.current_dir(app).env("CNB_BUILDPACK_DIR", &folder).env("CNB_BUILD_PLAN_PATH", &plan).stdin(Stdio::null());
    command.env("PATH", format!("{}:/usr/local/bin:/usr/bin:/bin", tools.display()));
    let output = command.output().unwrap();
    let printed = String::from_utf8_lossy(&output.stderr).into_owned();
    let _: toml::Table = fs::read_to_string(&plan).unwrap().parse().unwrap();
    match output.status.code() {
        Some(0) => true,
        Some(100) => false,
        other => panic!("{buildpack} ends with {other:?}: {printed}"),
    }
}

#[test]
fn each_project_is_detected_as_its_own_language() {
    let read = |path: &str| fs::read_to_string(repository_root().join(path)).unwrap();
    let order: Order = toml::from_str(&read("buildpacks/order.toml")).unwrap();
    let table: Table = toml::from_str(&read("tests/detection.toml")).unwrap();
    let tools = tempfile::tempdir().unwrap();
    let lifecycle = repository_root().join("target/static/x86_64-unknown-linux-gnu/release/lifecycle");
    std::os::unix::fs::symlink(lifecycle, tools.path().join("bp")).unwrap();
    let mut wrong = Vec::new();
    for Project { is, has, files, write } in table.project {
        let app = tempfile::tempdir().unwrap();
        let files = files.into_iter().map(|name| (name, String::new()));
        for (name, text) in files.chain(write) {
            let file = app.path().join(name);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, text).unwrap();
        }
        let detected = language(&order, app.path(), tools.path());
        if detected != is {
            wrong.push(format!("{has}: detected as {detected} instead of {is}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The settings that decide on the Node.js packages are empty where no such variable is set, and differ between values.
#[test]
fn settings_of_package_managers_are_read_and_may_be_missing() {
    let settings = |more: &[(&str, &str)]| {
        let mut command = Command::new("bash");
        command.args(["-euo", "pipefail", "-c", ". buildpacks/nodejs/lib/packages.sh; package_settings"]);
        command.current_dir(repository_root()).env_clear().env("CNB_TARGET_ARCH", "amd64");
        command.env("PATH", "/usr/local/bin:/usr/bin:/bin").envs(more.iter().copied());
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(settings(&[("COLOUR", "red")]), "");
    let [first, second, third] =
        [("npm_config_omit", "dev"), ("npm_config_omit", "peer"), ("CYPRESS_SKIP_BINARY_INSTALL", "1")]
            .map(|setting| settings(&[setting]));
    assert!(!first.is_empty() && first != second && first != third, "{first}{second}{third}");
}
