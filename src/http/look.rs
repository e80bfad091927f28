//! Operations that read.

use futures_util::stream::BoxStream;
use serde_json::Value;

use super::{api::Api, input::Asked, pages, problem::Problem, routes::Route};
use crate::{
    operations::{Answer, Call, Caller, Failure},
    progress::Progress,
};

/// What an operation that reads has found.
pub(super) enum Looked {
    /// A whole result, and the cursor of its next page.
    Whole(Value, Option<String>),
    /// Items, and whether they go on.
    Items(BoxStream<'static, Result<Value, Failure>>, bool),
}

/// Runs an operation that reads.
pub(super) async fn look(api: &Api, route: &Route, caller: &Caller, mut asked: Asked) -> Result<Looked, Problem> {
    let is_endless = asked.input.fields.get("tail").and_then(Value::as_bool) == Some(true);
    let page = pages::prepare(route.endpoint.pages, asked.page, &mut asked.input.fields)?;
    // Nobody reads the lines.
    let (progress, _) = Progress::channel();
    let hangup = api.0.abort.child_token();
    let call = Call { caller, progress: &progress, attachment: None, hangup: &hangup };
    match route.runner.run(&api.0.operations, &call, asked.input).await? {
        Answer::Value(value) => {
            let (value, next) = page.cut(value);
            Ok(Looked::Whole(value, next))
        }
        Answer::Items(items) => Ok(Looked::Items(items, is_endless)),
    }
}
