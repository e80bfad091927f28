//! Requests to the HTTP API that take long or must not be repeated, with their responses, which outlive the server.

use rusqlite::Row;

use super::{
    database::Store,
    error::Result,
    secrets::Cipher,
    time::{Millis, now},
};

/// A request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredRequest {
    /// Random identity.
    pub id: String,
    /// Name of the operation.
    pub operation: String,
    /// Hash of what was asked.
    pub fingerprint: Vec<u8>,
    /// Status and body of the response, once the operation has ended.
    pub response: Option<(u16, String)>,
    /// Time of the start.
    pub began_at: Millis,
    /// Time of the end.
    pub ended_at: Option<Millis>,
}

/// A request that begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewRequest {
    /// Random identity.
    pub id: String,
    /// Who asks.
    pub caller: String,
    /// Name of the operation.
    pub operation: String,
    /// Key by which the caller recognises it.
    pub key: Option<String>,
    /// Hash of what is asked.
    pub fingerprint: Vec<u8>,
}

/// Whether a request is the first of its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BegunRequest {
    /// It is.
    First,
    /// There was one before.
    Repeated(StoredRequest),
}

/// Maximum number of requests of a caller that are kept.
const MAX_KEPT: i64 = 1000;

const COLUMNS: &str = "id, operation, fingerprint, status, response, began_at, ended_at";

fn context(id: &str) -> String {
    format!("request {id}")
}

fn request(row: &Row<'_>, cipher: &Cipher) -> Result<StoredRequest> {
    let id: String = row.get("id")?;
    let status: Option<u16> = row.get("status")?;
    let sealed: Option<Vec<u8>> = row.get("response")?;
    let text = sealed.map(|sealed| cipher.open_sealed(&sealed, &context(&id))).transpose()?;
    Ok(StoredRequest {
        operation: row.get("operation")?,
        fingerprint: row.get("fingerprint")?,
        response: status.zip(text),
        began_at: row.get("began_at")?,
        ended_at: row.get("ended_at")?,
        id,
    })
}

impl Store {
    /// Stores a request that begins, unless the caller has sent one with the same key.
    pub async fn begin_request(&self, new: NewRequest) -> Result<BegunRequest> {
        self.transact(move |t, cipher| {
            if let Some(key) = &new.key {
                let sql = format!("SELECT {COLUMNS} FROM requests WHERE caller = ?1 AND idempotency_key = ?2");
                let mut query = t.prepare_cached(&sql)?;
                let mut found = query.query_and_then((&new.caller, key), |row| request(row, cipher))?;
                if let Some(found) = found.next() {
                    return Ok(BegunRequest::Repeated(found?));
                }
            }
            t.execute(
                "DELETE FROM requests WHERE caller = ?1 AND ended_at IS NOT NULL AND id IN (SELECT id FROM requests
                    WHERE caller = ?1 ORDER BY began_at DESC LIMIT -1 OFFSET ?2)",
                (&new.caller, MAX_KEPT),
            )?;
            t.execute(
                "INSERT INTO requests (id, caller, operation, idempotency_key, fingerprint, began_at)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                (&new.id, &new.caller, &new.operation, &new.key, &new.fingerprint, now()),
            )?;
            Ok(BegunRequest::First)
        })
        .await
    }

    /// Stores the response to a request; `keep_key` is false if the caller may send it again with the same key.
    pub async fn end_request(&self, id: String, status: u16, response: String, keep_key: bool) -> Result<()> {
        self.transact(move |t, cipher| {
            let sealed = cipher.seal(&response, &context(&id))?;
            t.execute(
                "UPDATE requests SET status = ?2, response = ?3, ended_at = ?4,
                    idempotency_key = CASE WHEN ?5 THEN idempotency_key END WHERE id = ?1",
                (&id, status, sealed, now(), keep_key),
            )?;
            Ok(())
        })
        .await
    }

    /// A request of a caller.
    pub async fn request(&self, caller: String, id: String) -> Result<Option<StoredRequest>> {
        self.read(move |t, cipher| {
            let sql = format!("SELECT {COLUMNS} FROM requests WHERE caller = ?1 AND id = ?2");
            let mut query = t.prepare_cached(&sql)?;
            query.query_and_then((caller, id), |row| request(row, cipher))?.next().transpose()
        })
        .await
    }

    /// Ends the requests that were running when the server ended: their response is this.
    pub async fn end_left_requests(&self, status: u16, response: String) -> Result<()> {
        self.transact(move |t, cipher| {
            let mut query = t.prepare("SELECT id FROM requests WHERE ended_at IS NULL")?;
            let left: Vec<String> = query.query_map([], |row| row.get("id"))?.collect::<rusqlite::Result<_>>()?;
            for id in left {
                let sealed = cipher.seal(&response, &context(&id))?;
                t.execute(
                    "UPDATE requests SET status = ?2, response = ?3, ended_at = ?4, idempotency_key = NULL WHERE id = ?1",
                    (&id, status, sealed, now()),
                )?;
            }
            Ok(())
        })
        .await
    }

    /// Removes requests that ended before this time.
    pub async fn remove_old_requests(&self, before: Millis) -> Result<u64> {
        self.transact(move |t, _| {
            let removed = t.execute("DELETE FROM requests WHERE ended_at < ?1", [before])?;
            Ok(u64::try_from(removed).unwrap_or(u64::MAX))
        })
        .await
    }
}
