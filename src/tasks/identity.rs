//! Identities of new tasks.

use crate::model::{AppName, InvalidName, TaskId, TaskKind};

/// A random identity that was never used before. It is also the name of the container.
pub(super) fn new_id(app: &AppName, kind: TaskKind) -> Result<TaskId, InvalidName> {
    format!("{app}-{kind}-{:020x}", rand::random::<u128>() >> 48).parse()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_app_name_gives_a_valid_identity() {
        let app = "a".repeat(63).parse().unwrap();
        for kind in TaskKind::ALL {
            assert_ne!(new_id(&app, kind).unwrap(), new_id(&app, kind).unwrap());
        }
    }
}
