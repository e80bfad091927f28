//! Builds of Dockerfiles, by buildah: without root rights, in the build container, with what that may reach.
//!
//! buildah keeps images, layers and `RUN --mount=type=cache` on the app's disk. Images that the operator offers are in a
//! second, read-only store. What a Dockerfile means is decided by buildah alone; [`instructions`] is only for messages, and
//! for the names of images that need a login.

mod commands;
mod export;
mod instructions;
mod printed;
#[cfg(test)]
mod properties;
mod reason;
mod secrets;
mod source;
mod storage;

use super::{
    clock::Clock,
    dirs::Dirs,
    env::Env,
    failure::Failure,
    output::Output,
    programs::ProcessGroups,
    protocol::{BuiltImage, DockerfileRequest, Phase},
};
use crate::model::Digest;
use commands::Buildah;
use instructions::Dockerfile;
use printed::Printed;
use secrets::Secrets;
use source::Source;
use storage::Storage;

/// Builds the Dockerfile of the source, and sends the layers that the server lacks.
pub(super) fn build(
    dirs: &Dirs,
    request: &DockerfileRequest,
    output: &Output,
    groups: &ProcessGroups,
    clock: &mut Clock,
) -> Result<BuiltImage, Failure> {
    let storage = Storage::open(dirs)?;
    let buildah = Buildah { dirs, storage: &storage, groups, operator_env: &request.operator_env };
    let source = Source::read(dirs, request)?;
    let build_failed = |message: String| Failure::new(Phase::Build, message);
    let unwritten = Failure::io(Phase::Prepare, "write", &dirs.tmp);
    let secrets = Secrets::write(&request.env).map_err(unwritten)?;
    buildah.make_room(output);
    clock.lap(Phase::Prepare);

    output.step(format!("Building {}", request.dockerfile));
    source.dockerfile.without_effect().into_iter().for_each(|line| output.trouble(line));
    if request.no_cache {
        buildah.forget_base_images();
    }
    for added in source.dockerfile.repositories() {
        buildah.check_repository(&added.url, added.reference.as_deref()).map_err(|reason| {
            build_failed(format!("{} line {}, {}: {reason}", request.dockerfile, added.line, added.text))
        })?;
    }
    let not_pulled = pull_with_logins(&buildah, request, &source.dockerfile, output);
    storage.build_begins();
    let printed = Printed::new(&source.dockerfile, output);
    let image = buildah.build(request, &source, &secrets, &printed).map_err(|message| {
        // buildah tried again without the login.
        let pulled = not_pulled.into_iter().find(|failed| message.contains(&failed.image));
        build_failed(pulled.map_or(message, |failed| failed.message))
    })?;
    drop(secrets);
    storage.build_ended(&printed.cached());
    clock.lap(Phase::Build);
    let image = export::export(&buildah, &image, &request.known_layers, output)?;
    clock.lap(Phase::Export);
    Ok(image)
}

/// Adds the image that the source is to the store; the container's disk is that of the offered images.
pub(super) fn offer(dirs: &Dirs, name: &str, output: &Output, groups: &ProcessGroups) -> Result<(), Failure> {
    let storage = Storage::open(dirs)?;
    let buildah = Buildah { dirs, storage: &storage, groups, operator_env: &Env::default() };
    buildah.add(name, output).map_err(|message| Failure::new(Phase::Export, message))
}

/// Fetches an image of a registry, and sends it as the tar of `docker save`. Returns the tar's digest.
pub(super) fn fetch(
    dirs: &Dirs,
    image: &str,
    insecure: bool,
    operator_env: &Env,
    output: &Output,
    groups: &ProcessGroups,
) -> Result<Digest, Failure> {
    let storage = Storage::open(dirs)?;
    let buildah = Buildah { dirs, storage: &storage, groups, operator_env };
    let tar = dirs.layers.join("fetched.tar");
    buildah.fetch(image, insecure, &tar).map_err(|reason| Failure::new(Phase::Prepare, reason))?;
    export::send(&tar, output)
}

/// Removes an image that was offered.
pub(super) fn withdraw(dirs: &Dirs, name: &str, output: &Output, groups: &ProcessGroups) -> Result<(), Failure> {
    let storage = Storage::open(dirs)?;
    let buildah = Buildah { dirs, storage: &storage, groups, operator_env: &Env::default() };
    buildah.remove(name, output).map_err(|message| Failure::new(Phase::Export, message))
}

/// An image that could not be pulled with its login.
struct NotPulled {
    image: String,
    message: String,
}

/// Pulls the images that need a login. The passwords are gone before a command of the Dockerfile runs. The build may not need
/// all of them: those that cannot be pulled are returned.
fn pull_with_logins(
    buildah: &Buildah<'_>,
    request: &DockerfileRequest,
    dockerfile: &Dockerfile,
    output: &Output,
) -> Vec<NotPulled> {
    let mut not_pulled = Vec::new();
    for (image, line) in dockerfile.images(&request.env) {
        let host = instructions::registry_of(&image);
        let Some(login) = request.logins.iter().find(|login| login.host == host) else { continue };
        if let Err(reason) = buildah.pull(&image, login, output) {
            let message = format!("{} line {line}, {image}: {reason}", request.dockerfile);
            not_pulled.push(NotPulled { image, message });
        }
    }
    not_pulled
}
