//! The process types of a release, as they are stored with it.

use crate::model::{CONTAINER_PORT, DeclaredCheck, Exposure, Process};

/// A process type of a release.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(from = "StoredSpec")]
pub struct ProcessSpec {
    /// Process as the image declares it.
    pub process: Process,
    /// Health checks that are declared for the instances.
    pub health_checks: Vec<DeclaredCheck>,
    /// Quantity of instances if the process type was never scaled.
    pub default_quantity: u32,
    /// Port that the instances are to listen on (`PORT`).
    pub port: u16,
    /// What the outside reaches of the instances. At most one process type of a release exposes something: a port mapping
    /// names none.
    pub exposes: Exposure,
    /// Whether user and stop signal are those of the image, as a Dockerfile sets them.
    pub own_user: bool,
}

/// A process type as any version of paas has stored it.
#[derive(serde::Deserialize)]
struct StoredSpec {
    process: Process,
    /// The first versions had one check.
    health_check: Option<DeclaredCheck>,
    health_checks: Option<Vec<DeclaredCheck>>,
    default_quantity: u32,
    port: Option<u16>,
    exposes: Option<Exposure>,
    #[serde(default)]
    own_user: bool,
}

impl From<StoredSpec> for ProcessSpec {
    fn from(stored: StoredSpec) -> Self {
        let StoredSpec { process, health_check, health_checks, default_quantity, port, exposes, own_user } = stored;
        // Releases that do not say it were made when the convention was all there was.
        let exposes = exposes.unwrap_or_else(|| Exposure::by_convention(&process.process_type));
        let health_checks = health_checks.unwrap_or_else(|| health_check.into_iter().collect());
        Self { process, health_checks, default_quantity, port: port.unwrap_or(CONTAINER_PORT), exposes, own_user }
    }
}

impl ProcessSpec {
    /// Whether port mappings lead to the instances.
    pub fn is_exposed(&self) -> bool {
        match self.exposes {
            Exposure::Nothing => false,
            Exposure::PortMappings => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Probe;

    fn read(json: &str) -> ProcessSpec {
        serde_json::from_str(json).unwrap()
    }

    const OLD: &str = r#"{"process":{"type":"web","command":["x"],"args":[],"direct":true,"default":true},"health_check":
        {"probe":"tcp","attempts":60,"wait":{"secs":1,"nanos":0},"timeout":{"secs":5,"nanos":0}},"default_quantity":1}"#;

    #[test]
    fn a_spec_of_an_older_version_exposes_what_the_convention_says() {
        let web = read(OLD);
        assert_eq!((web.exposes, web.port, web.own_user), (Exposure::PortMappings, CONTAINER_PORT, false));
        let [check] = &web.health_checks[..] else { panic!("{web:?}") };
        assert_eq!((&check.probe, check.attempts), (&Some(Probe::Tcp), Some(60)));
        let worker = read(&OLD.replace(r#""web""#, r#""worker""#));
        assert_eq!(worker.exposes, Exposure::Nothing);
        assert!(web.is_exposed() && !worker.is_exposed());
    }

    #[test]
    fn what_a_spec_says_is_kept_against_the_convention() {
        let mut api = read(&OLD.replace(r#""web""#, r#""api""#));
        (api.exposes, api.port) = (Exposure::PortMappings, 3000);
        let text = serde_json::to_string(&api).unwrap();
        assert!(text.contains(r#""exposes":"port-mappings""#), "{text}");
        assert_eq!(read(&text), api);
    }
}
