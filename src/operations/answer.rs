//! Operations whose input and result are JSON: for the doors that know all of them by their descriptions alone.

use futures_util::{
    FutureExt as _, StreamExt as _,
    future::BoxFuture,
    stream::{self, BoxStream},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use super::{
    Operations,
    context::Call,
    failure::{Failure, FailureKind, Result},
    operation::{Follow, Operation},
    sent_file::SentFile,
    target::Target,
};
use crate::model::Line;

/// Maximum length of the explanation of an invalid input, in characters.
const MAX_EXPLANATION: usize = 900;

/// The input of an operation, as a door receives it.
#[derive(Debug)]
pub struct Input {
    /// Its fields: an object.
    pub fields: Value,
    /// The file that comes with it.
    pub file: Option<SentFile>,
}

/// The result of an operation.
pub enum Answer {
    /// A whole result.
    Value(Value),
    /// A result that goes on: items as they come. The last is the failure, if the caller lost the right to it.
    Items(BoxStream<'static, Result<Value>>),
}

/// Makes the answer of a result.
pub trait IntoAnswer {
    /// Whether it goes on.
    const FOLLOWS: bool = false;

    /// The answer.
    fn into_answer(self) -> Result<Answer>;
}

impl<T: Serialize> IntoAnswer for T {
    fn into_answer(self) -> Result<Answer> {
        value(&self).map(Answer::Value)
    }
}

impl<T: Serialize + Send + 'static> IntoAnswer for Follow<T> {
    const FOLLOWS: bool = true;

    fn into_answer(self) -> Result<Answer> {
        Ok(Answer::Items(self.0.map(|item| value(&item)).boxed()))
    }
}

fn value(result: &impl Serialize) -> Result<Value> {
    let failed = |error| Failure::new(FailureKind::Internal, format!("a result is no JSON: {error}"));
    serde_json::to_value(result).map_err(failed)
}

type Run = for<'a> fn(&'a Operations, &'a Call<'a>, Input) -> BoxFuture<'a, Result<Answer>>;

/// Runs one of the operations on JSON.
#[derive(Clone, Copy)]
pub struct Runner {
    run: Run,
    check: fn(&Value) -> Result,
}

impl Runner {
    /// Of operations of this type.
    pub(super) fn of<O>() -> Self
    where
        O: Operation<Output: IntoAnswer> + DeserializeOwned + Sync,
        <O::Target as Target>::Named: 'static,
    {
        Self { run: run::<O>, check: |fields| parse::<O>(fields.clone()).map(drop) }
    }

    /// Runs the operation.
    pub async fn run(self, operations: &Operations, call: &Call<'_>, input: Input) -> Result<Answer> {
        (self.run)(operations, call, input).await
    }

    /// Whether these are the fields of an input.
    pub fn check(self, fields: &Value) -> Result {
        (self.check)(fields)
    }
}

/// Runs an operation of this type.
fn run<'a, O>(operations: &'a Operations, call: &'a Call<'a>, input: Input) -> BoxFuture<'a, Result<Answer>>
where
    O: Operation<Output: IntoAnswer> + DeserializeOwned + Sync,
    <O::Target as Target>::Named: 'static,
{
    async move {
        let operation = parse::<O>(input.fields)?;
        let operation = match input.file {
            Some(file) => operation.with_file(file),
            None => operation,
        };
        let named = operation.target();
        match operations.run(call, operation).await?.into_answer()? {
            Answer::Items(items) => {
                let (operations, caller) = (operations.clone(), call.caller.clone());
                let revoked = async move { operations.revoked::<O>(&caller, named).await }.shared();
                let ended = revoked.clone();
                // Without a failure at the end, if the items end by themselves.
                let last = stream::once(async move { ended.now_or_never().map(Err) }).filter_map(std::future::ready);
                Ok(Answer::Items(items.take_until(revoked).chain(last).boxed()))
            }
            answer @ Answer::Value(_) => Ok(answer),
        }
    }
    .boxed()
}

fn parse<O: DeserializeOwned>(fields: Value) -> Result<O> {
    serde_path_to_error::deserialize(fields).map_err(|error| {
        let path = error.path().to_string();
        let text = error.into_inner().to_string();
        let text = if path == "." { text } else { format!("{path}: {text}") };
        Failure { remedy: None, message: Line::beginning(&text, MAX_EXPLANATION), ..Failure::invalid("") }
    })
}
