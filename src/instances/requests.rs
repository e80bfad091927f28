//! Requests that no instance answered, as events in the app's log. Clients got the router's error page.

use tokio::sync::broadcast::{Receiver, error::RecvError};

use super::{error::InstancesError, logs::ROUTER_SOURCE, shared::Shared};
use crate::{
    router::protocol::Unanswered,
    store::{Instance, InstanceState},
};

/// Logs the requests that the router reports, until the server shuts down.
pub(super) async fn log_unanswered(shared: std::sync::Arc<Shared>, mut reported: Receiver<Unanswered>) {
    let log_all = async {
        loop {
            match reported.recv().await {
                Ok(unanswered) => {
                    if let Err(error) = log(&shared, &unanswered).await {
                        let service = unanswered.service;
                        tracing::warn!(%error, %service, "cannot log a request that no instance answered");
                    }
                }
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return,
            }
        }
    };
    shared.shutdown.run_until_cancelled(log_all).await;
}

async fn log(shared: &Shared, unanswered: &Unanswered) -> Result<(), InstancesError> {
    let Some(app) = shared.store.find_app(unanswered.service.app.clone()).await? else { return Ok(()) };
    let row = match &unanswered.instance {
        Some(id) => shared.store.instance(id.clone()).await?,
        None => None,
    };
    let instance = row.as_ref().map_or_else(|| "an instance".to_owned(), Instance::name);
    let stopped = row.is_some_and(|row| row.state == InstanceState::Retiring);
    shared.logs.event(app.id, ROUTER_SOURCE, event_text(unanswered, &instance, stopped)).await;
    Ok(())
}

/// `stopped`: the instance is being stopped.
fn event_text(unanswered: &Unanswered, instance: &str, stopped: bool) -> String {
    let Unanswered { status, method, path, request_id, suppressed, .. } = unanswered;
    let why = match status {
        _ if unanswered.interrupted && stopped => format!("{instance} was stopped in the middle of its response"),
        _ if unanswered.interrupted => format!("{instance} closed the connection in the middle of its response"),
        400 => "the request is not valid HTTP, or its address has a character that must be percent-encoded".to_owned(),
        408 => "the client sent no more of the request's body".to_owned(),
        405 => "the router does not pass on this method".to_owned(),
        414 => "the address is too long".to_owned(),
        505 => "the router does not speak this version of HTTP".to_owned(),
        431 => "the headers are too large".to_owned(),
        503 if unanswered.overload => {
            "the app has its share of the requests that the router may have in flight".to_owned()
        }
        503 => "no instance is running".to_owned(),
        504 => format!("{instance} did not respond in time"),
        _ if stopped => format!("{instance} was stopped before it had responded"),
        _ => format!("{instance} closed the connection before responding, or sent an invalid HTTP response"),
    };
    let more = if *suppressed > 0 { format!("; {suppressed} more before it were not logged") } else { String::new() };
    // The router does not know the line of a request that came together with the end of the one before.
    let what = if method.is_empty() { "a pipelined request".to_owned() } else { format!("{method} {path}") };
    format!("{status} for {what}: {why} (request {request_id}{more})")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_event_says_why_a_request_was_not_answered() {
        let text = |status, suppressed| {
            let (service, path, request_id) = ("a/web/1".parse().unwrap(), "/x".into(), "7f".into());
            let one = Unanswered {
                service,
                status,
                instance: None,
                method: "GET".into(),
                path,
                request_id,
                suppressed,
                interrupted: false,
                overload: false,
            };
            event_text(&one, "web.2", false)
        };
        assert_eq!(
            text(502, 0),
            "502 for GET /x: web.2 closed the connection before responding, or sent an invalid HTTP response (request 7f)"
        );
        assert_eq!(text(431, 0), "431 for GET /x: the headers are too large (request 7f)");
        assert_eq!(text(503, 0), "503 for GET /x: no instance is running (request 7f)");
        assert_eq!(
            text(504, 9),
            "504 for GET /x: web.2 did not respond in time (request 7f; 9 more before it were not logged)"
        );
        let mut cut = Unanswered {
            service: "a/web/1".parse().unwrap(),
            status: 200,
            instance: None,
            method: "GET".into(),
            path: "/x".into(),
            request_id: "7f".into(),
            suppressed: 0,
            interrupted: true,
            overload: false,
        };
        let text = "200 for GET /x: web.2 closed the connection in the middle of its response (request 7f)";
        assert_eq!(event_text(&cut, "web.2", false), text);
        assert!(event_text(&cut, "web.2", true).contains("web.2 was stopped in the middle"));
        (cut.interrupted, cut.status, cut.overload) = (false, 503, true);
        assert!(event_text(&cut, "web.2", false).starts_with("503 for GET /x: the app has its share of the requests"));
        (cut.interrupted, cut.status, cut.method) = (false, 400, String::new());
        assert!(event_text(&cut, "web.2", false).starts_with("400 for a pipelined request: "));
    }
}
