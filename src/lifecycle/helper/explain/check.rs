//! Whether the examples of rules hold: every rule says what its examples expect, none is hidden by an earlier one, and
//! every pattern is tried.

use std::collections::BTreeSet;

use super::rules::Rules;

/// What is wrong with the rules, a line each.
pub(super) fn check(rules: &Rules) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut found = BTreeSet::new();
    for (place, rule) in rules.list.iter().enumerate() {
        let number = place + 1;
        if rule.examples.is_empty() {
            wrong.push(format!("rule {number} has no example"));
        }
        let mut matched = BTreeSet::new();
        for (example, number_of_example) in rule.examples.iter().zip(1..) {
            let of = format!("rule {number}, example {number_of_example}");
            match rules.explain(&example.log, &example.variables) {
                None => wrong.push(format!("{of}: no rule explains the log")),
                Some(explained) if explained.rule != place => {
                    let (by, says) = (explained.rule + 1, explained.sentence);
                    wrong.push(format!("{of}: rule {by} explains the log already: {says}"));
                }
                Some(explained) if explained.sentence != example.says => {
                    wrong.push(format!("{of}: it says {:?}, not {:?}", explained.sentence, example.says));
                }
                Some(explained) => matched.extend(explained.pattern),
            }
            for (name, patterns) in &rules.find {
                let pattern = patterns.iter().position(|pattern| pattern.find(&example.log).is_some());
                found.extend(pattern.map(|pattern| (name, pattern)));
            }
        }
        let untried = (0..rule.patterns.len()).filter(|pattern| !rule.is_shared && !matched.contains(pattern));
        wrong.extend(untried.map(|pattern| format!("rule {number}: no example for pattern {}", pattern + 1)));
    }
    for (name, patterns) in &rules.find {
        let untried = (0..patterns.len()).filter(|pattern| !found.contains(&(name, *pattern)));
        wrong.extend(untried.map(|pattern| format!("find.{name}: no example for pattern {}", pattern + 1)));
    }
    wrong
}
