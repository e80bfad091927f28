//! Images that the operator offers: Dockerfiles of all apps may be based on them without a registry.

use rusqlite::Row;

use super::{
    columns::text,
    database::Store,
    error::Result,
    time::{Millis, now},
};
use crate::model::{Digest, ImageName};

/// An image that the operator offers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OfferedImage {
    /// Name by which Dockerfiles refer to it.
    pub name: ImageName,
    /// Digest of its manifest in the image store, which keeps it.
    pub manifest: Digest,
    /// Size of its layers, in bytes.
    pub size: u64,
    /// Time at which it was offered.
    pub created_at: Millis,
    /// Name of the user who offered it.
    pub created_by: String,
}

const COLUMNS: &str = "written, manifest, size, created_at, created_by";

fn offered(row: &Row<'_>) -> Result<OfferedImage> {
    Ok(OfferedImage {
        name: text(row, "written", "image name")?,
        manifest: text(row, "manifest", "image")?,
        size: row.get("size")?,
        created_at: row.get("created_at")?,
        created_by: row.get("created_by")?,
    })
}

impl Store {
    /// Adds an offered image, or replaces the one of the same name. Returns it.
    pub async fn put_offered_image(
        &self,
        name: ImageName,
        manifest: Digest,
        size: u64,
        by: String,
    ) -> Result<OfferedImage> {
        self.transact(move |t, _| {
            let sql = format!(
                "INSERT INTO offered_images (name, {COLUMNS}) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
                 ON CONFLICT DO UPDATE SET written = excluded.written, manifest = excluded.manifest,
                    size = excluded.size, created_at = excluded.created_at, created_by = excluded.created_by
                 RETURNING {COLUMNS}"
            );
            let values = (name.full(), name.to_string(), manifest.as_str(), size, now(), by);
            t.query_row_and_then(&sql, values, offered)
        })
        .await
    }

    /// Removes an offered image. Returns whether there was one.
    pub async fn remove_offered_image(&self, name: ImageName) -> Result<bool> {
        self.transact(move |t, _| Ok(t.execute("DELETE FROM offered_images WHERE name = ?1", [name.full()])? > 0)).await
    }

    /// All offered images, by name.
    pub async fn offered_images(&self) -> Result<Vec<OfferedImage>> {
        self.read(|t, _| {
            let mut query = t.prepare_cached(&format!("SELECT {COLUMNS} FROM offered_images ORDER BY name"))?;
            query.query_and_then([], offered)?.collect()
        })
        .await
    }
}
