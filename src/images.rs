//! The image store: blobs by digest, images made of them, the registry that serves them to the engine, and the stacks that
//! images are based on. The store has the originals; the engine's images are a cache.

mod archive;
mod assemble;
mod blobs;
mod bootstrap;
mod built;
mod contents;
mod definition;
mod dockerfile_builder;
mod environment;
mod error;
mod labels;
mod launcher;
mod layout;
mod manifest;
mod rebase;
mod registry;
mod stack;
mod store;
mod user;

pub use archive::ImageArchive;
pub use blobs::{BlobStore, BlobWriter, NewBlob, UnusedBlob};
pub use built::without_effect;
pub use definition::StackDefinition;
pub use dockerfile_builder::dockerfile_builder_key;
pub use error::ImageError;
pub use labels::{LIFECYCLE_METADATA, not_kept_of_build};
pub use launcher::{RuntimeSettings, StartSettings};
pub use manifest::architecture;
pub use registry::Registry;
pub use stack::{Stack, StackImage};
pub use store::{Image, ImageStore};

#[cfg(test)]
mod tests;
