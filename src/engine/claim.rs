//! Claims to containers that have no row: a container of a build is left over if nobody claims its name.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
};

/// The names that are claimed; cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct Claims(Arc<Mutex<HashSet<String>>>);

/// Claims names until it is dropped.
#[derive(Debug)]
pub(super) struct Claim {
    claims: Claims,
    names: Vec<String>,
}

impl Claims {
    /// Claims a name. To be called before the container is created.
    pub(super) fn claim(&self, name: &str) -> Claim {
        let mut claim = Claim { claims: self.clone(), names: Vec::new() };
        claim.add(name);
        claim
    }

    /// Whether the name is claimed. To be asked after the containers were listed: whatever is listed was claimed before.
    pub(super) fn has(&self, name: &str) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(name)
    }
}

impl Claim {
    /// Claims another name, too. To be called before the container is renamed.
    pub(super) fn add(&mut self, name: &str) {
        self.names.push(name.to_owned());
        self.claims.0.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned());
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut claims = self.claims.0.lock().unwrap_or_else(PoisonError::into_inner);
        for name in &self.names {
            claims.remove(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_claimed_until_the_claim_is_dropped() {
        let claims = Claims::default();
        let mut claim = claims.claim("standby");
        claim.add("build");
        let other = claims.claim("other");
        assert!(["standby", "build", "other"].iter().all(|name| claims.has(name)));
        drop(claim);
        assert!(!claims.has("standby") && !claims.has("build") && claims.has("other"));
        drop(other);
        assert!(!claims.has("other"));
    }
}
