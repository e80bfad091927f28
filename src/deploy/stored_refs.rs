//! What the pusher is told of the refs that are stored without being deployed, and which command deploys them.

use super::{
    deployer::Deployer,
    error::DeployError,
    refs::{DEFAULT_BRANCHES, RefPlan},
};
use crate::{
    git::Reader,
    model::{BranchName, CommitId, Line, RefName, ReleaseNumber, first_names},
    progress::Progress,
    receive::RefUpdate,
    store::App,
};

/// Number of refs that a line names.
const MAX_NAMED: usize = 5;

/// What the commit of a pushed tag is to the app.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TaggedCommit {
    /// The tag leads to no commit.
    None,
    /// The commit is live, by this release.
    Live(ReleaseNumber),
    /// The deploy branch points to it.
    Tip,
    /// A push of it moves the deploy branch forward, or creates it.
    Ahead,
    /// A push of it discards commits of the deploy branch. The newest release of it that was live, if there is one.
    Behind(Option<ReleaseNumber>),
}

impl Deployer {
    /// Tells the pusher what was stored but not deployed, and which command deploys it.
    pub(super) async fn report_stored(
        &self,
        app: &App,
        plan: &RefPlan<'_>,
        was_deployed: bool,
        reader: &Reader,
        progress: &Progress,
    ) {
        let tagged = match plan.only_tag() {
            Some(id) => self.tagged_commit(app, plan, id, reader).await.unwrap_or_else(|error| {
                tracing::warn!(app = %app.name, %error, "cannot look up the commit of a tag");
                TaggedCommit::None
            }),
            None => TaggedCommit::None,
        };
        for line in plan.branch_lines(app, was_deployed).into_iter().chain(plan.other_lines(app, tagged)) {
            progress.line(line).await;
        }
    }

    async fn tagged_commit(
        &self,
        app: &App,
        plan: &RefPlan<'_>,
        id: &CommitId,
        reader: &Reader,
    ) -> Result<TaggedCommit, DeployError> {
        let Some(commit) = reader.peeled(id).await? else { return Ok(TaggedCommit::None) };
        if let Some(current) = self.current_release(app).await?
            && current.commit.as_ref() == Some(&commit)
        {
            return Ok(TaggedCommit::Live(current.number));
        }
        let tip = match &plan.deploy_branch {
            Some(branch) => reader.ref_value(branch).await?,
            None => None,
        };
        match tip {
            None => Ok(TaggedCommit::Ahead),
            Some(tip) if tip == commit => Ok(TaggedCommit::Tip),
            Some(tip) if reader.descends(&commit, &tip).await? => Ok(TaggedCommit::Ahead),
            Some(_) => Ok(TaggedCommit::Behind(self.newest_release_of(app, &commit).await?)),
        }
    }
}

impl<'a> RefPlan<'a> {
    fn set(&self) -> impl Iterator<Item = &'a RefUpdate> {
        self.stored().filter(|update| update.new.is_some())
    }

    /// The refs that were set and are no branches, if no branch was pushed with them: why that is not deployed was told, or is
    /// told as the reason of its refusal.
    fn others_alone(&self) -> Vec<&'a RefUpdate> {
        let is_pushed_branch = |update: &RefUpdate| update.new.is_some() && update.name.branch().is_some();
        if self.push.updates.iter().any(is_pushed_branch) { Vec::new() } else { self.set().collect() }
    }

    /// What the tag points to whose commit may have been meant to be deployed: the only ref that was set.
    fn only_tag(&self) -> Option<&'a CommitId> {
        match self.others_alone()[..] {
            [only] if only.name.tag().is_some() => only.new.as_ref(),
            _ => None,
        }
    }

    fn branch_lines(&self, app: &App, was_deployed: bool) -> Vec<Line> {
        let branches: Vec<_> = self.set().filter_map(|update| update.name.branch()).collect();
        let Some(first) = branches.first() else { return Vec::new() };
        let has_deploy_branch = app.deploy_branch.is_some() || (self.deployment().is_some() && was_deployed);
        let (reason, chosen) = match &self.deploy_branch {
            Some(branch) if has_deploy_branch => (format!("{branch} is the deploy branch"), first.as_str()),
            Some(branch) => (format!("{branch} was to become the deploy branch, and failed"), first.as_str()),
            None => ("they are several, and none of them is main or master".to_owned(), "BRANCH"),
        };
        let names = named(&branches);
        let are = if branches.len() == 1 { "is" } else { "are" };
        vec![
            Line::Header(format!("{names} {are} stored, not deployed: {reason}")),
            Line::Detail(format!(
                "git:set {0} deploy-branch {chosen}, then ps:rebuild {0}, deploys {chosen}",
                app.name
            )),
        ]
    }

    fn other_lines(&self, app: &App, tagged: TaggedCommit) -> Vec<Line> {
        let others = self.others_alone();
        let branch = self.deploy_branch.as_ref().map_or(DEFAULT_BRANCHES[0], BranchName::as_str);
        let pushes_are_deployed = || format!("pushes to the branch {branch} are deployed");
        let (header, advice) = match others[..] {
            [] => {
                let others: Vec<_> =
                    self.set().map(|update| &update.name).filter(|name| name.branch().is_none()).collect();
                let text = format!("stored without being deployed: {}", named(&others));
                return if others.is_empty() { Vec::new() } else { vec![Line::Detail(text)] };
            }
            [only] => {
                let is_meant_as_branch = only.name.tag() == Some(branch);
                let header = if is_meant_as_branch {
                    format!("{branch} is stored as a tag, not as a branch: nothing is deployed")
                } else {
                    format!("Nothing is deployed: {} is not a branch", only.name)
                };
                // The pusher may have a branch of that name.
                let source = match &only.new {
                    Some(id) if is_meant_as_branch => id.to_string(),
                    _ => only.name.to_string(),
                };
                let push = |force: &str| format!("git push {force}REMOTE '{source}^{{commit}}:refs/heads/{branch}'");
                let advice = match tagged {
                    TaggedCommit::None => pushes_are_deployed(),
                    TaggedCommit::Live(release) => format!("that commit is live as v{release}"),
                    TaggedCommit::Tip => format!("{branch} is at that commit already"),
                    TaggedCommit::Ahead => format!("{} deploys that commit", push("")),
                    TaggedCommit::Behind(Some(release)) => {
                        format!("releases:rollback {} v{release} deploys that commit again", app.name)
                    }
                    TaggedCommit::Behind(None) => {
                        format!("{} deploys that commit, and discards those that only {branch} has", push("-f "))
                    }
                };
                (header, advice)
            }
            [..] => {
                let names: Vec<_> = others.iter().map(|update| &update.name).collect();
                let has_tag = names.iter().any(|name| name.tag().is_some());
                let advice = if app.current.is_none() && has_tag {
                    format!("git push REMOTE 'TAG^{{commit}}:refs/heads/{branch}' deploys the commit of a tag")
                } else {
                    pushes_are_deployed()
                };
                (format!("Nothing is deployed: {} are not branches", named::<&RefName>(&names)), advice)
            }
        };
        vec![Line::Header(header), Line::Detail(advice)]
    }
}

