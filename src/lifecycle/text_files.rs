//! Files as Windows editors save them. A byte order mark, UTF-16 or a carriage return in a file that names a version, a package
//! or a command makes most tools fail, or read something else. They are rewritten as UTF-8 before anything reads them.

use std::{
    fs,
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use crate::model::{Encoding, decode_text};

/// Largest file that is rewritten, in bytes: larger than any lock file.
const MAX_BYTES: u64 = 32 << 20;

/// Folders of packages, whose files are as their authors published them.
const PACKAGE_FOLDERS: [&str; 3] = [".git", "node_modules", "vendor"];

/// Files that a language's tools or a buildpack read line by line.
const LINE_FILES: [&str; 21] = [
    ".bun-version",
    ".deno-version",
    ".dvmrc",
    ".elixir-version",
    ".erlang-version",
    ".go-version",
    ".java-version",
    ".node-version",
    ".nvmrc",
    ".php-version",
    ".python-version",
    ".ruby-version",
    ".sdkmanrc",
    ".tool-versions",
    "Aptfile",
    "Makefile",
    "Procfile",
    "elixir_buildpack.config",
    "runtime.txt",
    "rust-toolchain",
    "system.properties",
];

/// Other files without one of the [`EXTENSIONS`] that describe an app.
const NAMES: [&str; 7] = [".env", ".npmrc", ".profile", ".yarnrc", "Gemfile", "Pipfile", "Rakefile"];

/// Extensions of manifests, lock files, settings and source files that are UTF-8 by definition. Not those of data (`csv`), pages
/// (`html`, `xml`), which tell their encoding themselves, and Java's sources, for which the project names it.
const EXTENSIONS: [&str; 39] = [
    "bash",
    "c",
    "cc",
    "cfg",
    "conf",
    "cpp",
    "erl",
    "ex",
    "exs",
    "gemspec",
    "go",
    "gradle",
    "h",
    "hpp",
    "hrl",
    "ini",
    "json",
    "json5",
    "jsonc",
    "ksh",
    "kts",
    "lock",
    "mk",
    "mod",
    "php",
    "properties",
    "py",
    "pyi",
    "rb",
    "rs",
    "ru",
    "sbt",
    "sh",
    "sum",
    "toml",
    "work",
    "yaml",
    "yml",
    "zsh",
];

/// Extensions of scripts that browsers read, too: they keep a byte order mark, without which a browser may take them for another
/// encoding. Node.js, Deno, Bun and bundlers read UTF-8 with one.
const BROWSER_SCRIPTS: [&str; 10] = ["cjs", "cts", "js", "jsx", "mjs", "mts", "svelte", "ts", "tsx", "vue"];

const MARK: &str = "\u{feff}";

/// A file that was rewritten because of its encoding.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Rewritten {
    /// Path in the folder.
    pub(super) path: PathBuf,
    pub(super) encoding: Encoding,
}

/// Rewrites the app's files whose encoding or line ends their readers do not expect. Returns those that were encoded otherwise
/// than in plain UTF-8, in order.
pub(super) fn rewrite(folder: &Path) -> io::Result<Vec<Rewritten>> {
    let mut rewritten = Vec::new();
    rewrite_below(folder, folder, &mut rewritten)?;
    rewritten.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(rewritten)
}

fn rewrite_below(root: &Path, folder: &Path, rewritten: &mut Vec<Rewritten>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let (path, kind, name) = (entry.path(), entry.file_type()?, entry.file_name());
        let Some(name) = name.to_str() else { continue };
        if kind.is_dir() && !PACKAGE_FOLDERS.contains(&name) {
            rewrite_below(root, &path, rewritten)?;
        } else if kind.is_file()
            && let Some(encoding) = rewrite_file(&path, name)?
            && let Ok(path) = path.strip_prefix(root)
        {
            rewritten.push(Rewritten { path: path.to_owned(), encoding });
        }
    }
    Ok(())
}

