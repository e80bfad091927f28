//! The report on an image that was built.

use super::{error::Result, workspace::Workspace};
use crate::{lifecycle::protocol::BuiltLayer, model::Digest, progress::Progress};

/// Reports name, process types and layers of an image.
pub(super) async fn report_image(workspace: &Workspace, image: &Digest, tag: &str, progress: &Progress) -> Result<()> {
    progress.header(format!("Image {tag}")).await;
    progress.detail(image.to_string()).await;
    progress.step("Process types").await;
    for process in workspace.images.processes(image)? {
        let words = [process.command, process.args].concat().join(" ");
        let default = if process.default { " (default)" } else { "" };
        progress.detail(format!("{}{default}: {words}", process.process_type)).await;
    }
    progress.step("Layers, lowest first").await;
    for layer in workspace.images.describe(image)? {
        progress.detail(layer_line(&layer)).await;
    }
    Ok(())
}

/// A layer in one line, with its size in MiB.
pub(super) fn layer_line(layer: &BuiltLayer) -> String {
    let hundredths = layer.size * 100 / (1 << 20);
    format!("{:>6}.{:02} MiB  {}", hundredths / 100, hundredths % 100, layer.created_by)
}
