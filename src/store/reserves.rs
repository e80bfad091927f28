//! What is kept free for the instances of apps: no more than the machine has, nor more than half of that for one owner.

use rusqlite::Transaction;

use super::{
    demand::{self, Demand},
    error::{Result, StoreError},
    ids::UserId,
    users::{self, User},
};
use crate::model::{Capacity, thousandths};

/// What was kept free for instances before a change.
pub(super) struct Reserves {
    capacity: Capacity,
    of_all: Demand,
    /// The owner of the app, unless that is an admin, and what was kept free for the owner's apps.
    of_owner: Option<(User, Demand)>,
}

impl Reserves {
    /// What is kept free now.
    pub(super) fn find(t: &Transaction<'_>, owner: Option<UserId>, capacity: Capacity) -> Result<Self> {
        let owner = owner.map(|owner| users::with_id(t, owner)).transpose()?.filter(|owner| !owner.admin);
        let with_demand = |owner: User| Ok::<_, StoreError>((demand::reserved(t, Some(owner.id))?, owner));
        let of_owner = owner.map(with_demand).transpose()?.map(|(demand, owner)| (owner, demand));
        Ok(Self { capacity, of_all: demand::reserved(t, None)?, of_owner })
    }

    /// Refuses to keep more free than the machine has, and more than half of that for the apps of one owner, so that there is
    /// some left for others.
    pub(super) fn check(self, t: &Transaction<'_>) -> Result<()> {
        let less = "reserve less (resource:reserve), or scale something down";
        if let Some((owner, before)) = self.of_owner
            && let Some((limit, after)) = more_than(self.capacity.half(), before, demand::reserved(t, Some(owner.id))?)
        {
            let name = owner.name;
            return Err(StoreError::Exhausted(format!(
                "{name} may keep {limit} free, half of what the machine has, and this would make it {after}; {less}, or an \
                 admin takes the app over (access:transfer)"
            )));
        }
        if let Some((limit, after)) = more_than(self.capacity, self.of_all, demand::reserved(t, None)?) {
            return Err(StoreError::Exhausted(format!(
                "the machine has {limit}, and this would keep {after} free for them; {less}"
            )));
        }
        Ok(())
    }
}

/// How much there is of what `after` has too much of, if it has more than before, and how much it has.
fn more_than(has: Capacity, before: Demand, after: Demand) -> Option<(String, String)> {
    let exceeded = |has: u64, before: u64, after: u64| after > has && after > before;
    if exceeded(has.memory_mib, before.memory_mib, after.memory_mib) {
        let limit = format!("{} MiB of memory for instances", has.memory_mib);
        Some((limit, format!("{} MiB", after.memory_mib)))
    } else if exceeded(has.cpu_millis, before.cpu_millis, after.cpu_millis) {
        Some((format!("{} CPUs for instances", thousandths(has.cpu_millis)), thousandths(after.cpu_millis)))
    } else {
        None
    }
}
