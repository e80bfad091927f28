//! Requires and provides a greeting, keeps it in a cached launch layer, and serves it.

use libcnb::{
    Buildpack,
    build::{BuildContext, BuildResult, BuildResultBuilder},
    buildpack_main,
    data::{
        build_plan::BuildPlanBuilder,
        launch::{LaunchBuilder, ProcessBuilder},
        layer_name, process_type,
    },
    detect::{DetectContext, DetectResult, DetectResultBuilder},
    generic::{GenericMetadata, GenericPlatform},
    layer::{CachedLayerDefinition, InvalidMetadataAction, LayerState, RestoredLayerAction},
    layer_env::{LayerEnv, ModificationBehavior, Scope},
};

struct Hello;

#[derive(serde::Deserialize, serde::Serialize)]
struct Metadata {
    version: u32,
}

impl Buildpack for Hello {
    type Platform = GenericPlatform;
    type Metadata = GenericMetadata;
    type Error = std::io::Error;

    fn detect(&self, context: DetectContext<Self>) -> libcnb::Result<DetectResult, Self::Error> {
        if !context.app_dir.join("greeting.txt").is_file() {
            return DetectResultBuilder::fail().build();
        }
        let plan = BuildPlanBuilder::new().provides("greeting").requires("greeting").build();
        DetectResultBuilder::pass().build_plan(plan).build()
    }

    fn build(&self, context: BuildContext<Self>) -> libcnb::Result<BuildResult, Self::Error> {
        println!("-----> {} of the plan", context.buildpack_plan.entries.len());
        println!("       for {} {}", context.target.distro_name, context.target.distro_version);
        let layer = context.cached_layer(
            layer_name!("greeting"),
            CachedLayerDefinition {
                build: false,
                launch: true,
                invalid_metadata_action: &|_| InvalidMetadataAction::DeleteLayer,
                restored_layer_action: &|_: &Metadata, _| RestoredLayerAction::KeepLayer,
            },
        )?;
        match layer.state {
            LayerState::Restored { .. } => println!("       the greeting was cached"),
            LayerState::Empty { .. } => {
                println!("       the greeting is new");
                layer.write_metadata(Metadata { version: 1 })?;
                let folder = layer.path().display().to_string();
                layer.write_env(LayerEnv::new().chainable_insert(
                    Scope::Launch,
                    ModificationBehavior::Default,
                    "GREETING_DIR",
                    folder,
                ))?;
            }
        }
        let text = std::fs::read(context.app_dir.join("greeting.txt")).map_err(libcnb::Error::BuildpackError)?;
        std::fs::write(layer.path().join("index.html"), text).map_err(libcnb::Error::BuildpackError)?;
        let serve = "exec python3 -m http.server --directory \"$GREETING_DIR\" \"$PORT\"";
        let process = ProcessBuilder::new(process_type!("web"), ["bash", "-c", serve]).default(true).build();
        BuildResultBuilder::new().launch(LaunchBuilder::new().process(process).build()).build()
    }
}

buildpack_main!(Hello);
