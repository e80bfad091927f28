//! `project.toml`, the project descriptor of Cloud Native Buildpacks (schema 0.2, and its equivalents of schema 0.1).

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{
    BuildpackSource, Line,
    address::with_shown_urls,
    ignored_keys::{self, shown_key},
    toml_message,
};

/// Why a `project.toml` is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("project.toml{0}")]
pub struct InvalidProjectToml(String);

/// The parts of a `project.toml` that paas reads.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProjectToml {
    /// Buildpacks to use, in order; if there are none, detection chooses.
    pub group: Vec<ProjectBuildpack>,
    /// Buildpacks before every group.
    pub pre: Vec<ProjectBuildpack>,
    /// Buildpacks after every group.
    pub post: Vec<ProjectBuildpack>,
    /// Variables of the build.
    pub env: BTreeMap<String, String>,
    /// Files that are part of the build.
    pub files: Files,
    /// Lines for the developer about keys that have no effect.
    pub notices: Vec<String>,
}

/// The files that are part of a build; patterns as in `.gitignore`.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Files {
    /// Every file.
    #[default]
    All,
    /// Only files that match these patterns.
    Include(Vec<String>),
    /// All files but those that match these patterns.
    Exclude(Vec<String>),
}

/// A buildpack that a project names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProjectBuildpack {
    /// A buildpack with a source.
    At(BuildpackSource),
    /// A script in the `project.toml` itself.
    Inline {
        /// Id of the buildpack.
        id: String,
        /// Version of the Buildpack API that it uses.
        api: String,
        /// Interpreter of the script, as an absolute path.
        shell: String,
        /// Text of its `bin/build`, without the `#!` line.
        script: String,
    },
}

#[derive(Deserialize)]
struct Document {
    #[serde(rename = "_", default)]
    about: About,
    #[serde(default)]
    io: Io,
    /// Schema 0.1.
    build: Option<Buildpacks>,
}

#[derive(Default, Deserialize)]
struct About {
    #[serde(rename = "schema-version")]
    schema_version: Option<String>,
}

#[derive(Default, Deserialize)]
struct Io {
    buildpacks: Option<Buildpacks>,
}

#[derive(Default, Deserialize)]
struct Buildpacks {
    include: Option<Vec<String>>,
    exclude: Option<Vec<String>>,
    #[serde(default, alias = "buildpacks")]
    group: Vec<Entry>,
    #[serde(default)]
    pre: Group,
    #[serde(default)]
    post: Group,
    #[serde(default)]
    build: Build,
    /// Schema 0.1.
    #[serde(default)]
    env: Vec<Variable>,
}

#[derive(Default, Deserialize)]
struct Group {
    #[serde(default)]
    group: Vec<Entry>,
}

#[derive(Default, Deserialize)]
struct Build {
    #[serde(default)]
    env: Vec<Variable>,
}

#[derive(Deserialize)]
struct Variable {
    name: String,
    #[serde(default)]
    value: String,
}

#[derive(Deserialize)]
struct Entry {
    id: Option<String>,
    version: Option<String>,
    uri: Option<String>,
    script: Option<Script>,
}

#[derive(Deserialize)]
struct Script {
    api: String,
    inline: String,
    shell: Option<String>,
}

/// What the parser says about tables, lists or dotted keys that are nested too deeply.
const TOO_DEEP: [&str; 2] = ["recursion limit", "max recursion depth met"];

