//! What an operation is.

use std::borrow::Cow;

use futures_util::stream::BoxStream;
use schemars::{JsonSchema, Schema, SchemaGenerator};

use super::{
    context::{Context, Requirement},
    failure::Result,
    sent_file::SentFile,
    target::Target,
};
use crate::{model::Right, store::Effect};

/// Something that can be asked of the server; the fields of the type are its input.
pub trait Operation: Send + Sized {
    /// Unique name, `noun:verb`.
    const NAME: &'static str;
    /// Right that the caller needs on the target; checked before [`Self::run`].
    const RIGHT: Right;
    /// Whether it changes anything.
    const EFFECT: Effect;
    /// Whether it begins something that takes disk space: it is refused while a disk is below its floor.
    const TAKES_DISK: bool = false;
    /// What it is about.
    type Target: Target;
    /// Its result.
    type Output: Send + JsonSchema;

    /// Names what it is about.
    fn target(&self) -> <Self::Target as Target>::Named;

    /// What the audit entry tells besides name and app, such as `web=3`. Never the value of a config var.
    fn audit(&self) -> String {
        String::new()
    }

    /// A higher right that this input needs.
    fn requirement(
        &self,
        _context: &Context<'_>,
        _target: &Self::Target,
    ) -> impl Future<Output = Result<Option<Requirement>>> + Send {
        std::future::ready(Ok(None))
    }

    /// The same with the file that the caller sends, if it takes one.
    #[must_use]
    fn with_file(self, _file: SentFile) -> Self {
        self
    }

    /// Does what is asked. The caller's right has been checked.
    fn run(self, context: &Context<'_>, target: Self::Target) -> impl Future<Output = Result<Self::Output>> + Send;
}

/// The result of an operation that goes on: items as they come.
pub struct Follow<T>(pub BoxStream<'static, T>);

impl<T: JsonSchema> JsonSchema for Follow<T> {
    fn inline_schema() -> bool {
        T::inline_schema()
    }

    fn schema_name() -> Cow<'static, str> {
        T::schema_name()
    }

    fn schema_id() -> Cow<'static, str> {
        T::schema_id()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }
}
