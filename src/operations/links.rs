//! Operations of links: which app may reach which other app by an internal name.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    authorization::Authorization,
    context::Context,
    failure::{Failure, Result},
    operation::Operation,
    ps,
    target::Server,
    time::Time,
};
use crate::{
    model::{AppName, HOST_NAME, Right, internal_name},
    store::{App, AppId, Effect, Link, PortScheme},
};

/// Lets an app's instances and tasks reach another app.
#[derive(Debug, Clone, Deserialize, JsonSchema, clap::Args)]
#[serde(deny_unknown_fields)]
pub struct LinkApps {
    /// App whose instances and tasks are to reach the other one.
    #[arg(value_name = "FROM")]
    pub app: AppName,
    /// App that they are to reach.
    #[arg(value_name = "TO")]
    pub to: AppName,
}

/// Takes back what `apps:link` did.
#[derive(Debug, Clone, Deserialize, JsonSchema, clap::Args)]
#[serde(deny_unknown_fields)]
pub struct UnlinkApps {
    /// App whose instances and tasks reach the other one.
    #[arg(value_name = "FROM")]
    pub app: AppName,
    /// App that they reach.
    #[arg(value_name = "TO")]
    pub to: AppName,
}

/// A change of a link.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ChangedLink {
    /// App whose instances and tasks are concerned.
    pub app: AppName,
    /// The other app.
    pub to: AppName,
    /// Whether they reach it now.
    pub linked: bool,
    /// Whether that was different before.
    pub changed: bool,
    /// Internal URLs at which they reach it.
    pub urls: Vec<String>,
    /// What else there is to know.
    pub notes: Vec<String>,
}

/// Lists the links of an app, in both directions.
#[derive(Debug, Clone, Deserialize, JsonSchema, clap::Args)]
#[serde(deny_unknown_fields)]
pub struct ListLinks {
    /// App.
    pub app: AppName,
}

/// A link of an app.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct LinkInfo {
    /// The app on the other side.
    pub app: AppName,
    /// Internal URLs, of whichever app is reached.
    pub urls: Vec<String>,
    /// User who made the link.
    pub by: String,
    /// Since when.
    pub since: Time,
}

/// The links of an app.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct LinkList {
    /// App.
    pub app: AppName,
    /// To the apps that it reaches.
    pub to: Vec<LinkInfo>,
    /// From the apps that reach it.
    pub from: Vec<LinkInfo>,
}

impl Operation for LinkApps {
    const NAME: &'static str = "apps:link";
    const RIGHT: Right = Right::Operate;
    const EFFECT: Effect = Effect::Change;
    type Target = App;
    type Output = ChangedLink;

    fn target(&self) -> AppName {
        self.app.clone()
    }

    fn audit(&self) -> String {
        format!("to {}", self.to)
    }

    async fn run(self, context: &Context<'_>, app: App) -> Result<ChangedLink> {
        let name = internal_name(&self.to);
        if name == HOST_NAME {
            let text = format!("{name} is the name of this machine, so an app named {} cannot be linked to", self.to);
            return Err(Failure::invalid(text));
        }
        let to = operated(context, Self::NAME, self.to).await?;
        if to.id == app.id {
            return Err(Failure::conflict("an app needs no link to itself; name two apps"));
        }
        let changed = context.store.link_apps(app.id, to.id, context.caller.name().to_string()).await?;
        apply(context).await?;
        if changed && app.current.is_some() && !app.stopped {
            // A container gets its names when it is created.
            ps::renew(context, &app, None, format!("{} is linked: restarting {}", to.name, app.name)).await?;
        }
        let mut notes = Vec::new();
        if context.current_release(&to).await?.is_none_or(|release| release.exposed().is_none()) {
            notes.push(format!("{} has no web process yet; until then it answers 503", to.name));
        }
        let urls = urls(context, to.id, &to.name).await?;
        Ok(ChangedLink { app: app.name, to: to.name, linked: true, changed, urls, notes })
    }
}

