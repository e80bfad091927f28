//! The commands `stacks:…`, `apps:stack` and `apps:rebase`.

use clap::Subcommand;

use super::{
    context::Context,
    error::{CommandError, Result},
    output::{Format, Row, time},
    session::Session,
};
use crate::{
    deploy::{Rebased, StackStatus},
    images::StackDefinition,
    model::{AppName, StackName},
    store::StackSource,
};

/// The commands of stacks, and of the apps on them.
#[derive(Debug, Subcommand)]
pub(super) enum StacksCommand {
    /// Choose the stack that an app is built in and runs on; without a name, show it.
    #[command(name = "apps:stack", after_help = "Example: apps:stack my-app debian-13")]
    AppsStack {
        app: AppName,
        /// Name of the stack, as stacks:list shows it.
        stack: Option<StackName>,
        /// Use the server's default stack again.
        #[arg(long, conflicts_with = "stack")]
        default: bool,
    },
    /// Rebase apps onto the newest revision of their stack, without a build.
    #[command(
        name = "apps:rebase",
        after_help = "Examples: apps:rebase my-app\n          apps:rebase --all --stack debian-13"
    )]
    AppsRebase {
        app: Option<AppName>,
        /// All apps that are not on the newest revision.
        #[arg(long)]
        all: bool,
        /// Only apps on this stack.
        #[arg(long, requires = "all")]
        stack: Option<StackName>,
    },
    /// List the stacks of the server.
    #[command(name = "stacks:list", alias = "stacks", after_help = "Example: stacks:list")]
    List {
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Create a stack from two images, or from a definition (TOML) on standard input (admins only).
    #[command(
        name = "stacks:create",
        after_help = "Examples: stacks:create noble --run-image registry/run:noble --build-image registry/build:noble\n          stacks:create slim < slim.toml"
    )]
    Create {
        name: StackName,
        /// The image that apps run on.
        #[arg(long, value_name = "IMAGE")]
        run_image: Option<String>,
        /// The image that apps are built in.
        #[arg(long, value_name = "IMAGE")]
        build_image: Option<String>,
    },
    /// Update a stack to the newest packages or images (admins only).
    #[command(name = "stacks:update", after_help = "Example: stacks:update debian-13")]
    Update { name: StackName },
    /// Remove a stack that no app has chosen (admins only).
    #[command(name = "stacks:remove", after_help = "Example: stacks:remove noble")]
    Remove { name: StackName },
    /// Show each app's stack revision; for one stack, also what its newest revision changed.
    #[command(name = "stacks:report", after_help = "Example: stacks:report debian-13")]
    Report {
        name: Option<StackName>,
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
}

pub(super) async fn run(context: &Context, session: &mut Session<'_>, command: StacksCommand) -> Result {
    use StacksCommand as C;
    match command {
        C::AppsStack { app, stack, default } => choose(context, session, app, stack, default).await,
        C::AppsRebase { app, all, stack } => rebase(context, session, app, all, stack).await,
        C::List { format } => list(context, session, format).await,
        C::Create { name, run_image, build_image } => create(context, session, name, run_image, build_image).await,
        C::Update { name } => update(context, session, name).await,
        C::Remove { name } => remove(context, session, name).await,
        C::Report { name, format } => report(context, session, name, format).await,
    }
}

/// Maximum size of a definition, in bytes.
const MAX_DEFINITION_BYTES: u64 = 256 * 1024;

#[derive(serde::Serialize)]
struct StackRow {
    name: String,
    revision: Option<u64>,
    distribution: String,
    packages: usize,
    made_at: String,
    from: String,
    default: bool,
}

impl Row for StackRow {
    const HEADER: &'static [&'static str] = &["NAME", "REVISION", "DISTRIBUTION", "PACKAGES", "MADE", "FROM"];

    fn cells(&self) -> Vec<String> {
        let name = if self.default { format!("{} (default)", self.name) } else { self.name.clone() };
        let revision = self.revision.map_or_else(|| "-".to_owned(), |number| number.to_string());
        let (distribution, from) = (self.distribution.clone(), self.from.clone());
        vec![name, revision, distribution, self.packages.to_string(), self.made_at.clone(), from]
    }
}

