//! The list of all operations, from which schemas, documentation and tests are made.

use schemars::{JsonSchema, Schema, SchemaGenerator};

use super::{Operation, Target, target::Scope};
use crate::{model::Right, store::Effect};

/// One operation, described.
pub struct Description {
    /// Name, `noun:verb`.
    pub name: &'static str,
    /// Right that it needs.
    pub right: Right,
    /// Whether it changes anything.
    pub effect: Effect,
    /// What it is about.
    pub scope: Scope,
    /// Schema of its input.
    pub input: Schema,
    /// Schema of its result.
    pub output: Schema,
}

impl Description {
    fn of<O: Operation + JsonSchema>(generator: &mut SchemaGenerator) -> Self {
        Self {
            name: O::NAME,
            right: O::RIGHT,
            effect: O::EFFECT,
            scope: O::Target::SCOPE,
            input: generator.subschema_for::<O>(),
            output: generator.subschema_for::<O::Output>(),
        }
    }
}

macro_rules! operations {
    ($($operation:ident),* $(,)?) => {
        /// All operations; the definitions that their schemas refer to are left in the generator.
        pub fn all(generator: &mut SchemaGenerator) -> Vec<Description> {
            vec![$(Description::of::<super::$operation>(generator)),*]
        }
    };
}

operations!(
    CreateApp,
    ListApps,
    ShowApp,
    AppExists,
    DestroyApp,
    ShowUrls,
    ShowFormation,
    Scale,
    ListInstances,
    Restart,
    Rebuild,
    Stop,
    Start,
    WhoAmI,
    AddUser,
    ListUsers,
    SetUser,
    RemoveUser,
    ListMembers,
    AddMember,
    RemoveMember,
    TransferApp,
    AddKey,
    ListKeys,
    RemoveKey,
    ShowEvents,
    SwitchEventsOn,
    SwitchEventsOff,
    SetConfig,
    UnsetConfig,
    GetConfig,
    ListConfig,
    ListConfigKeys,
    ShowLogs,
    ListPorts,
    SetPorts,
    AddPorts,
    RemovePorts,
    ClearPorts,
    SetGit,
    ShowGit,
    ListBuilds,
    ShowBuildLog,
    ShowBuild,
    SetBuilds,
    CancelBuild,
    ClearBuildCache,
);
