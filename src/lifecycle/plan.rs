//! The build plan (buildpack.md, "Build Plan" and "Phase #1: Detection"): which buildpacks need and provide what.

use serde::Deserialize;

/// Number of combinations of alternatives after which build plans are refused.
const MAX_TRIALS: usize = 100_000;

/// Build plan file of a buildpack: one alternative, and others under `or`.
#[derive(Debug, Clone, Default, Deserialize)]
pub(super) struct PlanFile {
    #[serde(flatten)]
    first: Alternative,
    #[serde(default)]
    or: Vec<Alternative>,
}

#[derive(Debug, Clone, Default, Deserialize)]
pub(super) struct Alternative {
    #[serde(default)]
    pub(super) provides: Vec<Provide>,
    #[serde(default)]
    pub(super) requires: Vec<Require>,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct Provide {
    pub(super) name: String,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct Require {
    pub(super) name: String,
    /// Deprecated by the specification, used in the wild; it counts as `metadata.version`.
    version: Option<String>,
    #[serde(default)]
    metadata: toml::Table,
}

/// An entry of the plan that a buildpack gets for its build.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub(super) struct Entry {
    pub(super) name: String,
    pub(super) metadata: toml::Table,
}

/// A buildpack that passed detection, with its build plan file.
pub(super) struct Candidate {
    pub(super) name: String,
    pub(super) optional: bool,
    pub(super) plan: PlanFile,
}

/// Candidates that take part (by index), and what is required, with its providers.
#[derive(Debug, PartialEq)]
pub(super) struct Resolved {
    pub(super) kept: Vec<usize>,
    pub(super) needs: Vec<Need>,
}

/// A requirement of the build plan: it goes to the first of its providers that does not leave it unmet.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Need {
    pub(super) providers: Vec<usize>,
    pub(super) entries: Vec<Entry>,
}

/// Tries the combinations of alternatives, those of the last buildpack first. The error says what the first one lacks.
pub(super) fn resolve(candidates: &[Candidate]) -> Result<Resolved, String> {
    let mut search = Search { candidates, tried: 0, first_error: None };
    let found = search.try_from(&mut Vec::new());
    if found.is_none() && search.tried >= MAX_TRIALS {
        return Err(format!("the build plans have more than {MAX_TRIALS} combinations of alternatives"));
    }
    found.ok_or_else(|| search.first_error.unwrap_or_else(|| "no buildpack of the group passed".to_owned()))
}

struct Search<'a> {
    candidates: &'a [Candidate],
    tried: usize,
    first_error: Option<String>,
}

impl<'a> Search<'a> {
    fn try_from(&mut self, chosen: &mut Vec<&'a Alternative>) -> Option<Resolved> {
        if self.tried >= MAX_TRIALS {
            return None;
        }
        let candidates = self.candidates;
        let Some(candidate) = candidates.get(chosen.len()) else {
            self.tried += 1;
            return match trial(candidates, chosen) {
                Ok(resolved) => Some(resolved),
                Err(error) => {
                    self.first_error.get_or_insert(error);
                    None
                }
            };
        };
        std::iter::once(&candidate.plan.first).chain(&candidate.plan.or).find_map(|alternative| {
            chosen.push(alternative);
            let found = self.try_from(chosen);
            chosen.pop();
            found
        })
    }
}

fn trial(candidates: &[Candidate], chosen: &[&Alternative]) -> Result<Resolved, String> {
    let mut kept: Vec<usize> = (0..candidates.len()).collect();
    while let Some((index, lack)) = first_lack(&kept, chosen) {
        let Candidate { name, optional, .. } = &candidates[index];
        if !optional {
            return Err(format!("{name} {lack}"));
        }
        kept.retain(|other| *other != index);
    }
    if kept.is_empty() {
        return Err("no buildpack of the group is needed".to_owned());
    }
    let mut names: Vec<&str> = Vec::new();
    for require in kept.iter().flat_map(|index| &chosen[*index].requires) {
        if !names.contains(&require.name.as_str()) {
            names.push(&require.name);
        }
    }
    let needs = names.into_iter().map(|name| Need {
        providers: kept.iter().copied().filter(|i| chosen[*i].provides.iter().any(|p| p.name == name)).collect(),
        entries: kept.iter().flat_map(|i| &chosen[*i].requires).filter(|r| r.name == name).map(entry).collect(),
    });
    Ok(Resolved { needs: needs.collect(), kept })
}

fn entry(require: &Require) -> Entry {
    let mut metadata = require.metadata.clone();
    if let Some(version) = &require.version {
        metadata.entry("version").or_insert_with(|| toml::Value::String(version.clone()));
    }
    Entry { name: require.name.clone(), metadata }
}

/// The first buildpack that requires what neither it nor one before provides, or provides what neither it nor one after
/// requires.
fn first_lack(kept: &[usize], chosen: &[&Alternative]) -> Option<(usize, String)> {
    for (place, index) in kept.iter().enumerate() {
        let provided = |name: &str| kept[..=place].iter().any(|i| chosen[*i].provides.iter().any(|p| p.name == name));
        let required = |name: &str| kept[place..].iter().any(|i| chosen[*i].requires.iter().any(|r| r.name == name));
        if let Some(require) = chosen[*index].requires.iter().find(|require| !provided(&require.name)) {
            return Some((*index, format!("requires {}, which no buildpack provides", require.name)));
        }
        if let Some(provide) = chosen[*index].provides.iter().find(|provide| !required(&provide.name)) {
            return Some((*index, format!("provides {}, which no buildpack requires", provide.name)));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(name: &str, optional: bool, plan: &str) -> Candidate {
        Candidate { name: name.into(), optional, plan: toml::from_str(plan).unwrap() }
    }

    #[test]
    fn needs_go_to_their_providers() {
        let resolved = resolve(&[
            candidate("node", false, "provides = [{name='node'}]"),
            candidate("npm", false, "provides = [{name='npm'}]\nrequires = [{name='npm'},{name='node',version='22'}]"),
        ])
        .unwrap();
        assert_eq!(resolved.kept, [0, 1]);
        let node = resolved.needs.iter().find(|need| need.entries[0].name == "node").unwrap();
        assert_eq!(node.providers, [0]);
        assert_eq!(node.entries[0].metadata["version"].as_str(), Some("22"));
    }

    #[test]
    fn optional_buildpacks_are_dropped_and_alternatives_tried() {
        let resolved = resolve(&[
            candidate("extra", true, "provides = [{name='extra'}]"),
            candidate("app", false, "requires = [{name='jre'}]\n[[or]]\n[[or]]\nrequires = [{name='x'}]"),
        ])
        .unwrap();
        assert_eq!(resolved, Resolved { kept: vec![1], needs: vec![] });
        let error = resolve(&[candidate("app", false, "requires = [{name='jre'}]")]).unwrap_err();
        assert_eq!(error, "app requires jre, which no buildpack provides");
        assert!(resolve(&[candidate("a", true, "provides = [{name='a'}]")]).is_err());
    }

    #[test]
    fn too_many_alternatives_are_refused() {
        let or = "[[or]]\nrequires = [{name='x'}]\n".repeat(20);
        let many: Vec<_> =
            (0..20).map(|_| candidate("many", false, &format!("requires = [{{name='x'}}]\n{or}"))).collect();
        assert!(resolve(&many).unwrap_err().contains("more than 100000 combinations"));
    }

    #[test]
    fn a_provider_after_its_user_is_not_a_provider() {
        let late =
            [candidate("user", false, "requires = [{name='x'}]"), candidate("maker", false, "provides = [{name='x'}]")];
        assert!(resolve(&late).is_err());
    }
}
