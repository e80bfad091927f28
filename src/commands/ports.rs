//! The commands `ports:…`.

use clap::Subcommand;

use super::{
    context::Context,
    error::{CommandError, Result},
    output::{Format, Row},
    session::Session,
};
use crate::{
    model::{AppName, CONTAINER_PORT},
    store::{App, PortMapping, PortScheme},
};

/// The commands of port mappings.
#[derive(Debug, Subcommand)]
pub(super) enum PortsCommand {
    /// List port mappings.
    #[command(name = "ports:list", aliases = ["ports", "ports:report"], after_help = "Example: ports:list my-app")]
    List {
        app: AppName,
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Replace the port mappings.
    #[command(name = "ports:set", after_help = "Example: ports:set my-app http:8080:5000")]
    Set {
        app: AppName,
        /// scheme:host-port:container-port
        #[arg(required = true, value_name = "SCHEME:HOST:CONTAINER")]
        mappings: Vec<String>,
    },
    /// Add port mappings.
    #[command(name = "ports:add", after_help = "Example: ports:add my-app tcp:9000:9000")]
    Add {
        app: AppName,
        /// scheme:host-port:container-port
        #[arg(required = true, value_name = "SCHEME:HOST:CONTAINER")]
        mappings: Vec<String>,
    },
    /// Remove port mappings.
    #[command(name = "ports:remove", after_help = "Example: ports:remove my-app tcp:9000:9000")]
    Remove {
        app: AppName,
        /// scheme:host-port:container-port
        #[arg(required = true, value_name = "SCHEME:HOST:CONTAINER")]
        mappings: Vec<String>,
    },
    /// Replace the port mappings with the app's default one.
    #[command(name = "ports:clear", after_help = "Example: ports:clear my-app")]
    Clear { app: AppName },
}

pub(super) async fn run(context: &Context, session: &mut Session<'_>, command: PortsCommand) -> Result {
    use PortsCommand as C;
    match command {
        C::List { app, format } => list(context, session, app, format).await,
        C::Set { app, mappings } => change(context, session, app, Change::Set(mappings)).await,
        C::Add { app, mappings } => change(context, session, app, Change::Add(mappings)).await,
        C::Remove { app, mappings } => change(context, session, app, Change::Remove(mappings)).await,
        C::Clear { app } => change(context, session, app, Change::Set(Vec::new())).await,
    }
}

#[derive(serde::Serialize)]
struct PortRow {
    scheme: &'static str,
    host_port: u16,
    container_port: u16,
    url: String,
}

impl Row for PortRow {
    const HEADER: &'static [&'static str] = &["SCHEME", "HOST PORT", "CONTAINER PORT", "URL"];

    fn cells(&self) -> Vec<String> {
        vec![self.scheme.to_owned(), self.host_port.to_string(), self.container_port.to_string(), self.url.clone()]
    }
}

/// A change of an app's port mappings.
enum Change {
    Set(Vec<String>),
    Add(Vec<String>),
    Remove(Vec<String>),
}

fn mapping(text: &str) -> Result<PortMapping> {
    let refused = || {
        let text = crate::model::Line::sanitize(text);
        CommandError::Refused(format!("{text:?}: write scheme:host-port:container-port, for example http:8080:5000"))
    };
    let [scheme, host, container] = text.split(':').collect::<Vec<_>>()[..] else { return Err(refused()) };
    let scheme: PortScheme = scheme.parse().map_err(|_| {
        CommandError::Refused(format!("{:?}: the scheme must be http or tcp", crate::model::Line::sanitize(text)))
    })?;
    let port = |text: &str| text.parse::<u16>().ok().filter(|port| *port > 0).ok_or_else(refused);
    Ok(PortMapping { scheme, host_port: port(host)?, container_port: port(container)? })
}

fn mappings(texts: &[String]) -> Result<Vec<PortMapping>> {
    texts.iter().map(|text| mapping(text)).collect()
}

