//! Environment variables that override keys of the configuration: `PAAS_SSH_LISTEN` overrides `ssh.listen`.

use super::{error::ConfigError, sections::Config};
use crate::model::{Line, toml_message};

/// Variables with the prefix `PAAS_` that do not override a key.
const OTHER_VARIABLES: [&str; 7] = ["CONFIG", "LOG", "REMOTE", "TEST_DIR", "HOOK_SOCKET", "HOOK_NONCE", "TEST_PAUSES"];

/// Overrides keys of `config` by environment variables.
pub(super) fn apply(
    mut config: Config,
    environment: impl Iterator<Item = (String, String)>,
) -> Result<Config, ConfigError> {
    for (name, value) in environment {
        let Some(key) = name.strip_prefix("PAAS_").filter(|key| !OTHER_VARIABLES.contains(key)) else { continue };
        let invalid = |message: String| ConfigError::Environment { name: Line::excerpt(&name), message };
        let mut table = toml::Table::try_from(&config).map_err(|e| invalid(e.to_string()))?;
        let (section, key) = locate(&table, &key.to_ascii_lowercase())
            .ok_or_else(|| invalid("no such key; `paas config` lists them".to_owned()))?;
        let target = match &section {
            None => &mut table,
            Some(section) => table
                .entry(section.clone())
                .or_insert_with(|| toml::Value::Table(toml::Table::new()))
                .as_table_mut()
                .ok_or_else(|| invalid("is not a section".to_owned()))?,
        };
        // First as a string, so that a string needs no quotes; then as a TOML value of another type.
        target.insert(key.clone(), toml::Value::String(value.clone()));
        let toml_value =
            || toml::from_str::<toml::Table>(&format!("v = {value}")).ok().and_then(|mut table| table.remove("v"));
        config = match table.clone().try_into() {
            Ok(config) => config,
            Err(not_a_string) => {
                let typed = toml_value().ok_or_else(|| invalid(toml_message(&not_a_string)))?;
                let target = match &section {
                    None => &mut table,
                    Some(section) => table[section].as_table_mut().ok_or_else(|| invalid("is not a section".into()))?,
                };
                target.insert(key, typed);
                table.try_into().map_err(|e| invalid(toml_message(&e)))?
            }
        };
    }
    Ok(config)
}

/// Section and key of a variable's name without its prefix, such as `ssh_listen`, in the table of all keys.
fn locate(all: &toml::Table, name: &str) -> Option<(Option<String>, String)> {
    if all.get(name).is_some_and(|value| !value.is_table()) {
        return Some((None, name.to_owned()));
    }
    all.iter().filter(|(_, value)| value.is_table()).find_map(|(section, _)| {
        let key = name.strip_prefix(section.as_str())?.strip_prefix('_')?;
        Some((Some(section.clone()), key.to_owned()))
    })
}
