//! Where a buildpack comes from, as users write it.

use std::{fmt, path::PathBuf, str::FromStr};

use super::{
    Address, ImageReference, InvalidName,
    address::{has_valid_port, host_and_port},
    line::is_unsafe,
};

/// The source of a buildpack, as a command or a `project.toml` names it. `Display`, `Debug` and JSON leave out credentials
/// of its address: see [`Self::expose`].
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum BuildpackSource {
    /// A buildpack that is installed on the server: `heroku/nodejs`, `paketo-buildpacks/go@4.2.0`.
    Name {
        /// Id of the buildpack.
        id: String,
        /// Version; without it, the newest.
        version: Option<String>,
    },
    /// A git repository: `https://host/name.git#ref:folder`.
    Git {
        /// URL of the repository.
        url: Address,
        /// Branch, tag or commit; without it, the default branch.
        reference: Option<String>,
        /// Folder in the repository; without it, the root.
        folder: Option<String>,
    },
    /// An OCI image: `docker://registry/name:tag`.
    Image(ImageReference),
    /// A folder, `.tgz` or `.cnb` on the server's machine.
    Path(PathBuf),
    /// A folder of the app itself: `./my-buildpack`.
    App(String),
}

impl FromStr for BuildpackSource {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let invalid = || InvalidName { what: "buildpack", value: shown(text), rule: RULE };
        let plain =
            |text: &str| !text.is_empty() && !text.starts_with('-') && !text.chars().any(|c| is_unsafe(c) || c == ' ');
        if text.len() > 1000 || !plain(text) {
            return Err(invalid());
        }
        if let Some(image) = text.strip_prefix("docker://") {
            return if plain(image) && plain(&ImageReference::new(image).to_string()) {
                Ok(Self::Image(ImageReference::new(image)))
            } else {
                Err(invalid())
            };
        }
        if text.starts_with('/') {
            return Ok(Self::Path(text.into()));
        }
        if text == "." || text.starts_with("./") || text.starts_with("../") {
            let folder = text.strip_prefix("./").unwrap_or(text).trim_end_matches('/');
            let climbs = folder.split('/').any(|part| part == ".." || part.is_empty());
            return if climbs || folder == "." { Err(invalid()) } else { Ok(Self::App(folder.to_owned())) };
        }
        if let Some((scheme, rest)) = text.split_once("://") {
            let known = matches!(scheme, "https" | "http" | "git" | "ssh" | "file");
            let (url, fragment) = text.split_once('#').unwrap_or((text, ""));
            let (reference, folder) = fragment.split_once(':').unwrap_or((fragment, ""));
            let some = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
            let valid = [reference, folder].iter().all(|text| text.is_empty() || plain(text));
            let climbs = folder.split('/').any(|part| part == "..") || folder.starts_with('/');
            let has_host = scheme == "file"
                || host_and_port(url).is_some_and(|(host, _)| !host.is_empty() && !host.starts_with('-'));
            return if known && valid && !climbs && plain(rest) && has_host && has_valid_port(url) {
                Ok(Self::Git {
                    url: Address::new(url),
                    reference: some(reference),
                    folder: some(folder.trim_end_matches('/')),
                })
            } else {
                Err(invalid())
            };
        }
        let name = ["urn:cnb:builder:", "urn:cnb:registry:", "urn:buildpack:", "from=builder:"];
        let name = name.iter().find_map(|prefix| text.strip_prefix(prefix)).unwrap_or(text);
        let (id, version) = name.split_once('@').map_or((name, None), |(id, version)| (id, Some(version)));
        let allowed =
            |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._/+-".contains(&b));
        if !allowed(id)
            || id.starts_with('-')
            || !version.is_none_or(allowed)
            || id.split('/').any(|part| part.is_empty() || part.starts_with('.'))
        {
            return Err(invalid());
        }
        Ok(Self::Name { id: id.to_owned(), version: version.map(str::to_owned) })
    }
}

impl BuildpackSource {
    /// The source with the credentials of its address, for the database and for comparisons with what a user writes.
    #[must_use]
    pub fn expose(&self) -> String {
        match self {
            Self::Name { id, version: None } => id.clone(),
            Self::Name { id, version: Some(version) } => format!("{id}@{version}"),
            Self::Git { url, reference, folder } => {
                let mut text = url.expose().to_owned();
                if reference.is_some() || folder.is_some() {
                    text.push('#');
                    text.push_str(reference.as_deref().unwrap_or_default());
                }
                if let Some(folder) = folder {
                    text.push(':');
                    text.push_str(folder);
                }
                text
            }
            Self::Image(image) => format!("docker://{}", image.expose()),
            Self::Path(path) => path.display().to_string(),
            Self::App(folder) => format!("./{folder}"),
        }
    }

    /// Whether both are shown alike: they differ in their credentials at most.
    #[must_use]
    pub fn is_shown_as(&self, other: &Self) -> bool {
        self.to_string() == other.to_string()
    }
}

