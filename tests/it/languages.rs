//! Ordinary projects of each language, pushed as they are. Projects and expectations are data: each `tests/apps/NAME.toml`
//! describes the project in `tests/apps/NAME`, each `tests/apps/failures/LANGUAGE.toml` projects with a mistake.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde::Deserialize;

use crate::support::{
    command::{CommandOutput, repository_root, run},
    http::get_with_head,
    world::World,
};

/// A project that works.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Sample {
    language: String,
    /// A shell command that is run before the first push. It writes the lock file, which is not stored here because it would
    /// name a registry.
    prepare: Option<String>,
    /// Texts in the output of the first push.
    says: Vec<String>,
    /// Path of the request.
    #[serde(default = "root")]
    path: String,
    /// Text in the response.
    answers: String,
    /// Texts in the output of the second push, which is built with the cache.
    cached: Vec<String>,
    change: Change,
    /// Config vars.
    #[serde(default)]
    config: BTreeMap<String, String>,
    /// Config vars that builds see, too.
    #[serde(default)]
    build: BTreeMap<String, String>,
    /// Folder of the repository that is built; `None` for all of it.
    dir: Option<String>,
    /// Reason why a build of the same source without a cache gives another image, if it does.
    varies: Option<String>,
    /// Whether `make test` builds this project of its language.
    #[serde(default)]
    quick: bool,
}

/// A developer's change after the first push: a text that is replaced in a file, and in the response.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Change {
    file: String,
    from: String,
    to: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Failures {
    case: Vec<Failure>,
}

/// A project with a mistake.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Failure {
    name: String,
    /// Sample that is changed; `None` for an empty folder.
    base: Option<String>,
    #[serde(default)]
    remove: Vec<String>,
    #[serde(default)]
    write: BTreeMap<String, String>,
    /// Texts in the output of the push.
    says: Vec<String>,
    /// Whether the push succeeds, with warnings.
    #[serde(default)]
    warns: bool,
}

fn root() -> String {
    "/".to_owned()
}

fn apps() -> PathBuf {
    repository_root().join("tests/apps")
}