/// The port of the current release's web process, unless a mapping names another.
async fn default_port(context: &Context, app: &App) -> Result<u16> {
    let current = match app.current {
        Some(current) => context.store.release(app.id, current.release).await?,
        None => None,
    };
    let web = current.and_then(|release| release.processes.into_iter().find(|p| p.process.process_type.is_web()));
    Ok(web.map_or(CONTAINER_PORT, |web| web.port))
}

/// The port of the container that a mapping leads to: 8080 stands for the default one.
fn container_port(mapping: &PortMapping, default: u16) -> u16 {
    if mapping.container_port == CONTAINER_PORT { default } else { mapping.container_port }
}

async fn list(context: &Context, session: &Session<'_>, app: AppName, format: Format) -> Result {
    let app = context.app(session, app).await?;
    let default = default_port(context, &app).await?;
    let rows: Vec<_> = context
        .store
        .port_mappings(app.id)
        .await?
        .iter()
        .map(|mapping| PortRow {
            scheme: mapping.scheme.as_str(),
            host_port: mapping.host_port,
            container_port: container_port(mapping, default),
            url: context.deployer.ports().url(mapping),
        })
        .collect();
    session.out.table(&rows, format).await;
    Ok(())
}

async fn change(context: &Context, session: &Session<'_>, app: AppName, change: Change) -> Result {
    let app = context.app(session, app).await?;
    let admin = session.caller.admin;
    let default = default_port(context, &app).await?;
    let port = |mappings: &[PortMapping]| mappings.first().map_or(default, |mapping| container_port(mapping, default));
    let old = port(&context.store.port_mappings(app.id).await?);
    context
        .deployer
        .ports()
        .change(&app, |before| {
            let after = changed(&app, &before, change)?;
            let new = after.iter().filter(|mapping| !before.contains(mapping));
            match new.map(|mapping| mapping.host_port).find(|port| *port < 1024) {
                Some(port) if !admin => {
                    Err(CommandError::Refused(format!("only an admin may map port {port}: choose one from 1024 on")))
                }
                _ => Ok(after),
            }
        })
        .await?;
    list(context, session, app.name.clone(), Format::Text).await?;
    let runs = app.current.is_some() && !app.stopped;
    if runs && port(&context.store.port_mappings(app.id).await?) != old {
        // The running instances listen on the port that they were started with.
        let why = format!("PORT has changed: restarting {}", app.name);
        super::ps::renew(context, session, &app, why).await?;
    }
    Ok(())
}

/// The mappings after a change.
fn changed(app: &App, before: &[PortMapping], change: Change) -> Result<Vec<PortMapping>> {
    let after: Vec<_> = match change {
        Change::Set(texts) => mappings(&texts)?,
        Change::Add(texts) => {
            let added = mappings(&texts)?;
            let others = before.iter().filter(|old| added.iter().all(|new| new.host_port != old.host_port));
            others.chain(&added).cloned().collect()
        }
        Change::Remove(texts) => {
            let removed = mappings(&texts)?;
            if let Some(unknown) = removed.iter().find(|mapping| !before.contains(mapping)) {
                return Err(CommandError::Refused(format!(
                    "{} has no mapping {unknown}; ports:list shows them",
                    app.name
                )));
            }
            before.iter().filter(|mapping| !removed.contains(mapping)).cloned().collect()
        }
    };
    let mut ports: Vec<u16> = after.iter().map(|mapping| mapping.host_port).collect();
    ports.sort_unstable();
    match ports.iter().zip(ports.iter().skip(1)).find(|(one, next)| one == next) {
        Some((twice, _)) => Err(CommandError::Refused(format!("port {twice} is mapped twice"))),
        None => Ok(after),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mappings_have_the_form_that_dokku_uses() {
        assert_eq!(mapping("http:8080:5000").unwrap().to_string(), "http:8080:5000");
        for bad in ["8080:5000", "https:1:2", "http:0:5", "http:70000:5", "http:1:2:3", "http:-1:5", "tcp::"] {
            assert!(mapping(bad).is_err(), "{bad}");
        }
    }
}