/// A source that cannot be read, shortened, as it may be shown.
fn shown(text: &str) -> String {
    Address::new(text).to_string().chars().take(80).collect()
}

impl TryFrom<String> for BuildpackSource {
    type Error = InvalidName;

    fn try_from(text: String) -> Result<Self, InvalidName> {
        text.parse()
    }
}

impl From<BuildpackSource> for String {
    fn from(source: BuildpackSource) -> Self {
        source.to_string()
    }
}

#[cfg(feature = "server")]
impl schemars::JsonSchema for BuildpackSource {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "BuildpackSource".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "title": "buildpack", "format": "buildpack", "description": RULE })
    }
}

/// How a source is written.
const RULE: &str = "an id with an optional @version, a git URL with an optional #ref:folder, docker://IMAGE, ./FOLDER of the app, or a path";

impl fmt::Display for BuildpackSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Git { .. } | Self::Image(_) => Address::new(self.expose()).fmt(f),
            Self::Name { .. } | Self::Path(_) | Self::App(_) => f.write_str(&self.expose()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_source_is_recognised() {
        for (text, shown) in [
            ("heroku/nodejs", None),
            ("a.b/c-d@1.2.3", None),
            ("urn:cnb:builder:heroku/nodejs@1", Some("heroku/nodejs@1")),
            ("https://example.com/x.git", None),
            ("https://example.com/x.git#v1:buildpacks/go", None),
            ("https://example.com/x.git#:buildpacks/go/", Some("https://example.com/x.git#:buildpacks/go")),
            ("docker://example.com/x:1", None),
            ("/srv/buildpacks/x.cnb", None),
            ("./mine/bp", None),
        ] {
            let source: BuildpackSource = text.parse().unwrap();
            assert_eq!(source.to_string(), shown.unwrap_or(text));
        }
        assert!(matches!("./mine".parse(), Ok(BuildpackSource::App(folder)) if folder == "mine"));
    }

    #[test]
    fn sources_are_strings_in_json() {
        let json = r#""https://example.com/x.git#v1:go""#;
        let source: BuildpackSource = serde_json::from_str(json).unwrap();
        assert!(matches!(&source, BuildpackSource::Git { folder: Some(folder), .. } if folder == "go"));
        assert_eq!(serde_json::to_string(&source).unwrap(), json);
        let error = serde_json::from_str::<BuildpackSource>("\"../x\"").unwrap_err().to_string();
        assert!(error.contains("is not a valid buildpack"), "{error}");
    }

    #[test]
    fn only_expose_gives_the_credentials_of_a_source() {
        for (text, shown) in [
            ("https://user:s3cret@example.com/x.git#v1:go", "https://example.com/x.git#v1:go"),
            ("https://s3cret@example.com/x?token=s3cret#v1", "https://example.com/x?token=xxxxx#v1"),
            ("ssh://git@example.com/x.git", "ssh://git@example.com/x.git"),
            ("docker://user:s3cret@example.com/x:1", "docker://example.com/x:1"),
            ("acme/go@1.2", "acme/go@1.2"),
        ] {
            let source: BuildpackSource = text.parse().unwrap();
            assert_eq!(source.to_string(), shown);
            assert_eq!(serde_json::to_value(&source).unwrap(), shown);
            assert!(!format!("{source:?}").contains("s3cret"), "{source:?}");
            assert_eq!(source.expose(), text);
            assert!(source.is_shown_as(&shown.parse().unwrap()) && !source.is_shown_as(&"acme/x".parse().unwrap()));
        }
    }

    #[test]
    fn the_error_of_an_invalid_source_shows_no_credentials() {
        for text in [
            "ftp://user:s3cret@example.com/x",
            "HTTPS://user:s3cret@example.com/x",
            "https://user:s3#cret@example.com/x",
            "https://user:s3cret/y@example.com/x",
            "user:s3cret@example.com/x",
            "docker://user:s3cret@example.com/x y",
        ] {
            let error = text.parse::<BuildpackSource>().unwrap_err().to_string();
            assert!(error.contains("example.com/x") && !error.contains("s3"), "{error}");
        }
    }

    #[test]
    fn invalid_sources_are_refused() {
        for bad in [
            "",
            "-x",
            "../x",
            "./../x",
            ".",
            "a b",
            "a/../b",
            "ftp://x/y",
            "https://x/y#-r",
            "https://x#r:../y",
            "https://x:y/z",
            "https://user:s3cret@",
            "ssh://git@-oProxyCommand=x/y",
            "docker://",
            "docker://user:s3cret@",
            "a@",
            "@1",
            "a\n",
            "\u{202e}a",
            "urn:cnb:builder:-a",
        ] {
            assert!(bad.parse::<BuildpackSource>().is_err(), "{bad:?}");
        }
    }
}
