//! Which source file uses which, and the circles among them.
//!
//! A file uses another if it names, in a `use` or in a path, an item that the other defines. Re-exports are followed to
//! the file that defines the item. A re-export that the file itself does not need is no use, and neither is the declaration
//! of a child module. Calls of methods are not seen.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::tokens::{Token, tokens};

/// The re-exports of re-exports that are followed.
const MAX_REEXPORTS: usize = 16;

/// The path of a module, without `crate`.
type ModulePath = Vec<String>;

/// A file or an inline module.
#[derive(Default)]
struct Module {
    file: String,
    /// What each `use` brings into scope.
    imports: BTreeMap<String, Vec<String>>,
    /// The paths that are used.
    paths: BTreeSet<Vec<String>>,
}

/// All modules of a crate.
#[derive(Default)]
pub(super) struct Modules(BTreeMap<ModulePath, Module>);

/// What a path names.
enum Definition {
    Module(ModulePath),
    /// An item of this file.
    Item(String),
    /// Something of another crate, or of the same module.
    Other,
}

/// A `use` declaration's path, and the name that it brings into scope.
struct Import {
    path: Vec<String>,
    name: String,
}

impl Modules {
    /// Reads source files, named by their path below `src/`. Unit tests and programs are left out.
    pub(super) fn read<'a>(files: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let mut modules = Self::default();
        modules.module(&[], "lib.rs");
        for (file, text) in files {
            let path: ModulePath = file.trim_end_matches(".rs").split('/').map(str::to_owned).collect();
            if path[0] == "bin" || path.iter().any(|name| name == "tests") {
                continue;
            }
            let path = if path == ["lib"] { Vec::new() } else { path };
            modules.read_file(file, path, &tokens(text));
        }
        modules
    }

    fn module(&mut self, path: &[String], file: &str) -> &mut Module {
        let module = self.0.entry(path.to_vec()).or_default();
        file.clone_into(&mut module.file);
        module
    }

    fn read_file(&mut self, file: &str, mut path: ModulePath, tokens: &[Token]) {
        self.module(&path, file);
        let mut reexports = Vec::new();
        // All words outside of `use` declarations.
        let mut words: BTreeSet<&str> = BTreeSet::new();
        // The number of open braces, and the numbers at which inline modules began.
        let (mut depth, mut inline) = (0, Vec::new());
        let mut at = 0;
        while at < tokens.len() {
            let (token, next) = (&tokens[at], tokens.get(at + 1));
            at += 1;
            match token {
                Token::Mark('{') => depth += 1,
                Token::Mark('}') => {
                    if inline.last() == Some(&depth) {
                        inline.pop();
                        path.pop();
                    }
                    depth -= 1;
                }
                Token::Word(word) if word == "mod" && tokens.get(at + 1) == Some(&Token::Mark('{')) => {
                    path.extend(next.and_then(Token::word).map(str::to_owned));
                    self.module(&path, file);
                    inline.push(depth + 1);
                }
                Token::Word(word) if word == "use" && next != Some(&Token::Mark('<')) => {
                    let is_public = at > 1 && (tokens[at - 2].is_word("pub") || tokens[at - 2] == Token::Mark(')'));
                    let mut imports = Vec::new();
                    at = read_use(tokens, at, &[], &mut imports);
                    let module = self.module(&path, file);
                    for Import { path: used, name } in imports {
                        module.imports.insert(name.clone(), used.clone());
                        if is_public {
                            reexports.push((path.clone(), used, name));
                        } else {
                            module.paths.insert(used);
                        }
                    }
                }
                Token::Word(word) => {
                    words.insert(word);
                    let begins = at < 2 || !matches!(tokens[at - 2], Token::PathSeparator | Token::Mark('$'));
                    if begins && next == Some(&Token::PathSeparator) {
                        let mut used = vec![word.clone()];
                        while let (Some(Token::PathSeparator), Some(Token::Word(word))) =
                            (tokens.get(at), tokens.get(at + 1))
                        {
                            words.insert(word);
                            used.push(word.clone());
                            at += 2;
                        }
                        self.module(&path, file).paths.insert(used);
                    }
                }
                Token::PathSeparator | Token::Mark(_) => {}
            }
        }
        for (path, used, name) in reexports {
            if words.contains(name.as_str()) {
                self.module(&path, file).paths.insert(used);
            }
        }
    }

    /// Finds what a path in a module names; `reexports` counts those that were followed.
    fn definition(&self, module: &[String], path: &[String], reexports: usize) -> Definition {
        let mut at = module.to_vec();
        let mut rest = path;
        while let Some((first, others)) = rest.split_first() {
            match first.as_str() {
                "crate" => at.clear(),
                "super" => drop(at.pop()),
                "self" => {}
                _ => break,
            }
            rest = others;
        }
        let is_local = rest.len() == path.len();
        while let Some((name, others)) = rest.split_first() {
            let Some(module) = self.0.get(&at) else { return Definition::Other };
            let child: ModulePath = at.iter().chain([name]).cloned().collect();
            let is_child = self.0.contains_key(&child);
            // A module and an item may have one name: more of a path follows the module only.
            let import = module.imports.get(name).filter(|import| *import != path && (!is_child || others.is_empty()));
            match import {
                Some(import) if reexports < MAX_REEXPORTS => match self.definition(&at, import, reexports + 1) {
                    Definition::Module(path) => at = path,
                    definition => return definition,
                },
                _ if is_child => at = child,
                _ if is_local && rest.len() == path.len() => return Definition::Other,
                _ => return Definition::Item(module.file.clone()),
            }
            rest = others;
        }
        Definition::Module(at)
    }

    /// For each file, the files that it uses, each with one path that does.
    fn uses(&self) -> BTreeMap<&str, BTreeMap<String, String>> {
        let mut uses: BTreeMap<&str, BTreeMap<String, String>> = BTreeMap::new();
        for (module_path, module) in &self.0 {
            for path in &module.paths {
                if let Definition::Item(file) = self.definition(module_path, path, 0)
                    && file != module.file
                {
                    uses.entry(&module.file).or_default().entry(file).or_insert_with(|| path.join("::"));
                }
            }
        }
        uses
    }

    /// The shortest circle of each file that is in one; each circle is listed once.
    pub(super) fn circles(&self) -> Vec<String> {
        let uses = self.uses();
        let mut found = BTreeMap::new();
        for file in uses.keys() {
            if let Some(circle) = shortest_circle(&uses, file) {
                let members: BTreeSet<_> = circle.iter().copied().collect();
                found.entry(members).or_insert_with(|| {
                    let steps = circle.iter().zip(circle.iter().skip(1).chain(circle.first()));
                    let steps = steps.map(|(from, to)| format!("{from} uses {} of {to}", uses[from][*to]));
                    steps.collect::<Vec<_>>().join(", ")
                });
            }
        }
        found.into_values().collect()
    }
}

