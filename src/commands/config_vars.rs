//! The commands `config:…`.

use std::collections::BTreeMap;

use base64::Engine as _;
use clap::Subcommand;

use super::{
    context::Context,
    error::{CommandError, Result},
    output::{Format, Row},
    session::Session,
};
use crate::{
    deploy::ConfigChange,
    model::{AppName, ConfigKey, Secret},
    store::ConfigVars,
};

/// The commands of config vars.
#[derive(Debug, Subcommand)]
pub(super) enum ConfigCommand {
    /// Set config vars and make a release with them.
    #[command(name = "config:set", after_help = "Example: config:set my-app DATABASE_URL=postgres://… LEVEL=2")]
    Set {
        app: AppName,
        /// NAME=value
        #[arg(required = true, value_name = "NAME=VALUE")]
        pairs: Vec<String>,
        /// Make no release: the change takes effect with the next one.
        #[arg(long)]
        no_restart: bool,
        /// The values are base64-encoded, so that they can contain any text.
        #[arg(long)]
        encoded: bool,
        /// Make them visible to builds, too, until they are unset.
        #[arg(long)]
        build: bool,
    },
    /// Print a config var.
    #[command(name = "config:get", after_help = "Example: config:get my-app DATABASE_URL")]
    Get { app: AppName, name: ConfigKey },
    /// Remove config vars and make a release without them.
    #[command(name = "config:unset", after_help = "Example: config:unset my-app DATABASE_URL")]
    Unset {
        app: AppName,
        #[arg(required = true)]
        names: Vec<ConfigKey>,
        /// Make no release: the change takes effect with the next one.
        #[arg(long)]
        no_restart: bool,
    },
    /// List config vars with their values.
    #[command(name = "config:list", aliases = ["config", "config:show"], after_help = "Example: config:list my-app")]
    List {
        app: AppName,
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
}

pub(super) async fn run(context: &Context, session: &mut Session<'_>, command: ConfigCommand) -> Result {
    use ConfigCommand as C;
    match command {
        C::Set { app, pairs, no_restart, encoded, build } => {
            set(context, session, app, pairs, !no_restart, encoded, build).await
        }
        C::Get { app, name } => get(context, session, app, name).await,
        C::Unset { app, names, no_restart } => unset(context, session, app, names, !no_restart).await,
        C::List { app, format } => list(context, session, app, format).await,
    }
}

/// Maximum size of a value, in bytes.
const MAX_VALUE_BYTES: usize = 64 * 1024;

/// The variables that paas itself sets for every instance.
const RESERVED: [&str; 4] = ["PORT", "PAAS_APP", "PAAS_PROCESS", "PAAS_RELEASE"];

#[derive(serde::Serialize)]
struct ConfigVarRow {
    name: String,
    value: String,
    /// Whether it is visible to builds.
    build: bool,
}

impl Row for ConfigVarRow {
    const HEADER: &'static [&'static str] = &["NAME", "BUILD", "VALUE"];

    fn cells(&self) -> Vec<String> {
        vec![self.name.clone(), if self.build { "yes" } else { "-" }.to_owned(), self.value.replace('\n', "\\n")]
    }
}

/// Reads `NAME=value`; an error never repeats the value.
fn pair(text: &str, encoded: bool) -> Result<(ConfigKey, Secret)> {
    let refused = |text: &str| CommandError::Refused(text.to_owned());
    let (name, value) = text.split_once('=').ok_or_else(|| refused("write config vars as NAME=value"))?;
    let name: ConfigKey = name.parse()?;
    if RESERVED.contains(&name.as_str()) {
        return Err(CommandError::Refused(format!("{name} is set by paas itself; choose another name")));
    }
    let value = if encoded {
        let bytes = base64::engine::general_purpose::STANDARD.decode(value);
        let text = bytes.ok().and_then(|bytes| String::from_utf8(bytes).ok());
        text.ok_or_else(|| CommandError::Refused(format!("the value of {name} is not base64-encoded text")))?
    } else {
        value.to_owned()
    };
    if value.len() > MAX_VALUE_BYTES || value.contains('\0') {
        return Err(CommandError::Refused(format!("the value of {name} must have at most 64 KiB and no NUL bytes")));
    }
    Ok((name, Secret::new(value)))
}

