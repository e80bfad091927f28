//! Files of rules (`docs/buildpacks.md`, "Explain a failure"), and the rules that all of them may share.

use std::{collections::BTreeMap, path::Path};

use serde::Deserialize;

use super::{
    super::pattern::{Log, Pattern},
    rules::{Example, Rule, Rules},
    sentence::{Reference, Sentence},
};
use crate::{lifecycle::files, model::Line};

const SHARED: &str = include_str!("shared.toml");

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RulesToml {
    #[serde(default)]
    variables: BTreeMap<String, String>,
    #[serde(default)]
    find: BTreeMap<String, OneOrMore>,
    #[serde(rename = "rule")]
    rules: Vec<RuleToml>,
}

/// Either `say`, or `shared` with its `words`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RuleToml {
    shared: Option<String>,
    #[serde(default)]
    words: BTreeMap<String, String>,
    #[serde(default, rename = "match")]
    patterns: OneOrMore,
    #[serde(default)]
    and: OneOrMore,
    #[serde(default)]
    not: OneOrMore,
    #[serde(default)]
    when: BTreeMap<String, String>,
    say: Option<String>,
    #[serde(default)]
    status: u8,
    #[serde(default)]
    examples: Vec<ExampleToml>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ExampleToml {
    log: String,
    /// May be missing if the sentence has no placeholder.
    says: Option<String>,
    #[serde(default)]
    with: BTreeMap<String, String>,
}

#[derive(Default, Deserialize)]
#[serde(untagged, expecting = "expected a pattern or a list of patterns")]
enum OneOrMore {
    #[default]
    None,
    One(String),
    More(Vec<String>),
}

