//! The commands `users:…` and `whoami`.

use clap::Subcommand;

use super::{output::Text, session::Session, table::table};
use crate::operations::{AddUser, CallerInfo, ListUsers, RemoveUser, RemovedUser, Result, SetUser, UserInfo};

/// The commands of users.
#[derive(Debug, Subcommand)]
pub(super) enum UsersCommand {
    /// Add a user; ssh-keys:add gives the user a key (admins only).
    #[command(name = "users:add", after_help = "Example: users:add alice")]
    Add(AddUser),
    /// List the users (admins only).
    #[command(name = "users:list", alias = "users", after_help = "Example: users:list")]
    List(ListUsers),
    /// Set a property of a user: admin (admins only).
    #[command(name = "users:set", after_help = "Example: users:set alice admin false")]
    Set(SetUser),
    /// Remove a user with all keys and memberships (admins only).
    #[command(name = "users:remove", after_help = "Example: users:remove alice")]
    Remove(RemoveUser),
}

pub(super) async fn run(session: &Session<'_>, command: UsersCommand) -> Result {
    use UsersCommand as C;
    match command {
        C::Add(add) => session.answer(add).await,
        C::List(list) => session.answer(list).await,
        C::Set(set) => session.answer(set).await,
        C::Remove(remove) => session.answer(remove).await,
    }
}

/// What kind of user this is, in a word.
pub(super) fn kind(admin: bool, machine: bool) -> &'static str {
    match (admin, machine) {
        (true, _) => "admin",
        (false, true) => "machine",
        (false, false) => "user",
    }
}

impl Text for CallerInfo {
    fn text(&self) -> String {
        format!("{} ({})\n", self.name, kind(self.admin, self.machine))
    }
}

impl Text for UserInfo {
    fn text(&self) -> String {
        format!("-----> {} is registered ({})\n", self.name, kind(self.admin, self.machine))
    }
}

impl Text for Vec<UserInfo> {
    fn text(&self) -> String {
        let rows = self.iter().map(|user| {
            [
                user.name.to_string(),
                kind(user.admin, user.machine).to_owned(),
                user.keys.to_string(),
                user.created_at.to_string(),
            ]
        });
        table(["NAME", "KIND", "KEYS", "ADDED"], rows)
    }
}

impl Text for RemovedUser {
    fn text(&self) -> String {
        format!("-----> Removed the user {}\n", self.name)
    }
}
