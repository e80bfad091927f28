//! The list of all operations, from which schemas, documentation and tests are made.

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::DeserializeOwned;

use super::{
    Operation, Operations, Target,
    answer::{Answer, Input, IntoAnswer, Runner},
    context::Call,
    endpoint::{Endpoint, Pages, Reach},
    failure::Result,
    target::Scope,
};
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
    /// Schema of its result, or of the items of a result that goes on.
    pub output: Schema,
    /// Whether its result goes on.
    pub follows: bool,
    /// Where the HTTP API has it.
    pub reach: Reach,
    /// Runs it.
    pub runner: Runner,
}

impl Description {
    /// Runs the operation.
    pub async fn run(&self, operations: &Operations, call: &Call<'_>, input: Input) -> Result<Answer> {
        self.runner.run(operations, call, input).await
    }

    fn of<O>(generator: &mut SchemaGenerator, reach: Reach) -> Self
    where
        O: Operation<Output: IntoAnswer> + DeserializeOwned + JsonSchema + Sync,
        <O::Target as Target>::Named: 'static,
    {
        Self {
            name: O::NAME,
            right: O::RIGHT,
            effect: O::EFFECT,
            scope: O::Target::SCOPE,
            input: generator.subschema_for::<O>(),
            output: generator.subschema_for::<O::Output>(),
            follows: O::Output::FOLLOWS,
            reach,
            runner: Runner::of::<O>(),
        }
    }
}

const fn ssh_only(reason: &'static str) -> Reach {
    Reach::SshOnly(reason)
}

macro_rules! operations {
    ($($operation:ident => $reach:expr),* $(,)?) => {
        /// All operations; the definitions that their schemas refer to are left in the generator.
        pub fn all(generator: &mut SchemaGenerator) -> Vec<Description> {
            vec![$(Description::of::<super::$operation>(generator, Reach::from($reach))),*]
        }

        /// Names of their types.
        #[cfg(test)]
        const LISTED: &[&str] = &[$(stringify!($operation)),*];
    };
}

