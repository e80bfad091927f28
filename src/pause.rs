//! Named points at which a test can pause the server, to kill it there. Debug builds only.

/// If the folder `$PAAS_TEST_PAUSES` has a file `<point>`, renames it to `<point>.reached` and waits until the test removes
/// that file or kills the process.
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
