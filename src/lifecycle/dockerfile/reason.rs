//! What is wrong and what to do, instead of buildah's words.

/// Signs that a registry or server cannot be reached.
const UNREACHABLE: [&str; 9] = [
    "no such host",
    "server misbehaving",
    "connection refused",
    "no route to host",
    "network is unreachable",
    "permission denied",
    "i/o timeout",
    "TLS handshake timeout",
    "connection reset",
];
/// Signs that a registry wants a login, or another one.
const DENIED: [&str; 6] = [
    "requested access to the resource is denied",
    "unauthorized",
    "authentication required",
    "denied: ",
    "access denied",
    "403 (Forbidden)",
];
/// Signs that a registry does not have an image.
const MISSING: [&str; 4] = ["manifest unknown", "name unknown", ": not found", "404 (Not Found)"];

/// How names begin of images that are in files, or in another program's store (containers-transports(5)).
const OF_NO_REGISTRY: [&str; 8] =
    ["containers-storage:", "dir:", "docker-archive:", "docker-daemon:", "oci:", "oci-archive:", "ostree:", "tarball:"];
/// How buildah says that neither a stage nor an image has the name.
const NO_STAGE: &str = "no stage or image found with that name";

/// Whether the reason is one of a step although it does not name the step.
pub(super) fn is_of_step(reason: &str) -> bool {
    reason.starts_with("COPY --from=") || reason.starts_with("creating build container: ") || reason.contains(NO_STAGE)
}

/// Of an error before the first step.
pub(super) fn of_file(reason: &str) -> String {
    if reason.contains("no FROM statement found") {
        return "it has no FROM: begin it with a base image, such as FROM debian:13".to_owned();
    }
    if reason.starts_with("no contents in ") {
        return "it is empty: begin it with a base image, such as FROM debian:13".to_owned();
    }
    if let Some((stage, _)) = reason.strip_prefix("The target \"").and_then(|rest| rest.split_once('"')) {
        return format!("it has no stage {stage}: name another one (builds:set APP target STAGE), or leave it out");
    }
    without_paths(reason)
}

/// Of the error of a step.
pub(super) fn of_step(step: &str, reason: &str) -> String {
    let keyword = step.split_whitespace().next().unwrap_or_default().to_ascii_uppercase();
    if reason.contains("nknown instruction: ") {
        return "there is no such instruction".to_owned();
    }
    if let Some(status) = reason.strip_prefix("exit status ") {
        return format!("the command ended with exit status {status}");
    }
    if let Some((id, _)) = reason.split_once("no secret with id \"").and_then(|(_, rest)| rest.split_once('"')) {
        return format!("there is no secret {id}: set a config var of that name (config:set APP --build {id}=VALUE)");
    }
    if let (Some((_, path)), true) = (reason.split_once("copier: stat: "), reason.contains("no such file")) {
        let path = path.split(": no such file").next().unwrap_or_default().trim_matches(['[', ']', '"', '/']);
        return if step.contains("--from=") {
            format!("{path} does not exist there")
        } else {
            format!("{path} does not exist in the app, or .dockerignore leaves it out")
        };
    }
    if let Some((glob, _)) = reason.split_once("no items matching glob \"").and_then(|(_, rest)| rest.split_once('"')) {
        let name = glob.trim_start_matches("/workspace/");
        return format!("{name} does not exist in the app, or .dockerignore leaves it out");
    }
    if reason.contains("--link is not supported") {
        return "an ONBUILD of the base image has the flag --link: build that image without it".to_owned();
    }
    if reason.contains(NO_STAGE) {
        return "there is no such stage, and no registry has an image of that name".to_owned();
    }
    let names_no_registry = |word: &str| OF_NO_REGISTRY.iter().any(|begin| word.starts_with(begin));
    if keyword == "FROM" && (reason.ends_with("image not known") || step.split_whitespace().any(names_no_registry)) {
        return "that is neither an image of a registry nor one that the operator offers (images:list)".to_owned();
    }
    if keyword == "FROM" || reason.contains("initializing source docker://") {
        return of_pull(reason, Access::NoLogin);
    }
    if keyword == "ADD" && UNREACHABLE.iter().any(|sign| reason.contains(sign)) {
        return format!("the address cannot be reached ({})", last_part(reason));
    }
    without_paths(reason)
}