async fn set(
    context: &Context,
    session: &Session<'_>,
    app: AppName,
    pairs: Vec<String>,
    restart: bool,
    encoded: bool,
    build: bool,
) -> Result {
    let vars = pairs.iter().map(|text| pair(text, encoded)).collect::<Result<ConfigVars>>()?;
    let names = vars.keys().cloned().collect();
    change(context, session, app.clone(), vars, Vec::new(), restart).await?;
    if build {
        let app = context.app(session, app).await?;
        context.store.set_build_vars(app.id, names, true).await?;
        session.progress.detail("builds see them, too, from the next build on").await;
    }
    Ok(())
}

async fn unset(context: &Context, session: &Session<'_>, app: AppName, names: Vec<ConfigKey>, restart: bool) -> Result {
    change(context, session, app.clone(), BTreeMap::new(), names.clone(), restart).await?;
    let app = context.app(session, app).await?;
    Ok(context.store.set_build_vars(app.id, names, false).await?)
}

async fn change(
    context: &Context,
    session: &Session<'_>,
    app: AppName,
    set: ConfigVars,
    unset: Vec<ConfigKey>,
    restart: bool,
) -> Result {
    let app = context.app(session, app).await?;
    let names = |names: Vec<&ConfigKey>| names.into_iter().map(ConfigKey::as_str).collect::<Vec<_>>().join(", ");
    if !set.is_empty() {
        session.progress.step(format!("Setting {}", names(set.keys().collect()))).await;
    }
    if !unset.is_empty() {
        session.progress.step(format!("Removing {}", names(unset.iter().collect()))).await;
    }
    let (by, progress, cancel) = (&session.caller.name, &session.progress, &session.hangup);
    let unchanged =
        if set.is_empty() { "no change: none of them is set" } else { "no change: the values are already set" };
    let detail = match context.deployer.change_config(&app, set, unset, restart, by, progress, cancel).await? {
        ConfigChange::Nothing => unchanged,
        ConfigChange::Stored => "no release was made: the change takes effect with the next one",
        ConfigChange::Released(_) => return Ok(()),
    };
    session.progress.detail(detail).await;
    Ok(())
}

async fn get(context: &Context, session: &Session<'_>, app: AppName, name: ConfigKey) -> Result {
    let app = context.app(session, app).await?;
    let vars = context.store.config_vars(app.id).await?;
    let value =
        vars.get(&name).ok_or_else(|| CommandError::Refused(format!("{} has no config var {name}", app.name)))?;
    session.out.line(value.expose()).await;
    Ok(())
}

async fn list(context: &Context, session: &Session<'_>, app: AppName, format: Format) -> Result {
    let app = context.app(session, app).await?;
    let vars = context.store.config_vars(app.id).await?;
    let visible_to_builds = context.store.build_vars(app.id).await?;
    let row = |(name, value): (&ConfigKey, &Secret)| ConfigVarRow {
        name: name.to_string(),
        value: value.expose().to_owned(),
        build: visible_to_builds.contains(name),
    };
    let rows: Vec<_> = vars.iter().map(row).collect();
    session.out.table(&rows, format).await;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_and_not_repeated_in_errors() {
        let (name, value) = pair("A=b=c", false).unwrap();
        assert_eq!((name.as_str(), value.expose()), ("A", "b=c"));
        assert_eq!(pair("A=bGluZQpicmVhaw==", true).unwrap().1.expose(), "line\nbreak");
        for bad in ["hunter2", "1A=hunter2", "PORT=hunter2", "A=hunter2\0", "A-B=hunter2"] {
            let error = pair(bad, false).unwrap_err().to_string();
            assert!(!error.contains("hunter2"), "{error}");
        }
        assert!(!pair("A=hunter2!", true).unwrap_err().to_string().contains("hunter2"));
    }
}
