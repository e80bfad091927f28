//! What an event says.

use serde::Deserialize;

use super::{headers::WebhookHeaders, signature::Forge};
use crate::model::{BranchName, Line};

/// What an event asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Event {
    /// A forge tries the webhook.
    Ping,
    /// The followed branch was pushed.
    Push,
    /// Nothing, for this reason.
    Ignored(String),
}

/// The fields of a push that the forges have in common: GitHub's `push`, GitLab's `Push Hook`, Gitea's and Forgejo's `push`.
#[derive(Deserialize)]
struct Push {
    #[serde(rename = "ref")]
    name: String,
    /// The new commit; only zeros if the branch was deleted.
    after: String,
    #[serde(default)]
    deleted: bool,
}

/// Reads an event whose sender is known.
///
/// # Errors
///
/// Says what is wrong with it.
pub(super) fn read(
    forge: Forge,
    headers: &WebhookHeaders,
    body: &[u8],
    branch: &BranchName,
) -> Result<Event, &'static str> {
    let (kind, push) = match forge {
        Forge::GitHub => (headers.github_event.as_deref(), "push"),
        Forge::Gitea => (headers.gitea_event.as_deref(), "push"),
        Forge::GitLab => (headers.gitlab_event.as_deref(), "Push Hook"),
    };
    let kind = kind.unwrap_or_default();
    if kind == "ping" {
        return Ok(Event::Ping);
    }
    if kind != push {
        return Ok(Event::Ignored(format!("events of the kind {} deploy nothing", Line::excerpt(kind))));
    }
    if body.starts_with(b"payload=") {
        return Err("the event is a form; set the content type of the webhook to application/json");
    }
    let pushed: Push = serde_json::from_slice(body).map_err(|_| "the event is not the JSON of a push")?;
    let Some(pushed_branch) = pushed.name.strip_prefix("refs/heads/") else {
        return Ok(Event::Ignored(format!("{} is no branch", Line::excerpt(&pushed.name))));
    };
    Ok(if pushed_branch != branch.as_str() {
        Event::Ignored(format!("the app follows {branch}, and {} was pushed", Line::excerpt(pushed_branch)))
    } else if pushed.deleted || pushed.after.bytes().all(|byte| byte == b'0') {
        Event::Ignored(format!("{branch} was deleted"))
    } else {
        Event::Push
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(forge: Forge, kind: &str, body: &str) -> Result<Event, &'static str> {
        let kind = Some(kind.to_owned());
        let headers = WebhookHeaders {
            github_event: kind.clone(),
            gitlab_event: kind.clone(),
            gitea_event: kind,
            ..WebhookHeaders::default()
        };
        read(forge, &headers, body.as_bytes(), &"main".parse().unwrap())
    }

    /// Bodies as the documentation of the forges shows them, shortened.
    #[test]
    fn pushes_of_the_followed_branch_are_found() {
        let github = r#"{"ref":"refs/heads/main","before":"6113728f27ae82c7b1a177c8d03f9e96e0adf246",
            "after":"7113728f27ae82c7b1a177c8d03f9e96e0adf246","created":false,"deleted":false,"forced":false,
            "repository":{"id":186853002,"full_name":"Codertocat/Hello-World"},"commits":[],"head_commit":null}"#;
        let gitlab = r#"{"object_kind":"push","event_name":"push","before":"95790bf891e76fee5e1747ab589903a6a1f80f22",
            "after":"da1560886d4f094c3e6c9ef40349f7d38b5d27d7","ref":"refs/heads/main","ref_protected":true,
            "checkout_sha":"da1560886d4f094c3e6c9ef40349f7d38b5d27d7","user_id":4,"project_id":15,"commits":[]}"#;
        let forgejo = r#"{"ref":"refs/heads/main","before":"28e1879d029cb852e4844d9c718537df08844e03",
            "after":"bffeb74224043ba2feb48d137756c8a9331c449a",
            "compare_url":"http://localhost:3000/forgejo/webhooks/compare/28e1...bffe","commits":[]}"#;
        for (forge, kind, body) in
            [(Forge::GitHub, "push", github), (Forge::GitLab, "Push Hook", gitlab), (Forge::Gitea, "push", forgejo)]
        {
            assert_eq!(event(forge, kind, body), Ok(Event::Push), "{forge:?}");
            let other = body.replace("refs/heads/main", "refs/heads/develop");
            assert_eq!(
                event(forge, kind, &other),
                Ok(Event::Ignored("the app follows main, and develop was pushed".into()))
            );
            let tag = body.replace("refs/heads/main", "refs/tags/v1");
            assert_eq!(event(forge, kind, &tag), Ok(Event::Ignored("refs/tags/v1 is no branch".into())));
        }
        let deleted = github.replace("\"deleted\":false", "\"deleted\":true");
        assert_eq!(event(Forge::GitHub, "push", &deleted), Ok(Event::Ignored("main was deleted".into())));
        let deleted = gitlab.replacen("da1560886d4f094c3e6c9ef40349f7d38b5d27d7", &"0".repeat(40), 1);
        assert_eq!(event(Forge::GitLab, "Push Hook", &deleted), Ok(Event::Ignored("main was deleted".into())));
    }

    #[test]
    fn other_events_are_acknowledged_and_what_is_no_event_is_refused() {
        assert_eq!(
            event(Forge::GitHub, "ping", r#"{"zen":"Keep it logically awesome.","hook_id":1}"#),
            Ok(Event::Ping)
        );
        let issues = event(Forge::Gitea, "issues", "{}");
        assert_eq!(issues, Ok(Event::Ignored("events of the kind issues deploy nothing".into())));
        assert!(event(Forge::GitLab, "Tag Push Hook", "{}").is_ok());
        assert!(event(Forge::GitHub, "push", "payload=%7B%7D").unwrap_err().contains("; set the content type"));
        assert!(event(Forge::GitHub, "push", "[]").is_err());
    }
}
