//! Operation that sets how long process types have to stop.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::unknown_type;
use crate::{
    model::{AppName, Line, ProcessType, Right, StopTimeout},
    operations::{
        context::Context,
        failure::{Failure, Result},
        operation::Operation,
    },
    store::{App, Effect},
};

/// A property of an app's process types.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ProcessProperty {
    /// Time between the signal that asks the processes of an instance to end and the one that kills them.
    #[serde(alias = "stop-timeout-seconds")]
    StopTimeout,
}

impl std::str::FromStr for ProcessProperty {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "stop-timeout" | "stop-timeout-seconds" => Ok(Self::StopTimeout),
            other => Err(format!(
                "there is no property {}; the only one is stop-timeout, such as stop-timeout web=30",
                Line::excerpt(other)
            )),
        }
    }
}

/// Stop timeout of a process type: `web=30`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TypeTimeout {
    /// Process type.
    #[serde(rename = "type")]
    pub process_type: ProcessType,
    /// Seconds; without them, the default applies again.
    #[serde(default)]
    pub seconds: Option<StopTimeout>,
}

impl std::str::FromStr for TypeTimeout {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Some((name, value)) = text.split_once('=') else {
            let example = if text.parse::<StopTimeout>().is_ok() { text } else { "30" };
            return Err(format!("each process type has its own: write TYPE=SECONDS, for example web={example}"));
        };
        let seconds = match value {
            "" | "default" => None,
            value => Some(value.parse()?),
        };
        Ok(Self { process_type: name.parse().map_err(|e: crate::model::InvalidName| e.to_string())?, seconds })
    }
}

impl std::fmt::Display for TypeTimeout {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.seconds {
            Some(timeout) => write!(f, "{}={}", self.process_type, timeout.seconds()),
            None => write!(f, "{}=default", self.process_type),
        }
    }
}

/// Sets a property of process types: stop-timeout, how long their processes have to end, in seconds (1 to 3600). A longer one
/// also applies to instances that run.
#[derive(Debug, Clone, Deserialize, JsonSchema, clap::Args)]
#[serde(deny_unknown_fields)]
pub struct SetProcesses {
    /// App.
    pub app: AppName,
    /// stop-timeout
    pub property: ProcessProperty,
    /// TYPE=SECONDS; TYPE=default for the default.
    #[arg(value_name = "TYPE=SECONDS", required = true)]
    #[schemars(length(min = 1))]
    pub values: Vec<TypeTimeout>,
}

/// The stop timeouts of an app.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct StopTimeouts {
    /// App.
    pub app: AppName,
    /// Seconds of the process types that have a stop timeout of their own.
    pub stop_timeouts: BTreeMap<ProcessType, StopTimeout>,
    /// Seconds of all others.
    pub default_seconds: u64,
}

impl Operation for SetProcesses {
    const NAME: &'static str = "ps:set";
    const RIGHT: Right = Right::Operate;
    const EFFECT: Effect = Effect::Change;
    type Target = App;
    type Output = StopTimeouts;

    fn target(&self) -> AppName {
        self.app.clone()
    }

    fn audit(&self) -> String {
        let values = self.values.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
        match self.property {
            ProcessProperty::StopTimeout => format!("stop-timeout {values}"),
        }
    }

    async fn run(self, context: &Context<'_>, app: App) -> Result<StopTimeouts> {
        let ProcessProperty::StopTimeout = self.property;
        if self.values.is_empty() {
            return Err(Failure::invalid("no process type is given; give at least one, such as web=30"));
        }
        let wanted = by_type(self.values)?;
        // The timeout of a process type that the app no longer has can be removed.
        let is_removed = |(name, seconds): (&ProcessType, &Option<StopTimeout>)| {
            seconds.is_none() && app.stop_timeouts.contains_key(name)
        };
        let must_exist = wanted.iter().filter(|entry| !is_removed(*entry)).map(|(name, _)| name);
        if let Some(unknown) = unknown_type(context, &app, must_exist).await? {
            return Err(Failure::not_found(unknown));
        }
        context.store.set_stop_timeouts(app.id, wanted).await?;
        let now = context.store.app(app.id).await?.unwrap_or(app);
        let default_seconds = context.config.instances.stop_grace_seconds;
        Ok(StopTimeouts { app: now.name, stop_timeouts: now.stop_timeouts, default_seconds })
    }
}

fn by_type(values: Vec<TypeTimeout>) -> Result<BTreeMap<ProcessType, Option<StopTimeout>>> {
    let mut by_type = BTreeMap::new();
    for TypeTimeout { process_type, seconds } in values {
        if by_type.insert(process_type.clone(), seconds).is_some() {
            return Err(Failure::invalid(format!("{process_type} is given twice; keep one of the two")));
        }
    }
    Ok(by_type)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_read_from_words_and_from_json() {
        let read = |text: &str| text.parse::<TypeTimeout>();
        assert_eq!(read("web=30").unwrap().to_string(), "web=30");
        assert_eq!(read("web=45s").unwrap().to_string(), "web=45");
        assert_eq!(read("web=default").unwrap().seconds, None);
        assert_eq!(read("web=").unwrap().seconds, None);
        assert!(read("30").unwrap_err().contains("web=30"), "Dokku has one for all types");
        assert!(read("web=0").unwrap_err().contains("from 1 to 3600"));
        assert!(read("We b=1").is_err());
        let two = by_type(vec![read("web=30").unwrap(), read("worker=").unwrap()]).unwrap();
        assert_eq!(two.len(), 2);
        let twice = by_type(vec![read("web=30").unwrap(), read("web=60").unwrap()]).unwrap_err();
        assert_eq!(twice.to_string(), "web is given twice; keep one of the two");
        let input = serde_json::json!({
            "app": "a", "property": "stop-timeout-seconds", "values": [{ "type": "web", "seconds": 30 }, { "type": "worker" }],
        });
        let set: SetProcesses = serde_json::from_value(input).unwrap();
        assert_eq!(set.audit(), "stop-timeout web=30 worker=default");
        assert!("restart-policy".parse::<ProcessProperty>().unwrap_err().contains("stop-timeout"));
    }
}
