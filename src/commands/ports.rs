//! Port mappings: which port of the host leads to which port of the web instances.

use super::{CommandError, Commands, Result, Session, line::Format, output::Row};
use crate::{
    model::{AppName, CONTAINER_PORT},
    store::{App, PortMapping, PortScheme},
};

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

/// What is to become of the mappings.
pub(super) enum Change {
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
        CommandError::Refused(format!("{:?}: the scheme is http or tcp", crate::model::Line::sanitize(text)))
    })?;
    let port = |text: &str| text.parse::<u16>().ok().filter(|port| *port > 0).ok_or_else(refused);
    Ok(PortMapping { scheme, host_port: port(host)?, container_port: port(container)? })
}

fn mappings(texts: &[String]) -> Result<Vec<PortMapping>> {
    texts.iter().map(|text| mapping(text)).collect()
}

/// The port that the live release's web process has, if no mapping says otherwise.
async fn usual_port(commands: &Commands, app: &App) -> Result<u16> {
    let live = match app.current {
        Some(current) => commands.store.release(app.id, current.release).await?,
        None => None,
    };
    let web = live.and_then(|release| release.processes.into_iter().find(|p| p.process.process_type.is_web()));
    Ok(web.map_or(CONTAINER_PORT, |web| web.port))
}

/// The port that a mapping leads to: 8080 stands for the usual one.
fn meant(mapping: &PortMapping, usual: u16) -> u16 {
    if mapping.container_port == CONTAINER_PORT { usual } else { mapping.container_port }
}

pub(super) async fn list(commands: &Commands, session: &Session<'_>, app: AppName, format: Format) -> Result {
    let app = commands.app(session, app).await?;
    let usual = usual_port(commands, &app).await?;
    let rows: Vec<_> = commands
        .store
        .port_mappings(app.id)
        .await?
        .iter()
        .map(|mapping| PortRow {
            scheme: mapping.scheme.as_str(),
            host_port: mapping.host_port,
            container_port: meant(mapping, usual),
            url: commands.deployer.ports().url(mapping),
        })
        .collect();
    session.out.table(&rows, format).await;
    Ok(())
}

pub(super) async fn change(commands: &Commands, session: &Session<'_>, app: AppName, change: Change) -> Result {
    let app = commands.app(session, app).await?;
    let admin = session.caller.admin;
    let usual = usual_port(commands, &app).await?;
    let port = |mappings: &[PortMapping]| mappings.first().map_or(usual, |mapping| meant(mapping, usual));
    let old = port(&commands.store.port_mappings(app.id).await?);
    commands
        .deployer
        .ports()
        .change(&app, |before| {
            let after = changed(&app, &before, change)?;
            let new = after.iter().filter(|mapping| !before.contains(mapping));
            match new.map(|mapping| mapping.host_port).find(|port| *port < 1024) {
                Some(port) if !admin => {
                    Err(CommandError::Refused(format!("port {port} is for admins to give: choose one from 1024 on")))
                }
                _ => Ok(after),
            }
        })
        .await?;
    list(commands, session, app.name.clone(), Format::Text).await?;
    let runs = app.current.is_some() && !app.stopped;
    if runs && port(&commands.store.port_mappings(app.id).await?) != old {
        // Those that run listen where nobody asks any more.
        let why = format!("PORT is another one now: restarting {}", app.name);
        super::ps::renew(commands, session, &app, why).await?;
    }
    Ok(())
}

/// The mappings after a change of those before.
fn changed(app: &App, before: &[PortMapping], change: Change) -> Result<Vec<PortMapping>> {
    let after: Vec<_> = match change {
        Change::Set(texts) => mappings(&texts)?,
        Change::Add(texts) => {
            let added = mappings(&texts)?;
            let others = before.iter().filter(|old| added.iter().all(|new| new.host_port != old.host_port));
            others.chain(&added).cloned().collect()
        }
        Change::Remove(texts) => {
            let gone = mappings(&texts)?;
            if let Some(unknown) = gone.iter().find(|mapping| !before.contains(mapping)) {
                return Err(CommandError::Refused(format!(
                    "{} has no mapping {unknown}; ports:list shows them",
                    app.name
                )));
            }
            before.iter().filter(|mapping| !gone.contains(mapping)).cloned().collect()
        }
    };
    let mut ports: Vec<u16> = after.iter().map(|mapping| mapping.host_port).collect();
    ports.sort_unstable();
    match ports.iter().zip(ports.iter().skip(1)).find(|(one, next)| one == next) {
        Some((twice, _)) => Err(CommandError::Refused(format!("port {twice} is named twice"))),
        None => Ok(after),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mappings_are_read_as_dokku_writes_them() {
        assert_eq!(mapping("http:8080:5000").unwrap().to_string(), "http:8080:5000");
        for bad in ["8080:5000", "https:1:2", "http:0:5", "http:70000:5", "http:1:2:3", "http:-1:5", "tcp::"] {
            assert!(mapping(bad).is_err(), "{bad}");
        }
    }
}
