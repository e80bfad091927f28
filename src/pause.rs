//! Named points at which a story of the test suite can hold the server still, to kill it there. Debug builds only.

/// When `$PAAS_TEST_PAUSES` names a folder that holds the file `<point>`, renames that to `<point>.reached` and waits
/// until whoever asked for the pause removes it, or ends the process.
#[cfg(debug_assertions)]
pub async fn at(point: &str) {
    let Some(folder) = std::env::var_os("PAAS_TEST_PAUSES").map(std::path::PathBuf::from) else { return };
    let reached = folder.join(format!("{point}.reached"));
    if tokio::fs::rename(folder.join(point), &reached).await.is_ok() {
        while reached.exists() {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    }
}

/// Does nothing in a release build.
#[cfg(not(debug_assertions))]
pub async fn at(_point: &str) {}
