//! The user's variables and the passwords of registries, as files in memory: in no argument of a program, and on no disk.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use base64::Engine as _;

use crate::lifecycle::protocol::Login;

/// A folder in memory. Commands of a Dockerfile run in a root folder of their own, which they cannot leave.
const FOLDER: &str = "/run/paas";

/// The files of a build; removed when this is dropped.
pub(super) struct Secrets {
    /// Build arguments, as `NAME=value` lines.
    pub(super) arguments: PathBuf,
    /// A file for each variable, by the variable's name.
    pub(super) files: BTreeMap<String, PathBuf>,
    /// Variables whose values do not fit into the file of arguments.
    pub(super) multiline: BTreeMap<String, String>,
}

impl Secrets {
    pub(super) fn write(env: &BTreeMap<String, String>) -> io::Result<Self> {
        let folder = private_folder()?;
        let mut made = Self { arguments: folder.join("arguments"), files: BTreeMap::new(), multiline: BTreeMap::new() };
        let mut arguments = String::new();
        for (number, (name, value)) in env.iter().enumerate() {
            let path = folder.join(format!("secret-{number}"));
            write(&path, value.as_bytes())?;
            made.files.insert(name.clone(), path);
            if value.contains('\n') {
                made.multiline.insert(name.clone(), value.clone());
            } else {
                arguments.extend([name, "=", value, "\n"]);
            }
        }
        write(&made.arguments, arguments.as_bytes())?;
        Ok(made)
    }
}

impl Drop for Secrets {
    fn drop(&mut self) {
        for path in self.files.values().chain([&self.arguments]) {
            let _ = fs::remove_file(path);
        }
    }
}

/// A file with one login, in the format of containers-auth.json(5); removed when this is dropped.
pub(super) struct LoginFile(pub(super) PathBuf);

impl LoginFile {
    pub(super) fn write(login: &Login) -> io::Result<Self> {
        let path = private_folder()?.join("auth.json");
        let both = format!("{}:{}", login.username, login.password);
        let auth = base64::engine::general_purpose::STANDARD.encode(both);
        write(&path, serde_json::json!({ "auths": { &login.host: { "auth": auth } } }).to_string().as_bytes())?;
        Ok(Self(path))
    }
}

impl Drop for LoginFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// Path for the id of the image that is built.
pub(super) fn image_id_file() -> PathBuf {
    Path::new(FOLDER).join("image-id")
}

fn private_folder() -> io::Result<PathBuf> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(FOLDER)?;
    Ok(FOLDER.into())
}

fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?.write_all(bytes)
}
