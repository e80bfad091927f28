//! Layers of a buildpack and their environment files.

use std::{fs, io, path::Path};

use super::{
    answer::{Answer, Refusal, wrong},
    options::check_options,
};
use crate::lifecycle::files;

/// Accepts names of layers; others would lead out of the folder, or be the names of a buildpack's own files.
pub(super) fn layer_name(name: &str) -> Result<&str, Refusal> {
    let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b)) && !name.starts_with('.');
    let reserved = matches!(name, "build" | "launch" | "store");
    if plain && !name.is_empty() && !reserved {
        Ok(name)
    } else {
        Err(wrong(format!("{name:?} is not a valid layer name")))
    }
}

/// `keep` if the layer was restored with this key, else `remake`: the layer is then empty.
pub(super) fn layer(layers: &Path, name: &str, options: &[&str]) -> Answer {
    let name = layer_name(name)?;
    let has = |option: &str| options.contains(&option);
    check_options("layer", options, &["--launch", "--build", "--cache"], &["--key"])?;
    let key = options.iter().position(|option| *option == "--key").and_then(|at| options.get(at + 1));
    let key = key.ok_or_else(|| wrong("bp layer: --key KEY is missing"))?;
    let (folder, file) = (layers.join(name), layers.join(format!("{name}.toml")));
    let failed = |e: io::Error| wrong(format!("cannot write the layer {name}: {e}"));
    let old: toml::Table = files::read_toml(&file).map_err(wrong)?;
    let old_key = old.get("metadata").and_then(|metadata| metadata.get("key")).and_then(toml::Value::as_str);
    // The folder of a layer that is only launched may be missing: the previous image has it.
    let exists = folder.is_dir() || (file.exists() && has("--launch") && !has("--build") && !has("--cache"));
    let keep = exists && old_key == Some(key);
    if !keep {
        if folder.exists() {
            files::remove_tree(&folder).map_err(failed)?;
        }
        fs::create_dir_all(&folder).map_err(failed)?;
    }
    let types = [("launch", has("--launch")), ("build", has("--build")), ("cache", has("--cache"))];
    let types = toml::Table::from_iter(types.map(|(name, on)| (name.to_owned(), toml::Value::Boolean(on))));
    let mut metadata = match old.get("metadata") {
        Some(toml::Value::Table(metadata)) if keep => metadata.clone(),
        _ => toml::Table::new(),
    };
    metadata.insert("key".to_owned(), toml::Value::String((*key).to_owned()));
    let new = toml::Table::from_iter([
        ("types".to_owned(), toml::Value::Table(types)),
        ("metadata".to_owned(), toml::Value::Table(metadata)),
    ]);
    fs::write(&file, new.to_string()).map_err(failed)?;
    Ok(if keep { "keep" } else { "remake" }.to_owned())
}

/// Writes an environment file of a layer (buildpack.md, "Environment Variable Modification Rules").
pub(super) fn env(layers: &Path, name: &str, options: &[&str]) -> Answer {
    let name = layer_name(name)?;
    let (mut folder, mut suffix, mut pair) = ("env", "override", None);
    for option in options {
        match *option {
            "--launch" => folder = "env.launch",
            "--build" => folder = "env.build",
            "--append" => suffix = "append",
            "--prepend" => suffix = "prepend",
            "--default" => suffix = "default",
            other if other.starts_with("--") => return Err(wrong(format!("bp env: there is no option {other}"))),
            other => pair = other.split_once('='),
        }
    }
    let (variable, value) = pair.ok_or_else(|| wrong("bp env: VAR=VALUE is missing"))?;
    if variable.is_empty() || variable.contains(['/', '.']) {
        return Err(wrong(format!("bp env: {variable:?} is not a valid variable name")));
    }
    let folder = layers.join(name).join(folder);
    let write = || {
        fs::create_dir_all(&folder)?;
        if matches!(suffix, "append" | "prepend") {
            fs::write(folder.join(format!("{variable}.delim")), ":")?;
        }
        fs::write(folder.join(format!("{variable}.{suffix}")), value)
    };
    write().map(|()| String::new()).map_err(|e| wrong(format!("cannot write {}: {e}", folder.display())))
}
