//! Example projects of other people: `make examples`. Each row of `tests/examples.toml` names a folder of a public repository, which
//! is pushed as it is and asked once. What differs from its row is told, and fails the test when all have been tried. `ONLY=NAME`
//! chooses those with this in their name; the repositories are cloned, or found in the folder `EXAMPLES`.

use std::{
    collections::BTreeMap,
    fmt, fs,
    io::Write as _,
    path::{Path, PathBuf},
    time::Instant,
};

use serde::Deserialize;

use crate::support::{
    command::{CommandOutput, repository_root},
    world::World,
};

/// Where a repository is cloned from, unless `EXAMPLES` has it.
const FORGE: &str = "https://github.com";

/// Seconds after which a build is ended, so that one project does not take the time of all.
const MAX_BUILD_SECONDS: u32 = 900;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    source: Vec<Source>,
}

/// A public repository at a commit.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Source {
    /// `OWNER/NAME`.
    repository: String,
    commit: String,
    example: Vec<Example>,
}

/// A project, and what is expected of it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Example {
    /// Folder of the repository; empty for all of it.
    #[serde(default)]
    folder: String,
    /// Path of the request.
    #[serde(default = "root")]
    path: String,
    /// Status of the response.
    #[serde(default = "ok")]
    status: u16,
    /// Text in the body of the response.
    #[serde(default)]
    answers: String,
    /// Texts in the output of the push.
    #[serde(default)]
    says: Vec<String>,
    /// Config vars.
    #[serde(default)]
    config: BTreeMap<String, String>,
    /// Config vars that builds see, too.
    #[serde(default)]
    build: BTreeMap<String, String>,
    /// Buildpack that builds it, where its files select another way.
    buildpack: Option<String>,
    /// Why it is not expected to answer; its push is expected to fail.
    reason: Option<String>,
}

fn root() -> String {
    "/".to_owned()
}

fn ok() -> u16 {
    200
}

/// What became of a project.
enum Outcome {
    Answered,
    /// The push failed as expected.
    Refused,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Answered => "answered",
            Self::Refused => "refused, as expected",
        })
    }
}

/// Prints a line although the test passes.
fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// A name for people and for apps: of the repository without its owner and the folder, with hyphens.
fn name_of(source: &Source, example: &Example) -> String {
    let (_, repository) = source.repository.split_once('/').expect("OWNER/NAME");
    let path = format!("{repository}/{}", example.folder.trim_start_matches("examples/"));
    let words: Vec<_> = path.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty()).collect();
    words.join("-").to_lowercase()
}

/// Objects of a repository, of the folder `EXAMPLES` or fetched from the forge.
fn objects_of(world: &World, source: &Source) -> Result<PathBuf, String> {
    let given = std::env::var_os("EXAMPLES").filter(|folder| !folder.is_empty());
    let clone = match &given {
        Some(folder) => Path::new(folder).join(&source.repository),
        None => world.dir().join("clones").join(&source.repository),
    };
    if given.is_none() {
        fs::create_dir_all(&clone).map_err(|e| format!("{}: {e}", clone.display()))?;
        succeeds(world.git(&clone, &["init", "-q", "--bare"]))?;
        let url = format!("{FORGE}/{}", source.repository);
        succeeds(world.git(&clone, &["fetch", "-q", "--depth=1", &url, &source.commit]))?;
    }
    let folders = [clone.join(".git/objects"), clone.join("objects")];
    let found = folders.into_iter().find(|objects| objects.is_dir());
    found.ok_or_else(|| format!("{} is no git repository", clone.display()))
}

fn succeeds(output: CommandOutput) -> Result<String, String> {
    if output.ok { Ok(output.out) } else { Err(output.all()) }
}