fn read<T: serde::de::DeserializeOwned>(path: &Path) -> T {
    toml::from_str(&fs::read_to_string(path).unwrap()).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Files of a folder whose names have this ending, by the name without it.
fn named(folder: &Path, ending: &str) -> BTreeMap<String, PathBuf> {
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let name = |path: PathBuf| Some((path.file_name()?.to_str()?.strip_suffix(ending)?.to_owned(), path.clone()));
    files.filter_map(name).collect()
}

/// A repository of an app with a copy of a sample.
fn repository(world: &World, sample: Option<&str>, app: &str) -> PathBuf {
    let folder = world.repository(app, &[]);
    if let Some(sample) = sample {
        run(Command::new("cp").arg("-a").arg(apps().join(sample).join(".")).arg(&folder)).success();
    }
    folder
}

fn prints_all(printed: CommandOutput, texts: &[String]) {
    assert!(!texts.is_empty(), "no expected text");
    texts.iter().fold(printed, |printed, text| printed.prints(text));
}

fn image(world: &World, app: &str) -> String {
    let info = world.paas(&["builds:info", app, "--format", "json"]).success().json();
    info["image"].as_str().unwrap().to_owned()
}

/// Waits until the app responds with this text in the place of the one that the change replaces.
fn check(world: &World, app: &str, sample: &Sample, text: &str) {
    let url = format!("{}{}", world.url(app).trim_end_matches('/'), sample.path);
    world.answers(&url, &sample.answers.replace(&sample.change.from, text));
}

/// A first push and its response, then a change that is built with the cache of the first.
fn builds_twice(world: &World, app: &str, sample: &Sample) {
    let folder = repository(world, Some(app), app);
    if let Some(command) = &sample.prepare {
        run(Command::new("bash").args(["-euc", command]).current_dir(&folder)).success();
    }
    world.commit(&folder, &[]);
    if !(sample.config.is_empty() && sample.build.is_empty() && sample.dir.is_none()) {
        world.paas(&["apps:create", app]).success();
    }
    let pairs = |vars: &BTreeMap<String, String>| vars.iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>();
    for (option, vars) in [(None, &sample.config), (Some("--build"), &sample.build)] {
        let pairs = pairs(vars);
        let words = ["config:set", app].into_iter().chain(option).chain(pairs.iter().map(String::as_str));
        if !pairs.is_empty() {
            world.paas(&words.collect::<Vec<_>>()).success();
        }
    }
    if let Some(dir) = &sample.dir {
        world.paas(&["builds:set", app, "dir", dir]).success();
    }
    prints_all(world.push(&folder).success(), &sample.says);
    check(world, app, sample, &sample.change.from);

    let Change { file, from, to } = &sample.change;
    let text = fs::read_to_string(folder.join(file)).unwrap();
    assert!(text.contains(from.as_str()), "{app}: {file} has no {from:?}");
    assert!(sample.answers.contains(from.as_str()), "{app}: the answer has no {from:?}");
    world.commit(&folder, &[(file, &text.replace(from.as_str(), to))]);
    prints_all(world.push(&folder).success(), &sample.cached);
    check(world, app, sample, to);
}

/// A build without a cache gives the same image.
fn builds_the_same_image_without_a_cache(world: &World, app: &str, sample: &Sample) {
    let with_cache = image(world, app);
    world.paas(&["builds:clear-cache", app]).success();
    world.paas(&["ps:rebuild", app]).success();
    match &sample.varies {
        Some(why) => eprintln!("{app}: the two images are not compared, since {why}"),
        None => assert_eq!(image(world, app), with_cache, "{app}: without a cache, the build gives another image"),
    }
    check(world, app, sample, &sample.change.to);
}

fn fails(world: &World, app: &str, failure: &Failure) {
    let folder = repository(world, failure.base.as_deref(), app);
    for name in &failure.remove {
        run(Command::new("rm").arg("-r").arg(folder.join(name))).success();
    }
    let files: Vec<_> = failure.write.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
    world.commit(&folder, &files);
    let printed = world.push(&folder);
    prints_all(if failure.warns { printed.success() } else { printed.failure() }, &failure.says);
    world.paas(&["apps:destroy", app, "--force"]).success();
}

/// The samples of a language, by name.
fn samples_of(language: &str) -> Vec<(String, Sample)> {
    let samples = named(&apps(), ".toml").into_iter().map(|(app, path)| (app, read::<Sample>(&path)));
    let samples: Vec<_> = samples.filter(|(_, sample)| sample.language == language).collect();
    assert!(!samples.is_empty(), "there is no sample of {language}");
    samples
}

/// Builds the quick sample of a language twice.
fn quick(language: &str) {
    let world = World::new();
    let mut quick = samples_of(language).into_iter().filter(|(_, sample)| sample.quick);
    let (app, sample) = quick.next().unwrap_or_else(|| panic!("no sample of {language} has quick = true"));
    assert!(quick.next().is_none(), "several samples of {language} have quick = true");
    builds_twice(&world, &app, &sample);
}

/// Builds all samples of a language with one server, each three times.
fn samples(language: &str) {
    let world = World::new();
    for (app, sample) in samples_of(language) {
        eprintln!("{app}");
        builds_twice(&world, &app, &sample);
        builds_the_same_image_without_a_cache(&world, &app, &sample);
        world.paas(&["apps:destroy", &app, "--force"]).success();
    }
}

/// Pushes all projects of a language that have a mistake.
fn failures(language: &str) {
    let world = World::new();
    let path = apps().join(format!("failures/{language}.toml"));
    let failures = read::<Failures>(&path).case;
    assert!(!failures.is_empty(), "{} has no case", path.display());
    for (number, failure) in failures.iter().enumerate() {
        eprintln!("{}", failure.name);
        fails(&world, &format!("failure-{number}"), failure);
    }
}

/// Types of files, by ending, which are the same in every server.
const FILE_TYPES: &[(&str, &str)] = &[
    ("html", "text/html"),
    ("css", "text/css"),
    ("js", "text/javascript"),
    ("mjs", "text/javascript"),
    ("json", "application/json"),
    ("webmanifest", "application/manifest+json"),
    ("wasm", "application/wasm"),
    ("svg", "image/svg+xml"),
    ("avif", "image/avif"),
    ("webp", "image/webp"),
    ("woff2", "font/woff2"),
    ("mp4", "video/mp4"),
    ("pdf", "application/pdf"),
    ("unknown", "application/octet-stream"),
];

/// A file has the same type whichever buildpack's server serves it.
#[test]
#[ignore = "slow: make test-all"]
fn files_have_the_same_types_in_every_server() {
    let world = World::new();
    let names: Vec<String> = FILE_TYPES.iter().map(|(ending, _)| format!("file.{ending}")).collect();
    for (app, page) in [("site", ("index.html", "Hello\n")), ("pages", ("index.php", "<?php echo 1;\n"))] {
        let folder = world.repository(app, &[]);
        let files: Vec<_> = names.iter().map(|name| (name.as_str(), "x\n")).chain([page]).collect();
        world.commit(&folder, &files);
        world.push(&folder).success();
        for (name, (_, expected)) in names.iter().zip(FILE_TYPES) {
            let (head, _) = get_with_head(&format!("{}/{name}", world.url(app).trim_end_matches('/'))).unwrap();
            let line = head
                .lines()
                .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-type: ").map(str::to_owned));
            let found = line.unwrap_or_else(|| panic!("{app}, {name}: {head}"));
            assert_eq!(found.split(';').next(), Some(*expected), "{app}, {name}");
        }
    }
}

macro_rules! languages {
    ($($name:ident: $language:literal,)*) => {
        mod quick {
            $(#[test] fn $name() { super::quick($language); })*
        }

        mod samples {
            $(#[test] #[ignore = "slow: make test-all"] fn $name() { super::samples($language); })*
        }

        mod failures {
            $(#[test] #[ignore = "slow: make test-all"] fn $name() { super::failures($language); })*
        }

        /// No project is left out because its language has no tests.
        #[test]
        fn every_project_is_of_a_language_with_tests() {
            let known = [$($language),*];
            for (app, path) in named(&apps(), ".toml") {
                let language = read::<Sample>(&path).language;
                assert!(known.contains(&language.as_str()), "{app}: there are no tests for {language}");
                assert!(apps().join(&app).is_dir(), "{app} does not exist");
            }
            let failures: Vec<_> = named(&apps().join("failures"), ".toml").into_keys().collect();
            assert_eq!(failures, known, "each language has a file of failures");
        }
    };
}

languages! {
    cc: "cc",
    deno: "deno",
    elixir: "elixir",
    go: "go",
    java: "java",
    nodejs: "nodejs",
    php: "php",
    python: "python",
    ruby: "ruby",
    rust: "rust",
    shell: "shell",
    static_sites: "static",
}

/// A version of Python is read in each form in which tools write it; text that names none is told apart.
#[test]
fn versions_of_python_are_read_as_tools_write_them() {
    let range = |file: &str, text: &str| {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(file), text).unwrap();
        let script = repository_root().join("buildpacks/python/lib/versions.py");
        let mut python = Command::new("python3");
        let output = run(python.arg("-I").arg(script).arg("asked").current_dir(dir.path())).success();
        let ranges: Vec<_> = output.out.lines().filter_map(|line| line.split('\t').nth(2)).collect();
        ranges.join(" ")
    };
    for text in
        ["3.11.x", "3.11.*", "\"3.11\"", "python-3.11.x", "python3.11", "cpython@3.11.4\r\n", "# why\n3.11 # this\n"]
    {
        assert_eq!(range(".python-version", text), "==3.11.*", "{text:?}");
    }
    assert_eq!(range(".python-version", ">=3.11,<3.12\n"), ">=3.11,<3.12");
    assert_eq!(range(".python-version", "~=3.11"), ">=3.11,<4");
    assert_eq!(range(".python-version", "3.12\n3.11\n"), "==3.12.* ==3.11.*");
    assert_eq!(range("runtime.txt", "python-3.11.x\n"), "==3.11.*");
    assert_eq!(range(".tool-versions", "nodejs 22\r\npython 3.11.9 3.10.1\r\n"), "==3.11.* ==3.10.*");
    assert_eq!(range("mise.toml", "[tools]\npython = [\"3.12\", \"3.11\"]\n"), "==3.12.* ==3.11.*");
    assert_eq!(range("Pipfile", "[requires]\npython_version = \"3.11.*\"\n"), "==3.11.*");
    for text in ["shop-env", "pypy3.10", "3.11-slim", "3.11.4+gc", ">=", "nodejs-20"] {
        assert_eq!(range(".python-version", text), "-", "{text:?}");
    }
    for text in ["", "# none\n", "\r\n"] {
        assert_eq!(range(".python-version", text), "", "{text:?}");
    }
}