/// Rewrites a file of this name. Returns its encoding if that was the reason.
fn rewrite_file(path: &Path, name: &str) -> io::Result<Option<Encoding>> {
    let by_line = LINE_FILES.contains(&name) || name.starts_with("requirements") && has_extension(name, &["txt", "in"]);
    let mut head = Vec::new();
    let mut file = fs::File::open(path)?;
    (&mut file).take(5).read_to_end(&mut head)?;
    let encoding = Encoding::of(&head);
    let is_text = by_line || NAMES.contains(&name) || has_extension(name, &EXTENSIONS);
    // A mark before `#!` keeps the kernel from running the program, whatever its name is.
    let is_program = head.strip_prefix(b"\xef\xbb\xbf").is_some_and(|head| head.starts_with(b"#!"));
    let for_browsers = has_extension(name, &BROWSER_SCRIPTS);
    let encoded = match encoding {
        Encoding::Utf8 => false,
        Encoding::Utf8WithMark => is_text || is_program,
        Encoding::Utf16 => is_text || for_browsers,
    };
    if !(encoded || by_line) || fs::metadata(path)?.len() > MAX_BYTES {
        return Ok(None);
    }
    file.read_to_end(&mut head)?;
    let Ok(text) = decode_text(head) else { return Ok(None) };
    if !encoded && !text.contains("\r\n") {
        return Ok(None);
    }
    let text = if by_line { text.replace("\r\n", "\n") } else { text };
    let text = if for_browsers && !is_program { format!("{MARK}{text}") } else { text };
    fs::write(path, text)?;
    Ok(encoded.then_some(encoding))
}

fn has_extension(name: &str, extensions: &[&str]) -> bool {
    name.rsplit_once('.').is_some_and(|(_, extension)| extensions.contains(&extension))
}

/// Rewrites a file as UTF-8 without a byte order mark, if it is a regular file with one.
pub(super) fn rewrite_as_utf8(path: &Path) -> io::Result<()> {
    if !fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_file() && metadata.len() <= MAX_BYTES) {
        return Ok(());
    }
    let bytes = fs::read(path)?;
    match (Encoding::of(&bytes), decode_text(bytes)) {
        (Encoding::Utf8, _) | (_, Err(_)) => Ok(()),
        (Encoding::Utf8WithMark | Encoding::Utf16, Ok(text)) => fs::write(path, text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn utf16(text: &str) -> Vec<u8> {
        ['\u{feff}']
            .into_iter()
            .chain(text.chars())
            .collect::<String>()
            .encode_utf16()
            .flat_map(u16::to_le_bytes)
            .collect()
    }

    #[test]
    fn manifests_and_sources_become_utf_8_and_nothing_else_changes() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, bytes: &[u8]| {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        };
        let marked = |text: &str| format!("{MARK}{text}").into_bytes();
        for (name, bytes, expected) in [
            ("package.json", marked("{}\r\n"), "{}\r\n"),
            ("parts/a/app.json", utf16("{}"), "{}"),
            ("requirements.txt", utf16("flask\r\nb\r\n"), "flask\nb\n"),
            ("requirements-dev.txt", b"a\r\n".to_vec(), "a\n"),
            (".tool-versions", b"python 3.11.2\r\n".to_vec(), "python 3.11.2\n"),
            ("Procfile", marked("web: a\r\n"), "web: a\n"),
            ("index.php", marked("<?php\r\n"), "<?php\r\n"),
            ("bin/start", marked("#!/bin/sh\nexit\n"), "#!/bin/sh\nexit\n"),
            ("cli.js", marked("#!/usr/bin/env node\n"), "#!/usr/bin/env node\n"),
            ("server.js", utf16("a()"), "\u{feff}a()"),
        ] {
            write(name, &bytes);
            let path = dir.path().join(name);
            let rewritten = rewrite(dir.path()).unwrap();
            assert_eq!(fs::read_to_string(path).unwrap(), expected, "{name}");
            let encoding = Encoding::of(&bytes);
            let told: Vec<_> =
                (encoding != Encoding::Utf8).then(|| Rewritten { path: name.into(), encoding }).into_iter().collect();
            assert_eq!(rewritten, told, "{name}");
        }
        for (name, bytes) in [
            ("data.csv", marked("a\r\n")),
            ("page.html", utf16("<p>")),
            ("lib.js", marked("a()\r\n")),
            ("node_modules/a/package.json", marked("{}")),
            ("broken.json", vec![0xff, 0xfe, 0x61]),
            ("notes.txt", b"a\r\n".to_vec()),
        ] {
            write(name, &bytes);
            assert_eq!(rewrite(dir.path()).unwrap(), [], "{name}");
            assert_eq!(fs::read(dir.path().join(name)).unwrap(), bytes, "{name}");
        }
    }

    #[test]
    fn links_and_pipes_are_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let outside = dir.path().join("outside");
        fs::write(&outside, format!("{MARK}{{}}")).unwrap();
        let app = dir.path().join("app");
        fs::create_dir(&app).unwrap();
        std::os::unix::fs::symlink(&outside, app.join("package.json")).unwrap();
        assert_eq!(rewrite(&app).unwrap(), []);
        assert!(fs::read_to_string(&outside).unwrap().starts_with(MARK));
    }
}
