//! The address range of local builds: one that nothing else on this machine uses.

use std::{fs, ops::RangeInclusive};

use super::{
    data_dir::SERVER_ID_PREFIX,
    error::{LocalError, Result},
};
use crate::{
    config::Config,
    engine::{Engine, EngineError},
};

/// Second numbers of the candidate ranges 10.N.0.0/16, which no server uses by default.
const RANGES: RangeInclusive<u8> = 180..=209;

/// Connects to the engine with a free address range, which is set in `config`. If the builds of other data folders have
/// all ranges (each CI job may have had a home of its own), the idle ones among them are released.
pub(super) async fn connect(config: &mut Config, server_id: &str) -> Result<Engine> {
    match connect_with_free(config, server_id).await {
        Err(LocalError::Engine(EngineError::AddressesTaken { .. })) => {}
        other => return other,
    }
    let any_range = Engine::connect(config, server_id).await?;
    for idle in any_range.host.idle_servers(SERVER_ID_PREFIX).await? {
        // This fails for one that begins to build at this moment: it keeps its range.
        if let Err(error) = Engine::connect(config, &idle).await?.free_addresses().await {
            tracing::debug!(%error, idle, "a network is not removed");
        }
    }
    connect_with_free(config, server_id).await
}

/// Tries the range of the last build first, then the others.
async fn connect_with_free(config: &mut Config, server_id: &str) -> Result<Engine> {
    let file = config.data_dir.join("local.range");
    let last = fs::read_to_string(&file).ok().and_then(|text| text.trim().parse().ok()).filter(|n| RANGES.contains(n));
    let mut error = None;
    for number in last.into_iter().chain(RANGES.rev()) {
        config.network.range = format!("10.{number}.0.0/16");
        let engine = Engine::connect(config, server_id).await?;
        match engine.builds.ensure_build_bridge().await {
            Ok(_) => {
                fs::write(&file, number.to_string()).map_err(LocalError::file("write", &file))?;
                return Ok(engine);
            }
            Err(taken @ EngineError::AddressesTaken { .. }) => error = Some(taken),
            Err(other) => return Err(other.into()),
        }
    }
    Err(error.map_or_else(|| LocalError::Wrong("no address range is free".to_owned()), LocalError::Engine))
}
