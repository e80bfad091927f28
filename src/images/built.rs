//! The image that a Dockerfile's build made.

use crate::lifecycle::protocol::BuiltImage;

use super::{
    error::{ImageError, Result},
    labels,
    manifest::{Descriptor, History, ImageConfig},
    store::{CREATED, Image, ImageStore},
};
use crate::model::{AppName, Line, MountPath, Secret};

impl ImageStore {
    /// Adds an image whose layers are in the blob store. `arguments` are build arguments whose values stay out of its history,
    /// where the builder writes them for every command that could see them.
    pub fn put_built<'a>(
        &self,
        built: &BuiltImage,
        arguments: impl Iterator<Item = (&'a String, &'a Secret)>,
    ) -> Result<Image> {
        let invalid = |reason: String| ImageError::Archive(reason);
        let mut config: ImageConfig = serde_json::from_value(built.config.clone())
            .map_err(|e| invalid(format!("its configuration is invalid: {e}")))?;
        config.apply_shell();
        let diff_ids = &config.rootfs.diff_ids;
        if !diff_ids.iter().eq(built.layers.iter().map(|layer| &layer.digest)) {
            return Err(invalid("its configuration and its manifest have different layers".to_owned()));
        }
        let layers = diff_ids.iter().map(|digest| {
            let size = self.blobs().size(digest)?.ok_or_else(|| ImageError::Missing(digest.clone()))?;
            Ok(Descriptor::layer(digest.clone(), size))
        });
        let layers = layers.collect::<Result<_>>()?;
        let mut hidden: Vec<_> =
            arguments.map(|(name, value)| (format!(" {name}={}", value.expose()), format!(" {name}"))).collect();
        // A value may begin with another one.
        hidden.sort_by_key(|(argument, _)| std::cmp::Reverse(argument.len()));
        let without_values = |text: &str| {
            let shown = hidden.iter().filter(|_| text.starts_with('|'));
            shown.fold(text.to_owned(), |text, (argument, name)| text.replace(argument, name))
        };
        let history = config.steps_of_layers().map(|created_by| History::of(CREATED, without_values(created_by)));
        let history = history.collect();
        self.put_image(&config.architecture, layers, config.rootfs.diff_ids, history, config.config)
    }
}

/// A label that buildah adds.
const BUILDAH: &str = "io.buildah.version";

/// What of an image has no effect on the containers of an app, in lines for the developer. Where something is `mounted`, a
/// `VOLUME` has what it asks for.
pub fn without_effect(config: &serde_json::Value, app: &AppName, mounted: &[MountPath]) -> Vec<String> {
    let names = |key: &str| {
        let map = config["config"][key].as_object();
        map.into_iter().flatten().map(|(name, _)| Line::sanitize(name)).collect::<Vec<_>>()
    };
    let path = |volume: &String| volume.trim_end_matches('/').to_owned();
    let volumes = names("Volumes").into_iter().filter(|volume| mounted.iter().all(|at| at.as_str() != path(volume)));
    let volumes = volumes.map(|volume| {
        format!(
            "this image declares VOLUME {volume}: storage:create {app} NAME and storage:mount {app} NAME:{} keep its files over \
             releases; without that they are deleted with each instance",
            path(&volume)
        )
    });
    let dropped: Vec<_> =
        names("Labels").into_iter().filter(|name| labels::is_foreign(name) && name != BUILDAH).collect();
    let labels = (!dropped.is_empty()).then(|| labels::not_kept(&dropped));
    volumes.chain(labels).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;

    use super::*;
    use crate::{lifecycle::protocol::KnownLayer, model::Digest};

    #[test]
    fn values_of_arguments_stay_out_of_the_history() {
        let dir = tempfile::tempdir().unwrap();
        let store = ImageStore::open(dir.path()).unwrap();
        let layer = store.blobs().put_bytes(b"layer").unwrap();
        let config = json!({ "architecture": "amd64", "os": "linux", "config": { "Labels": { "a": "b" } },
            "rootfs": { "type": "layers", "diff_ids": [layer] },
            "history": [{ "created_by": "ARG TOKEN", "empty_layer": true }, { "created_by": "|3 A=x S=s3 TOKEN=s3 cret /bin/sh -c true" }] });
        let layers = vec![KnownLayer { digest: layer.clone(), size: 5 }];
        let built = BuiltImage { config, layers, timings: Vec::new() };
        let env = BTreeMap::from(
            [("TOKEN", "s3 cret"), ("S", "s3")].map(|(name, value)| (name.to_owned(), Secret::new(value.to_owned()))),
        );
        let image = store.put_built(&built, env.iter()).unwrap();
        assert_eq!(store.describe(&image.manifest).unwrap()[0].created_by, "|3 A=x S TOKEN /bin/sh -c true");

        let other = BuiltImage { layers: vec![KnownLayer { digest: Digest::of(b"other"), size: 5 }], ..built };
        assert!(store.put_built(&other, env.iter()).unwrap_err().to_string().contains("different layers"));
    }

    #[test]
    fn commands_in_the_shell_form_are_run_by_the_shell_that_is_named() {
        let cmd = |steps: &[&str], cmd: &[&str]| {
            let history: Vec<_> = steps.iter().map(|step| json!({ "created_by": step, "empty_layer": true })).collect();
            let config = json!({ "architecture": "amd64", "os": "linux", "rootfs": { "type": "layers", "diff_ids": [] },
                "config": { "Shell": ["/bin/bash", "-c"], "Cmd": cmd }, "history": history });
            let mut config: ImageConfig = serde_json::from_value(config).unwrap();
            config.apply_shell();
            config.config.cmd
        };
        let shell = r#"SHELL ["/bin/bash","-c"]"#;
        let of_sh = ["/bin/sh", "-c", "[[ -n x ]]"];
        assert_eq!(cmd(&[shell, "cmd [[ -n x ]]"], &of_sh), ["/bin/bash", "-c", "[[ -n x ]]"]);
        assert_eq!(cmd(&[shell, r#"/bin/sh -c #(nop) CMD ["/bin/sh","-c","[[ -n x ]]"]"#], &of_sh), of_sh, "exec form");
        assert_eq!(cmd(&["CMD [[ -n x ]]", shell], &of_sh), of_sh, "named later");
        assert_eq!(cmd(&[shell, "CMD x y"], &["x", "y"]), ["x", "y"]);
    }

    #[test]
    fn what_has_no_effect_is_told() {
        let config = json!({ "config": { "Volumes": { "/data/": {} },
            "Labels": { "traefik.enable": "true", "org.opencontainers.image.title": "x", "paas.server": "other" } } });
        let (app, mounted) = ("shop".parse().unwrap(), ["/data".parse().unwrap()]);
        let lines = without_effect(&config, &app, &[]);
        assert!(
            lines[0].contains("VOLUME /data/: ") && lines[0].contains("storage:mount shop NAME:/data keep"),
            "{lines:?}"
        );
        assert_eq!(without_effect(&config, &app, &mounted), lines[1..], "a volume is mounted there");
        assert!(lines[1].starts_with("the labels traefik.enable, paas.server are not kept"), "{lines:?}");
        assert_eq!(without_effect(&json!({}), &app, &[]), Vec::<String>::new());
    }
}
