//! Instances that a caller started, and whose failure is therefore the caller's.

use std::{collections::BTreeMap, ops::RangeInclusive};

use super::plan::DeclaredInstance;
use crate::model::ProcessType;

/// Instances that a command has the reconciler start, by name. If one of them fails, the command fails; the failure of any other
/// instance is none of the command.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StartedInstances(BTreeMap<ProcessType, RangeInclusive<u32>>);

impl StartedInstances {
    /// All instances of a formation.
    pub fn all(formation: &BTreeMap<ProcessType, u32>) -> Self {
        Self::added(&BTreeMap::new(), formation)
    }

    /// Those that one formation has and the one before it had not.
    pub fn added(before: &BTreeMap<ProcessType, u32>, after: &BTreeMap<ProcessType, u32>) -> Self {
        let ordinals = |(process_type, quantity): (&ProcessType, &u32)| {
            let first = before.get(process_type).copied().unwrap_or(0).saturating_add(1);
            (first <= *quantity).then(|| (process_type.clone(), first..=*quantity))
        };
        Self(after.iter().filter_map(ordinals).collect())
    }

    pub(super) fn contains(&self, DeclaredInstance { process_type, ordinal }: &DeclaredInstance) -> bool {
        self.0.get(process_type).is_some_and(|ordinals| ordinals.contains(ordinal))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_change_of_the_formation_adds_is_started() {
        let formation = |quantities: &[(&str, u32)]| -> BTreeMap<ProcessType, u32> {
            quantities.iter().map(|(name, quantity)| (name.parse().unwrap(), *quantity)).collect()
        };
        let instance = |name: &str, ordinal| DeclaredInstance { process_type: name.parse().unwrap(), ordinal };
        let before = formation(&[("web", 2), ("worker", 3)]);
        let started = StartedInstances::added(&before, &formation(&[("web", 4), ("worker", 1), ("clock", 1)]));
        for (name, ordinal, expected) in
            [("web", 2, false), ("web", 3, true), ("web", 4, true), ("worker", 1, false), ("clock", 1, true)]
        {
            assert_eq!(started.contains(&instance(name, ordinal)), expected, "{name}.{ordinal}");
        }
        assert_eq!(StartedInstances::added(&before, &before), StartedInstances::default());
        assert!(StartedInstances::all(&before).contains(&instance("web", 1)));
    }
}
