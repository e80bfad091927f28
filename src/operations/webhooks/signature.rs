//! Who sent an event: each forge proves in another header that it knows the secret.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};

use super::headers::WebhookHeaders;
use crate::{model::Secret, store::Millis};

/// How a secret begins that Standard Webhooks, and so GitLab, take the base64 of the key from.
pub(super) const PREFIX: &str = "whsec_";

/// How far the time of a signature may be from now, in milliseconds (Standard Webhooks).
const TOLERANCE: Millis = 5 * 60 * 1000;

/// A forge, or one with the same webhooks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Forge {
    GitHub,
    GitLab,
    /// And Forgejo.
    Gitea,
}

/// The forge that sent the event, if it knows the secret, and the hash of what it has signed.
pub(super) fn verified(
    headers: &WebhookHeaders,
    body: &[u8],
    secret: &Secret,
    now: Millis,
) -> Option<(Forge, [u8; 32])> {
    let key = secret.expose().as_bytes();
    let hash = Sha256::digest(body).into();
    if headers.gitlab_event.is_some() {
        // With a signature the token proves nothing more: it is not signed with the body.
        let is_valid = match &headers.signature {
            Some(signatures) => is_signed(headers, signatures, body, secret, now),
            None => headers.gitlab_token.as_ref().is_some_and(|token| are_equal(token.as_bytes(), key)),
        };
        return is_valid.then_some((Forge::GitLab, hash));
    }
    // Forgejo and Gitea send GitHub's headers, too.
    if headers.gitea_event.is_some() {
        let signature = headers.gitea_signature.as_deref().or_else(|| hub_signature(headers))?;
        return is_hmac(signature, body, key).then_some((Forge::Gitea, hash));
    }
    headers.github_event.as_ref()?;
    is_hmac(hub_signature(headers)?, body, key).then_some((Forge::GitHub, hash))
}

fn hub_signature(headers: &WebhookHeaders) -> Option<&str> {
    headers.hub_signature.as_deref()?.strip_prefix("sha256=")
}

/// Whether this is the HMAC-SHA256 of the body, in hexadecimal.
fn is_hmac(hex: &str, body: &[u8], key: &[u8]) -> bool {
    if hex.len() != 64 || !hex.is_ascii() {
        return false;
    }
    let bytes: Option<Vec<u8>> = (0..32).map(|at| u8::from_str_radix(hex.get(2 * at..2 * at + 2)?, 16).ok()).collect();
    let Ok(mut hmac) = Hmac::<Sha256>::new_from_slice(key) else { return false };
    hmac.update(body);
    bytes.is_some_and(|bytes| hmac.verify_slice(&bytes).is_ok())
}

/// Whether one of the signatures is that of Standard Webhooks: of identity, time and body.
fn is_signed(headers: &WebhookHeaders, signatures: &str, body: &[u8], secret: &Secret, now: Millis) -> bool {
    let (Some(id), Some(timestamp)) = (&headers.webhook_id, &headers.webhook_timestamp) else { return false };
    let is_recent =
        timestamp.parse::<Millis>().is_ok_and(|seconds| (seconds.saturating_mul(1000) - now).abs() <= TOLERANCE);
    let key = secret.expose().strip_prefix(PREFIX).and_then(|text| STANDARD.decode(text).ok());
    let Some(key) = key.filter(|_| is_recent) else { return false };
    let is_valid = |signature: &str| {
        let Some(bytes) = signature.strip_prefix("v1,").and_then(|text| STANDARD.decode(text).ok()) else {
            return false;
        };
        let Ok(mut hmac) = Hmac::<Sha256>::new_from_slice(&key) else { return false };
        for part in [id.as_bytes(), b".", timestamp.as_bytes(), b".", body] {
            hmac.update(part);
        }
        hmac.verify_slice(&bytes).is_ok()
    };
    signatures.split(' ').take(8).any(is_valid)
}