async fn list(context: &Context, session: &Session<'_>, format: Format) -> Result {
    let revisions = context.store.stack_revisions(None).await?;
    let rows: Vec<_> = context
        .store
        .stacks()
        .await?
        .into_iter()
        .map(|(name, source)| {
            let newest = revisions.iter().find(|revision| revision.stack == name);
            StackRow {
                default: name == context.deployer.stacks().default_name(),
                revision: newest.map(|newest| newest.number),
                distribution: newest.map_or_else(String::new, |newest| {
                    format!("{} {}", newest.distribution.name, newest.distribution.version)
                }),
                packages: newest.map_or(0, |newest| newest.distribution.packages.len()),
                made_at: newest.map_or_else(String::new, |newest| time(newest.created_at)),
                from: match source {
                    StackSource::Packages(_) => "packages".to_owned(),
                    StackSource::Images { run, build } => format!("{run}, {build}"),
                },
                name,
            }
        })
        .collect();
    session.out.table(&rows, format).await;
    Ok(())
}

async fn create(
    context: &Context,
    session: &mut Session<'_>,
    name: StackName,
    run: Option<String>,
    build: Option<String>,
) -> Result {
    session.only_admin()?;
    let source = match (run, build) {
        (Some(run), Some(build)) => StackSource::Images { run, build },
        (None, None) => {
            session.progress.step("Reading the stack's definition (TOML) from standard input").await;
            let text = session.read_input(MAX_DEFINITION_BYTES).await?;
            let definition = StackDefinition::parse(&text).map_err(|e| CommandError::Refused(e.to_string()))?;
            if definition.id != name.as_str() {
                let text = format!("the definition's id is {:?}, not {:?}", definition.id, name.as_str());
                return Err(CommandError::Refused(text));
            }
            StackSource::Packages(text)
        }
        _ => return Err(CommandError::Refused("give both --run-image and --build-image, or neither".to_owned())),
    };
    let made = context.deployer.stacks().create(name.as_str(), source, &session.progress).await?;
    let (distribution, packages) = (&made.distribution, made.distribution.packages.len());
    let text = format!("{name} is created: {} {}, {packages} packages", distribution.name, distribution.version);
    session.progress.detail(text).await;
    Ok(())
}

async fn update(context: &Context, session: &Session<'_>, name: StackName) -> Result {
    session.only_admin()?;
    let (before, now) = context.deployer.stacks().update(name.as_str(), &session.progress).await?;
    if before.number == now.number {
        session.progress.detail(format!("{name} is up to date: nothing changed")).await;
        return Ok(());
    }
    session.progress.step(format!("{name} is now at revision {}", now.number)).await;
    for change in before.distribution.changes(&now.distribution) {
        session.progress.detail(change.to_string()).await;
    }
    session.progress.detail("apps:rebase --all rebases the apps onto it".to_owned()).await;
    Ok(())
}

async fn remove(context: &Context, session: &Session<'_>, name: StackName) -> Result {
    session.only_admin()?;
    if name.as_str() == context.deployer.stacks().default_name() {
        let text = format!("{name} is the default stack (stack.default in paas.toml) and cannot be removed");
        return Err(CommandError::Refused(text));
    }
    require_stack(context, &name).await?;
    if !context.store.remove_stack(name.to_string()).await? {
        let text = format!("an app has chosen {name}; stacks:report {name} shows which");
        return Err(CommandError::Refused(text));
    }
    session.out.line(&format!("       {name} is removed; apps that run on it keep their images")).await;
    Ok(())
}

/// Refuses a stack that does not exist.
async fn require_stack(context: &Context, name: &StackName) -> Result {
    if context.store.stack_revisions(Some(name.to_string())).await?.is_empty() {
        return Err(CommandError::Refused(format!("there is no stack {name}; stacks:list lists them")));
    }
    Ok(())
}

#[derive(serde::Serialize)]
struct AppStackRow {
    app: String,
    stack: String,
    on: Option<String>,
    newest: Option<u64>,
    behind: bool,
}

impl From<&StackStatus> for AppStackRow {
    fn from(status: &StackStatus) -> Self {
        Self {
            app: status.app.name.to_string(),
            stack: status.stack.clone(),
            on: status.on.as_ref().map(|(stack, number)| format!("{stack} {number}")),
            newest: status.newest,
            behind: status.is_behind,
        }
    }
}

