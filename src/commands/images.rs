//! The commands `images:…`: images that the operator offers as bases of Dockerfiles.

use clap::Subcommand;

use super::{output::Text, session::Session, table::table};
use crate::{
    model::ImageName,
    operations::{ListOfferedImages, OfferImage, OfferedImageInfo, Result, SentFile, WithdrawImage, WithdrawnImage},
};

/// The commands of offered images.
#[derive(Debug, Subcommand)]
pub(super) enum ImagesCommand {
    /// List the images on which Dockerfiles may be based without a registry.
    #[command(name = "images:list", aliases = ["images", "images:offered"], after_help = "Example: images:list")]
    List(ListOfferedImages),
    /// Offer an image of the engine, or an archive on standard input, as a base of Dockerfiles (admins only).
    #[command(
        name = "images:offer",
        after_help = "Examples: images:offer company/base:1\n          docker save company/base:1 | ssh paas@host images:offer company/base:1 --archive"
    )]
    Offer {
        /// Name by which Dockerfiles refer to it, such as company/base:1.
        name: ImageName,
        /// Read an archive from standard input: the output of docker save, or a tar of an OCI image layout.
        #[arg(long)]
        archive: bool,
    },
    /// Withdraw an image that is offered; images that were built on it stay (admins only).
    #[command(name = "images:withdraw", after_help = "Example: images:withdraw company/base:1")]
    Withdraw(WithdrawImage),
}

pub(super) async fn run(session: &Session<'_>, command: ImagesCommand) -> Result {
    use ImagesCommand as C;
    match command {
        C::List(list) => session.answer(list).await,
        C::Offer { name, archive } => {
            let archive = if archive { Some(SentFile::new(session.take_input().await)) } else { None };
            session.answer(OfferImage { name, archive }).await
        }
        C::Withdraw(withdraw) => session.answer(withdraw).await,
    }
}

impl Text for OfferedImageInfo {}

impl Text for WithdrawnImage {}

impl Text for Vec<OfferedImageInfo> {
    fn text(&self) -> String {
        if self.is_empty() {
            return "       none is offered: base images come from registries (images:offer)\n".to_owned();
        }
        let rows = self.iter().map(|image| {
            let mib = image.size.div_ceil(1 << 20);
            let digest = image.image.hex().chars().take(12).collect();
            [
                image.name.to_string(),
                format!("{mib} MiB"),
                digest,
                image.offered_at.to_string(),
                image.offered_by.clone(),
            ]
        });
        table(["NAME", "SIZE", "DIGEST", "OFFERED", "BY"], rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{model::Digest, operations::Time};

    #[test]
    fn a_list_has_a_line_for_each_image() {
        let image = OfferedImageInfo {
            name: "base:1".parse().unwrap(),
            image: Digest::of(b"x"),
            size: (3 << 20) + 1,
            offered_at: Time(0),
            offered_by: "ann".into(),
        };
        let expected = "NAME    SIZE   DIGEST        OFFERED               BY\n\
                        base:1  4 MiB  2d711642b726  1970-01-01T00:00:00Z  ann\n";
        assert_eq!(vec![image].text(), expected);
    }
}
