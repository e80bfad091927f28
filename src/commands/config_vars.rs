//! The commands `config:…`.

use std::collections::BTreeMap;

use base64::Engine as _;
use clap::Subcommand;

use super::{
    env_file::{self, Notation},
    output::{Format, Rendering, Text},
    session::Session,
    table::table,
};
use crate::{
    model::{AppName, ConfigKey, Secret},
    operations::{
        ChangedConfig, ConfigKeys, ConfigVar, ConfigVarRow, Failure, GetConfig, ListConfig, ListConfigKeys, Result,
        SetConfig, UnsetConfig,
    },
    store::ConfigVars,
};

/// The commands of config vars.
#[derive(Debug, Subcommand)]
pub(super) enum ConfigCommand {
    /// Set config vars and make a release with them.
    #[command(name = "config:set", after_help = "Example: config:set my-app DATABASE_URL=postgres://… LEVEL=2")]
    Set {
        /// App.
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
    Get(GetConfig),
    /// Remove config vars and make a release without them.
    #[command(name = "config:unset", after_help = "Example: config:unset my-app DATABASE_URL")]
    Unset(UnsetConfig),
    /// List config vars with their values.
    #[command(name = "config:list", aliases = ["config", "config:show"], after_help = "Example: config:list my-app")]
    List(ListConfig),
    /// List the names of config vars.
    #[command(name = "config:keys", after_help = "Example: config:keys my-app")]
    Keys(ListConfigKeys),
    /// Print config vars for a shell, as the lines of a .env file, or as JSON.
    #[command(
        name = "config:export",
        after_help = "Examples: eval \"$(ssh paas@host config:export my-app)\"\n          config:export my-app --as env > .env"
    )]
    Export {
        /// App.
        app: AppName,
        /// Notation; without it shell, or json with --format json.
        #[arg(long = "as", value_enum, value_name = "NOTATION")]
        notation: Option<Notation>,
    },
    /// Set the config vars on standard input: lines such as NAME=value, or one JSON object.
    #[command(name = "config:import", after_help = "Example: config:import my-app < .env")]
    Import {
        /// App.
        app: AppName,
        /// Notation; without it, a text that begins with { is JSON.
        #[arg(long = "as", value_enum, value_name = "NOTATION")]
        notation: Option<Notation>,
        /// Make no release: the change takes effect with the next one.
        #[arg(long)]
        no_restart: bool,
        /// Make them visible to builds, too, until they are unset.
        #[arg(long)]
        build: bool,
    },
}

/// Maximum size of imported config vars, in bytes.
const MAX_IMPORT_BYTES: u64 = 1024 * 1024;

pub(super) async fn run(session: &Session<'_>, command: ConfigCommand) -> Result {
    use ConfigCommand as C;
    match command {
        C::Set { app, pairs, no_restart, encoded, build } => {
            let vars = pairs.iter().map(|text| pair(text, encoded)).collect::<Result<ConfigVars>>()?;
            session.answer(SetConfig { app, vars: all_set(vars), no_restart, build }).await
        }
        C::Get(get) => session.answer(get).await,
        C::Unset(unset) => session.answer(unset).await,
        C::List(list) => session.answer(list).await,
        C::Keys(list) => session.answer(list).await,
        C::Export { app, notation } => export(session, app, notation).await,
        C::Import { app, notation, no_restart, build } => {
            session.check::<SetConfig>(app.clone()).await?;
            let text = session.read_input(MAX_IMPORT_BYTES).await?;
            let vars = env_file::import(&text, notation).map_err(|error| Failure::invalid(error.to_string()))?;
            session.answer(SetConfig { app, vars: all_set(vars), no_restart, build }).await
        }
    }
}

/// The input of an operation that sets all of these.
fn all_set(vars: ConfigVars) -> BTreeMap<ConfigKey, Option<Secret>> {
    vars.into_iter().map(|(name, value)| (name, Some(value))).collect()
}

async fn export(session: &Session<'_>, app: AppName, notation: Option<Notation>) -> Result {
    let notation = match (session.out.format(), notation) {
        (Format::Text, notation) => notation.unwrap_or(Notation::Shell),
        (Format::Json, None | Some(Notation::Json)) => Notation::Json,
        (Format::Json, Some(Notation::Shell | Notation::Env)) => {
            return Err(Failure::invalid("--as names another notation than --format json; leave one of them out"));
        }
    };
    let vars = session.run(ListConfig { app }).await?;
    let text = env_file::export(vars.iter().map(|var| (&var.name, &var.value)), notation);
    session.out.text(&text, Rendering::Exact).await;
    Ok(())
}

/// Reads `NAME=value`; an error never repeats the value.
fn pair(text: &str, encoded: bool) -> Result<(ConfigKey, Secret)> {
    let refused = || Failure::invalid("a config var has no value; write it as NAME=value");
    let (name, value) = text.split_once('=').ok_or_else(refused)?;
    let name: ConfigKey = name.parse()?;
    if !encoded {
        return Ok((name, Secret::new(value)));
    }
    let bytes = base64::engine::general_purpose::STANDARD.decode(value).ok();
    let value = bytes.and_then(|bytes| String::from_utf8(bytes).ok());
    let value = value.ok_or_else(|| Failure::invalid(format!("the value of {name} is not base64-encoded text")))?;
    Ok((name, Secret::new(value)))
}

impl Text for ChangedConfig {}

impl Text for ConfigVar {
    const RENDERING: Rendering = Rendering::Exact;

    fn text(&self) -> String {
        format!("{}\n", self.value.expose())
    }
}

impl Text for Vec<ConfigVarRow> {
    fn text(&self) -> String {
        let rows = self.iter().map(|var| {
            let build = if var.build { "yes" } else { "-" };
            [var.name.to_string(), build.to_owned(), var.value.expose().replace('\n', "\\n")]
        });
        table(["NAME", "BUILD", "VALUE"], rows)
    }
}

impl Text for ConfigKeys {
    fn text(&self) -> String {
        self.0.iter().flat_map(|name| [name.as_str(), "\n"]).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_and_not_repeated_in_errors() {
        let (name, value) = pair("A=b=c", false).unwrap();
        assert_eq!((name.as_str(), value.expose()), ("A", "b=c"));
        assert_eq!(pair("A=bGluZQpicmVhaw==", true).unwrap().1.expose(), "line\nbreak");
        for bad in ["hunter2", "1A=hunter2", "A-B=hunter2"] {
            let error = pair(bad, false).unwrap_err().to_string();
            assert!(!error.contains("hunter2"), "{error}");
        }
        assert!(!pair("A=hunter2!", true).unwrap_err().to_string().contains("hunter2"));
    }

    #[test]
    fn a_list_has_a_line_for_each_config_var() {
        let row = |name: &str, value: &str, build| ConfigVarRow {
            name: name.parse().unwrap(),
            value: Secret::new(value),
            build,
        };
        let rows = vec![row("A", "two\nlines", true), row("LEVEL", "2", false)];
        assert_eq!(rows.text(), "NAME   BUILD  VALUE\nA      yes    two\\nlines\nLEVEL  -      2\n");
    }
}