/// Compares by keyed hashes, so that the time tells nothing about where two texts differ.
fn are_equal(one: &[u8], other: &[u8]) -> bool {
    let key: [u8; 32] = rand::random();
    let mac = |bytes: &[u8]| {
        let mut hmac = Hmac::<Sha256>::new_from_slice(&key).ok()?;
        hmac.update(bytes);
        Some(hmac)
    };
    match (mac(one), mac(other)) {
        (Some(one), Some(other)) => one.verify(&other.finalize().into_bytes()).is_ok(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Millis = 1_800_000_000_000;

    fn hex(body: &[u8], key: &[u8]) -> String {
        let mut hmac = Hmac::<Sha256>::new_from_slice(key).unwrap();
        hmac.update(body);
        crate::model::Digest::from_sha256(&hmac.finalize().into_bytes().into()).hex().to_owned()
    }

    fn forge(headers: &WebhookHeaders, body: &[u8], secret: &str) -> Option<Forge> {
        verified(headers, body, &Secret::new(secret), NOW).map(|(forge, _)| forge)
    }

    /// The values with which GitHub's documentation has implementations tested.
    #[test]
    fn the_example_of_github_is_accepted_and_no_other_body() {
        let signature = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
        let headers = WebhookHeaders {
            github_event: Some("push".into()),
            hub_signature: Some(signature.into()),
            ..WebhookHeaders::default()
        };
        let secret = "It's a Secret to Everybody";
        assert_eq!(forge(&headers, b"Hello, World!", secret), Some(Forge::GitHub));
        assert_eq!(forge(&headers, b"Hello, World?", secret), None);
        assert_eq!(forge(&headers, b"Hello, World!", "another"), None);
        for bad in [
            "",
            "sha256=",
            &signature[..70],
            "sha1=00",
            "sha256=zz7107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17",
        ] {
            let headers = WebhookHeaders { hub_signature: Some(bad.into()), ..headers.clone() };
            assert_eq!(forge(&headers, b"Hello, World!", secret), None, "{bad}");
        }
        let unsigned = WebhookHeaders { hub_signature: None, ..headers };
        assert_eq!(forge(&unsigned, b"Hello, World!", secret), None);
    }

    #[test]
    fn gitea_and_forgejo_sign_without_a_prefix() {
        let headers = WebhookHeaders {
            github_event: Some("push".into()),
            gitea_event: Some("push".into()),
            gitea_signature: Some(hex(b"{}", b"s3cret")),
            ..WebhookHeaders::default()
        };
        assert_eq!(forge(&headers, b"{}", "s3cret"), Some(Forge::Gitea));
        assert_eq!(forge(&headers, b"{ }", "s3cret"), None);
        let hub = WebhookHeaders {
            gitea_signature: None,
            hub_signature: Some(format!("sha256={}", hex(b"{}", b"s3cret"))),
            ..headers.clone()
        };
        assert_eq!(forge(&hub, b"{}", "s3cret"), Some(Forge::Gitea));
        // A wrong signature is not made good by another one.
        let both = WebhookHeaders { gitea_signature: Some(hex(b"x", b"s3cret")), ..hub };
        assert_eq!(forge(&both, b"{}", "s3cret"), None);
    }

    #[test]
    fn gitlab_sends_the_token_or_signs_as_standard_webhooks_do() {
        let token = WebhookHeaders {
            gitlab_event: Some("Push Hook".into()),
            gitlab_token: Some("s3cret".into()),
            ..WebhookHeaders::default()
        };
        assert_eq!(forge(&token, b"{}", "s3cret"), Some(Forge::GitLab));
        assert_eq!(forge(&token, b"{}", "s3crets"), None);
        let secret = format!("{PREFIX}{}", STANDARD.encode([7; 32]));
        let time = (NOW / 1000).to_string();
        let mut hmac = Hmac::<Sha256>::new_from_slice(&[7; 32]).unwrap();
        hmac.update(format!("msg_1.{time}.{{}}").as_bytes());
        let signature = format!("v1,{}", STANDARD.encode(hmac.finalize().into_bytes()));
        let signed = WebhookHeaders {
            gitlab_token: None,
            signature: Some(format!("v1,AAAA {signature}")),
            webhook_id: Some("msg_1".into()),
            webhook_timestamp: Some(time),
            ..token
        };
        assert_eq!(forge(&signed, b"{}", &secret), Some(Forge::GitLab));
        assert_eq!(forge(&signed, b"{ }", &secret), None);
        assert_eq!(verified(&signed, b"{}", &Secret::new(&secret), NOW + TOLERANCE + 1000), None, "it is too old");
        // The token does not rescue a wrong signature.
        let wrong = WebhookHeaders { gitlab_token: Some(secret.clone()), signature: Some("v1,AAAA".into()), ..signed };
        assert_eq!(forge(&wrong, b"{}", &secret), None);
    }
}
