//! The commands `registry:…`: logins at image registries.

use clap::Subcommand;

use super::{
    output::{Format, Text},
    session::Session,
    table::{or_hyphen, table},
};
use crate::{
    model::{AppName, Line, RegistryHost, Secret},
    operations::{Failure, ListLogins, LogIn, LogOut, LoggedOut, RegistryLoginInfo, Result},
};

/// The commands of logins at image registries.
#[derive(Debug, Subcommand)]
pub(super) enum RegistryCommand {
    /// Set the login with which builds pull base images from a registry; the password is read from standard input.
    #[command(
        name = "registry:login",
        after_help = "Examples: registry:login ghcr.io --username my-name --app my-app < token.txt\n          registry:login ghcr.io --username company < token.txt\nWithout --app, the builds of all apps use it that have no login of their own at this registry (admins only).\nWith a terminal (ssh -t), the password is asked for."
    )]
    Login {
        /// Registry, such as ghcr.io; docker.io for Docker Hub.
        host: RegistryHost,
        /// Name of the user at the registry.
        #[arg(value_name = "USERNAME", required_unless_present = "username")]
        user: Option<String>,
        /// The same.
        #[arg(long, short, value_name = "USERNAME")]
        username: Option<String>,
        /// App; without it, the server (admins only).
        #[arg(long)]
        app: Option<AppName>,
        /// Has no effect: the password is always read from standard input.
        #[arg(long)]
        password_stdin: bool,
        /// A password, as Dokku takes it; it is refused, because lists of processes show it.
        #[arg(hide = true)]
        words: Vec<String>,
        /// A password, as Docker takes it; it is refused, too.
        #[arg(hide = true, long = "password", short = 'p')]
        option: Option<String>,
    },
    /// Remove the login at a registry.
    #[command(
        name = "registry:logout",
        after_help = "Examples: registry:logout ghcr.io --app my-app\n          registry:logout ghcr.io"
    )]
    Logout(LogOut),
    /// List the logins at registries that builds of an app use, or those of the server; never passwords.
    #[command(name = "registry:list", aliases = ["registry", "registry:report"], after_help = "Example: registry:list --app my-app")]
    List(ListLogins),
}

/// Maximum size of a password on standard input, in bytes.
const MAX_INPUT_BYTES: u64 = 64 * 1024;

pub(super) async fn run(session: &Session<'_>, command: RegistryCommand) -> Result {
    use RegistryCommand as C;
    match command {
        C::Login { user, username, words, option, .. }
            if !words.is_empty() || option.is_some() || user.is_some() && username.is_some() =>
        {
            Err(Failure::invalid(
                "the password is no word of the command, where lists of processes and shell histories show it; send it on \
                 standard input: registry:login HOST --username NAME < FILE",
            ))
        }
        C::Login { host, user, username, app, .. } => {
            // Before something is read, and without a hint at the app for those who may not see it.
            session.check::<LogIn>(app.clone()).await?;
            let username = user.or(username).unwrap_or_default();
            let password = password(session, &host).await?;
            session.answer(LogIn { host, username, password, app }).await
        }
        C::Logout(logout) => session.answer(logout).await,
        C::List(list) => session.answer(list).await,
    }
}

/// Asks for the password at the client's terminal, or reads it from standard input, without the end of its line.
async fn password(session: &Session<'_>, host: &RegistryHost) -> Result<Secret> {
    if session.terminal.is_some() && session.out.format() == Format::Text {
        return session.ask_secret(&format!("       Password at {host} (it is not shown): ")).await;
    }
    session.out.progress(Line::Step("Reading the password from standard input".to_owned())).await;
    let text = session.read_input(MAX_INPUT_BYTES).await?;
    let text = text.strip_suffix('\n').unwrap_or(&text);
    Ok(Secret::new(text.strip_suffix('\r').unwrap_or(text)))
}

impl Text for RegistryLoginInfo {}

impl Text for LoggedOut {}

impl Text for Vec<RegistryLoginInfo> {
    fn text(&self) -> String {
        if self.is_empty() {
            return "       there is none: images are pulled without a login (registry:login)\n".to_owned();
        }
        let rows = self.iter().map(|login| {
            let of = login.app.as_ref().map_or_else(|| "the server".to_owned(), |app| format!("the app {app}"));
            [login.host.to_string(), or_hyphen(login.username.as_ref()), of, login.since.to_string()]
        });
        table(["REGISTRY", "USERNAME", "OF", "SINCE"], rows)
    }
}