/// Reads the tree of a `use` declaration; returns the position after it. Globs are left out: clippy allows them in unit
/// tests only.
fn read_use(tokens: &[Token], mut at: usize, prefix: &[String], imports: &mut Vec<Import>) -> usize {
    let mut path = prefix.to_vec();
    let mut name = None;
    while at < tokens.len() {
        match &tokens[at] {
            Token::Word(word) if word == "as" => {
                name = tokens.get(at + 1).and_then(Token::word).map(str::to_owned);
                at += 1;
            }
            // `{self}` is the prefix itself.
            Token::Word(word) if word == "self" && !prefix.is_empty() => name = path.last().cloned(),
            Token::Word(word) => {
                path.push(word.clone());
                name = Some(word.clone());
            }
            Token::Mark('{') => {
                loop {
                    at = read_use(tokens, at + 1, &path, imports);
                    if tokens.get(at) != Some(&Token::Mark(',')) {
                        break;
                    }
                }
                name = None;
            }
            Token::Mark(',' | '}' | ';') => break,
            Token::PathSeparator | Token::Mark(_) => {}
        }
        at += 1;
    }
    if let Some(name) = name {
        imports.push(Import { path, name });
    }
    at
}

/// Finds the shortest way from a file back to itself.
fn shortest_circle<'a>(uses: &BTreeMap<&'a str, BTreeMap<String, String>>, start: &'a str) -> Option<Vec<&'a str>> {
    let mut before: BTreeMap<&str, &str> = BTreeMap::new();
    let mut queue = VecDeque::from([start]);
    while let Some(file) = queue.pop_front() {
        let used = uses.get(file).into_iter().flat_map(BTreeMap::keys);
        for (used, _) in used.filter_map(|used| uses.get_key_value(used.as_str())) {
            if *used == start {
                let mut circle = vec![file];
                while let Some(file) = before.get(circle[circle.len() - 1]) {
                    circle.push(file);
                }
                circle.reverse();
                return Some(circle);
            }
            if !before.contains_key(used) {
                before.insert(used, file);
                queue.push_back(used);
            }
        }
    }
    None
}