impl ProjectToml {
    /// Parses the text of a `project.toml`; the error names the key.
    pub fn parse(text: &str) -> Result<Self, InvalidProjectToml> {
        let invalid_toml = |e: toml::de::Error| {
            let line = e.span().map_or(1, |span| text.get(..span.start).unwrap_or(text).matches('\n').count() + 1);
            let message = toml_message(&e);
            if TOO_DEEP.iter().any(|text| message.contains(text)) {
                return InvalidProjectToml(format!(
                    ", line {line}: it is nested more than 80 levels deep; make it flatter"
                ));
            }
            InvalidProjectToml(format!(", line {line}: {}", Line::excerpt(&with_shown_urls(&message))))
        };
        let mut unused = Vec::new();
        let document: Document = toml::Deserializer::parse(text)
            .and_then(|document| serde_ignored::deserialize(document, |path| unused.push(key_of(&path))))
            .map_err(invalid_toml)?;
        if let Some(version) = &document.about.schema_version
            && !matches!(version.as_str(), "0.1" | "0.2")
        {
            return Err(invalid(
                "_.schema-version",
                &format!("{:?} is not supported; write \"0.2\"", Line::excerpt(version)),
            ));
        }
        if document.build.is_some() && document.about.schema_version.is_some() {
            unused.push("build".to_owned());
        }
        // Without a schema version it is 0.1, whose table is `build`.
        let build = document.build.filter(|_| document.about.schema_version.is_none());
        if build.is_some() && document.io.buildpacks.is_some() {
            unused.push("io.buildpacks".to_owned());
        }
        let buildpacks = build.or(document.io.buildpacks).unwrap_or_default();
        let is_old = document.about.schema_version.as_deref().is_none_or(|version| version == "0.1");
        unused.retain(|key| !describes_project(key, is_old));
        let mut notices = ignored_keys::lines("project.toml", unused, |key| advice(key).map(str::to_owned));
        let files = match (buildpacks.include, buildpacks.exclude) {
            (Some(_), Some(_)) => return Err(invalid("io.buildpacks.include", "give include or exclude, not both")),
            (Some(patterns), None) => Files::Include(patterns),
            (None, Some(patterns)) => Files::Exclude(patterns),
            (None, None) => Files::All,
        };
        let mut env = BTreeMap::new();
        for Variable { name, value } in buildpacks.build.env.into_iter().chain(buildpacks.env) {
            if name.is_empty() || name.contains(['=', '/', '\0']) || name.starts_with('.') || value.contains('\0') {
                let name = Line::excerpt(&name);
                return Err(invalid(
                    "io.buildpacks.build.env",
                    &format!("{name:?} is not a valid variable name, or its value has a NUL byte"),
                ));
            }
            if env.insert(name.clone(), value).is_some() {
                let name = Line::excerpt(&name);
                notices.push(format!("project.toml: the variable {name} is given more than once; the last one counts"));
            }
        }
        let mut read = |entries: Vec<Entry>, key: &str| {
            let read = |(i, entry): (usize, Entry)| {
                let unused = entry
                    .unused()
                    .map(|(unused, why)| format!("project.toml: {key}.{i}.{unused} has no effect; {why}"));
                notices.extend(unused);
                entry.read(key)
            };
            entries.into_iter().enumerate().map(read).collect::<Result<Vec<_>, _>>()
        };
        let group = read(buildpacks.group, "io.buildpacks.group")?;
        let pre = read(buildpacks.pre.group, "io.buildpacks.pre.group")?;
        let post = read(buildpacks.post.group, "io.buildpacks.post.group")?;
        Ok(Self { group, pre, post, env, files, notices })
    }
}

/// A key as the developer writes it.
fn key_of(path: &serde_ignored::Path<'_>) -> String {
    use serde_ignored::Path as P;
    let below = |parent: &P<'_>, name: String| match key_of(parent).as_str() {
        "" => name,
        parent => format!("{parent}.{name}"),
    };
    match path {
        P::Root => String::new(),
        P::Seq { parent, index } => below(parent, index.to_string()),
        P::Map { parent, key } => below(parent, shown_key(key)),
        P::Some { parent } | P::NewtypeStruct { parent } | P::NewtypeVariant { parent } => key_of(parent),
    }
}

/// Whether a key only describes the project, for people and catalogues.
fn describes_project(key: &str, is_old: bool) -> bool {
    const NAMES: [&str; 8] =
        ["id", "name", "version", "authors", "licenses", "documentation-url", "source-url", "metadata"];
    let is_name = |rest: &str| {
        NAMES.iter().any(|name| rest.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('.')))
    };
    key.strip_prefix("_.").is_some_and(is_name) || (is_old && matches!(key, "project" | "metadata"))
}

/// What to do instead of a key that has no effect.
fn advice(key: &str) -> Option<&'static str> {
    match key {
        "build" => Some("with a schema-version, the tables of the build are below io.buildpacks"),
        "io.buildpacks" => Some("write schema-version = \"0.2\" below [_], and remove the table build"),
        _ if key.starts_with("io.buildpacks.") => Some("is it misspelt?"),
        _ => None,
    }
}

fn invalid(key: &str, message: &str) -> InvalidProjectToml {
    InvalidProjectToml(format!(", key {key}: {message}"))
}

impl Entry {
    /// The key that has no effect beside another one, and why.
    fn unused(&self) -> Option<(&'static str, &'static str)> {
        match self {
            Self { script: Some(_), version: Some(_), uri: None, .. } => Some(("version", "a script has none")),
            Self { uri: Some(_), id: Some(_), .. } => Some(("id", "the buildpack at the uri has its own")),
            _ => None,
        }
    }