/// The first names of a list, and the number of the others.
fn named<T: std::fmt::Display>(names: &[T]) -> String {
    first_names(&names[..names.len().min(MAX_NAMED)], names.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        deploy::refs::tests::{app, push, unchanged},
        store::Deployment,
    };

    fn text(lines: Vec<Line>) -> Vec<String> {
        lines.into_iter().map(|line| line.to_string()).collect()
    }

    #[test]
    fn a_stored_branch_is_told_with_the_reason() {
        let lines = |deploy_branch, refs: &[&str], was_deployed| {
            let (app, push) = (app(deploy_branch), push(refs, false));
            text(RefPlan::new(&app, &push, &unchanged(&push)).branch_lines(&app, was_deployed))
        };
        let (main, a, b) = ("refs/heads/main", "refs/heads/a", "refs/heads/b");
        let advice = "       git:set shop deploy-branch a, then ps:rebuild shop, deploys a";
        let of_main = ["=====> a is stored, not deployed: main is the deploy branch", advice];
        assert_eq!(lines(Some("main"), &[a], true), of_main);
        assert_eq!(lines(None, &[a, main], true), of_main);
        assert_eq!(
            lines(None, &[a, main], false),
            ["=====> a is stored, not deployed: main was to become the deploy branch, and failed", advice]
        );
        assert_eq!(
            lines(None, &[a, b], true)[0],
            "=====> a, b are stored, not deployed: they are several, and none of them is main or master"
        );
        assert_eq!(lines(Some("main"), &[main, "-refs/heads/a", "refs/tags/v1"], true), [""; 0]);
    }

    #[test]
    fn the_advice_for_a_tag_fits_the_app() {
        let lines = |refs: &[&str], is_live, tagged| {
            let mut app = app(Some("main"));
            app.current = if is_live { Some(Deployment { release: 1, generation: 1 }) } else { None };
            let push = push(refs, false);
            text(RefPlan::new(&app, &push, &unchanged(&push)).other_lines(&app, tagged))
        };
        let (v1, v2) = ("refs/tags/v1", "refs/tags/v2");
        let pushes = "       pushes to the branch main are deployed";
        for (tagged, advice) in [
            (TaggedCommit::None, pushes),
            (TaggedCommit::Live(28), "       that commit is live as v28"),
            (TaggedCommit::Tip, "       main is at that commit already"),
            (TaggedCommit::Ahead, "       git push REMOTE 'v1^{commit}:refs/heads/main' deploys that commit"),
            (TaggedCommit::Behind(Some(3)), "       releases:rollback shop v3 deploys that commit again"),
            (
                TaggedCommit::Behind(None),
                "       git push -f REMOTE 'v1^{commit}:refs/heads/main' deploys that commit, and discards those that only main has",
            ),
        ] {
            assert_eq!(lines(&[v1], true, tagged), ["=====> Nothing is deployed: v1 is not a branch", advice]);
        }
        let of_branch = lines(&["refs/tags/main"], false, TaggedCommit::Ahead);
        let command =
            format!("       git push REMOTE '{}^{{commit}}:refs/heads/main' deploys that commit", "2".repeat(40));
        assert_eq!(
            of_branch,
            ["=====> main is stored as a tag, not as a branch: nothing is deployed".to_owned(), command]
        );
        let several = "=====> Nothing is deployed: v1, v2 are not branches";
        let any = "       git push REMOTE 'TAG^{commit}:refs/heads/main' deploys the commit of a tag";
        assert_eq!(lines(&[v1, v2], false, TaggedCommit::None), [several, any]);
        assert_eq!(lines(&[v1, v2], true, TaggedCommit::None), [several, pushes]);
        let beside = lines(&["+refs/heads/main", v1], false, TaggedCommit::None);
        assert_eq!(beside, ["       stored without being deployed: v1"]);
        assert_eq!(lines(&["-refs/tags/v1"], false, TaggedCommit::None), [""; 0]);
    }
}
