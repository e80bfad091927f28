//! Process types of a release: the processes of an image, with the health checks and quantities of the app's `app.json`.

use std::collections::BTreeMap;

use crate::{
    images::RuntimeSettings,
    model::{AppJson, Exposure, Process, ProcessType},
    store::ProcessSpec,
};

/// Combines the image's processes with the app's manifest. The `HEALTHCHECK` of the image is that of the exposed process type,
/// or of the only one, if the manifest has none for it. Without a quantity there, the exposed process type gets one
/// instance, and all others none.
pub fn processes(image: Vec<Process>, settings: &RuntimeSettings, manifest: &AppJson) -> Vec<ProcessSpec> {
    let only = image.len() == 1;
    image
        .into_iter()
        .map(|process| {
            let name = &process.process_type;
            let exposes = Exposure::by_convention(name);
            let health_checks = match (manifest.health_checks.get(name), &settings.health_check) {
                (Some(declared), _) => declared.clone(),
                (None, Some(of_image)) if exposes == Exposure::PortMappings || only => of_image.checks(exposes),
                (None, _) => Vec::new(),
            };
            let default_quantity = manifest.formation.get(name).copied().unwrap_or(match exposes {
                Exposure::PortMappings => 1,
                Exposure::Nothing => 0,
            });
            let RuntimeSettings { port, own_user, .. } = *settings;
            ProcessSpec { process, health_checks, default_quantity, port, exposes, own_user }
        })
        .collect()
}

/// The declared quantity of instances of each process type that has some: as scaled (`ps:scale`), or else the release's default.
pub fn formation(processes: &[ProcessSpec], scaled: &BTreeMap<ProcessType, u32>) -> BTreeMap<ProcessType, u32> {
    let quantity = |spec: &ProcessSpec| *scaled.get(&spec.process.process_type).unwrap_or(&spec.default_quantity);
    let scalable = processes.iter().filter(|spec| !spec.process.process_type.is_release());
    scalable.map(|spec| (spec.process.process_type.clone(), quantity(spec))).collect()
}

/// Warnings about the keys of the manifest that name a process type which the image does not have.
pub fn unknown_types(image: &[Process], manifest: &AppJson) -> Vec<String> {
    let known = image.iter().map(|process| process.process_type.as_str()).collect::<Vec<_>>().join(", ");
    let is_unknown = |name: &ProcessType| !image.iter().any(|process| process.process_type == *name);
    // That `formation.release` has no effect is told in any case.
    let formation = manifest.formation.keys().filter(|name| !name.is_release()).map(|name| ("formation", name));
    let keys = formation.chain(manifest.health_checks.keys().map(|name| ("healthchecks", name)));
    let warning = |(section, name): (&str, &ProcessType)| {
        format!("app.json: {section}.{name} has no effect: the image has no process type {name}; it has: {known}")
    };
    keys.filter(|(_, name)| is_unknown(name)).map(warning).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::model::ImageHealthCheck;

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
    fn the_health_check_of_the_image_is_that_of_web_or_of_the_only_process_type() {
        let second = Duration::from_secs(1);
        let health_check = ImageHealthCheck {
            command: vec!["ok".into()],
            interval: second,
            timeout: second,
            start_period: second,
            retries: 3,
        };
        let settings = RuntimeSettings { port: 8080, own_user: true, health_check: Some(health_check) };
        let numbers = |names: &[&str], manifest: &str| {
            let image = names.iter().map(|name| process(name)).collect();
            let specs = processes(image, &settings, &AppJson::parse(manifest).unwrap());
            specs.iter().map(|spec| spec.health_checks.len()).collect::<Vec<_>>()
        };
        assert_eq!(numbers(&["web", "worker"], "{}"), [2, 0]);
        assert_eq!(numbers(&["worker"], "{}"), [1]);
        assert_eq!(numbers(&["web"], r#"{"healthchecks":{"web":[{"path":"/"}]}}"#), [1], "app.json takes precedence");
    }

    #[test]
    fn web_is_exposed_and_gets_one_instance_and_others_none_unless_the_manifest_says_otherwise() {
        let manifest = r#"{"formation":{"worker":{"quantity":2},"clock":{"quantity":1}},
            "healthchecks":{"worker":[{"timeout":9}],"web":[{"wait":9}]}}"#;
        let manifest = AppJson::parse(manifest).unwrap();
        let image = vec![process("web"), process("worker"), process("release")];
        let names = image.iter().map(|process| process.process_type.to_string()).collect::<Vec<_>>().join(", ");
        let unknown =
            format!("app.json: formation.clock has no effect: the image has no process type clock; it has: {names}");
        assert_eq!(unknown_types(&image, &manifest), [unknown]);
        let specs = processes(image, &RuntimeSettings { port: 8080, own_user: false, health_check: None }, &manifest);
        let quantities: Vec<_> = specs.iter().map(|s| s.default_quantity).collect();
        assert_eq!(quantities, [1, 2, 0]);
        let exposures: Vec<_> = specs.iter().map(|s| s.exposes).collect();
        assert_eq!(exposures, [Exposure::PortMappings, Exposure::Nothing, Exposure::Nothing]);
        let [web, worker, _] = &specs[..] else { panic!("{specs:?}") };
        assert_eq!(web.health_checks[0].wait, Some(Duration::from_secs(9)));
        assert_eq!(worker.health_checks[0].timeout, Some(Duration::from_secs(9)));
        let scaled = BTreeMap::from([(ProcessType::web(), 7)]);
        assert_eq!(formation(&specs, &scaled).into_values().collect::<Vec<_>>(), [7, 2], "release has no instances");
    }
}
