//! The formation: how many instances of each process type were declared.

use std::collections::BTreeMap;

use rusqlite::Transaction;

use super::{columns::text, error::Result, ids::AppId};
use crate::model::ProcessType;

/// Quantity of each process type of the app that was scaled.
pub(super) fn of_app(t: &Transaction<'_>, app: AppId) -> Result<BTreeMap<ProcessType, u32>> {
    let mut query = t.prepare_cached("SELECT process_type, quantity FROM formation WHERE app = ?1")?;
    query
        .query_and_then([app.0], |row| Ok((text(row, "process_type", "process type")?, row.get("quantity")?)))?
        .collect()
}

/// Declares the quantity of a process type.
pub(super) fn set_quantity(t: &Transaction<'_>, app: AppId, process_type: &ProcessType, quantity: u32) -> Result<()> {
    t.prepare_cached(
        "INSERT INTO formation (app, process_type, quantity) VALUES (?1, ?2, ?3)
         ON CONFLICT DO UPDATE SET quantity = excluded.quantity",
    )?
    .execute((app.0, process_type.as_str(), quantity))?;
    Ok(())
}
