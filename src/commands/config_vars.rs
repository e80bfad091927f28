//! Config vars: the app's environment.

use std::collections::BTreeMap;

use base64::Engine as _;

use super::{CommandError, Commands, Result, Session, line::Format, output::Row};
use crate::{
    deploy::ConfigChange,
    model::{AppName, ConfigKey, Secret},
    store::ConfigVars,
};

/// The longest value, in bytes.
const LONGEST: usize = 64 * 1024;

/// Names that paas itself gives to every instance.
const OURS: [&str; 4] = ["PORT", "PAAS_APP", "PAAS_PROCESS", "PAAS_RELEASE"];

#[derive(serde::Serialize)]
struct VarRow {
    name: String,
    value: String,
    /// Whether builds see it.
    build: bool,
}

impl Row for VarRow {
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
    if OURS.contains(&name.as_str()) {
        return Err(CommandError::Refused(format!("{name} is set by paas itself; choose another name")));
    }
    let value = if encoded {
        let bytes = base64::engine::general_purpose::STANDARD.decode(value);
        let text = bytes.ok().and_then(|bytes| String::from_utf8(bytes).ok());
        text.ok_or_else(|| CommandError::Refused(format!("the value of {name} is not base64 of text")))?
    } else {
        value.to_owned()
    };
    if value.len() > LONGEST || value.contains('\0') {
        return Err(CommandError::Refused(format!("the value of {name} must be at most 64 KiB, without NUL")));
    }
    Ok((name, Secret::new(value)))
}

pub(super) async fn set(
    commands: &Commands,
    session: &Session<'_>,
    app: AppName,
    pairs: Vec<String>,
    restart: bool,
    encoded: bool,
    build: bool,
) -> Result {
    let vars = pairs.iter().map(|text| pair(text, encoded)).collect::<Result<ConfigVars>>()?;
    let names = vars.keys().cloned().collect();
    change(commands, session, app.clone(), vars, Vec::new(), restart).await?;
    if build {
        let app = commands.app(session, app).await?;
        commands.store.set_build_vars(app.id, names, true).await?;
        session.progress.detail("builds see them, too, from the next one on").await;
    }
    Ok(())
}

pub(super) async fn unset(
    commands: &Commands,
    session: &Session<'_>,
    app: AppName,
    names: Vec<ConfigKey>,
    restart: bool,
) -> Result {
    change(commands, session, app.clone(), BTreeMap::new(), names.clone(), restart).await?;
    let app = commands.app(session, app).await?;
    Ok(commands.store.set_build_vars(app.id, names, false).await?)
}

async fn change(
    commands: &Commands,
    session: &Session<'_>,
    app: AppName,
    set: ConfigVars,
    unset: Vec<ConfigKey>,
    restart: bool,
) -> Result {
    let app = commands.app(session, app).await?;
    let names = |names: Vec<&ConfigKey>| names.into_iter().map(ConfigKey::as_str).collect::<Vec<_>>().join(", ");
    if !set.is_empty() {
        session.progress.step(format!("Setting {}", names(set.keys().collect()))).await;
    }
    if !unset.is_empty() {
        session.progress.step(format!("Removing {}", names(unset.iter().collect()))).await;
    }
    let (by, progress, cancel) = (&session.caller.name, &session.progress, &session.hangup);
    let said = match commands.deployer.change_config(&app, set, unset, restart, by, progress, cancel).await? {
        ConfigChange::Nothing => "nothing changes: that is how it was",
        ConfigChange::Stored => "no release was made: it holds from the next one on",
        ConfigChange::Released(_) => return Ok(()),
    };
    session.progress.detail(said).await;
    Ok(())
}

pub(super) async fn get(commands: &Commands, session: &Session<'_>, app: AppName, name: ConfigKey) -> Result {
    let app = commands.app(session, app).await?;
    let vars = commands.store.config_vars(app.id).await?;
    let value =
        vars.get(&name).ok_or_else(|| CommandError::Refused(format!("{} has no config var {name}", app.name)))?;
    session.out.line(value.expose()).await;
    Ok(())
}

pub(super) async fn list(commands: &Commands, session: &Session<'_>, app: AppName, format: Format) -> Result {
    let app = commands.app(session, app).await?;
    let vars = commands.store.config_vars(app.id).await?;
    let seen = commands.store.build_vars(app.id).await?;
    let row = |(name, value): (&ConfigKey, &Secret)| VarRow {
        name: name.to_string(),
        value: value.expose().to_owned(),
        build: seen.contains(name),
    };
    let rows: Vec<_> = vars.iter().map(row).collect();
    session.out.table(&rows, format).await;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_and_never_repeated() {
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
