//! What is done for builds from time to time.

use std::time::Duration;

use crate::{
    engine::Builds,
    periodic::{Activated, Periodic},
};

/// Removes containers that belong to no build.
pub struct BuildSweep(pub Builds);

impl Periodic for BuildSweep {
    fn name(&self) -> &'static str {
        "stray-build-containers"
    }

    fn period(&self) -> Duration {
        Duration::from_mins(10)
    }

    async fn activate(&self) -> Result<Activated, String> {
        let removed = self.0.remove_leftover_builds().await.map_err(|error| error.to_string())?;
        Ok(match removed {
            0 => Activated::default(),
            removed => Activated::did(format!("removed {removed} containers of builds that have ended")),
        })
    }
}
