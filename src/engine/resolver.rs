//! How containers resolve names: by the machine's own name servers, which a file of this server names, mounted on their
//! `/etc/resolv.conf`. The name server that the engine runs inside each container would tell the names and addresses of the
//! containers of all other apps on the same bridge; it cannot be switched off, so it is closed by a route.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    net::Ipv4Addr,
    os::{
        fd::AsFd as _,
        unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt as _},
    },
    path::{Path, PathBuf},
};

use rustix::{
    net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socket_with},
    thread::{LinkNameSpaceType, move_into_link_name_space},
};

use super::{
    attach::is_in_container,
    build::Mount,
    container::{Container, RESOLV_CONF},
    error::{EngineError, Result},
    handle::{Connection, Containers, Host},
    id::ContainerId,
};

/// Address of the engine's name server inside every container.
pub const EMBEDDED_DNS: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 11);

/// The machine's configuration: the usual one, and that of systemd-resolved with the name servers that it asks.
const SOURCES: [&str; 2] = [RESOLV_CONF, "/run/systemd/resolve/resolv.conf"];

/// Name servers for a machine that has none that a container can reach; the engine has the same.
const DEFAULT: [Ipv4Addr; 2] = [Ipv4Addr::new(8, 8, 8, 8), Ipv4Addr::new(8, 8, 4, 4)];

/// A resolver configuration for containers.
#[derive(Debug, PartialEq, Eq)]
struct Configuration {
    text: String,
    servers: Vec<Ipv4Addr>,
    /// Whether the machine has no name server that a container can reach.
    is_default: bool,
}

impl Configuration {
    /// The first of these configurations that names a server which containers can reach, with these servers alone.
    fn of(sources: &[String]) -> Self {
        let found = sources.iter().find(|text| !servers(text).is_empty());
        let servers = found.map_or_else(|| DEFAULT.to_vec(), |text| servers(text));
        // Of a machine without a usable server, the other lines still apply.
        let lines = found.or(sources.first()).into_iter().flat_map(|text| text.lines());
        let kept = lines.map(str::trim).filter(|line| {
            let word = line.split_ascii_whitespace().next().unwrap_or_default();
            ["search", "domain", "options", "sortlist"].contains(&word)
        });
        let mut text = String::from("# Written by paas, after the name servers of the machine.\n");
        for line in kept.map(str::to_owned).chain(servers.iter().map(|address| format!("nameserver {address}"))) {
            text.push_str(&line);
            text.push('\n');
        }
        Self { text, servers, is_default: found.is_none() }
    }

    /// That of this machine.
    fn of_machine() -> Self {
        Self::of(&SOURCES.map(|source| fs::read_to_string(source).unwrap_or_default()))
    }
}

/// The name servers that containers ask.
pub(super) async fn nameservers() -> Vec<Ipv4Addr> {
    tokio::task::spawn_blocking(|| Configuration::of_machine().servers).await.unwrap_or_default()
}

/// The servers that a container can reach: it has IPv4 alone, and a loopback address is its own.
fn servers(text: &str) -> Vec<Ipv4Addr> {
    let addresses = text.lines().filter_map(|line| line.trim().strip_prefix("nameserver")?.trim().parse().ok());
    addresses.filter(|address: &Ipv4Addr| !address.is_loopback() && !address.is_unspecified()).collect()
}

/// Replaces the content of a file that is mounted into containers: another file in its place would not be seen there. At
/// each moment, who reads it finds a whole configuration.
fn write_in_place(path: &Path, text: &str) -> io::Result<bool> {
    let old = match fs::read(path) {
        Ok(old) => old,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(error),
    };
    if old == text.as_bytes() {
        return Ok(false);
    }
    let file = OpenOptions::new().write(true).create(true).truncate(false).open(path)?;
    file.set_permissions(fs::Permissions::from_mode(0o644))?;
    let mut padded = text.as_bytes().to_vec();
    padded.resize(padded.len().max(old.len()), b'\n');
    file.write_all_at(&padded, 0)?;
    file.set_len(text.len() as u64)?;
    (&file).flush()?;
    Ok(true)
}

impl Connection {
    /// Mount of the resolver's configuration, which is written first if the machine's has changed.
    pub(super) async fn resolver_mount(&self) -> Result<Mount> {
        self.write_resolver_file().await?;
        Ok(Mount::read_only(&self.shared.resolver_file, RESOLV_CONF))
    }

