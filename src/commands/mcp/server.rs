//! The server of one client.
#![expect(deprecated, reason = "SEP-2577 replaces logging in later revisions; until then clients ask for it")]

use std::sync::{Mutex, PoisonError};

use rmcp::{
    ErrorData, RoleServer, ServerHandler,
    model::{
        CallToolRequestParams, CallToolResponse, Implementation, ListToolsResult, LoggingLevel, PaginatedRequestParams,
        ServerCapabilities, ServerConfig, SetLevelRequestParams,
    },
    service::RequestContext,
};
use serde_json::Value;
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

use super::{
    call::{self, ToolCall},
    report::Reporter,
    tools::Tools,
};
use crate::{
    model::Line,
    operations::{Caller, Failure, FailureKind, Input, Operations},
};

/// Maximum number of calls of a client that run at a time.
const MAX_CALLS: usize = 16;

/// The server of one client.
pub(super) struct Server {
    operations: Operations,
    caller: Caller,
    free: Semaphore,
    /// The calls that run.
    running: TaskTracker,
    /// Level from which the client wants log messages.
    level: Mutex<LoggingLevel>,
}

impl Server {
    pub(super) fn new(operations: Operations, caller: Caller, running: TaskTracker) -> Self {
        Self { operations, caller, free: Semaphore::new(MAX_CALLS), running, level: Mutex::new(LoggingLevel::Info) }
    }

    fn level(&self) -> LoggingLevel {
        *self.level.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ServerHandler for Server {
    fn get_info(&self) -> ServerConfig {
        let capabilities = ServerCapabilities::builder().enable_tools().enable_logging().build();
        let instructions = format!(
            "This is a paas server: apps are deployed to it by git push, and each tool is one of its operations. You act as {}, \
             with the rights of that user. The input `app` is the name of an app; apps_list has all. A failure has a kind, a \
             message, and a remedy that may name the command of a person (ps:scale) where yours is the tool ps_scale.",
            self.caller.name()
        );
        let about = Implementation::new("paas", env!("CARGO_PKG_VERSION"));
        ServerConfig::new(capabilities).with_server_info(about).with_instructions(instructions)
    }

    async fn list_tools(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        Ok(ListToolsResult::with_all_items(Tools::get().all.clone()))
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let _running = self.running.token();
        let Some(operation) = Tools::get().operation(&request.name) else {
            let message = format!("there is no tool {}; tools/list has all", Line::excerpt(&request.name));
            return Err(ErrorData::invalid_params(message, None));
        };
        let reporter = Reporter::new(&context, self.level());
        // Refused instead of queued: the client would not be told why it waits.
        let result = if let Ok(_slot) = self.free.try_acquire() {
            let input = Input { fields: Value::Object(request.arguments.unwrap_or_default()), file: None };
            let call = ToolCall { operations: &self.operations, caller: &self.caller, hangup: &context.ct };
            call.run(operation, input, &reporter).await
        } else {
            let failure = Failure::new(FailureKind::TooMany, format!("{MAX_CALLS} calls of this client run already"));
            Err(failure.remedy("wait until one has ended"))
        };
        Ok(call::response(result, reporter.into_warnings()).into())
    }

    async fn set_level(&self, request: SetLevelRequestParams, _: RequestContext<RoleServer>) -> Result<(), ErrorData> {
        *self.level.lock().unwrap_or_else(PoisonError::into_inner) = request.level;
        Ok(())
    }
}
