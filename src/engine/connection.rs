//! The connection to the Docker Engine.

use std::time::Duration;

use bollard::{ClientVersion, Docker, errors::Error as DockerError};

/// How long the engine may take to begin its response to a request.
pub(super) const RESPONSE_TIMEOUT: Duration = Duration::from_mins(2);

/// Connects to the engine's Unix socket and negotiates the API version.
pub(super) async fn connect(socket: &str) -> Result<Docker, DockerError> {
    let newest = bollard::API_DEFAULT_VERSION;
    let docker = Docker::connect_with_unix(socket, RESPONSE_TIMEOUT.as_secs(), newest)?;
    match docker.negotiate_version().await {
        // An older engine rejects even the negotiation; its error message contains the version that it supports.
        Err(DockerError::DockerResponseServerError { status_code: 400, message }) => {
            let supported = message
                .rsplit(' ')
                .find_map(|word| word.trim_end_matches('.').split_once('.'))
                .and_then(|(major, minor)| Some((major.parse().ok()?, minor.parse().ok()?)));
            let Some((major_version, minor_version)) = supported else {
                return Err(DockerError::DockerResponseServerError { status_code: 400, message });
            };
            let version = ClientVersion { major_version, minor_version };
            Docker::connect_with_unix(socket, RESPONSE_TIMEOUT.as_secs(), &version)?.negotiate_version().await
        }
        other => other,
    }
}
