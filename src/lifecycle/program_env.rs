//! Environment of a buildpack's programs: the base, what layers contribute, the user's and the operator's variables, and
//! those of the specification.

use std::{collections::BTreeMap, fs, io};

use super::{
    bindings,
    buildpack::Buildpack,
    descriptor::Api,
    dirs::Dirs,
    env::{self, Env},
    exec_env::EXEC_ENV,
    protocol::BuildRequest,
};

/// Environment of every program, to which layers and users add.
pub(super) fn base(dirs: &Dirs, request: &BuildRequest) -> Env {
    const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    // The build image's own search path.
    let path = std::env::var("PATH").ok().filter(|path| !path.is_empty()).unwrap_or_else(|| PATH.to_owned());
    Env::from([
        ("PATH".to_owned(), path),
        ("HOME".to_owned(), dirs.tmp.join("home").display().to_string()),
        ("LANG".to_owned(), "C.UTF-8".to_owned()),
        ("TMPDIR".to_owned(), dirs.tmp.display().to_string()),
        ("CNB_STACK_ID".to_owned(), request.stack_id.clone()),
    ])
}

/// Whole environment of a program of this buildpack. On top of `env` come the user's variables, unless the buildpack
/// declares `clear-env`, then the operator's, then the specification's.
pub(super) fn of_buildpack(dirs: &Dirs, request: &BuildRequest, buildpack: &Buildpack, env: &Env) -> Env {
    let mut env = env.clone();
    for (name, value) in request.env.iter().filter(|_| !buildpack.about.clear_env) {
        if env::is_search_path(name) {
            env::prepend(&mut env, name, value, ":");
        } else {
            env.insert(name.clone(), value.clone());
        }
    }
    env.extend(request.operator_env.clone());
    add_platform(&mut env, dirs, request, buildpack);
    env
}

/// Adds the variables of the specification, which nothing overrides.
fn add_platform(env: &mut Env, dirs: &Dirs, request: &BuildRequest, buildpack: &Buildpack) {
    let target = &request.target;
    let mut set = |name: &str, value: &str| drop(env.insert(name.to_owned(), value.to_owned()));
    set("CNB_BUILDPACK_DIR", &buildpack.dir.display().to_string());
    set("CNB_PLATFORM_DIR", &dirs.platform.display().to_string());
    set("CNB_TARGET_OS", &target.os);
    set("CNB_TARGET_ARCH", &target.arch);
    // Optional: buildpacks would take an empty value for the name of a variant.
    if !target.arch_variant.is_empty() {
        set("CNB_TARGET_ARCH_VARIANT", &target.arch_variant);
    }
    set("CNB_TARGET_DISTRO_NAME", &target.distro_name);
    set("CNB_TARGET_DISTRO_VERSION", &target.distro_version);
    if buildpack.about.api >= Api(0, 12) {
        set("CNB_EXEC_ENV", EXEC_ENV);
    }
    bindings::announce(env, dirs, &request.bindings);
    let tools = dirs.tmp.join("bin").display().to_string();
    env::prepend(env, "PATH", &tools, ":");
}

/// Writes the user's variables to files, where buildpacks look for them (`<platform>/env`).
pub(super) fn write_platform(dirs: &Dirs, env: &BTreeMap<String, String>) -> io::Result<()> {
    let folder = dirs.platform.join("env");
    fs::create_dir_all(&folder)?;
    for (name, value) in env {
        if !name.is_empty() && !name.contains('/') && name != "." && name != ".." {
            fs::write(folder.join(name), value)?;
        }
    }
    Ok(())
}
