//! What an image is, for whoever built it.

use super::{Result, Site};
use crate::{lifecycle::protocol::BuiltLayer, model::Digest, progress::Progress};

/// Prints process types, layers with their sizes, and what the image is called.
pub async fn print(site: &Site, image: &Digest, tag: &str, progress: &Progress) -> Result<()> {
    progress.header(format!("Image {tag}")).await;
    progress.detail(image.to_string()).await;
    progress.step("Process types").await;
    for process in site.images.processes(image)? {
        let words = [process.command, process.args].concat().join(" ");
        let default = if process.default { " (default)" } else { "" };
        progress.detail(format!("{}{default}: {words}", process.process_type)).await;
    }
    progress.step("Layers, lowest first").await;
    for layer in site.images.describe(image)? {
        progress.detail(row(&layer)).await;
    }
    Ok(())
}

/// A layer in one line, with its size in MiB.
pub(super) fn row(layer: &BuiltLayer) -> String {
    let hundredths = layer.size * 100 / (1 << 20);
    format!("{:>6}.{:02} MiB  {}", hundredths / 100, hundredths % 100, layer.created_by)
}
