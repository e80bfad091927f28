//! Whether operations are recorded in the audit log.

use crate::store::{database::Store, error::Result};

impl Store {
    /// Whether operations are recorded; they are, until [`Self::set_events_on`] says otherwise.
    pub async fn events_are_on(&self) -> Result<bool> {
        self.read(|t, _| {
            let sql = "SELECT count(*) AS switched_off FROM meta WHERE key = 'events_off'";
            Ok(t.query_row(sql, [], |row| row.get::<_, u32>("switched_off"))? == 0)
        })
        .await
    }

    /// Declares whether operations are recorded.
    pub async fn set_events_on(&self, on: bool) -> Result<()> {
        self.transact(move |t, _| {
            let sql = if on {
                "DELETE FROM meta WHERE key = 'events_off'"
            } else {
                "INSERT INTO meta (key, value) VALUES ('events_off', '') ON CONFLICT DO NOTHING"
            };
            t.execute(sql, [])?;
            Ok(())
        })
        .await
    }
}
