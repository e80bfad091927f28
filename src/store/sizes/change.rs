//! Changes of sizes.

use std::collections::BTreeMap;

use super::SizeKind;
use crate::{
    model::{CpuMillis, MemoryMib, PartialSize, Resource, SizeTarget},
    store::{database::Store, error::Result, ids::AppId, quotas},
};

impl Store {
    /// Sets sizes of an app; an empty one applies no more. Refused if its owner's instances and tasks could then use more than
    /// allowed.
    pub async fn set_sizes(
        &self,
        app: AppId,
        kind: SizeKind,
        changes: BTreeMap<SizeTarget, PartialSize>,
    ) -> Result<()> {
        let limits = self.limits();
        self.transact(move |t, _| {
            quotas::within(t, &limits, app, &[Resource::Cpu, Resource::Memory], || {
                for (target, size) in &changes {
                    let key = (app.0, target.as_str(), kind.as_str());
                    t.execute("DELETE FROM sizes WHERE app = ?1 AND target = ?2 AND kind = ?3", key)?;
                    if size.is_empty() {
                        continue;
                    }
                    t.execute(
                        "INSERT INTO sizes (app, target, kind, cpu_millis, memory_mib) VALUES (?1, ?2, ?3, ?4, ?5)",
                        (
                            app.0,
                            target.as_str(),
                            kind.as_str(),
                            size.cpu.map(CpuMillis::millis),
                            size.memory.map(MemoryMib::mebibytes),
                        ),
                    )?;
                }
                Ok(())
            })
        })
        .await
    }
}
