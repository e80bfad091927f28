//! What has to be closed before a process of the app starts: the engine's name server, which would tell it about the
//! containers of other apps. The server closes it as soon as the container runs, that is, a moment after the launcher's start.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, UdpSocket},
    time::{Duration, Instant},
};

use crate::lifecycle::env::Env;

/// Variable with an address that no process of the app may reach: nothing is started before it is closed.
pub const CLOSED_ADDRESS: &str = "PAAS_CLOSED_ADDRESS";

/// Longest wait: a server that has stopped in between closes the address when it runs again.
const TIMEOUT: Duration = Duration::from_secs(30);
/// The time between two looks.
const INTERVAL: Duration = Duration::from_millis(1);

/// Waits until the address is closed, if the environment names one.
pub(super) fn wait(env: &Env) -> Result<(), String> {
    let Some(text) = env.get(CLOSED_ADDRESS) else { return Ok(()) };
    let address = text.parse().map_err(|_| format!("{CLOSED_ADDRESS}={text} is not an address"))?;
    wait_for(address, TIMEOUT)
}

fn wait_for(address: IpAddr, timeout: Duration) -> Result<(), String> {
    let until = Instant::now() + timeout;
    while !is_closed(address) {
        if Instant::now() > until {
            let seconds = timeout.as_secs();
            return Err(format!("the name server {address} was not closed within {seconds} s; start it again"));
        }
        std::thread::sleep(INTERVAL);
    }
    Ok(())
}

/// Whether the kernel refuses to send anything to the address. Nothing is sent.
fn is_closed(address: IpAddr) -> bool {
    const DNS: u16 = 53;
    let Ok(socket) = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)) else { return false };
    socket.connect((address, DNS)).is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_waits_until_the_kernel_refuses_the_address() {
        // The kernel refuses it to a socket that did not ask for permission to broadcast.
        assert_eq!(wait_for(Ipv4Addr::BROADCAST.into(), Duration::ZERO), Ok(()));
        let error = wait_for(Ipv4Addr::LOCALHOST.into(), Duration::from_millis(20)).unwrap_err();
        assert!(error.contains("127.0.0.1 was not closed"), "{error}");
        assert_eq!(wait(&Env::default()), Ok(()));
        let env = [(CLOSED_ADDRESS.to_owned(), "nonsense".to_owned())].into();
        assert_eq!(wait(&env).unwrap_err(), "PAAS_CLOSED_ADDRESS=nonsense is not an address");
    }
}