impl Row for AppStackRow {
    const HEADER: &'static [&'static str] = &["APP", "STACK", "REVISION", "NEWEST", "STATE"];

    fn cells(&self) -> Vec<String> {
        let state = match (&self.on, self.behind) {
            (_, true) => "behind",
            (None, false) => "no stack",
            (Some(_), false) => "up to date",
        };
        let newest = self.newest.map_or_else(|| "-".to_owned(), |number| number.to_string());
        let on = self.on.clone().unwrap_or_else(|| "-".to_owned());
        vec![self.app.clone(), self.stack.clone(), on, newest, state.to_owned()]
    }
}

async fn report(context: &Context, session: &Session<'_>, name: Option<StackName>, format: Format) -> Result {
    if let Some(name) = &name {
        require_stack(context, name).await?;
    }
    let apps = context.apps(session).await?;
    let mut statuses = context.deployer.stacks().statuses(apps).await?;
    if let Some(name) = &name {
        statuses.retain(|status| status.stack == name.as_str());
    }
    let rows: Vec<_> = statuses.iter().map(AppStackRow::from).collect();
    session.out.table(&rows, format).await;
    let Some(name) = name.filter(|_| format == Format::Text) else { return Ok(()) };
    let changes = context.deployer.stacks().changes(name.as_str()).await?;
    if !changes.is_empty() {
        session.out.line(&format!("-----> Changed in the newest revision of {name}")).await;
    }
    for change in changes {
        session.out.line(&format!("       {change}")).await;
    }
    Ok(())
}

/// Chooses the stack of an app, or shows it.
async fn choose(
    context: &Context,
    session: &Session<'_>,
    app: AppName,
    name: Option<StackName>,
    default: bool,
) -> Result {
    let app = context.app(session, app).await?;
    if name.is_none() && !default {
        session.out.line(context.deployer.stacks().name_for(&app)).await;
        return Ok(());
    }
    if let Some(name) = &name {
        require_stack(context, name).await?;
    }
    let stack = name.map(|name| name.to_string());
    if !context.store.set_app_stack(app.id, stack.clone()).await? {
        return Err(CommandError::Refused("the stack has just been removed; stacks:list lists the others".to_owned()));
    }
    let stack = stack.unwrap_or_else(|| context.deployer.stacks().default_name().to_owned());
    session
        .out
        .line(&format!(
            "       {} is built in {stack} from the next push on; ps:rebuild {} builds it now",
            app.name, app.name
        ))
        .await;
    Ok(())
}

async fn rebase(
    context: &Context,
    session: &Session<'_>,
    app: Option<AppName>,
    all: bool,
    stack: Option<StackName>,
) -> Result {
    let by = &session.caller.name;
    match (app, all) {
        (Some(app), false) => {
            let app = context.app(session, app).await?;
            let rebased = context.deployer.rebase(&app, by, &session.progress, &session.hangup).await?;
            if rebased == Rebased::Nothing {
                let why = if app.current.is_some() {
                    "is already on the newest revision of its stack"
                } else {
                    "has no release yet"
                };
                session.progress.detail(format!("{} {why}", app.name)).await;
            }
            Ok(())
        }
        (None, true) => {
            if let Some(stack) = &stack {
                require_stack(context, stack).await?;
            }
            let statuses = context.deployer.stacks().statuses(context.apps(session).await?).await?;
            let behind = statuses.into_iter().filter(|status| status.is_behind);
            let wanted = behind.filter(|s| stack.as_ref().is_none_or(|stack| s.stack == stack.as_str()));
            let apps: Vec<_> = wanted.map(|status| status.app).collect();
            session.progress.step(format!("Rebasing {} apps", apps.len())).await;
            let results = context.deployer.rebase_all(apps, by, &session.progress, &session.hangup).await;
            let count = |wanted: fn(&Option<Result<Rebased, crate::deploy::DeployError>>) -> bool| {
                results.iter().filter(|(_, result)| wanted(result)).count()
            };
            let (failed, not_started) = (count(|result| matches!(result, Some(Err(_)))), count(Option::is_none));
            if failed > 0 {
                let text = format!(
                    "{failed} apps failed and keep their current release, {not_started} were not started; fix the failed \
                     apps and run the command again"
                );
                return Err(CommandError::Refused(text));
            }
            Ok(())
        }
        _ => Err(CommandError::Refused("give the name of one app, or --all".to_owned())),
    }
}