    async fn write_resolver_file(&self) -> Result<()> {
        let _lock = self.shared.resolver_lock.lock().await;
        let path = self.shared.resolver_file.clone();
        let written = tokio::task::spawn_blocking(move || {
            let Configuration { text, is_default, .. } = Configuration::of_machine();
            Ok((write_in_place(&path, &text)?, is_default))
        });
        let written = written.await.unwrap_or_else(|error| Err(io::Error::other(error)));
        let failed = |source| EngineError::CannotWrite { path: self.shared.resolver_file.clone(), source };
        let (changed, is_default) = written.map_err(failed)?;
        if changed && is_default {
            let [first, second] = DEFAULT;
            tracing::warn!(
                "{RESOLV_CONF} names no server that containers can reach: they ask {first} and {second}, as with the engine's \
                 default; let the local name server listen on an address of this machine that is not a loopback address, and \
                 name that there"
            );
        }
        Ok(())
    }
}

impl Host {
    /// Brings the resolver's configuration of all containers up to date with that of the machine.
    pub async fn update_resolver(&self) -> Result<()> {
        self.0.write_resolver_file().await
    }
}

impl Containers {
    /// Closes the engine's name server to a running container. No effect if that is done, if the container has ended, or if
    /// an older server created it: it has no other name server.
    pub async fn close_embedded_dns(&self, id: &ContainerId) -> Result<()> {
        let Some(container) = self.inspect(id.as_str()).await? else { return Ok(()) };
        if !container.has_own_resolver || !container.state.is_alive() {
            return Ok(());
        }
        let Err(source) = close_in_namespace_of(&container).await else { return Ok(()) };
        if is_gone(&source) {
            return Ok(());
        }
        match self.inspect(id.as_str()).await? {
            Some(container) if container.state.is_alive() => {
                Err(EngineError::CannotCloseDns { name: container.name, source })
            }
            _ => Ok(()),
        }
    }
}

/// Whether the error is that the container's first process is gone: with it, all others are, but the engine may not know it yet.
fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error())
}

async fn close_in_namespace_of(container: &Container) -> io::Result<()> {
    let pid = container.pid.ok_or_else(|| io::Error::other("the engine does not say which process it has"))?;
    let id = container.id.clone();
    let (sender, result) = tokio::sync::oneshot::channel();
    // The namespace is that of a thread, which is used for nothing else.
    std::thread::Builder::new().name("namespace".to_owned()).spawn(move || {
        let _ = sender.send(enter(pid, &id).and_then(|()| prohibit(EMBEDDED_DNS)));
    })?;
    result.await.map_err(io::Error::other)?
}

/// Enters the network namespace of a container.
fn enter(pid: u32, id: &ContainerId) -> io::Result<()> {
    let process = process_of(pid, id)?;
    let namespace = File::open(process.join("ns/net"))?;
    // Only now it is certain that the process is one of the container: another one may have got its number.
    if !is_process_of(&process, id) {
        return Err(io::ErrorKind::NotFound.into());
    }
    if namespace.metadata()?.ino() == fs::metadata("/proc/thread-self/ns/net")?.ino() {
        return Err(io::Error::other("it is in the network namespace of the machine"));
    }
    Ok(move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?)
}

/// The folder in `/proc` of a process of a container: the one that the engine names or, if the engine is in a process
/// namespace of its own, whose numbers are others, any.
fn process_of(pid: u32, id: &ContainerId) -> io::Result<PathBuf> {
    let named = Path::new("/proc").join(pid.to_string());
    if is_process_of(&named, id) {
        return Ok(named);
    }
    let mut all = fs::read_dir("/proc")?.flatten().map(|entry| entry.path());
    all.find(|path| is_process_of(path, id)).ok_or_else(|| io::ErrorKind::NotFound.into())
}

fn is_process_of(process: &Path, id: &ContainerId) -> bool {
    fs::read_to_string(process.join("cgroup")).is_ok_and(|groups| is_in_container(&groups, id.as_str()))
}

