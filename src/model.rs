//! The types of the domain: values are validated once, where they enter, and passed on as these types. No I/O.

mod access;
mod address;
#[cfg(feature = "server")]
mod address_block;
mod addresses;
#[cfg(feature = "server")]
mod app_json;
#[cfg(feature = "server")]
mod binding;
mod buildpack;
#[cfg(feature = "server")]
mod client_network;
#[cfg(feature = "server")]
pub mod closed_ranges;
#[cfg(feature = "server")]
mod cron;
#[cfg(feature = "server")]
mod deployed_image;
mod digest;
mod distribution;
#[cfg(feature = "server")]
mod dockerfile_path;
mod encoded_text;
mod exposure;
mod first_names;
mod health;
#[cfg(feature = "server")]
mod ignored_keys;
#[cfg(feature = "server")]
mod image_name;
mod line;
mod names;
#[cfg(feature = "server")]
mod network_target;
#[cfg(feature = "server")]
mod opening;
mod process;
#[cfg(feature = "server")]
mod project_toml;
#[cfg(test)]
mod properties;
#[cfg(feature = "server")]
mod quota;
mod ref_name;
#[cfg(feature = "server")]
mod registry_host;
#[cfg(feature = "server")]
mod remote_url;
mod secret;
mod service_key;
#[cfg(feature = "server")]
mod size;
#[cfg(feature = "server")]
mod size_target;
mod stop_timeout;
mod task;
#[cfg(feature = "server")]
mod terminal;
mod toml_message;
#[cfg(feature = "server")]
mod volume;

pub use access::{InvalidRole, Right, Role};
pub use address::{Address, ImageReference, host_and_port};
#[cfg(feature = "server")]
pub use address_block::{AddressBlock, InvalidAddressBlock};
pub use addresses::{AddressPlan, InvalidAddressRange};
#[cfg(feature = "server")]
pub use app_json::{AppJson, InvalidAppJson};
#[cfg(feature = "server")]
pub use binding::{Binding, BindingValue, Bindings};
pub use buildpack::BuildpackSource;
#[cfg(feature = "server")]
pub use client_network::ClientNetwork;
#[cfg(feature = "server")]
pub use cron::{Concurrency, CronJob};
#[cfg(feature = "server")]
pub use deployed_image::DeployedImage;
pub use digest::{CommitId, Digest, HashWriter, InvalidDigest};
pub use distribution::{Distribution, PackageChange};
#[cfg(feature = "server")]
pub use dockerfile_path::DockerfilePath;
pub use encoded_text::{Encoding, NotText, decode_text};
pub use exposure::Exposure;
pub use first_names::first_names;
pub use health::{
    CheckHeader, CheckMode, CheckSettings, CheckType, DeclaredCheck, HealthCheck, HttpProbe, ImageHealthCheck, Probe,
    Scheme,
};
#[cfg(feature = "server")]
pub use image_name::ImageName;
pub use line::{Line, is_unsafe};
pub use names::{
    AppName, BindingKey, BindingName, BindingProvider, BindingType, BranchName, ConfigKey, HostPath, InstanceId,
    InvalidName, KeyName, LogSource, MountPath, OtherRef, ProcessType, SourceFolder, StackName, StageName, TaskId,
    TokenName, UserName, VolumeName,
};
#[cfg(feature = "server")]
pub use network_target::{HOST_NAME, InvalidNetworkTarget, NetworkTarget, TargetPlace, internal_name};
#[cfg(feature = "server")]
pub use opening::{Destination, Opening, Protocol};
pub use process::{Process, Procfile, ProcfileError};
#[cfg(feature = "server")]
pub use project_toml::{Files, InvalidProjectToml, ProjectBuildpack, ProjectToml};
#[cfg(feature = "server")]
pub use quota::{QuotaScope, Resource};
pub use ref_name::{RefName, conflicting_ref};
#[cfg(feature = "server")]
pub use registry_host::RegistryHost;
#[cfg(feature = "server")]
pub use remote_url::{RemoteScheme, RemoteUrl};
pub use secret::Secret;
pub use service_key::{InvalidServiceKey, ServiceKey};
#[cfg(feature = "server")]
pub use size::{Capacity, CpuMillis, MemoryMib, PartialSize, Size, bytes_of_mib, mib, mib_of_bytes, thousandths};
#[cfg(feature = "server")]
pub use size_target::SizeTarget;
pub use stop_timeout::StopTimeout;
#[cfg(feature = "server")]
pub use task::ReleaseManifest;
pub use task::{Scripts, TaskCommand, TaskKind, TaskName};
#[cfg(feature = "server")]
pub use terminal::TerminalSize;
pub use toml_message::toml_message;
#[cfg(feature = "server")]
pub use volume::{MountSpec, NamedSource, VolumeSize};

