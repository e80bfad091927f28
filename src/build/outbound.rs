//! Internet access of builds through a network with a proxy or a certificate authority of its own.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use crate::config::Outbound;

/// Path of the trusted certificates in a build container.
pub const CA_BUNDLE: &str = "/cnb/ca-certificates.pem";

/// Where distributions keep their trusted certificates.
const SYSTEM_BUNDLES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
];

/// Variables in which tools look for the path of trusted certificates.
const CA_VARIABLES: [&str; 13] = [
    "SSL_CERT_FILE",
    "NODE_EXTRA_CA_CERTS",
    "PIP_CERT",
    "REQUESTS_CA_BUNDLE",
    "CARGO_HTTP_CAINFO",
    "GIT_SSL_CAINFO",
    "CURL_CA_BUNDLE",
    "AWS_CA_BUNDLE",
    "DENO_CERT",
    "BUNDLE_SSL_CA_CERT",
    "COMPOSER_CAFILE",
    "HEX_CACERTS_PATH",
    "npm_config_cafile",
];

/// Variables of every process of a build.
pub fn environment(outbound: &Outbound) -> BTreeMap<String, String> {
    let mut environment = BTreeMap::new();
    if outbound.ca_bundle.is_some() {
        environment.extend(CA_VARIABLES.map(|name| (name.to_owned(), CA_BUNDLE.to_owned())));
    }
    let proxies = [
        ("HTTP_PROXY", &outbound.http_proxy),
        ("HTTPS_PROXY", &outbound.https_proxy),
        ("NO_PROXY", &outbound.no_proxy),
    ];
    for (name, value) in proxies {
        if let Some(value) = value {
            // Some tools read the upper-case name, some the lower-case one.
            environment.insert(name.to_owned(), value.clone());
            environment.insert(name.to_ascii_lowercase(), value.clone());
        }
    }
    environment
}

/// Writes the certificates that builds trust to `to`: the configured ones and those of this machine, since a tool that
/// is given a bundle trusts nothing else. Returns the path if certificates are configured. Blocks.
pub fn write_ca_bundle(outbound: &Outbound, to: &Path) -> Result<Option<PathBuf>, io::Error> {
    use std::os::unix::fs::PermissionsExt;
    let Some(configured) = &outbound.ca_bundle else { return Ok(None) };
    let with_path =
        |e: io::Error| io::Error::new(e.kind(), format!("outbound.ca_bundle: {}: {e}", configured.display()));
    let mut bundle = fs::read(configured).map_err(with_path)?;
    if !bundle.windows(11).any(|window| window == b"-----BEGIN ") {
        return Err(with_path(io::Error::new(io::ErrorKind::InvalidData, "contains no PEM certificate")));
    }
    let is_configured = |path: &&str| fs::canonicalize(path).ok() == fs::canonicalize(configured).ok();
    if !SYSTEM_BUNDLES.iter().any(is_configured)
        && let Some(system) = SYSTEM_BUNDLES.iter().find_map(|path| fs::read(path).ok())
    {
        bundle.push(b'\n');
        bundle.extend(system);
    }
    let new = to.with_extension("new");
    fs::write(&new, bundle)?;
    fs::set_permissions(&new, fs::Permissions::from_mode(0o644))?;
    fs::rename(&new, to)?;
    Ok(Some(to.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proxies_have_upper_and_lower_case_names() {
        let outbound = Outbound { https_proxy: Some("http://p:1".into()), ..Outbound::default() };
        let environment = environment(&outbound);
        assert_eq!(environment.len(), 2);
        assert_eq!(environment["https_proxy"], environment["HTTPS_PROXY"]);
    }

    #[test]
    fn a_bundle_without_certificates_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ca.pem");
        let outbound = Outbound { ca_bundle: Some(path.clone()), ..Outbound::default() };
        assert!(write_ca_bundle(&outbound, &dir.path().join("out")).is_err());
        fs::write(&path, "nonsense").unwrap();
        let error = write_ca_bundle(&outbound, &dir.path().join("out")).unwrap_err().to_string();
        assert!(error.starts_with("outbound.ca_bundle: ") && error.contains("no PEM"), "{error}");
        fs::write(&path, "-----BEGIN CERTIFICATE-----\n").unwrap();
        let written = write_ca_bundle(&outbound, &dir.path().join("out")).unwrap().unwrap();
        assert!(fs::read(written).unwrap().starts_with(b"-----BEGIN"));
        assert_eq!(environment(&outbound)["SSL_CERT_FILE"], CA_BUNDLE);
    }
}
