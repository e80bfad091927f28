//! The commands `bindings:…`.

use std::collections::BTreeMap;

use clap::Subcommand;

use super::{
    output::Text,
    session::Session,
    table::{or_hyphen, table},
};
use crate::{
    model::{AppName, BindingKey, BindingName, BindingProvider, BindingType, BindingValue},
    operations::{
        AddBinding, BindingReportRow, BindingRow, ChangedBindings, Failure, ListBindings, MAX_BINDING_BYTES,
        RemoveBindings, ReportBindings, Result,
    },
};

/// Shown in place of a value.
const HIDDEN: &str = "xxxxx";

/// The commands of service bindings.
#[derive(Debug, Subcommand)]
pub(super) enum BindingsCommand {
    /// Add a service binding, or replace one, and make a release with it.
    #[command(
        name = "bindings:add",
        after_help = "Examples: bindings:add my-app db --type postgresql --provider aws host=db.example password=…\n          \
                      bindings:add my-app ca --type ca-certificates --stdin ca.pem < ca.pem"
    )]
    Add {
        /// App.
        app: AppName,
        /// Name of the binding.
        name: BindingName,
        /// Its type, by which buildpacks and libraries find it.
        #[arg(long = "type", value_name = "TYPE")]
        binding_type: BindingType,
        /// Its provider, which tells several bindings of a type apart.
        #[arg(long)]
        provider: Option<BindingProvider>,
        /// KEY=value, each a file of the binding
        #[arg(value_name = "KEY=VALUE")]
        pairs: Vec<String>,
        /// The values are base64-encoded, so that they can be any bytes.
        #[arg(long)]
        encoded: bool,
        /// The value of this key is what standard input has, byte for byte.
        #[arg(long, value_name = "KEY")]
        stdin: Option<BindingKey>,
        /// Make no release: the change takes effect with the next one.
        #[arg(long)]
        no_restart: bool,
    },
    /// Remove service bindings and make a release without them.
    #[command(name = "bindings:remove", after_help = "Example: bindings:remove my-app db")]
    Remove(RemoveBindings),
    /// List service bindings, with the names of their keys.
    #[command(name = "bindings:list", alias = "bindings", after_help = "Example: bindings:list my-app")]
    List(ListBindings),
    /// Show the values of service bindings, masked, with their sizes.
    #[command(name = "bindings:report", after_help = "Example: bindings:report my-app db")]
    Report(ReportBindings),
}

pub(super) async fn run(session: &Session<'_>, command: BindingsCommand) -> Result {
    use BindingsCommand as C;
    match command {
        C::Add { app, name, binding_type, provider, pairs, encoded, stdin, no_restart } => {
            let mut values = BTreeMap::new();
            for text in &pairs {
                let (key, value) = pair(text, encoded)?;
                add(&mut values, key, value)?;
            }
            if let Some(key) = stdin {
                session.check::<AddBinding>(app.clone()).await?;
                let value = BindingValue::new(session.read_bytes(MAX_BINDING_BYTES).await?);
                add(&mut values, key, value)?;
            }
            session.answer(AddBinding { app, name, binding_type, provider, values, no_restart }).await
        }
        C::Remove(remove) => session.answer(remove).await,
        C::List(list) => session.answer(list).await,
        C::Report(report) => session.answer(report).await,
    }
}

fn add(values: &mut BTreeMap<BindingKey, BindingValue>, key: BindingKey, value: BindingValue) -> Result {
    let twice = Failure::invalid(format!("the key {key} is given twice; give it once"));
    if values.insert(key, value).is_some() { Err(twice) } else { Ok(()) }
}

/// Reads `KEY=value`; an error never repeats the value.
fn pair(text: &str, encoded: bool) -> Result<(BindingKey, BindingValue)> {
    let refused = || Failure::invalid("a key of the binding has no value; write it as KEY=value");
    let (key, value) = text.split_once('=').ok_or_else(refused)?;
    let key: BindingKey = key.parse()?;
    if !encoded {
        return Ok((key, BindingValue::new(value)));
    }
    let value = BindingValue::decode(value);
    let value = value.ok_or_else(|| Failure::invalid(format!("the value of {key} is not base64-encoded")))?;
    Ok((key, value))
}

impl Text for ChangedBindings {}

impl Text for Vec<BindingRow> {
    fn text(&self) -> String {
        if self.is_empty() {
            return "       the app has no service bindings (bindings:add)\n".to_owned();
        }
        let rows = self.iter().map(|binding| {
            let keys: Vec<_> = binding.keys.iter().map(BindingKey::as_str).collect();
            [
                binding.name.to_string(),
                binding.binding_type.to_string(),
                or_hyphen(binding.provider.as_ref()),
                or_hyphen(Some(keys.join(", ")).filter(|keys| !keys.is_empty())),
            ]
        });
        table(["NAME", "TYPE", "PROVIDER", "KEYS"], rows)
    }
}

impl Text for Vec<BindingReportRow> {
    fn text(&self) -> String {
        if self.is_empty() {
            return "       the app has no service bindings (bindings:add)\n".to_owned();
        }
        let rows = self.iter().map(|row| {
            [
                row.name.to_string(),
                row.binding_type.to_string(),
                or_hyphen(row.provider.as_ref()),
                or_hyphen(row.key.as_ref()),
                or_hyphen(row.bytes.map(|_| HIDDEN)),
                or_hyphen(row.bytes),
            ]
        });
        table(["NAME", "TYPE", "PROVIDER", "KEY", "VALUE", "BYTES"], rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_and_not_repeated_in_errors() {
        let (key, value) = pair("settings.xml=<a b=\"c\">", false).unwrap();
        assert_eq!((key.as_str(), value.expose()), ("settings.xml", &b"<a b=\"c\">"[..]));
        assert_eq!(pair("store=AP8K", true).unwrap().1.expose(), [0, 0xff, b'\n']);
        assert_eq!(pair("empty=", false).unwrap().1.expose(), b"");
        for (bad, encoded) in
            [("hunter2", false), ("a/b=hunter2", false), ("type=hunter2", false), ("A=hunter2!", true)]
        {
            let error = pair(bad, encoded).unwrap_err().to_string();
            assert!(!error.contains("hunter2"), "{error}");
        }
        let mut values = BTreeMap::from([pair("a=1", false).unwrap()]);
        let error = add(&mut values, "a".parse().unwrap(), BindingValue::new("2")).unwrap_err().to_string();
        assert_eq!(error, "the key a is given twice; give it once");
    }

    #[test]
    fn values_are_masked() {
        let row = |key: Option<&str>, bytes| BindingReportRow {
            name: "db".parse().unwrap(),
            binding_type: "postgresql".parse().unwrap(),
            provider: None,
            key: key.map(|key| key.parse().unwrap()),
            bytes,
        };
        let text = vec![row(Some("password"), Some(7)), row(None, None)].text();
        let expected = "NAME  TYPE        PROVIDER  KEY       VALUE  BYTES\n\
                        db    postgresql  -         password  xxxxx  7\n\
                        db    postgresql  -         -         -      -\n";
        assert_eq!(text, expected);
        let row = BindingRow {
            name: "db".parse().unwrap(),
            binding_type: "postgresql".parse().unwrap(),
            provider: Some("aws".parse().unwrap()),
            keys: vec!["host".parse().unwrap(), "password".parse().unwrap()],
        };
        let expected = "NAME  TYPE        PROVIDER  KEYS\ndb    postgresql  aws       host, password\n";
        assert_eq!(vec![row].text(), expected);
    }
}
