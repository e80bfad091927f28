//! Requests that the router got no answer for, in the app's log: what their clients saw is the router's page.

use std::sync::Arc;

use tokio::sync::broadcast::{Receiver, error::RecvError};

use super::{InstancesError, Shared, launch::name_of, logs::ROUTER};
use crate::router::protocol::Unanswered;

/// Keeps what the router tells, until the server ends.
pub(super) async fn keep(shared: Arc<Shared>, mut told: Receiver<Unanswered>) {
    let keeping = async {
        loop {
            match told.recv().await {
                Ok(unanswered) => {
                    if let Err(error) = shared.keep(&unanswered).await {
                        tracing::warn!(%error, service = unanswered.service, "cannot keep what the router told");
                    }
                }
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return,
            }
        }
    };
    shared.shutdown.run_until_cancelled(keeping).await;
}

impl Shared {
    async fn keep(&self, unanswered: &Unanswered) -> Result<(), InstancesError> {
        let name = unanswered.service.split('/').next().unwrap_or_default();
        let Some(app) = self.store.find_app(name.parse()?).await? else { return Ok(()) };
        let row = match &unanswered.instance {
            Some(id) => self.store.instance(id.clone()).await?,
            None => None,
        };
        let instance = row.map_or_else(|| "an instance".to_owned(), |row| name_of(&row));
        self.logs.event(app.id, ROUTER, sentence(unanswered, &instance)).await;
        Ok(())
    }
}

fn sentence(unanswered: &Unanswered, instance: &str) -> String {
    let Unanswered { status, method, path, request_id, untold, .. } = unanswered;
    let why = match status {
        503 => "no instance runs".to_owned(),
        504 => format!("{instance} did not answer in time"),
        _ => format!("{instance} broke off before it answered, or its answer is no HTTP"),
    };
    let more = if *untold > 0 { format!("; {untold} more before it") } else { String::new() };
    format!("{status} for {method} {path}: {why} (request {request_id}{more})")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_told_in_a_sentence() {
        let told = |status, untold| {
            let (service, path, request_id) = ("a/web/1".into(), "/x".into(), "7f".into());
            let one = Unanswered { service, status, instance: None, method: "GET".into(), path, request_id, untold };
            sentence(&one, "web.2")
        };
        assert_eq!(
            told(502, 0),
            "502 for GET /x: web.2 broke off before it answered, or its answer is no HTTP (request 7f)"
        );
        assert_eq!(told(503, 0), "503 for GET /x: no instance runs (request 7f)");
        assert_eq!(told(504, 9), "504 for GET /x: web.2 did not answer in time (request 7f; 9 more before it)");
    }
}