operations!(
    CreateApp => Endpoint::post(&["/apps"]).creates(),
    ListApps => Endpoint::get(&["/apps"]).pages(Pages::By("name")),
    ShowApp => Endpoint::get(&["/apps/{app}"]),
    AppExists => ssh_only("the status of GET /v1/apps/{app} tells it"),
    DestroyApp => Endpoint::delete(&["/apps/{app}"]).long(),
    ShowUrls => Endpoint::get(&["/apps/{app}/urls"]),
    LinkApps => Endpoint::put(&["/apps/{app}/links/{to}"]).no_body(),
    UnlinkApps => Endpoint::delete(&["/apps/{app}/links/{to}"]),
    ListLinks => Endpoint::get(&["/apps/{app}/links"]),
    ShowFormation => Endpoint::get(&["/apps/{app}/formation"]),
    Scale => Endpoint::patch(&["/apps/{app}/formation"]).body("quantities").long(),
    SetProcesses => Endpoint::patch(&["/apps/{app}/processes"]),
    ListInstances => Endpoint::get(&["/instances", "/apps/{app}/instances"]),
    LimitResources => Endpoint::patch(&["/apps/{app}/limits"]).long(),
    ReserveResources => Endpoint::patch(&["/apps/{app}/reserves"]).long(),
    ClearLimits => Endpoint::post(&["/apps/{app}/limits/clear"]).long(),
    ClearReserves => Endpoint::post(&["/apps/{app}/reserves/clear"]).long(),
    ReportResources => Endpoint::get(&["/resources", "/apps/{app}/resources"]),
    ListSizes => Endpoint::get(&["/sizes"]),
    ReportChecks => Endpoint::get(&["/checks", "/apps/{app}/checks"]),
    SetChecks => Endpoint::patch(&["/apps/{app}/checks"]),
    EnableChecks => Endpoint::post(&["/apps/{app}/checks/enable"]),
    SkipChecks => Endpoint::post(&["/apps/{app}/checks/skip"]),
    DisableChecks => Endpoint::post(&["/apps/{app}/checks/disable"]),
    RunChecks => Endpoint::post(&["/apps/{app}/checks/run"]).long(),
    RunTask => ssh_only("it is connected to the standard streams of the caller; POST /v1/apps/{app}/runs runs a command without them"),
    RunDetached => Endpoint::post(&["/apps/{app}/runs"]).creates(),
    ListTasks => Endpoint::get(&["/apps/{app}/tasks", "/apps/{app}/runs"]),
    ShowTaskOutput => Endpoint::get(&["/apps/{app}/tasks/{task}/logs"]),
    StopTask => Endpoint::post(&["/apps/{app}/tasks/{task}/stop"]).no_body(),
    EnterInstance => ssh_only("it is connected to the terminal of the caller"),
    ListJobs => Endpoint::get(&["/apps/{app}/cron"]),
    ReportJobs => Endpoint::get(&["/cron"]),
    RunJob => Endpoint::post(&["/apps/{app}/cron/{job}/runs"]).long(),
    SuspendJob => Endpoint::put(&["/apps/{app}/cron/{job}/suspension"]).no_body(),
    ResumeJob => Endpoint::delete(&["/apps/{app}/cron/{job}/suspension"]),
    ShowJobOutput => Endpoint::get(&["/apps/{app}/cron/{job}/logs"]),
    ListPeriodic => Endpoint::get(&["/periodic"]),
    ReportDisk => Endpoint::get(&["/disk", "/apps/{app}/disk"]),
    CollectGarbage => Endpoint::post(&["/gc"]).long(),
    Restart => Endpoint::post(&["/apps/{app}/restart", "/restart"]).long(),
    Rebuild => Endpoint::post(&["/apps/{app}/rebuild", "/rebuild"]).long(),
    Stop => Endpoint::post(&["/apps/{app}/stop", "/stop"]).long(),
    Start => Endpoint::post(&["/apps/{app}/start", "/start"]).long(),
    WhoAmI => Endpoint::get(&["/account"]),
    ShowVersion => Endpoint::get(&["/version"]),
    ShowQuota => Endpoint::get(&["/quota", "/users/{user}/quota"]),
    SetQuota => Endpoint::patch(&["/users/{user}/quota"]).body("limits"),
    CreateToken => Endpoint::post(&["/tokens"]).creates(),
    ListTokens => Endpoint::get(&["/tokens"]),
    RevokeToken => Endpoint::delete(&["/tokens/{name}"]),
    AddUser => Endpoint::post(&["/users"]).creates(),
    ListUsers => Endpoint::get(&["/users"]).pages(Pages::By("name")),
    SetUser => Endpoint::patch(&["/users/{user}"]),
    RemoveUser => Endpoint::delete(&["/users/{user}"]),
    ListMembers => Endpoint::get(&["/apps/{app}/members"]),
    AddMember => Endpoint::put(&["/apps/{app}/members/{user}"]),
    RemoveMember => Endpoint::delete(&["/apps/{app}/members/{user}"]),
    TransferApp => Endpoint::put(&["/apps/{app}/owner"]),
    AddKey => Endpoint::post(&["/keys"]).creates(),
    ListKeys => Endpoint::get(&["/keys"]),
    RemoveKey => Endpoint::delete(&["/keys/{name}"]),
    ShowEvents => Endpoint::get(&["/events", "/apps/{app}/events"]),
    SwitchEventsOn => Endpoint::put(&["/events/recording"]).no_body(),
    SwitchEventsOff => Endpoint::delete(&["/events/recording"]),
    ShowAppStack => Endpoint::get(&["/apps/{app}/stack"]),
    ChooseStack => Endpoint::put(&["/apps/{app}/stack"]),
    RebaseApps => Endpoint::post(&["/apps/{app}/rebase", "/rebase"]).long(),
    ListStacks => Endpoint::get(&["/stacks"]),
    CreateStack => Endpoint::post(&["/stacks"]).long(),
    UpdateStack => Endpoint::post(&["/stacks/{name}/update"]).no_body().long(),
    RemoveStack => Endpoint::delete(&["/stacks/{name}"]),
    ReportStacks => Endpoint::get(&["/stacks/{name}"]),
    ListReleases => Endpoint::get(&["/apps/{app}/releases"]).pages(Pages::Before("release")),
    RollBack => Endpoint::post(&["/apps/{app}/releases"]).long(),
    ListBuildpacks => Endpoint::get(&["/apps/{app}/buildpacks"]),
    AddBuildpack => Endpoint::post(&["/apps/{app}/buildpacks"]),
    SetBuildpack => Endpoint::put(&["/apps/{app}/buildpacks"]),
    RemoveBuildpack => Endpoint::delete(&["/apps/{app}/buildpacks"]),
    ClearBuildpacks => Endpoint::post(&["/apps/{app}/buildpacks/clear"]).no_body(),
    ReportBuildpacks => Endpoint::get(&["/apps/{app}/buildpacks/report"]),
    ListInstalledBuildpacks => Endpoint::get(&["/buildpacks"]),
    InstallBuildpacks => Endpoint::post(&["/buildpacks"]).file_or_fields().long(),
    UninstallBuildpacks => Endpoint::delete(&["/buildpacks"]),
    SetConfig => Endpoint::patch(&["/apps/{app}/config-vars"]).body("vars").long(),
    UnsetConfig => Endpoint::delete(&["/apps/{app}/config-vars"]).long(),
    GetConfig => Endpoint::get(&["/apps/{app}/config-vars/{name}"]),
    ListConfig => Endpoint::get(&["/apps/{app}/config-vars"]),
    ListConfigKeys => Endpoint::get(&["/apps/{app}/config-var-names"]),
    AddBinding => Endpoint::post(&["/apps/{app}/bindings"]).long(),
    RemoveBindings => Endpoint::delete(&["/apps/{app}/bindings"]).long(),
    ListBindings => Endpoint::get(&["/apps/{app}/bindings"]),
    ReportBindings => Endpoint::get(&["/apps/{app}/bindings/report"]),
    ShowLogs => Endpoint::get(&["/apps/{app}/logs"]),
    ListPorts => Endpoint::get(&["/apps/{app}/ports"]),
    SetPorts => Endpoint::put(&["/apps/{app}/ports"]).body("ports"),
    AddPorts => Endpoint::post(&["/apps/{app}/ports"]).body("ports"),
    RemovePorts => Endpoint::post(&["/apps/{app}/ports/remove"]).body("ports"),
    ClearPorts => Endpoint::post(&["/apps/{app}/ports/clear"]).no_body(),
    AllowNetwork => Endpoint::post(&["/apps/{app}/network/allow"]),
    DenyNetwork => Endpoint::post(&["/apps/{app}/network/deny"]),
    ReportNetwork => Endpoint::get(&["/apps/{app}/network"]),
    SetGit => Endpoint::patch(&["/apps/{app}/git"]),
    ShowGit => Endpoint::get(&["/apps/{app}/git"]),
    DeployArchive => Endpoint::post(&["/apps/{app}/builds"]).file_or_fields().long(),
    DeployImage => Endpoint::post(&["/apps/{app}/builds/image"]).long(),
    SyncRepository => Endpoint::post(&["/apps/{app}/builds/sync"]).long(),
    AddWebhook => Endpoint::post(&["/apps/{app}/webhooks"]).creates(),
    ListWebhooks => Endpoint::get(&["/apps/{app}/webhooks"]),
    RemoveWebhook => Endpoint::delete(&["/apps/{app}/webhooks/{id}"]),
    ListBuilds => Endpoint::get(&["/apps/{app}/builds"]).pages(Pages::Before("number")),
    ShowBuildLog => Endpoint::get(&["/apps/{app}/builds/{number}/log"]),
    ShowBuild => Endpoint::get(&["/apps/{app}/builds/{number}"]),
    SetBuilds => Endpoint::patch(&["/apps/{app}/build-settings"]),
    CancelBuild => Endpoint::delete(&["/apps/{app}/builds/current"]).long(),
    ClearBuildCache => Endpoint::delete(&["/apps/{app}/build-cache"]).long(),
    LogIn => Endpoint::post(&["/registry-logins"]).creates(),
    LogOut => Endpoint::delete(&["/registry-logins/{host}"]),
    ListLogins => Endpoint::get(&["/registry-logins"]),
    OfferImage => Endpoint::post(&["/images"]).file_or_fields().long(),
    ListOfferedImages => Endpoint::get(&["/images"]),
    WithdrawImage => Endpoint::delete(&["/images"]),
    CreateVolume => Endpoint::post(&["/apps/{app}/volumes"]).creates(),
    MountVolume => Endpoint::post(&["/apps/{app}/mounts"]).long(),
    UnmountVolume => Endpoint::delete(&["/apps/{app}/mounts"]).long(),
    ListMounts => Endpoint::get(&["/apps/{app}/mounts"]),
    ReportVolumes => Endpoint::get(&["/volumes", "/apps/{app}/volumes"]),
    ResizeVolume => Endpoint::patch(&["/apps/{app}/volumes/{name}"]),
    ExportVolume => Endpoint::get(&["/apps/{app}/volumes/{name}/archive"]).sends_file(),
    ImportVolume => Endpoint::put(&["/apps/{app}/volumes/{name}/archive"]).file(),
    DestroyVolume => Endpoint::delete(&["/apps/{app}/volumes/{name}"]),
);

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, fmt::Write as _, path::Path};

    use schemars::generate::SchemaSettings;
    use serde_json::{Value, json};

    use super::*;
    use crate::{
        model::{AppName, Line, Role, UserName},
        operations::{
            Caller, Failure,
            authorization::Authorization,
            pushes::{GIT, GIT_RIGHT},
        },
        properties::matches_snapshot,
        store::Store,
    };

    /// Names of the types in a folder's files that are operations.
    fn implemented(folder: &Path) -> Vec<String> {
        let mut found = Vec::new();
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                found.extend(implemented(&path));
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap();
            let names = text.lines().filter_map(|line| line.strip_prefix("impl Operation for "));
            found.extend(names.map(|name| name.trim_end_matches(" {").to_owned()));
        }
        found
    }

    #[test]
    fn every_operation_is_listed() {
        let mut implemented = implemented(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src/operations"));
        let mut listed = LISTED.to_vec();
        implemented.sort_unstable();
        listed.sort_unstable();
        assert_eq!(implemented, listed);
    }

    #[test]
    fn the_committed_schemas_are_those_of_the_operations() {
        let mut generator = SchemaSettings::draft2020_12().into_generator();
        let mut operations = serde_json::Map::new();
        for operation in all(&mut generator) {
            let Description { name, right, effect, scope, input, output, .. } = operation;
            let described = json!({
                "right": right, "effect": effect, "scope": scope, "input": input, "output": output,
            });
            assert!(operations.insert(name.to_owned(), described).is_none(), "two operations are named {name}");
        }
        operations.sort_keys();
        let (progress, failure) = (generator.subschema_for::<Line>(), generator.subschema_for::<Failure>());
        let definitions: BTreeMap<_, Value> = generator.take_definitions(true).into_iter().collect();
        let document = json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "$comment": "Inputs and results of all operations, lines of progress, and failures; generated from the registry.",
            "operations": operations,
            "progress": progress,
            "failure": {
                "type": "object", "properties": { "error": failure }, "required": ["error"], "additionalProperties": false,
            },
            "$defs": definitions,
        });
        let text = serde_json::to_string_pretty(&document).unwrap() + "\n";
        matches_snapshot("docs/schemas.json", &text);
    }

    #[test]
    fn an_input_with_an_unknown_field_is_refused() {
        let mut generator = SchemaSettings::draft2020_12().into_generator();
        let names: Vec<_> =
            all(&mut generator).into_iter().map(|operation| (operation.name, operation.input)).collect();
        let definitions = generator.take_definitions(true);
        for (name, input) in names {
            assert_closed(name, input.as_value(), &definitions);
        }
    }

    /// Fails if an object of a schema may have unknown fields, also below other schemas.
    fn assert_closed(name: &str, schema: &Value, definitions: &serde_json::Map<String, Value>) {
        match schema {
            Value::Object(object) => {
                if let Some(reference) = object.get("$ref").and_then(Value::as_str) {
                    assert_closed(name, &definitions[reference.rsplit('/').next().unwrap()], definitions);
                }
                // Without a type, it only adds to another schema.
                if object.contains_key("properties") && object.contains_key("type") {
                    assert_eq!(object.get("additionalProperties"), Some(&json!(false)), "{name}: {schema}");
                }
                object.values().for_each(|inner| assert_closed(name, inner, definitions));
            }
            Value::Array(all) => all.iter().for_each(|inner| assert_closed(name, inner, definitions)),
            _ => {}
        }
    }

    /// A store with an app and a user for each role in it, and one who has none.
    async fn members(store: &Store) -> (AppName, Vec<(&'static str, Caller)>) {
        let app: AppName = "app".parse().unwrap();
        let owner: UserName = "owner".parse().unwrap();
        let owner = store.add_user(owner, false).await.unwrap().id;
        let id = store.create_app(app.clone(), Some(owner), 10_000..=10_001, vec![]).await.unwrap().id;
        let mut callers = vec![("user", Caller::registered(store, "stranger", false, None).await)];
        for role in Role::ALL {
            let membership = (role != Role::Owner).then_some((id, role));
            callers.push((role.as_str(), Caller::registered(store, role.as_str(), false, membership).await));
        }
        callers.push(("admin", Caller::registered(store, "admin", true, None).await));
        (app, callers)
    }

    /// Who may run which operation, as the only place that decides it says.
    #[tokio::test]
    async fn the_committed_table_of_rights_is_that_of_the_operations() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let (app, callers) = members(&store).await;
        let mut text = "# Operations and rights\n\n\
            Who may run what. A unit test asks the server's own authorisation for each role and compares.\n\n\
            - `git:push` and `git:fetch` are git's two programs. The first push to a new name runs `apps:create`.\n\
            - An admin alone maps ports outside of `first_port` to `last_port` of `[router]` (`ports:set`, `ports:add`), mounts folders of the machine (`storage:mount`) and chooses buildpacks by a path of the \
            server (`buildpacks:set`, `buildpacks:add`). A machine user runs no `apps:create`.\n\
            - What is about an app or the server is shown for an app; an admin alone may do it for the server.\n\
            - Commands that are recorded under another name: `ps:scale APP` is `ps:formation`, `apps:stack APP` is \
            `apps:show-stack`, `config:export` is `config:list`, `config:import` is `config:set`.\n\n\
            | operation | effect | on | user | viewer | deployer | operator | owner | admin |\n\
            | --- | --- | --- | --- | --- | --- | --- | --- | --- |\n"
            .to_owned();
        let operations = all(&mut SchemaSettings::draft2020_12().into_generator());
        let operations = operations.into_iter().map(|it| (it.name, it.right, it.effect, it.scope));
        let mut rows: Vec<_> =
            operations.chain(GIT.map(|(name, effect)| (name, GIT_RIGHT, effect, Scope::App))).collect();
        rows.sort_by_key(|row| row.0);
        for (name, right, effect, scope) in rows {
            let on = json!(scope);
            let _ = write!(text, "| `{name}` | {} | {} |", effect.as_str(), on.as_str().unwrap());
            for (_, caller) in &callers {
                let authorization = Authorization { store: &store, caller, operation: name };
                let allowed = match scope {
                    Scope::Server => authorization.server(right).is_ok(),
                    Scope::App | Scope::Apps | Scope::AppOrServer => {
                        authorization.app(app.clone(), right).await.is_ok()
                    }
                };
                text.push_str(if allowed { " yes |" } else { " |" });
            }
            text.push('\n');
        }
        matches_snapshot("docs/operations.md", &text);
    }
}