/// Makes the kernel refuse what is sent to a local address (`ip route replace prohibit ADDRESS table local`): sockets get
/// EACCES at once.
fn prohibit(address: Ipv4Addr) -> io::Result<()> {
    // rtnetlink(7), which is the default protocol of this family: a header, a route, and its destination.
    const NEW_ROUTE: u16 = 24;
    const REQUEST_ACK_REPLACE_CREATE: u16 = 0x1 | 0x4 | 0x100 | 0x400;
    const INET: u8 = 2;
    const TABLE_LOCAL: u8 = 255;
    const STATIC: u8 = 4;
    const UNIVERSE: u8 = 0;
    const PROHIBIT: u8 = 8;
    const DESTINATION: u16 = 1;
    const LENGTH: u32 = 36;
    const ERROR: u16 = 2;

    let mut message = Vec::new();
    message.extend(LENGTH.to_ne_bytes());
    message.extend(NEW_ROUTE.to_ne_bytes());
    message.extend(REQUEST_ACK_REPLACE_CREATE.to_ne_bytes());
    message.extend([0; 8]);
    message.extend([INET, 32, 0, 0, TABLE_LOCAL, STATIC, UNIVERSE, PROHIBIT]);
    message.extend([0; 4]);
    message.extend(8_u16.to_ne_bytes());
    message.extend(DESTINATION.to_ne_bytes());
    message.extend(address.octets());

    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
    send(&socket, &message, SendFlags::empty())?;
    let mut answer = [0; 256];
    let (length, _) = recv(&socket, &mut answer, RecvFlags::empty())?;
    let kind = u16::from_ne_bytes([answer[4], answer[5]]);
    if length < 20 || kind != ERROR {
        return Err(io::Error::other("the kernel's answer about a route is not understood"));
    }
    match i32::from_ne_bytes([answer[16], answer[17], answer[18], answer[19]]) {
        0 => Ok(()),
        error => Err(io::Error::from_raw_os_error(-error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(sources: [&str; 2]) -> (String, bool) {
        let Configuration { text, servers, is_default } = Configuration::of(&sources.map(str::to_owned));
        // The packet filters open these, and no others.
        let named = text.lines().filter_map(|line| line.strip_prefix("nameserver ")).collect::<Vec<_>>();
        assert_eq!(named, servers.iter().map(Ipv4Addr::to_string).collect::<Vec<_>>());
        (text.lines().skip(1).collect::<Vec<_>>().join("|"), is_default)
    }

    #[test]
    fn the_servers_are_those_of_the_machine_that_a_container_can_reach() {
        let plain = "# x\nsearch example.org lan\nnameserver 192.0.2.1\nnameserver 2001:db8::1\noptions ndots:2\n";
        assert_eq!(of([plain, ""]), ("search example.org lan|options ndots:2|nameserver 192.0.2.1".into(), false));
        // systemd-resolved
        let stub = "nameserver 127.0.0.53\noptions edns0 trust-ad\nsearch a\n";
        let real = "nameserver 192.0.2.7\nnameserver 192.0.2.8\nsearch b\n";
        assert_eq!(of([stub, real]), ("search b|nameserver 192.0.2.7|nameserver 192.0.2.8".into(), false));
        // A name server that only the machine itself reaches.
        let own = "nameserver 127.0.0.1\nnameserver ::1\nsearch c";
        assert_eq!(of([own, ""]), ("search c|nameserver 8.8.8.8|nameserver 8.8.4.4".into(), true));
        assert_eq!(of(["", ""]), ("nameserver 8.8.8.8|nameserver 8.8.4.4".into(), true));
    }

    #[test]
    fn the_file_stays_the_same_file_and_is_never_longer_than_its_text() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("resolv.conf");
        assert!(write_in_place(&path, "nameserver 192.0.2.1\nsearch example.org\n").unwrap());
        let (inode, mode) = (fs::metadata(&path).unwrap().ino(), fs::metadata(&path).unwrap().mode() & 0o777);
        assert_eq!(mode, 0o644);
        for text in ["nameserver 192.0.2.2\n", "search a\nnameserver 192.0.2.3\n"] {
            assert!(write_in_place(&path, text).unwrap());
            assert!(!write_in_place(&path, text).unwrap(), "no change");
            assert_eq!(
                (fs::read_to_string(&path).unwrap().as_str(), fs::metadata(&path).unwrap().ino()),
                (text, inode)
            );
        }
    }
}