impl OneOrMore {
    fn parse(&self) -> Result<Vec<Pattern>, String> {
        let texts = match self {
            Self::None => &[],
            Self::One(text) => std::slice::from_ref(text),
            Self::More(texts) => texts.as_slice(),
        };
        texts.iter().map(|text| Pattern::parse(text)).collect()
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SharedToml {
    /// Regular expressions for names of headers, libraries and programs, by Debian package.
    debian: BTreeMap<String, String>,
    /// Rules by name; `words` has all that a use may give, with those of the examples.
    rule: BTreeMap<String, RuleToml>,
}

/// Reads a file of rules. The error names the file and the rule.
pub(super) fn read(path: &Path) -> Result<Rules, String> {
    let text = files::read_text(path)?.ok_or_else(|| format!("{} does not exist", path.display()))?;
    parse(&text).map_err(|e| format!("{}, {e}", path.display()))
}

pub(super) fn parse(text: &str) -> Result<Rules, String> {
    let file: RulesToml = files::parse_toml(text)?;
    let shared = shared()?;
    for name in file.variables.keys().chain(file.find.keys()) {
        let twice = file.find.contains_key(name) && file.variables.contains_key(name);
        if twice || name == "it" || Reference::parse(name)?.filter.is_some() {
            return Err(format!(
                "{:?} cannot name a value: it names another one, or is not a plain name",
                excerpt(name)
            ));
        }
    }
    let find = file.find.iter().map(|(name, patterns)| Ok((name.clone(), patterns.parse()?)));
    let mut rules = Rules {
        variables: file.variables,
        find: find.collect::<Result<_, String>>()?,
        list: Vec::new(),
        debian: debian(&shared)?,
    };
    for (number, rule) in (1..).zip(file.rules) {
        let rule = rule.build(Some(&shared), &rules).map_err(|e| format!("rule {number}: {e}"))?;
        rules.list.push(rule);
    }
    Ok(rules)
}

/// Each shared rule, alone as if in a file of its own, by name.
#[cfg(test)]
pub(super) fn shared_rules() -> Result<Vec<(String, Rules)>, String> {
    let shared = shared()?;
    let alone = |(name, rule): (&String, &RuleToml)| {
        let mut rules = Rules { debian: debian(&shared)?, ..Rules::default() };
        let rule = rule.build(None, &rules).map_err(|e| format!("shared rule {name}: {e}"))?;
        rules.list.push(rule);
        Ok((name.clone(), rules))
    };
    shared.rule.iter().map(alone).collect()
}

fn shared() -> Result<SharedToml, String> {
    files::parse_toml(SHARED).map_err(|e| format!("shared rules, {e}"))
}

fn debian(shared: &SharedToml) -> Result<Vec<(String, Pattern)>, String> {
    shared.debian.iter().map(|(package, names)| Ok((package.clone(), Pattern::parse_whole(names)?))).collect()
}

impl RuleToml {
    /// Builds the rule for a file; `None` instead of the shared rules if it is one of them.
    fn build(&self, shared: Option<&SharedToml>, file: &Rules) -> Result<Rule, String> {
        let other = match (&self.shared, shared) {
            (Some(name), Some(shared)) => {
                let other =
                    shared.rule.get(name).ok_or_else(|| format!("there is no shared rule {:?}", excerpt(name)))?;
                if let Some(unknown) = self.words.keys().find(|name| !other.words.contains_key(*name)) {
                    return Err(format!("the shared rule {name} has no word {:?}", excerpt(unknown)));
                }
                if self.say.is_some() || !matches!(self.patterns, OneOrMore::None) {
                    return Err("a shared rule has patterns and a sentence already: give its words instead".to_owned());
                }
                Some(other)
            }
            (Some(_), None) => return Err("a shared rule cannot use another".to_owned()),
            (None, Some(_)) if !self.words.is_empty() => return Err("only a shared rule has words".to_owned()),
            (None, _) => None,
        };
        let of = other.unwrap_or(self);
        let word = |name: &String| Sentence::parse(self.words.get(name).map_or("", String::as_str));
        let words = of.words.keys().map(|name| Ok((name.clone(), word(name)?))).collect::<Result<_, String>>()?;
        let say = of.say.as_deref().ok_or("the key say is missing")?;
        let say = Sentence::parse(say)?.with_words(&words);
        let when = self.when.iter().map(|(name, text)| Ok((Reference::parse(name)?, Pattern::parse_whole(text)?)));
        let (mut and, mut not) = (of.and.parse()?, of.not.parse()?);
        if other.is_some() {
            and.extend(self.and.parse()?);
            not.extend(self.not.parse()?);
        }
        let rule = Rule {
            patterns: of.patterns.parse()?,
            and,
            not,
            when: when.collect::<Result<_, String>>()?,
            status: self.status,
            is_shared: other.is_some(),
            examples: self.examples.iter().map(|example| example.build(&say, file)).collect::<Result<_, _>>()?,
            say,
        };
        check_references(&rule, file)?;
        Ok(rule)
    }
}

impl ExampleToml {
    fn build(&self, say: &Sentence, file: &Rules) -> Result<Example, String> {
        let mut variables = file.variables.clone();
        for (name, value) in &self.with {
            let known = variables
                .get_mut(name)
                .ok_or_else(|| format!("an example sets {:?}, which is no variable", excerpt(name)))?;
            known.clone_from(value);
        }
        let says = match &self.says {
            Some(says) => says.clone(),
            None if say.references().is_empty() => say.render(&|_| String::new()),
            None => return Err("an example lacks says, and the sentence has placeholders".to_owned()),
        };
        Ok(Example { log: Log::new(self.log.as_bytes()), says, variables })
    }
}

/// Refuses placeholders and conditions on values that do not exist.
fn check_references(rule: &Rule, file: &Rules) -> Result<(), String> {
    let groups: Vec<&str> = rule.patterns.iter().flat_map(Pattern::group_names).collect();
    let is_value = |name: &str| file.find.contains_key(name) || file.variables.contains_key(name);
    if let Some(group) = groups.iter().find(|name| is_value(name)) {
        return Err(format!("the group {:?} has the name of another value", excerpt(group)));
    }
    let in_sentence = rule.say.references();
    let mut references = in_sentence.into_iter().chain(rule.when.iter().map(|(reference, _)| reference));
    let is_known = |name: &str| match name {
        "it" => !rule.patterns.is_empty(),
        name => groups.contains(&name) || is_value(name),
    };
    match references.find(|reference| !is_known(&reference.name)) {
        Some(Reference { name, .. }) => Err(format!(
            "{{{}}} is unknown: it is not among [variables], [find] and the named groups of the rule's patterns",
            excerpt(name)
        )),
        None => Ok(()),
    }
}

/// A name of the file in a message.
fn excerpt(name: &str) -> String {
    Line::excerpt(name)
}
