//! `project.toml`, the project descriptor of Cloud Native Buildpacks (schema 0.2, and what 0.1 called the same).

use std::collections::BTreeMap;

use serde::Deserialize;

use super::BuildpackSource;

/// Why a `project.toml` is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("project.toml{0}")]
pub struct InvalidProjectToml(String);

/// What paas reads of a `project.toml`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProjectToml {
    /// The buildpacks to use, in order; none to leave it to detection.
    pub group: Vec<ProjectBuildpack>,
    /// Those that come before every group.
    pub pre: Vec<ProjectBuildpack>,
    /// Those that come after every group.
    pub post: Vec<ProjectBuildpack>,
    /// Variables of the build.
    pub env: BTreeMap<String, String>,
    /// Which files are built.
    pub files: Files,
    /// Keys among ours that mean nothing, for they may be misspelt.
    pub unknown: Vec<String>,
}

/// Which files are built; patterns as in `.gitignore`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Files {
    /// Every file.
    #[default]
    All,
    /// Only those that these name.
    Include(Vec<String>),
    /// All but those that these name.
    Exclude(Vec<String>),
}

/// A buildpack that a project names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProjectBuildpack {
    /// It is somewhere.
    At(BuildpackSource),
    /// It is written down here.
    Inline {
        /// Its id.
        id: String,
        /// The Buildpack API that it keeps to.
        api: String,
        /// What runs it.
        shell: String,
        /// Its `bin/build`, without the first line.
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
    #[serde(default)]
    buildpacks: Buildpacks,
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

impl ProjectToml {
    /// What a developer should be told of it.
    pub fn warnings(&self) -> impl Iterator<Item = String> {
        self.unknown.iter().map(|key| format!("project.toml, key {key}: nothing reads it; is it misspelt?"))
    }

    /// Parses the text of a `project.toml`; the error names the key.
    pub fn parse(text: &str) -> Result<Self, InvalidProjectToml> {
        let document: Document = toml::from_str(text).map_err(|e| {
            let line = e.span().map_or(1, |span| text.get(..span.start).unwrap_or(text).matches('\n').count() + 1);
            let message = e.message().split_whitespace().collect::<Vec<_>>().join(" ");
            InvalidProjectToml(format!(", line {line}: {message}"))
        })?;
        if let Some(version) = &document.about.schema_version
            && !matches!(version.as_str(), "0.1" | "0.2")
        {
            return Err(wrong("_.schema-version", &format!("{version:?} is not known; write \"0.2\"")));
        }
        // Without a schema version it is 0.1, whose table is `build`.
        let buildpacks =
            document.build.filter(|_| document.about.schema_version.is_none()).unwrap_or(document.io.buildpacks);
        let files = match (buildpacks.include, buildpacks.exclude) {
            (Some(_), Some(_)) => return Err(wrong("io.buildpacks.include", "give include or exclude, not both")),
            (Some(patterns), None) => Files::Include(patterns),
            (None, Some(patterns)) => Files::Exclude(patterns),
            (None, None) => Files::All,
        };
        let mut env = BTreeMap::new();
        for Variable { name, value } in buildpacks.build.env.into_iter().chain(buildpacks.env) {
            if name.is_empty() || name.contains(['=', '/', '\0']) || name.starts_with('.') || value.contains('\0') {
                return Err(wrong("io.buildpacks.build.env", &format!("{name:?} is no name for a variable")));
            }
            env.insert(name, value);
        }
        let read = |entries: Vec<Entry>, key: &str| {
            entries.into_iter().map(|entry| entry.read(key)).collect::<Result<Vec<_>, _>>()
        };
        Ok(Self {
            group: read(buildpacks.group, "io.buildpacks.group")?,
            pre: read(buildpacks.pre.group, "io.buildpacks.pre.group")?,
            post: read(buildpacks.post.group, "io.buildpacks.post.group")?,
            env,
            files,
            unknown: unknown(text),
        })
    }
}

/// The keys of `[io.buildpacks]` that are read, and those of its tables.
const KNOWN: [(&str, &[&str]); 6] = [
    ("", &["include", "exclude", "group", "pre", "post", "build"]),
    ("group", &["id", "version", "uri", "script"]),
    ("pre", &["group"]),
    ("post", &["group"]),
    ("build", &["env"]),
    ("build.env", &["name", "value"]),
];

/// The keys of `[io.buildpacks]` that are not read.
fn unknown(text: &str) -> Vec<String> {
    let Ok(document) = text.parse::<toml::Table>() else { return Vec::new() };
    let Some(ours) = document.get("io").and_then(|io| io.get("buildpacks")) else { return Vec::new() };
    let mut unknown = Vec::new();
    for (place, known) in KNOWN {
        let found = place.split('.').filter(|part| !part.is_empty()).try_fold(ours, |table, part| table.get(part));
        let tables = match found {
            Some(toml::Value::Table(table)) => vec![table],
            Some(toml::Value::Array(entries)) => entries.iter().filter_map(toml::Value::as_table).collect(),
            _ => Vec::new(),
        };
        let dot = if place.is_empty() { "" } else { "." };
        let keys = tables.into_iter().flat_map(toml::Table::keys).filter(|key| !known.contains(&key.as_str()));
        unknown.extend(keys.map(|key| format!("io.buildpacks{dot}{place}.{key}")));
    }
    unknown
}

fn wrong(key: &str, message: &str) -> InvalidProjectToml {
    InvalidProjectToml(format!(", key {key}: {message}"))
}

impl Entry {
    fn read(self, key: &str) -> Result<ProjectBuildpack, InvalidProjectToml> {
        let source = |text: &str| text.parse().map_err(|e: super::InvalidName| wrong(key, &e.to_string()));
        match self {
            Self { id, version: _, uri: None, script: Some(Script { api, inline, shell }) } => {
                let shell = shell.unwrap_or_else(|| "/bin/sh".to_owned());
                if shell.contains(['\n', '\0']) || !shell.starts_with('/') {
                    return Err(wrong(key, &format!("script.shell {shell:?} is not an absolute path")));
                }
                let id = id.unwrap_or_else(|| "project/inline".to_owned());
                Ok(ProjectBuildpack::Inline { id, api, shell, script: inline })
            }
            Self { uri: Some(uri), version: None, script: None, .. } => {
                // `pack` takes a path without `./`, too.
                let bare = !uri.contains(':') && !uri.starts_with(['/', '.']);
                source(&if bare { format!("./{uri}") } else { uri }).map(ProjectBuildpack::At)
            }
            Self { id: Some(id), version, uri: None, script: None } => {
                let text = version.map_or_else(|| id.clone(), |version| format!("{id}@{version}"));
                source(&text).map(ProjectBuildpack::At)
            }
            _ => Err(wrong(key, "an entry has id (and version), or uri, or a script (with an id)")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_mean_nothing_are_found() {
        let text = "[_]\nschema-version = '0.2'\nother = 1\n[io.buildpacks]\nexlude = ['x']\n[[io.buildpacks.group]]\n\
                    id = 'a/b'\nversoin = '1'\n[[io.buildpacks.build.env]]\nname = 'A'\nvalue = 'b'\n[io.other]\nx = 1\n";
        let project = ProjectToml::parse(text).expect("valid");
        assert_eq!(project.unknown, ["io.buildpacks.exlude", "io.buildpacks.group.versoin"]);
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
        let old =
            "[build]\ninclude = ['*.go']\n[[build.buildpacks]]\nid = 'a/b'\n[[build.env]]\nname = 'A'\nvalue = 'b'\n";
        let read = ProjectToml::parse(old).unwrap();
        assert_eq!((read.group.len(), read.env["A"].as_str()), (1, "b"));
        assert_eq!(ProjectToml::parse("[package]\nname = 'x'\n").unwrap(), ProjectToml::default());
    }

    #[test]
    fn trouble_names_the_key() {
        for (text, says) in [
            ("x = ", "project.toml, line 1: "),
            ("[_]\nschema-version = '3'", "project.toml, key _.schema-version: "),
            ("[io.buildpacks]\ninclude = []\nexclude = []", "give include or exclude, not both"),
            ("[[io.buildpacks.group]]\nversion = '1'", "key io.buildpacks.group: an entry has id"),
            ("[[io.buildpacks.group]]\nuri = '../x'", "key io.buildpacks.group: "),
            ("[[io.buildpacks.build.env]]\nname = 'a/b'", "key io.buildpacks.build.env: "),
        ] {
            let error = ProjectToml::parse(text).unwrap_err().to_string();
            assert!(error.contains(says) && !error.contains('\n'), "{error}");
        }
    }
}
