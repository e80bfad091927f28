//! Apps in JavaScript without a `package.json`.

use std::path::Path;

use super::{
    answer::{Answer, no, wrong},
    languages::other_language,
};
use crate::{lifecycle::files, model::Procfile};

/// Names of a program without a package.json, in the order in which they are tried.
const NAMES: &[&str] = &["server", "app", "index", "main"];
const ENDINGS: &[&str] = &["js", "mjs", "cjs"];
/// Modules that only Node.js has. No script for browsers imports one, and bundlers leave none in a script.
const NODE_MODULES: &[&str] = &["http", "https", "http2", "net", "fs", "fs/promises", "cluster"];
/// Calls that make a server.
const CALLS: &[&str] = &["listen(", "serve(", "createServer(", "createSecureServer("];

/// Programs by which buildpacks of other languages recognise an app: it is not one in JavaScript then.
const OTHER_PROGRAMS: &[&str] =
    &["main.py", "app.py", "server.py", "bot.py", "run.py", "app.rb", "main.rb", "server.rb", "web.rb"];

/// The file of a folder without a package.json that Node.js runs as a server: one with a usual name that imports something and
/// listens. Beside a page it must import a module of Node.js, since it could else be a script of the page. If the Procfile runs
/// Node.js, the answer is yes without a file.
pub(super) fn node_program(folder: &Path) -> Answer {
    let is_file = |name: &&str| folder.join(name).is_file();
    if is_file(&"package.json")
        || OTHER_PROGRAMS.iter().any(is_file)
        || other_language(folder, &[]).is_ok()
        || has_sources(folder)
    {
        return Err(no());
    }
    let procfile = folder.join("Procfile").canonicalize().unwrap_or_else(|_| folder.join("Procfile"));
    let text = files::read_text(&procfile).map_err(wrong)?.unwrap_or_default();
    if Procfile::parse(&text).is_ok_and(|Procfile(entries)| entries.iter().any(|(_, command)| runs_node(command))) {
        return Ok(String::new());
    }
    let has_page = folder.join("index.html").is_file();
    for name in NAMES.iter().flat_map(|name| ENDINGS.iter().map(move |ending| format!("{name}.{ending}"))) {
        let Ok(Some(text)) = files::read_text(&folder.join(&name)) else { continue };
        let imported = imports(&text);
        let of_node = imported.iter().any(|module| module.starts_with("node:") || NODE_MODULES.contains(module));
        if (of_node || !has_page && !imported.is_empty()) && CALLS.iter().any(|call| text.contains(call)) {
            return Ok(name);
        }
    }
    Err(no())
}

/// Whether there is a page in PHP or a source file in Go, whatever its name.
fn has_sources(folder: &Path) -> bool {
    let files = std::fs::read_dir(folder).into_iter().flatten().flatten();
    files.into_iter().any(|file| file.path().extension().is_some_and(|ending| ending == "php" || ending == "go"))
}

/// Whether a shell command runs `node`.
fn runs_node(command: &str) -> bool {
    command.split(|c: char| c.is_whitespace() || "\"'()&|;".contains(c)).any(|word| word == "node")
}

/// The modules and packages that a program imports by name.
fn imports(text: &str) -> Vec<&str> {
    let quoted = |rest: &'static str| {
        text.match_indices(rest).filter_map(move |(at, keyword)| {
            let rest = text[at + keyword.len()..].trim_start();
            let quote = rest.chars().next().filter(|c| ['"', '\''].contains(c))?;
            rest[1..].split_once(quote).map(|(module, _)| module)
        })
    };
    let all = ["require(", "import(", "import ", "from "].into_iter().flat_map(quoted);
    all.filter(|module| module.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '@') && !module.contains("://"))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const SERVER: &str =
        "const http = require('http')\nhttp.createServer((q, s) => s.end('hi')).listen(process.env.PORT)\n";

    fn found(files: &[(&str, &str)]) -> Option<String> {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs::write(dir.path().join(name), text).unwrap();
        }
        node_program(dir.path()).ok()
    }

    #[test]
    fn a_server_needs_no_package_json() {
        assert_eq!(found(&[("server.js", SERVER)]).as_deref(), Some("server.js"));
        assert_eq!(found(&[("server.js", SERVER), ("index.html", "")]).as_deref(), Some("server.js"));
        let module = "import { createServer } from \"node:http\"\ncreateServer(() => {}).listen(8080)";
        assert_eq!(found(&[("app.js", "alert(1)"), ("index.mjs", module)]).as_deref(), Some("index.mjs"));
        assert_eq!(found(&[("app.js", "require('express')().listen(80)")]).as_deref(), Some("app.js"));
        assert_eq!(found(&[("Procfile", "web: exec node bin/www\n")]).as_deref(), Some(""));
        assert_eq!(found(&[("Procfile", "web: sh -c \"node bin/www\"\n")]).as_deref(), Some(""));
    }

    #[test]
    fn scripts_of_pages_and_other_apps_are_no_servers() {
        for files in [
            &[("app.js", "document.title = 'x'"), ("index.html", "")] as &[_],
            &[("app.js", "import { serve } from 'https://cdn.example/x.js'; serve()")],
            &[("app.js", "import x from './x.js'\nx.listen(1)"), ("index.html", "")],
            // A bundle may contain a package that could listen.
            &[("main.js", "var e = require('events'); function a(b) { b.listen(1) }"), ("index.html", "")],
            &[("server.js", SERVER), ("package.json", "{}")],
            &[("library.js", SERVER)],
            &[("server.js", SERVER), ("requirements.txt", "")],
            &[("server.js", SERVER), ("app.rb", "")],
            &[("server.js", SERVER), ("info.php", "")],
            &[("server.js", "console.log(require('os').cpus())")],
            &[("Procfile", "web: nodemon server.js\nworker: ./node/start\n")],
        ] {
            assert_eq!(found(files), None, "{files:?}");
        }
    }
}
