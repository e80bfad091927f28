//! The operation that shows the server's version.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{context::Context, failure::Result, operation::Operation, target::Server};
use crate::{model::Right, store::Effect};

/// Shows the server's version.
#[derive(Debug, Clone, Deserialize, JsonSchema, clap::Args)]
#[serde(deny_unknown_fields)]
pub struct ShowVersion {}

/// The server's version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Version {
    /// Version, as `1.2.3`.
    pub version: String,
}

impl Operation for ShowVersion {
    const NAME: &'static str = "version";
    const RIGHT: Right = Right::Connect;
    const EFFECT: Effect = Effect::Read;
    type Target = Server;
    type Output = Version;

    fn target(&self) {}

    async fn run(self, _: &Context<'_>, _: Server) -> Result<Version> {
        Ok(Version { version: env!("CARGO_PKG_VERSION").to_owned() })
    }
}