/// Pushes a commit whose tree is the project's folder, exactly as it is in its repository; returns what the push printed.
fn push(world: &World, app: &str, objects: &Path, source: &Source, example: &Example) -> Result<CommandOutput, String> {
    let folder = world.repository(app, &[]);
    fs::write(folder.join(".git/objects/info/alternates"), format!("{}\n", objects.display()))
        .map_err(|e| format!("{}: {e}", folder.display()))?;
    let tree = format!("{}:{}", source.commit, example.folder);
    let commit = succeeds(world.git(&folder, &["commit-tree", "-m", app, &tree]))?;
    succeeds(world.paas(&["apps:create", app]))?;
    for (option, vars) in [(None, &example.config), (Some("--build"), &example.build)] {
        let pairs: Vec<_> = vars.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let words = ["config:set", app].into_iter().chain(option).chain(pairs.iter().map(String::as_str));
        if !pairs.is_empty() {
            succeeds(world.paas(&words.collect::<Vec<_>>()))?;
        }
    }
    if let Some(buildpack) = &example.buildpack {
        succeeds(world.paas(&["buildpacks:add", app, buildpack]))?;
    }
    Ok(world.git(&folder, &["push", "paas", &format!("{}:refs/heads/main", commit.trim())]))
}

/// Pushes a project and asks it; an error says how it differs from its row.
fn outcome(world: &World, app: &str, objects: &Path, source: &Source, example: &Example) -> Result<Outcome, String> {
    let pushed = push(world, app, objects, source, example)?;
    let printed = pushed.all();
    let log = repository_root().join("target/tests/examples").join(format!("{app}.log"));
    fs::write(&log, &printed).map_err(|e| format!("{}: {e}", log.display()))?;
    let trouble = || printed.lines().filter(|line| line.contains(" !  ")).collect::<Vec<_>>().join("\n");
    if let Some(text) = example.says.iter().find(|text| !printed.contains(text.as_str())) {
        return Err(format!("the push does not print {text:?}\n{}", trouble()));
    }
    match (&example.reason, pushed.ok) {
        (Some(_), false) => Ok(Outcome::Refused),
        (Some(reason), true) => Err(format!("is not expected to answer ({reason}), but its push succeeded")),
        (None, false) => Err(format!("its push failed\n{}", trouble())),
        (None, true) => match world.get(&format!("{}{}", world.url(app).trim_end_matches('/'), example.path)) {
            Ok((status, body)) if status == example.status && body.contains(&example.answers) => Ok(Outcome::Answered),
            other => Err(format!(
                "{} is not answered with {} {:?} but {other:?}",
                example.path, example.status, example.answers
            )),
        },
    }
}

#[test]
#[ignore = "slow, and needs the forge: make examples"]
fn all_answer_but_those_with_a_reason() {
    let text = fs::read_to_string(repository_root().join("tests/examples.toml")).unwrap();
    let table: Table = toml::from_str(&text).unwrap_or_else(|e| panic!("tests/examples.toml: {e}"));
    fs::create_dir_all(repository_root().join("target/tests/examples")).unwrap();
    let only = std::env::var("ONLY").unwrap_or_default();
    let world = World::with(&format!("[build]\ntimeout_seconds = {MAX_BUILD_SECONDS}\n"));
    let begun = Instant::now();
    let (mut answered, mut refused, mut different) = (0, 0, Vec::new());
    for source in &table.source {
        let chosen: Vec<_> = source.example.iter().filter(|example| name_of(source, example).contains(&only)).collect();
        if chosen.is_empty() {
            continue;
        }
        let objects = objects_of(&world, source);
        for example in chosen {
            let name = name_of(source, example);
            let since = Instant::now();
            let outcome = objects.clone().and_then(|objects| outcome(&world, &name, &objects, source, example));
            let what = outcome.as_ref().map_or_else(|e| format!("DIFFERS: {e}"), ToString::to_string);
            say(&format!("{name}: {what} ({} s)", since.elapsed().as_secs()));
            match outcome {
                Ok(Outcome::Answered) => answered += 1,
                Ok(Outcome::Refused) => refused += 1,
                Err(_) => different.push(name.clone()),
            }
            // Without an app there is nothing to destroy.
            let _ = world.paas(&["apps:destroy", &name, "--force"]);
        }
    }
    let minutes = begun.elapsed().as_secs() / 60;
    say(&format!(
        "{answered} answered, {refused} were refused as expected, {} differ, in {minutes} min",
        different.len()
    ));
    assert!(answered + refused + different.len() > 0, "no project has {only:?} in its name");
    assert!(
        different.is_empty(),
        "these differ from their rows: {different:?}; the output of their pushes is in target/tests/examples"
    );
}
