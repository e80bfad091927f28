//! A call of a tool: runs the operation, and makes a result of what it returns.

use std::time::Duration;

use futures_util::{StreamExt as _, stream::BoxStream};
use rmcp::model::{CallToolResult, ContentBlock};
use serde_json::{Value, json};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use super::report::Reporter;
use crate::{
    operations::{Answer, Call, Caller, Description, Failure, Input, Operations, Result},
    progress,
};

/// Maximum number of items of a result that goes on.
const MAX_ITEMS: usize = 1000;
/// Maximum length of these items, as JSON, in bytes.
const MAX_ITEM_BYTES: usize = 1 << 20;
/// How long items are awaited: less than clients, as a rule, wait for a response.
const MAX_WAIT: Duration = Duration::from_secs(30);

/// What calls need.
pub(super) struct ToolCall<'a> {
    pub(super) operations: &'a Operations,
    pub(super) caller: &'a Caller,
    /// Cancelled when the client cancels the request or disconnects.
    pub(super) hangup: &'a CancellationToken,
}

impl ToolCall<'_> {
    /// Runs an operation with the rights that the caller has at this moment: the connection may be old.
    pub(super) async fn run(&self, operation: &Description, input: Input, reporter: &Reporter<'_>) -> Result<Value> {
        let caller = self.operations.present(self.caller).await?;
        let work = |progress| async move {
            let call = Call { caller: &caller, progress: &progress, attachment: None, hangup: self.hangup };
            Box::pin(operation.run(self.operations, &call, input)).await
        };
        match progress::relay(work, |line| reporter.report(line)).await? {
            Answer::Value(value @ Value::Object(_)) => Ok(value),
            // Revisions before 2026-07-28 know no other structured results than objects.
            Answer::Value(value) => Ok(json!({ "result": value })),
            Answer::Items(items) => collect(items, MAX_WAIT, self.hangup).await,
        }
    }
}

/// The items of a result that goes on, up to a limit, with which limit it was.
async fn collect(
    mut items: BoxStream<'static, Result<Value>>,
    wait: Duration,
    hangup: &CancellationToken,
) -> Result<Value> {
    let deadline = Instant::now() + wait;
    let (mut collected, mut bytes) = (Vec::new(), 0);
    let cut = loop {
        let next = timeout_at(deadline, hangup.run_until_cancelled(items.next()));
        match next.await {
            Ok(Some(Some(item))) => {
                let item = item?;
                bytes += item.to_string().len();
                if collected.len() == MAX_ITEMS {
                    break Some(format!("there are more than {MAX_ITEMS} items; ask for fewer"));
                }
                collected.push(item);
                if bytes > MAX_ITEM_BYTES {
                    break Some(format!("the items have more than {MAX_ITEM_BYTES} bytes; ask for fewer"));
                }
            }
            Ok(Some(None) | None) => break None,
            Err(_) => break Some(format!("these came within {} seconds; more may follow", wait.as_secs())),
        }
    };
    let mut result = json!({ "items": collected });
    if let Some(why) = cut {
        result["cut"] = Value::String(why);
    }
    Ok(result)
}

/// The response to a call. A failure of the operation is a result, which the model sees, and no error of the protocol.
pub(super) fn response(result: Result<Value>, warnings: Vec<String>) -> CallToolResult {
    let mut response = match result {
        Ok(value) => CallToolResult::structured(value),
        Err(failure) => failed(&failure),
    };
    response.content.extend(warnings.into_iter().map(|text| ContentBlock::text(format!("warning: {text}"))));
    response
}

fn failed(failure: &Failure) -> CallToolResult {
    CallToolResult::structured_error(json!({ "error": failure }))
}

#[cfg(test)]
mod tests {
    use futures_util::stream;

    use super::*;
    use crate::operations::FailureKind;

    async fn collected(items: impl futures_util::Stream<Item = Result<Value>> + Send + 'static) -> Result<Value> {
        collect(items.boxed(), Duration::from_secs(1), &CancellationToken::new()).await
    }

    fn numbers() -> impl futures_util::Stream<Item = Result<Value>> + Send + 'static {
        stream::iter(0..).map(|number| Ok(json!(number)))
    }

    #[tokio::test]
    async fn a_result_that_goes_on_is_collected_up_to_a_limit_and_says_so() {
        assert_eq!(collected(numbers().take(2)).await.unwrap(), json!({ "items": [0, 1] }));
        let whole = collected(numbers().take(MAX_ITEMS)).await.unwrap();
        assert!(whole.get("cut").is_none() && whole["items"].as_array().unwrap().len() == MAX_ITEMS);
        let cut = collected(numbers()).await.unwrap();
        assert_eq!(cut["items"].as_array().unwrap().len(), MAX_ITEMS);
        assert_eq!(cut["cut"], "there are more than 1000 items; ask for fewer");
        let long = collected(stream::repeat_with(|| Ok(json!("x".repeat(100_000))))).await.unwrap();
        assert_eq!(long["items"].as_array().unwrap().len(), 11);
        let slow = collected(numbers().take(1).chain(stream::pending())).await.unwrap();
        assert_eq!(slow, json!({ "items": [0], "cut": "these came within 1 seconds; more may follow" }));
        let lost = Failure::new(FailureKind::Denied, "no longer");
        let failed = collected(numbers().take(1).chain(stream::iter([Err(lost.clone())]))).await;
        assert_eq!(failed.unwrap_err(), lost);
    }

    #[test]
    fn a_failure_is_a_result_with_kind_message_and_remedy() {
        let failure = Failure::not_found("there is no app named x; apps:list shows all");
        let response = response(Err(failure), vec!["mind the gap".to_owned()]);
        assert_eq!(response.is_error, Some(true));
        let expected = json!({ "error": {
            "kind": "not_found", "message": "there is no app named x", "remedy": "apps:list shows all",
        } });
        assert_eq!(response.structured_content, Some(expected));
        assert_eq!(response.content[1].as_text().unwrap().text, "warning: mind the gap");
    }
}