/// Whether an image was pulled with a login.
#[derive(Clone, Copy)]
pub(super) enum Access<'a> {
    /// With that of this registry.
    Login(&'a str),
    /// Without one, because there is none.
    NoLogin,
    /// Without one, because none is ever used.
    Public,
}

/// Of the failure to pull an image.
pub(super) fn of_pull(reason: &str, access: Access<'_>) -> String {
    let has = |signs: &[&str]| signs.iter().any(|sign| reason.contains(sign));
    if reason.contains("x509: ") {
        return format!(
            "the certificate of its registry is not trusted ({}): name the authority in [outbound] ca_bundle of paas.toml",
            last_part(reason)
        );
    }
    if has(&UNREACHABLE) {
        let offer = if matches!(access, Access::NoLogin) {
            ", or base it on an image that is offered (images:list)"
        } else {
            ""
        };
        return format!("its registry cannot be reached ({}): try again when it can{offer}", last_part(reason));
    }
    if has(&MISSING) {
        return "its registry has no such image or tag: correct the name".to_owned();
    }
    if has(&DENIED) {
        return match access {
            Access::Login(host) => format!(
                "{host} refuses the login, or does not give the image out to it: correct the name, or log in again"
            ),
            Access::NoLogin => {
                "its registry does not give it out: correct the name, or log in (registry:login)".to_owned()
            }
            Access::Public => "its registry does not give it out: correct the name".to_owned(),
        };
    }
    if reason.contains("Invalid image name") || reason.contains("invalid reference format") {
        return "that is no valid name of an image".to_owned();
    }
    without_paths(reason)
}

/// The part of a chain of errors that tells most.
fn last_part(reason: &str) -> &str {
    reason.rsplit(": ").next().unwrap_or(reason).trim()
}

/// Without the paths and ids of the build container, which nobody knows.
fn without_paths(reason: &str) -> String {
    let words = reason.split(' ').filter(|word| {
        let plain = word.trim_matches(['"', ':', ',']);
        !(plain.starts_with("/layers/") || (plain.len() == 64 && plain.bytes().all(|byte| byte.is_ascii_hexdigit())))
    });
    words.collect::<Vec<_>>().join(" ").replace("/workspace/", "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pulls_that_fail_are_explained() {
        let of = |reason| of_pull(reason, Access::NoLogin);
        assert!(
            of("pinging r: Get \"https://r/v2/\": dial tcp: lookup r on 10.1.1.1:53: no such host")
                .contains("cannot be reached (no such host)")
        );
        assert!(of("reading manifest sha256:403denied in r/x: manifest unknown").contains("no such image or tag"));
        assert!(of("unable to retrieve auth token: invalid username/password: unauthorized: x").contains("log in"));
        assert!(
            of_pull("unauthorized: authentication required", Access::Login("r")).starts_with("r refuses the login")
        );
        assert!(
            of("tls: failed to verify certificate: x509: certificate signed by unknown authority")
                .contains("ca_bundle")
        );
    }

    #[test]
    fn a_name_of_no_registry_is_named_as_such() {
        for (step, reason) in [
            ("FROM docker-daemon:x:1", "creating build container: Cannot connect to the Docker daemon at unix:///x"),
            ("from oci:/layers/x", "creating build container: open /layers/x: no such file or directory"),
            ("FROM sha256:ab", "creating build container: sha256:ab: image not known"),
        ] {
            assert!(of_step(step, reason).starts_with("that is neither an image of a registry"), "{step}");
        }
    }

    #[test]
    fn paths_of_the_container_are_left_out() {
        let id = "ab".repeat(32);
        assert_eq!(without_paths(&format!("mounting \"{id}\" under \"/layers/storage/x\": no")), "mounting under no");
    }
}
