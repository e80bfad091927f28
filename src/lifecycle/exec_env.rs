//! Execution environments (Buildpack API 0.12): `production`, `test` and others, for which buildpacks and processes may be meant.

/// Execution environment of all builds: apps are built to run.
pub(super) const EXEC_ENV: &str = "production";

/// Whether something for these execution environments takes part in this one; without any, it takes part in all.
pub(super) fn includes(exec_env: &[String], current: &str) -> bool {
    exec_env.is_empty() || exec_env.iter().any(|name| name == "*" || name == current)
}

/// Whether something for these execution environments takes part in builds and in the apps that they make.
pub fn in_production(exec_env: &[String]) -> bool {
    includes(exec_env, EXEC_ENV)
}
