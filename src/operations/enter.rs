//! The operation that runs a command in the container of a running instance.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    attachment::no_streams,
    context::Context,
    failure::{Failure, Result},
    operation::Operation,
    program::program,
};
use crate::{
    model::{AppName, Right, TaskCommand},
    store::{App, Effect, InstanceState},
};

/// Runs a command in the container of a running instance, with the caller's standard streams.
#[derive(Debug, Clone, Deserialize, JsonSchema, clap::Args)]
#[serde(deny_unknown_fields)]
pub struct EnterInstance {
    /// App.
    pub app: AppName,
    /// Name of the instance, such as web.1, or a process type; without it, the first.
    pub instance: Option<String>,
    /// The command and its arguments: a program, or one line for the shell; without one, a shell.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "COMMAND")]
    #[serde(default)]
    pub command: Vec<String>,
}

/// How a command in an instance ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Entered {
    /// App.
    pub app: AppName,
    /// Name of the instance.
    pub instance: String,
    /// Exit status of the command.
    pub status: i64,
}

impl EnterInstance {
    /// The instance that is asked for. A caller may have put the command in its place.
    fn named(&self) -> String {
        self.instance.as_ref().map(|name| program(std::slice::from_ref(name))).unwrap_or_default()
    }
}

impl Operation for EnterInstance {
    const NAME: &'static str = "enter";
    const RIGHT: Right = Right::Operate;
    const EFFECT: Effect = Effect::Change;
    type Target = App;
    type Output = Entered;

    fn target(&self) -> AppName {
        self.app.clone()
    }

    fn audit(&self) -> String {
        format!("{} {}", self.named(), program(&self.command)).trim().to_owned()
    }

    async fn run(self, context: &Context<'_>, app: App) -> Result<Entered> {
        let mut rows = context.store.instances(app.id).await?;
        rows.retain(|row| row.state != InstanceState::Retiring && row.container.is_some());
        rows.sort_by_key(|row| (row.process_type.clone(), row.ordinal));
        let wanted = |name: &str, process_type: &str| {
            self.instance.as_ref().is_none_or(|wanted| wanted == name || wanted == process_type)
        };
        let Some(row) = rows.iter().find(|row| wanted(&row.name(), row.process_type.as_str())) else {
            let names = rows.iter().map(crate::store::Instance::name).collect::<Vec<_>>().join(", ");
            let running = if names.is_empty() { "none runs".to_owned() } else { format!("running: {names}") };
            let wanted = format!("no such instance {}", self.named());
            return Err(Failure::not_found(format!("{} has {}; {running}", app.name, wanted.trim())));
        };
        let release = context.store.release(app.id, row.release).await?;
        let release = release.ok_or_else(|| Failure::not_found(format!("the release of {} is gone", row.name())))?;
        let command = command(self.command);
        let streams = context.attachment.ok_or_else(no_streams)?.take()?;
        let status = context.tasks.enter(row, &release, command, streams, context.hangup).await?;
        Ok(Entered { app: app.name, instance: row.name(), status })
    }
}

/// What is run; without words, a shell. One word is a line for the shell: an instance runs its own process type already.
fn command(words: Vec<String>) -> Option<TaskCommand> {
    (!words.is_empty()).then(|| TaskCommand::of_words(words, |_| false))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_word_is_a_line_for_the_shell() {
        let of = |words: &[&str]| command(words.iter().map(|word| (*word).to_owned()).collect());
        assert_eq!(of(&["ps aux | wc -l"]), Some(TaskCommand::Script("ps aux | wc -l".into())));
        assert_eq!(of(&["web"]), Some(TaskCommand::Script("web".into())));
        assert_eq!(of(&["ps", "a x"]), Some(TaskCommand::Words(vec!["ps".into(), "a x".into()])));
        assert_eq!(of(&[]), None);
    }

    #[test]
    fn the_audit_entry_names_the_program_alone() {
        let audit = |instance: Option<&str>, command: &[&str]| {
            let command = command.iter().map(|word| (*word).to_owned()).collect();
            EnterInstance { app: "shop".parse().unwrap(), instance: instance.map(str::to_owned), command }.audit()
        };
        assert_eq!(audit(Some("web.1"), &["PGPASSWORD=hunter2 psql -c x"]), "web.1 psql");
        assert_eq!(audit(Some("web.1"), &["psql", "hunter2"]), "web.1 psql");
        assert_eq!(audit(Some("PGPASSWORD=hunter2 psql -c x"), &[]), "psql");
        assert_eq!(audit(None, &[]), "");
    }
}
