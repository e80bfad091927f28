//! Process types of a release: the processes of an image, with the health checks and quantities of the app's `app.json`.

use std::collections::BTreeMap;

use crate::{
    images::RuntimeSettings,
    model::{AppJson, HealthCheck, Process, ProcessType},
    store::ProcessSpec,
};

/// Combines the image's processes with the app's manifest. Without a quantity there, `web` gets one instance, and all
/// others none.
pub fn processes(image: Vec<Process>, settings: RuntimeSettings, manifest: &AppJson) -> Vec<ProcessSpec> {
    image
        .into_iter()
        .map(|process| {
            let name = &process.process_type;
            let declared = manifest.health_checks.get(name).cloned();
            let health_check = declared.unwrap_or_else(|| HealthCheck::default_for(name));
            let default_quantity = manifest.formation.get(name).copied().unwrap_or_else(|| u32::from(name.is_web()));
            let RuntimeSettings { port, own_user } = settings;
            ProcessSpec { process, health_check, default_quantity, port, own_user }
        })
        .collect()
}

/// The declared quantity of instances of each process type that has some: as scaled (`ps:scale`), or else the release's default.
pub fn formation(processes: &[ProcessSpec], scaled: &BTreeMap<ProcessType, u32>) -> BTreeMap<ProcessType, u32> {
    let quantity = |spec: &ProcessSpec| *scaled.get(&spec.process.process_type).unwrap_or(&spec.default_quantity);
    let scalable = processes.iter().filter(|spec| !spec.process.process_type.is_release());
    scalable.map(|spec| (spec.process.process_type.clone(), quantity(spec))).collect()
}

/// Process types that the manifest names but the image does not have, for a warning.
pub fn unknown_types(image: &[Process], manifest: &AppJson) -> Vec<ProcessType> {
    let unknown = |name: &&ProcessType| !image.iter().any(|process| process.process_type == **name);
    let mut names: Vec<_> =
        manifest.formation.keys().chain(manifest.health_checks.keys()).filter(unknown).cloned().collect();
    names.sort();
    names.dedup();
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Probe;

    fn process(name: &str) -> Process {
        Process {
            process_type: name.parse().unwrap(),
            command: vec!["x".into()],
            args: vec![],
            direct: false,
            default: false,
            working_dir: None,
        }
    }

    #[test]
    fn web_gets_one_instance_and_others_none_unless_the_manifest_says_otherwise() {
        let manifest = AppJson::parse(r#"{"formation":{"worker":{"quantity":2},"clock":{"quantity":1}}}"#).unwrap();
        let image = vec![process("web"), process("worker"), process("release")];
        assert_eq!(unknown_types(&image, &manifest), ["clock".parse().unwrap()]);
        let specs = processes(image, RuntimeSettings { port: 8080, own_user: false }, &manifest);
        let quantities: Vec<_> = specs.iter().map(|s| s.default_quantity).collect();
        assert_eq!(quantities, [1, 2, 0]);
        assert_eq!(specs[0].health_check.probe, Probe::Tcp);
        assert!(matches!(specs[1].health_check.probe, Probe::Uptime(_)));
        let scaled = BTreeMap::from([(ProcessType::web(), 7)]);
        assert_eq!(formation(&specs, &scaled).into_values().collect::<Vec<_>>(), [0, 7, 2]);
    }
}
