//! The commands `access:…`.

use clap::Subcommand;

use super::{output::Text, session::Session, table::table, users::kind};
use crate::operations::{AddMember, ListMembers, Members, RemoveMember, Result, TransferApp};

/// The commands of an app's members.
#[derive(Debug, Subcommand)]
pub(super) enum AccessCommand {
    /// Give a user a role in an app: viewer, deployer, operator or owner; by default, deployer.
    #[command(name = "access:add", alias = "acl:add", after_help = "Example: access:add my-app alice operator")]
    Add(AddMember),
    /// List the members of an app.
    #[command(name = "access:list", aliases = ["access", "acl:list"], after_help = "Example: access:list my-app")]
    List(ListMembers),
    /// Take a user's role in an app away.
    #[command(name = "access:remove", alias = "acl:remove", after_help = "Example: access:remove my-app alice")]
    Remove(RemoveMember),
    /// Make a user the only owner of an app; earlier owners become operators. An owner takes an app; only an admin gives it away.
    #[command(name = "access:transfer", after_help = "Example: access:transfer my-app alice")]
    Transfer(TransferApp),
}

pub(super) async fn run(session: &Session<'_>, command: AccessCommand) -> Result {
    use AccessCommand as C;
    match command {
        C::Add(add) => session.answer(add).await,
        C::List(list) => session.answer(list).await,
        C::Remove(remove) => session.answer(remove).await,
        C::Transfer(transfer) => session.answer(transfer).await,
    }
}

impl Text for Members {
    fn text(&self) -> String {
        if self.members.is_empty() {
            return format!(
                "       {0} has no member and belongs to the admins; access:transfer {0} USER gives it away\n",
                self.app
            );
        }
        let rows = self.members.iter().map(|member| {
            let kind = kind(false, member.machine).to_owned();
            [member.user.to_string(), member.role.to_string(), kind, member.since.to_string()]
        });
        table(["USER", "ROLE", "KIND", "SINCE"], rows)
    }
}
