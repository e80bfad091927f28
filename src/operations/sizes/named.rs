//! Sizes that the operator has named in paas.toml.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    config::NamedSize,
    model::{CpuMillis, Line, MemoryMib, PartialSize, Right},
    operations::{
        context::Context,
        failure::{Failure, Result},
        operation::Operation,
        target::Server,
    },
    store::Effect,
};

/// Lists the sizes that the operator has named.
#[derive(Debug, Clone, Deserialize, JsonSchema, clap::Args)]
#[serde(deny_unknown_fields)]
pub struct ListSizes {}

/// A size that the operator has named.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct NamedSizeInfo {
    /// Name.
    pub name: String,
    /// CPU time, in thousandths of a CPU; without it, the size leaves it as it is.
    pub cpu_millis: Option<CpuMillis>,
    /// Memory, in MiB; without it, the size leaves it as it is.
    pub memory_mib: Option<MemoryMib>,
}

impl Operation for ListSizes {
    const NAME: &'static str = "resource:sizes";
    const RIGHT: Right = Right::Use;
    const EFFECT: Effect = Effect::Read;
    type Target = Server;
    type Output = Vec<NamedSizeInfo>;

    fn target(&self) {}

    async fn run(self, context: &Context<'_>, _: Server) -> Result<Vec<NamedSizeInfo>> {
        let sizes = context.config.sizes.iter().map(|(name, size)| NamedSizeInfo {
            name: name.clone(),
            cpu_millis: size.cpu_millis,
            memory_mib: size.memory_mib,
        });
        Ok(sizes.collect())
    }
}

/// The size that has this name.
pub(super) fn size_named(sizes: &BTreeMap<String, NamedSize>, name: &str) -> Result<PartialSize> {
    if let Some(found) = sizes.get(name) {
        return Ok(PartialSize { cpu: found.cpu_millis, memory: found.memory_mib });
    }
    let known: Vec<_> = sizes.keys().map(String::as_str).collect();
    let remedy = if known.is_empty() {
        "the operator has defined none: give --cpu and --memory".to_owned()
    } else {
        format!("there are {} (resource:sizes)", known.join(", "))
    };
    Err(Failure::not_found(format!("there is no size named {:?}; {remedy}", Line::excerpt(name))))
}

/// CPU time in thousandths of a CPU, and memory in MiB.
pub(super) type Amounts = (u32, u64);

/// The name of a size, if it has one; `general` is what applies where no size is set.
pub(super) fn name_of(sizes: &BTreeMap<String, NamedSize>, size: Amounts, general: Amounts) -> Option<String> {
    let amounts = |named: &NamedSize| {
        let cpu = named.cpu_millis.map_or(general.0, CpuMillis::millis);
        (cpu, named.memory_mib.map_or(general.1, MemoryMib::mebibytes))
    };
    let named = sizes.iter().filter(|(_, named)| **named != NamedSize::default());
    named.into_iter().find(|(_, named)| amounts(named) == size).map(|(name, _)| name.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sizes() -> BTreeMap<String, NamedSize> {
        let size = |cpu: Option<u32>, memory: Option<u64>| NamedSize {
            cpu_millis: cpu.map(|cpu| cpu.try_into().unwrap()),
            memory_mib: memory.map(|memory| memory.try_into().unwrap()),
        };
        [("empty", size(None, None)), ("high-memory", size(None, Some(4096))), ("small", size(Some(500), Some(256)))]
            .map(|(name, size)| (name.to_owned(), size))
            .into()
    }

    #[test]
    fn a_size_is_shown_with_its_name() {
        let name = |size| name_of(&sizes(), size, (2000, 512));
        assert_eq!(name((500, 256)).as_deref(), Some("small"));
        assert_eq!(name((2000, 4096)).as_deref(), Some("high-memory"));
        for other in [(500, 512), (500, 4096), (2000, 512)] {
            assert_eq!(name(other), None, "{other:?}");
        }
    }

    #[test]
    fn an_unknown_name_is_refused_with_those_that_there_are() {
        assert_eq!(size_named(&sizes(), "small").unwrap().memory, Some(256.try_into().unwrap()));
        let refused = |sizes| size_named(&sizes, "huge").unwrap_err().to_string();
        let names = "there is no size named \"huge\"; there are empty, high-memory, small (resource:sizes)";
        assert_eq!(refused(sizes()), names);
        assert!(refused(BTreeMap::new()).ends_with("give --cpu and --memory"));
    }
}
