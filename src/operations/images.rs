//! Operations of the images that the operator offers: Dockerfiles of all apps may be based on them without a registry.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    context::Context,
    failure::{Failure, FailureKind, Result},
    operation::Operation,
    sent_file::SentFile,
    target::Server,
    time::Time,
};
use crate::{
    model::{Digest, ImageName, Right},
    store::{Effect, OfferedImage},
};

/// Offers an image as a base of Dockerfiles: the one of this name that the engine has.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OfferImage {
    /// Name by which Dockerfiles refer to it, such as company/base:1.
    pub name: ImageName,
    /// An archive that the caller sends, in place of the engine's image.
    #[serde(skip)]
    #[schemars(skip)]
    pub archive: Option<SentFile>,
}

/// An image that the operator offers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct OfferedImageInfo {
    /// Name by which Dockerfiles refer to it.
    pub name: ImageName,
    /// Digest of its manifest.
    #[schemars(with = "String")]
    pub image: Digest,
    /// Size of its layers, in bytes.
    pub size: u64,
    /// Time at which it was offered.
    pub offered_at: Time,
    /// Name of the user who offered it.
    pub offered_by: String,
}

impl From<OfferedImage> for OfferedImageInfo {
    fn from(OfferedImage { name, manifest, size, created_at, created_by }: OfferedImage) -> Self {
        Self { name, image: manifest, size, offered_at: Time(created_at), offered_by: created_by }
    }
}

impl Operation for OfferImage {
    const NAME: &'static str = "images:offer";
    const RIGHT: Right = Right::Admin;
    const EFFECT: Effect = Effect::Change;
    const TAKES_DISK: bool = true;
    type Target = Server;
    type Output = OfferedImageInfo;

    fn with_file(self, file: SentFile) -> Self {
        Self { archive: Some(file), ..self }
    }

    fn target(&self) {}

    fn audit(&self) -> String {
        let from = if self.archive.is_some() { " from standard input" } else { "" };
        format!("{}{from}", self.name)
    }

    async fn run(self, context: &Context<'_>, _: Server) -> Result<OfferedImageInfo> {
        let Self { name, archive } = self;
        let (offers, by, progress) = (context.deployer.offers(), context.caller.name(), context.progress);
        let was_offered = context.store.offered_images().await?.iter().any(|offered| offered.name == name);
        let offered = match archive {
            None => offers.offer(&name, by, progress).await?,
            Some(sent) => {
                // What a client that disconnects has sent is not offered, even if it is an image.
                let cancelled = || Failure::new(FailureKind::Failed, "cancelled: the client disconnected");
                let offered = offers.offer_sent(&name, sent.into_reader(), by, progress, context.hangup).await?;
                offered.ok_or_else(cancelled)?
            }
        };
        let replaces = if was_offered { "; it replaces the one that was offered before" } else { "" };
        progress.detail(format!("Dockerfiles may be based on it: FROM {name}{replaces}")).await;
        Ok(offered.into())
    }
}

/// Lists the images that the operator offers as bases of Dockerfiles.
#[derive(Debug, Clone, Deserialize, JsonSchema, clap::Args)]
#[serde(deny_unknown_fields)]
pub struct ListOfferedImages {}

impl Operation for ListOfferedImages {
    const NAME: &'static str = "images:list";
    const RIGHT: Right = Right::Use;
    const EFFECT: Effect = Effect::Read;
    type Target = Server;
    type Output = Vec<OfferedImageInfo>;

    fn target(&self) {}

    async fn run(self, context: &Context<'_>, _: Server) -> Result<Vec<OfferedImageInfo>> {
        Ok(context.store.offered_images().await?.into_iter().map(OfferedImageInfo::from).collect())
    }
}

/// Withdraws an image that is offered; images that were built on it stay.
#[derive(Debug, Clone, Deserialize, JsonSchema, clap::Args)]
#[serde(deny_unknown_fields)]
pub struct WithdrawImage {
    /// Name of the image, as images:list shows it.
    pub name: ImageName,
}

/// An image that was withdrawn.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct WithdrawnImage {
    /// Its name.
    pub name: ImageName,
}

impl Operation for WithdrawImage {
    const NAME: &'static str = "images:withdraw";
    const RIGHT: Right = Right::Admin;
    const EFFECT: Effect = Effect::Change;
    type Target = Server;
    type Output = WithdrawnImage;

    fn target(&self) {}

    fn audit(&self) -> String {
        self.name.to_string()
    }

    async fn run(self, context: &Context<'_>, _: Server) -> Result<WithdrawnImage> {
        let name = self.name;
        if !context.deployer.offers().withdraw(&name, context.progress).await? {
            return Err(Failure::not_found(format!("no image {name} is offered; images:list shows those that are")));
        }
        context.progress.detail(format!("{name} is withdrawn; images that were built on it stay")).await;
        Ok(WithdrawnImage { name })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_audit_entry_tells_the_name_and_whether_an_archive_was_sent() {
        let mut offer: OfferImage = serde_json::from_str(r#"{"name": "company/base:1"}"#).unwrap();
        assert_eq!(offer.audit(), "company/base:1");
        offer.archive = Some(SentFile::new(Box::new(tokio::io::empty())));
        assert_eq!(offer.audit(), "company/base:1 from standard input");
        let foreign = r#"{"name": "company/base:1", "archive": "x"}"#;
        assert!(serde_json::from_str::<OfferImage>(foreign).is_err());
    }
}
