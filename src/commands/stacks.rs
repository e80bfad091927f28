//! The commands `stacks:…`, `apps:stack` and `apps:rebase`.

use clap::Subcommand;

use super::{
    output::Text,
    session::Session,
    table::{or_hyphen, table},
};
use crate::{
    model::{AppName, Line, StackName},
    operations::{
        AppStack, ChooseStack, ChosenStack, CreateStack, CreatedStack, Failure, ListStacks, RebaseApps, RebasedApp,
        RemoveStack, RemovedStack, ReportStacks, Result, ShowAppStack, StackOrigin, StackReport, StackRow, UpdateStack,
        UpdatedStack,
    },
    store::{ImageReferences, StackSource},
};

/// The commands of stacks, and of the apps on them.
#[derive(Debug, Subcommand)]
pub(super) enum StacksCommand {
    /// Choose the stack that an app is built in and runs on; without a name, show it.
    #[command(name = "apps:stack", after_help = "Example: apps:stack my-app debian-13")]
    AppsStack {
        /// App.
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
    AppsRebase(RebaseApps),
    /// List the stacks of the server.
    #[command(name = "stacks:list", alias = "stacks", after_help = "Example: stacks:list")]
    List(ListStacks),
    /// Create a stack from two images, or from a definition (TOML) on standard input (admins only).
    #[command(
        name = "stacks:create",
        after_help = "Examples: stacks:create noble --run-image registry/run:noble --build-image registry/build:noble\n          stacks:create slim < slim.toml"
    )]
    Create {
        /// Name of the new stack.
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
    Update(UpdateStack),
    /// Remove a stack that no app has chosen (admins only).
    #[command(name = "stacks:remove", after_help = "Example: stacks:remove noble")]
    Remove(RemoveStack),
    /// Show each app's stack revision; for one stack, also what its newest revision changed.
    #[command(name = "stacks:report", after_help = "Example: stacks:report debian-13")]
    Report(ReportStacks),
}

/// Maximum size of a definition, in bytes.
const MAX_DEFINITION_BYTES: u64 = 256 * 1024;

pub(super) async fn run(session: &Session<'_>, command: StacksCommand) -> Result {
    use StacksCommand as C;
    match command {
        C::AppsStack { app, stack: None, default: false } => session.answer(ShowAppStack { app }).await,
        C::AppsStack { app, stack, .. } => session.answer(ChooseStack { app, stack }).await,
        C::AppsRebase(rebase) => session.answer(rebase).await,
        C::List(list) => session.answer(list).await,
        C::Create { name, run_image, build_image } => {
            let source = source(session, run_image, build_image).await?;
            session.answer(CreateStack { name, source }).await
        }
        C::Update(update) => session.answer(update).await,
        C::Remove(remove) => session.answer(remove).await,
        C::Report(report) => session.answer(report).await,
    }
}

/// The images of a new stack, or the definition on standard input.
async fn source(session: &Session<'_>, run: Option<String>, build: Option<String>) -> Result<StackSource> {
    match (run, build) {
        (Some(run), Some(build)) => Ok(StackSource::Images(ImageReferences { run, build })),
        (None, None) => {
            session.check::<CreateStack>(()).await?;
            let step = "Reading the stack's definition (TOML) from standard input";
            session.out.progress(Line::Step(step.to_owned())).await;
            session.read_input(MAX_DEFINITION_BYTES).await.map(StackSource::Packages)
        }
        (Some(_), None) | (None, Some(_)) => Err(Failure::invalid(
            "one of the two images is missing; give both --run-image and --build-image, or neither",
        )),
    }
}

impl Text for AppStack {
    fn text(&self) -> String {
        format!("{}\n", self.stack)
    }
}

impl Text for ChosenStack {
    fn text(&self) -> String {
        let Self(AppStack { app, stack, .. }) = self;
        format!("       {app} is built in {stack} from the next push on; ps:rebuild {app} builds it now\n")
    }
}

impl Text for Vec<RebasedApp> {}

impl Text for Vec<StackRow> {
    fn text(&self) -> String {
        let rows = self.iter().map(|stack| {
            [
                if stack.default { format!("{} (default)", stack.name) } else { stack.name.clone() },
                or_hyphen(stack.revision),
                or_hyphen(stack.distribution.as_ref()),
                or_hyphen(stack.distribution.as_ref().map(|distribution| distribution.packages)),
                or_hyphen(stack.created_at),
                match &stack.source {
                    StackOrigin::Packages => "packages".to_owned(),
                    StackOrigin::Images(ImageReferences { run, build }) => format!("{run}, {build}"),
                },
            ]
        });
        table(["NAME", "REVISION", "DISTRIBUTION", "PACKAGES", "MADE", "FROM"], rows)
    }
}

impl Text for CreatedStack {
    fn text(&self) -> String {
        let Self { name, distribution, .. } = self;
        format!("       {name} is created: {distribution}, {} packages\n", distribution.packages)
    }
}

impl Text for UpdatedStack {
    fn text(&self) -> String {
        let Self { name, revision, updated, changes } = self;
        if !updated {
            return format!("       {name} is up to date: nothing changed\n");
        }
        let mut text = format!("-----> {name} is now at revision {revision}\n");
        text.extend(changes.iter().map(|change| format!("       {change}\n")));
        text.push_str("       apps:rebase --all rebases the apps onto it\n");
        text
    }
}

impl Text for RemovedStack {
    fn text(&self) -> String {
        format!("       {} is removed; apps that run on it keep their images\n", self.name)
    }
}

impl Text for StackReport {
    fn text(&self) -> String {
        let rows = self.apps.iter().map(|row| {
            [
                row.app.to_string(),
                row.stack.clone(),
                or_hyphen(row.on.as_ref().map(|on| format!("{} {}", on.stack, on.revision))),
                or_hyphen(row.newest),
                row.state.as_str().to_owned(),
            ]
        });
        let mut text = table(["APP", "STACK", "REVISION", "NEWEST", "STATE"], rows);
        if let (Some(stack), false) = (&self.stack, self.changes.is_empty()) {
            text.extend(["-----> Changed in the newest revision of ", stack.as_str(), "\n"]);
            text.extend(self.changes.iter().map(|change| format!("       {change}\n")));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::PackageChange,
        operations::{AppStackRow, AppStackState, RevisionOfStack},
    };

    #[test]
    fn the_report_of_a_stack_ends_with_what_its_newest_revision_changed() {
        let app = AppStackRow {
            app: "a".parse().unwrap(),
            stack: "mine".into(),
            on: Some(RevisionOfStack { stack: "mine".into(), revision: 1 }),
            newest: Some(2),
            state: AppStackState::Behind,
        };
        let change = PackageChange { package: "tzdata".into(), from: Some("1".into()), to: Some("2".into()) };
        let report = StackReport { stack: Some("mine".parse().unwrap()), apps: vec![app], changes: vec![change] };
        let expected = "APP  STACK  REVISION  NEWEST  STATE\na    mine   mine 1    2       behind\n\
                        -----> Changed in the newest revision of mine\n       tzdata 1 -> 2\n";
        assert_eq!(report.text(), expected);
    }
}
