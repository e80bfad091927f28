//! Another machine: a network namespace with an address on a private network and one that stands for the Internet, to which
//! this machine routes.

use std::{
    fs,
    net::{Ipv4Addr, TcpListener},
    os::fd::AsFd as _,
    process::Command,
};

use super::command::run;

/// Another machine, on which every connection to one of its two ports is accepted and closed.
pub struct Elsewhere {
    name: String,
    /// Its address on a private network.
    pub lan: Ipv4Addr,
    /// Its address that stands for one on the Internet: it is of a documentation range.
    pub public: Ipv4Addr,
    /// The address of this machine on the private network.
    pub host_lan: Ipv4Addr,
    /// The address of this machine that stands for a public one.
    pub host_public: Ipv4Addr,
    /// Two ports on which it listens, at all of its addresses.
    pub ports: [u16; 2],
    _listening: Vec<std::thread::JoinHandle<()>>,
}

impl Elsewhere {
    pub fn new() -> Self {
        // The namespaces of tests that run at the same time have other numbers.
        let number =
            (0..60).find(|n| Command::new("ip").args(["netns", "add", &name(*n)]).output().unwrap().status.success());
        let number = number.expect("a free namespace");
        let host = number * 4 + 1;
        let [host_lan, lan] = [host, host + 1].map(|last| Ipv4Addr::new(10, 15, 15, last));
        let [host_public, public] = [host, host + 1].map(|last| Ipv4Addr::new(198, 51, 100, last));
        let mut this =
            Self { name: name(number), lan, public, host_lan, host_public, ports: [0; 2], _listening: Vec::new() };
        let (outside, inside) = (format!("pt{number}-out"), format!("pt{number}-in"));
        let ip = |words: &str| run(Command::new("ip").args(words.split(' '))).success();
        let n = &this.name;
        ip(&format!("link add {outside} type veth peer name {inside} netns {n}"));
        ip(&format!("address add {host_lan}/30 dev {outside}"));
        ip(&format!("address add {host_public}/30 dev {outside}"));
        ip(&format!("link set {outside} up"));
        ip(&format!("-n {n} address add {lan}/30 dev {inside}"));
        ip(&format!("-n {n} address add {public}/30 dev {inside}"));
        ip(&format!("-n {n} link set {inside} up"));
        ip(&format!("-n {n} route add default via {host_lan}"));
        let listeners = this.within(|| [(); 2].map(|()| TcpListener::bind("0.0.0.0:0").unwrap()));
        this.ports = [&listeners[0], &listeners[1]].map(|listener| listener.local_addr().unwrap().port());
        this._listening = listeners.map(|listener| std::thread::spawn(move || accept(&listener))).into();
        this
    }

    /// The beginning of a command that runs in its network.
    pub fn command(&self) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{}", self.name));
        command
    }

    /// Does something in its network.
    pub fn within<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let file = fs::File::open(format!("/run/netns/{}", self.name)).unwrap();
        let thread = std::thread::spawn(move || {
            let network = Some(rustix::thread::LinkNameSpaceType::Network);
            rustix::thread::move_into_link_name_space(file.as_fd(), network).unwrap();
            work()
        });
        thread.join().unwrap()
    }
}

/// A port of this machine, at all addresses, on which every connection is accepted and closed.
pub fn port_of_host() -> u16 {
    let listener = TcpListener::bind("0.0.0.0:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || accept(&listener));
    port
}

fn accept(listener: &TcpListener) {
    while listener.accept().is_ok() {}
}

fn name(number: u8) -> String {
    format!("paas-elsewhere-{number}")
}

impl Drop for Elsewhere {
    fn drop(&mut self) {
        // Listening sockets keep the namespace alive, but without a name and a device.
        run(Command::new("ip").args(["link", "del", &format!("pt{}-out", (self.lan.octets()[3] - 2) / 4)]));
        run(Command::new("ip").args(["netns", "del", &self.name]));
    }
}
