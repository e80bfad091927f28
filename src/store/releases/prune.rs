//! Which releases, images, config vars and bindings are kept.

use rusqlite::Transaction;

use crate::{
    model::{Digest, ReleaseNumber},
    store::{
        builds,
        columns::text,
        database::Store,
        error::{Result, StoreError},
        ids::AppId,
        release_configs,
    },
};

/// Number of failed releases of an app that are kept, and of those that were released.
const KEPT_FAILED: u32 = 10;
const KEPT_RELEASED: u32 = 1000;

/// Bytes of the config vars and bindings, encrypted, of an app's newest releases that are kept. Those that run are kept beyond that.
const KEPT_CONFIG_BYTES: u64 = 16 << 20;

/// In place of the content of config vars and bindings that are no longer kept.
pub(super) const DROPPED: &str = "";

/// The releases whose images are kept, if the last `?1` that were released of each app are.
const IN_USE: &str =
    "SELECT r.app AS app, r.number AS number, r.image AS image FROM releases r JOIN apps a ON a.id = r.app
    WHERE r.number IN (a.current_release, a.candidate_release) OR r.state = 'candidate' OR r.number IN (
        SELECT number FROM releases p WHERE p.app = r.app AND p.state = 'released' ORDER BY number DESC LIMIT ?1)";

/// Of a release `r`, that no instance and no task of it is left.
const IDLE: &str = "NOT EXISTS (SELECT 1 FROM instances i WHERE i.app = r.app AND i.release = r.number)
    AND NOT EXISTS (SELECT 1 FROM tasks s WHERE s.app = r.app AND s.release = r.number AND s.ended_at IS NULL)";

/// Drops the config vars and bindings of an app's older releases, so that those that are kept fit into [`KEPT_CONFIG_BYTES`]. The
/// current release and what runs keep theirs.
pub(super) fn bound_configs(t: &Transaction<'_>, app: AppId) -> Result<()> {
    let sql = format!(
        "UPDATE releases AS r SET config_content = '{DROPPED}', bindings_content = '{DROPPED}'
         WHERE app = ?1 AND state IN ('released', 'failed') AND config_content <> '{DROPPED}' AND {IDLE}
         AND number IS NOT (SELECT current_release FROM apps WHERE id = ?1)
         AND number <= (
            SELECT max(number) FROM (
                SELECT number, sum(length(config)) OVER (ORDER BY number DESC, content) AS bytes FROM (
                    SELECT content, max(number) AS number FROM (
                        SELECT config_content AS content, number FROM releases WHERE app = ?1
                        UNION ALL SELECT bindings_content, number FROM releases WHERE app = ?1
                    ) GROUP BY content
                ) JOIN release_configs USING (content) WHERE app = ?1
            ) WHERE bytes > ?2
         )"
    );
    if t.prepare_cached(&sql)?.execute((app.0, KEPT_CONFIG_BYTES))? > 0 {
        release_configs::remove_unused_of(t, app)?;
    }
    Ok(())
}

/// Drops the config vars and bindings of releases to which nobody can roll back, as their images are not kept, and which nothing runs.
fn drop_configs(t: &Transaction<'_>, keep: u32) -> Result<()> {
    let sql = format!(
        "UPDATE releases AS r SET config_content = '{DROPPED}', bindings_content = '{DROPPED}'
         WHERE state = 'released' AND config_content <> '{DROPPED}' AND image NOT IN (SELECT image FROM ({IN_USE})) AND {IDLE}"
    );
    t.prepare_cached(&sql)?.execute([keep])?;
    Ok(())
}

impl Store {
    /// Releases whose images must be kept: each app's current and candidate releases, and its last `keep` that were
    /// released.
    pub async fn releases_in_use(&self, keep: u32) -> Result<Vec<(AppId, ReleaseNumber, Digest)>> {
        self.read(move |t, _| {
            let mut query = t.prepare_cached(IN_USE)?;
            let rows = query.query_and_then([keep], |row| {
                Ok((AppId(row.get("app")?), row.get("number")?, text(row, "image", "image")?))
            })?;
            rows.collect()
        })
        .await
    }

    /// Removes rows of releases that nothing needs any more: of each app, all but the last that failed and the last that were
    /// released. With `dry_run`, only counts them. Returns their number for each app that has some. Rows of old builds go as well,
    /// and the config vars and bindings of releases whose images are not kept, as [`Self::releases_in_use`] with `keep`.
    pub async fn prune_releases(&self, keep: u32, dry_run: bool) -> Result<Vec<(AppId, u64)>> {
        self.transact(move |t, _| {
            let mut query = t.prepare_cached(
                "SELECT app, number FROM (
                    SELECT r.app AS app, r.number AS number, r.state AS state,
                        row_number() OVER (PARTITION BY r.app, r.state ORDER BY r.number DESC) AS place
                    FROM releases r JOIN apps a ON a.id = r.app
                    WHERE r.number IS NOT a.current_release AND r.number IS NOT a.candidate_release
                    AND NOT EXISTS (SELECT 1 FROM instances i WHERE i.app = r.app AND i.release = r.number)
                    -- The branch is set to its commit at start, and a rebuild builds that.
                    AND r.number IS NOT (SELECT max(p.number) FROM releases p
                        WHERE p.app = r.app AND p.kind = 'push' AND p.state = 'released')
                 ) WHERE state = 'failed' AND place > ?1 OR state = 'released' AND place > ?2
                 ORDER BY app",
            )?;
            let found = query.query_and_then([KEPT_FAILED, KEPT_RELEASED], |row| {
                Ok::<_, StoreError>((AppId(row.get("app")?), row.get::<_, ReleaseNumber>("number")?))
            })?;
            let found = found.collect::<Result<Vec<_>>>()?;
            let mut removed: Vec<(AppId, u64)> = Vec::new();
            let mut remove = t.prepare_cached("DELETE FROM releases WHERE app = ?1 AND number = ?2")?;
            for (app, number) in found {
                if !dry_run {
                    remove.execute((app.0, number))?;
                }
                match removed.last_mut() {
                    Some((last, count)) if *last == app => *count += 1,
                    _ => removed.push((app, 1)),
                }
            }
            if !dry_run {
                drop_configs(t, keep)?;
                release_configs::remove_unused(t)?;
                builds::prune(t)?;
            }
            Ok(removed)
        })
        .await
    }
}