    fn read(self, key: &str) -> Result<ProjectBuildpack, InvalidProjectToml> {
        let source = |text: &str| text.parse().map_err(|e: super::InvalidName| invalid(key, &e.to_string()));
        match self {
            Self { id, version: _, uri: None, script: Some(Script { api, inline, shell }) } => {
                let shell = shell.unwrap_or_else(|| "/bin/sh".to_owned());
                if shell.contains(['\n', '\0']) || !shell.starts_with('/') {
                    return Err(invalid(
                        key,
                        &format!("script.shell {:?} is not an absolute path", Line::excerpt(&shell)),
                    ));
                }
                let id = id.unwrap_or_else(|| "project/inline".to_owned());
                Ok(ProjectBuildpack::Inline { id, api, shell, script: inline })
            }
            Self { uri: Some(uri), version: None, script: None, .. } => {
                // `pack` accepts paths without `./`, too.
                let bare = !uri.contains(':') && !uri.starts_with(['/', '.']);
                source(&if bare { format!("./{uri}") } else { uri }).map(ProjectBuildpack::At)
            }
            Self { id: Some(id), version, uri: None, script: None } => {
                let text = version.map_or_else(|| id.clone(), |version| format!("{id}@{version}"));
                source(&text).map(ProjectBuildpack::At)
            }
            _ => Err(invalid(key, "an entry has id (and version), or uri, or a script (with an id)")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_keys_are_found() {
        let text = "[_]\nschema-version = '0.2'\nother = 1\n[io.buildpacks]\nexlude = ['x']\n[[io.buildpacks.group]]\n\
                    id = 'a/b'\nversoin = '1'\n[[io.buildpacks.build.env]]\nname = 'A'\nvalue = 'b'\n[io.other]\nx = 1\n";
        let project = ProjectToml::parse(text).expect("valid");
        assert_eq!(
            project.notices,
            [
                "project.toml: io.buildpacks.exlude has no effect; is it misspelt?",
                "project.toml: io.buildpacks.group.0.versoin has no effect; is it misspelt?",
                "project.toml: these keys have no effect: _.other, io.other",
            ]
        );
    }

    #[test]
    fn what_has_no_effect_beside_something_else_is_found() {
        let text = "[build]\nexclude = ['a']\n[io.buildpacks]\nexclude = ['b']\n[[build.env]]\nname = 'A'\nvalue = '1'\n\
                    [[build.env]]\nname = 'A'\nvalue = '2'\n";
        let project = ProjectToml::parse(text).expect("valid");
        assert_eq!((project.env["A"].as_str(), &project.files), ("2", &Files::Exclude(vec!["a".to_owned()])));
        assert_eq!(
            project.notices,
            [
                "project.toml: io.buildpacks has no effect; write schema-version = \"0.2\" below [_], and remove the table build",
                "project.toml: the variable A is given more than once; the last one counts",
            ]
        );
        let text = "[[io.buildpacks.group]]\nuri = 'mine/bp'\nid = 'a/b'\n[[io.buildpacks.post.group]]\nid = 'a/c'\n\
                    version = '1'\nscript = { api = '0.10', inline = 'x' }\n";
        assert_eq!(
            ProjectToml::parse(text).expect("valid").notices,
            [
                "project.toml: io.buildpacks.group.0.id has no effect; the buildpack at the uri has its own",
                "project.toml: io.buildpacks.post.group.0.version has no effect; a script has none",
            ]
        );
    }

    #[test]
    fn a_message_is_one_short_line_whatever_is_in_the_file() {
        let long = "x".repeat(5000);
        let twice = "[[io.buildpacks.build.env]]\nname = \"A\\u001b[31m\\nB\"\n".repeat(2);
        assert_eq!(
            ProjectToml::parse(&twice).expect("valid").notices,
            ["project.toml: the variable A B is given more than once; the last one counts"]
        );
        for text in [
            format!("[_]\nschema-version = '{long}'"),
            format!("[io.buildpacks]\nexclude = '{long}'"),
            format!("[[io.buildpacks.build.env]]\nname = '{long}/'"),
            format!("[[io.buildpacks.group]]\nscript = {{api = '1', inline = '', shell = '{long}'}}"),
        ] {
            let error = ProjectToml::parse(&text).unwrap_err().to_string();
            assert!(error.len() < 500, "{error}");
        }
    }

    #[test]
    fn an_unclear_key_is_quoted() {
        let project = ProjectToml::parse("\"\" = 1\n[\"a\\nb\".\"?\"]\n[io.buildpacks]\n\"x.y\" = 1").expect("valid");
        assert_eq!(
            project.notices,
            [
                r#"project.toml: io.buildpacks."x.y" has no effect; is it misspelt?"#,
                r#"project.toml: these keys have no effect: "", "a\nb""#,
            ]
        );
    }

    #[test]
    fn deep_nesting_is_refused_in_the_stack_of_a_worker() {
        let deep = |open: &str, close: &str| format!("x = {}1{}", open.repeat(20_000), close.repeat(20_000));
        let dotted = "a.".repeat(100_000);
        let too_deep = [
            deep("[", "]"),
            deep("{a=", "}"),
            deep("{a.a.a.a.a=[", "]}"),
            format!("{dotted}a = 1"),
            format!("[{dotted}a]"),
            format!("[[{dotted}a]]"),
            format!("[io.buildpacks.{dotted}a]"),
        ];
        // As deep as each of them may be.
        let deep = format!("[{0}a]\n{0}a = {1}{{{0}a = 1}}{2}", "a.".repeat(78), "[".repeat(78), "]".repeat(78));
        let parse = |text: String| {
            let parse = move || ProjectToml::parse(&text).map(drop).map_err(|error| error.to_string());
            let parsed = std::thread::Builder::new().stack_size(2 << 20).spawn(parse).expect("a thread");
            parsed.join().expect("no panic")
        };
        let refused = "project.toml, line 1: it is nested more than 80 levels deep; make it flatter";
        for text in too_deep {
            assert_eq!(parse(text), Err(refused.to_owned()));
        }
        assert_eq!(parse(deep), Ok(()));
    }

    #[test]
    fn a_project_is_read() {
        let text = r#"
            [_]
            schema-version = "0.2"
            id = "x"
            [io.buildpacks]
            exclude = ["spec/"]
            [[io.buildpacks.group]]
            id = "heroku/nodejs"
            version = "1.0"
            [[io.buildpacks.group]]
            uri = "https://example.com/x.git"
            [[io.buildpacks.group]]
            id = "me/post"
            [io.buildpacks.group.script]
            api = "0.10"
            inline = "./post.sh"
            [[io.buildpacks.pre.group]]
            uri = "mine/bp"
            [[io.buildpacks.build.env]]
            name = "JAVA_OPTS"
            value = "-Xmx1g"
        "#;
        let read = ProjectToml::parse(text).unwrap();
        assert_eq!(read.group.len(), 3);
        assert!(
            matches!(&read.group[2], ProjectBuildpack::Inline { id, shell, .. } if id == "me/post" && shell == "/bin/sh")
        );
        assert_eq!(read.pre, [ProjectBuildpack::At(BuildpackSource::App("mine/bp".into()))]);
        assert_eq!(read.env["JAVA_OPTS"], "-Xmx1g");
        assert_eq!(read.files, Files::Exclude(vec!["spec/".into()]));
        assert_eq!(read.notices, [""; 0], "the id only describes it");
        let old = "[project]\nid = 'x'\nname = 'X'\n[[project.licenses]]\ntype = 'MIT'\n[metadata]\nx = 1\n\
            [build]\ninclude = ['*.go']\n[[build.buildpacks]]\nid = 'a/b'\n[[build.env]]\nname = 'A'\nvalue = 'b'\n";
        let read = ProjectToml::parse(old).unwrap();
        assert_eq!(read.notices, [""; 0]);
        assert_eq!((read.group.len(), read.env["A"].as_str()), (1, "b"));
        let other = ProjectToml::parse("[package]\nname = 'x'\n").unwrap();
        let notices = vec!["project.toml: the key package has no effect".to_owned()];
        assert_eq!(other, ProjectToml { notices, ..ProjectToml::default() });
    }

    #[test]
    fn errors_name_the_key() {
        for (text, message) in [
            ("x = ", "project.toml, line 1: "),
            ("[_]\nschema-version = '3'", "project.toml, key _.schema-version: "),
            ("[io.buildpacks]\ninclude = []\nexclude = []", "give include or exclude, not both"),
            ("[[io.buildpacks.group]]\nversion = '1'", "key io.buildpacks.group: an entry has id"),
            ("[[io.buildpacks.group]]\nuri = '../x'", "key io.buildpacks.group: "),
            ("[[io.buildpacks.build.env]]\nname = 'a/b'", "key io.buildpacks.build.env: "),
        ] {
            let error = ProjectToml::parse(text).unwrap_err().to_string();
            assert!(error.contains(message) && !error.contains('\n'), "{error}");
        }
    }

    #[test]
    fn errors_show_no_credentials() {
        for text in [
            "[[io.buildpacks.group]]\nuri = 'ftp://user:s3cret@host/x'",
            "[[io.buildpacks.group]]\nid = 'https://user:s3cret@host/x y'",
            "[io.buildpacks]\ngroup = 'https://user:s3cret@host/x'",
        ] {
            let error = ProjectToml::parse(text).unwrap_err().to_string();
            assert!(error.contains("://host/x") && !error.contains("s3cret"), "{error}");
        }
    }
}
