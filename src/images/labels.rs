//! Labels of images, as the buildpack specification defines them.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::{
    lifecycle::{INIT_LABEL, WAIT_LABEL},
    model::{Digest, Line},
};

/// Label in which the lifecycle stores what it needs at the next build.
pub const LIFECYCLE_METADATA: &str = "io.buildpacks.lifecycle.metadata";

/// Label with the metadata of the build.
pub(super) const BUILD_METADATA: &str = "io.buildpacks.build.metadata";

/// What the names of labels that describe an image begin with.
const DESCRIPTIONS: [&str; 4] = ["org.opencontainers.image.", "io.paketo.", "org.springframework.", "maintainer"];

/// Whether a label is neither ours nor a description of the image. Such labels do not reach containers: proxies, updaters and
/// schedulers on the machine obey theirs, and whoever sets labels of ours would pass an image off as another's.
pub(super) fn is_foreign(name: &str) -> bool {
    !DESCRIPTIONS.iter().any(|begin| name.starts_with(begin))
}

/// The line that says so.
pub(super) fn not_kept(names: &[String]) -> String {
    let (label, are) = if names.len() == 1 { ("label", "is") } else { ("labels", "are") };
    format!(
        "the {label} {} {are} not kept: only labels that describe the image (org.opencontainers.image.*) are",
        names.join(", ")
    )
}

/// The line about the labels of a build by buildpacks that are not kept, if there are any.
pub fn not_kept_of_build<'a>(names: impl Iterator<Item = &'a String>) -> Option<String> {
    let names: Vec<_> = names.filter(|name| !is_kept_of_build(name)).map(|name| Line::sanitize(name)).collect();
    (!names.is_empty()).then(|| not_kept(&names))
}

/// Whether a label of a build by buildpacks is kept: the buildpack specification has its own.
pub(super) fn is_kept_of_build(name: &str) -> bool {
    name.starts_with("io.buildpacks.") || !is_foreign(name)
}

/// Notes what the launcher of an image does: it is an init, so that it gets no other one, and waits until an address is
/// closed.
pub(super) fn add_launcher(labels: &mut BTreeMap<String, String>) {
    labels.extend([INIT_LABEL, WAIT_LABEL].map(|(name, value)| (name.to_owned(), value.to_owned())));
}

/// Whether the launcher of an image is an init.
pub(super) fn has_init(labels: &BTreeMap<String, String>) -> bool {
    has(labels, INIT_LABEL)
}

/// Whether the launcher of an image waits until an address is closed.
pub(super) fn has_wait(labels: &BTreeMap<String, String>) -> bool {
    has(labels, WAIT_LABEL)
}

fn has(labels: &BTreeMap<String, String>, (name, value): (&str, &str)) -> bool {
    labels.get(name).is_some_and(|found| found == value)
}

/// Replaces the run image in the metadata of the lifecycle, if there is such metadata.
pub(super) fn replace_run_image(labels: &mut BTreeMap<String, String>, top_layer: &Digest, manifest: &Digest) {
    if let Some(text) = labels.get(LIFECYCLE_METADATA)
        && let Ok(Value::Object(mut metadata)) = serde_json::from_str(text)
    {
        insert_run_image(&mut metadata, top_layer, manifest);
        labels.insert(LIFECYCLE_METADATA.to_owned(), Value::Object(metadata).to_string());
    }
}

/// Sets the run image in the metadata of the lifecycle.
pub(super) fn insert_run_image(metadata: &mut Map<String, Value>, top_layer: &Digest, manifest: &Digest) {
    metadata.insert("runImage".to_owned(), json!({ "topLayer": top_layer, "reference": manifest }));
}

/// Manifest of the run image in the metadata of the lifecycle.
pub(super) fn run_image(labels: &BTreeMap<String, String>) -> Option<Digest> {
    let metadata: Value = serde_json::from_str(labels.get(LIFECYCLE_METADATA)?).ok()?;
    metadata["runImage"]["reference"].as_str()?.parse().ok()
}

/// The labels of a run image that describe it, and that all images based on it have as well.
pub(super) fn of_base(labels: &BTreeMap<String, String>) -> impl Iterator<Item = (String, String)> {
    let of_base = labels.iter().filter(|(name, _)| name.starts_with("io.buildpacks.base."));
    of_base.map(|(name, value)| (name.clone(), value.clone()))
}