/// Number of a release of one app: 1, 2, 3 …; gaps are possible.
pub type ReleaseNumber = u64;

/// The port that instances listen on inside their containers, given as `$PORT`, unless the image or a port mapping names another.
pub const CONTAINER_PORT: u16 = 8080;

#[cfg(all(test, feature = "server"))]
mod tests {
    use super::*;

    /// The error of a text as a value of this type.
    fn error<T: std::str::FromStr<Err: ToString>>(text: &str) -> Option<String> {
        text.parse::<T>().err().map(|error| error.to_string())
    }

    #[test]
    fn errors_of_all_parsers_echo_at_most_200_characters() {
        const MARK: char = 'ω';
        let parsers: [fn(&str) -> Option<String>; 23] = [
            error::<AppName>,
            error::<BranchName>,
            error::<ConfigKey>,
            error::<KeyName>,
            error::<ProcessType>,
            error::<SourceFolder>,
            error::<StackName>,
            error::<StageName>,
            error::<UserName>,
            error::<Digest>,
            error::<CommitId>,
            error::<ServiceKey>,
            error::<Role>,
            error::<StopTimeout>,
            error::<AddressPlan>,
            error::<AddressBlock>,
            error::<NetworkTarget>,
            error::<BuildpackSource>,
            error::<ImageName>,
            error::<DockerfilePath>,
            |text| RefName::parse(text).err().map(|error| error.to_string()),
            |text| AppJson::parse(text).err().map(|error| error.to_string()),
            |text| ProjectToml::parse(text).err().map(|error| error.to_string()),
        ];
        let shapes = [
            "L",
            "-L",
            "10.0.0.0/L",
            "L.localhost",
            "http://L L",
            "refs/L L",
            "{\"formation\": \"L\"}",
            "{\"formation\": {\"L\": 1}}",
            "{\"formation\": {\"web\": {\"L\": 1}}}",
            "{\"formation\": {\"web\": {\"quantity\": \"L\"}}}",
            "{\"healthchecks\": {\"web\": [{\"type\": \"L\"}]}}",
            "{\"healthchecks\": {\"web\": [{\"L\": 1}]}}",
            "{\"healthchecks\": {\"web\": [{\"path\": \"L\"}]}}",
            "{\"cron\": [{\"command\": \"x\", \"schedule\": \"L\"}]}",
            "{\"cron\": [{\"command\": \"L\", \"schedule\": \"x\"}]}",
            "{\"scripts\": {\"dokku\": {\"L\": 1}}}",
            "[_]\nschema-version = \"L\"",
            "[io.buildpacks]\nexclude = \"L\"",
            "[[io.buildpacks.group]]\nuri = \"L\"",
            "[[io.buildpacks.group]]\nscript = { api = \"0.9\", inline = \"x\", shell = \"L\" }",
            "[[io.buildpacks.build.env]]\nname = \"L\"\nvalue = 3",
            "L = ",
        ];
        let long = MARK.to_string().repeat(50_000);
        let mut refused = 0;
        for shape in shapes {
            let text = shape.replace('L', &long);
            for message in parsers.iter().filter_map(|parse| parse(&text)) {
                refused += 1;
                let echoed = message.chars().filter(|c| *c == MARK).count();
                assert!(
                    echoed <= 200,
                    "{echoed} characters of {shape}: {}",
                    message.chars().take(100).collect::<String>()
                );
            }
        }
        assert!(refused > 300, "{refused}");
        let procfile = Procfile::parse(&format!("{}: x", MARK.to_string().repeat(30_000))).unwrap_err().to_string();
        assert!(procfile.chars().filter(|c| *c == MARK).count() <= 200, "{procfile}");
    }
}