impl Operation for UnlinkApps {
    const NAME: &'static str = "apps:unlink";
    const RIGHT: Right = Right::Use;
    const EFFECT: Effect = Effect::Change;
    type Target = Server;
    type Output = ChangedLink;

    fn target(&self) {}

    fn audit(&self) -> String {
        format!("{} to {}", self.app, self.to)
    }

    /// The operators of either side may end a link, also if they see nothing of the other one.
    async fn run(self, context: &Context<'_>, _: Server) -> Result<ChangedLink> {
        let Self { app, to } = self;
        let (source, target) = match operated(context, Self::NAME, app.clone()).await {
            Ok(source) => {
                let link = context.store.links(source.id).await?.to.into_iter().find(|link| link.name == to);
                let unknown =
                    || Failure::not_found(format!("{app} is not linked to {to}; apps:links {app} shows its links"));
                (source.id, link.ok_or_else(unknown)?.app)
            }
            Err(denied) => {
                let Ok(target) = operated(context, Self::NAME, to.clone()).await else { return Err(denied) };
                let link = context.store.links(target.id).await?.from.into_iter().find(|link| link.name == app);
                (link.ok_or(denied)?.app, target.id)
            }
        };
        context.recording.about(source, &app);
        let changed = context.store.unlink_apps(source, target).await?;
        apply(context).await?;
        let notes = vec![format!("its running instances know the name {} until they are replaced", internal_name(&to))];
        Ok(ChangedLink { app, to, linked: false, changed, urls: Vec::new(), notes })
    }
}

impl Operation for ListLinks {
    const NAME: &'static str = "apps:links";
    const RIGHT: Right = Right::View;
    const EFFECT: Effect = Effect::Read;
    type Target = App;
    type Output = LinkList;

    fn target(&self) -> AppName {
        self.app.clone()
    }

    async fn run(self, context: &Context<'_>, app: App) -> Result<LinkList> {
        let links = context.store.links(app.id).await?;
        let mut to = Vec::new();
        for link in links.to {
            to.push(info(urls(context, link.app, &link.name).await?, link));
        }
        let own = urls(context, app.id, &app.name).await?;
        let from = links.from.into_iter().map(|link| info(own.clone(), link)).collect();
        Ok(LinkList { app: app.name, to, from })
    }
}

fn info(urls: Vec<String>, link: Link) -> LinkInfo {
    LinkInfo { app: link.name, urls, by: link.created_by, since: Time(link.created_at) }
}

/// An app on either side of a link that the caller operates.
async fn operated(context: &Context<'_>, operation: &'static str, name: AppName) -> Result<App> {
    let authorization = Authorization { store: context.store, caller: context.caller, operation };
    authorization.app(name, Right::Operate).await.map(|(app, _)| app)
}

/// Opens or closes what the links say: the packet filters, and then the router's listeners.
async fn apply(context: &Context<'_>) -> Result {
    context.openings.apply().await?;
    context.instances.publish_routes().await?;
    Ok(())
}

/// The URLs at which linked apps reach this one: its port mappings, under its internal name.
async fn urls(context: &Context<'_>, app: AppId, name: &AppName) -> Result<Vec<String>> {
    let mappings = context.store.port_mappings(app).await?;
    Ok(mappings.iter().map(|mapping| url(&internal_name(name), mapping.scheme, mapping.host_port)).collect())
}

fn url(host: &str, scheme: PortScheme, port: u16) -> String {
    match (scheme, port) {
        (PortScheme::Http, 80) => format!("http://{host}"),
        (scheme, port) => format!("{}://{host}:{port}", scheme.as_str()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_internal_url_has_the_port_of_the_mapping() {
        let name = internal_name(&"api".parse().unwrap());
        let url = |scheme, port| url(&name, scheme, port);
        assert_eq!(url(PortScheme::Http, 20_001), "http://api.paas.internal:20001");
        assert_eq!(url(PortScheme::Http, 80), "http://api.paas.internal");
        assert_eq!(url(PortScheme::Tcp, 80), "tcp://api.paas.internal:80");
    }
}
