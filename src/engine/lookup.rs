//! Addresses of names, as the packet filters have them.

use std::{net::IpAddr, time::Duration};

/// How long a name may take to resolve.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Maximum number of addresses of one name.
const MAX_ADDRESSES: usize = 32;

/// The addresses that a name resolves to on this machine, in order; `None` if it does not.
pub async fn addresses_of(name: &str) -> Option<Vec<IpAddr>> {
    let found = tokio::time::timeout(TIMEOUT, tokio::net::lookup_host((name, 0))).await;
    let mut addresses: Vec<_> = found.ok()?.ok()?.map(|address| address.ip()).collect();
    addresses.sort();
    addresses.dedup();
    addresses.truncate(MAX_ADDRESSES);
    Some(addresses)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_name_has_its_addresses_or_none() {
        assert_eq!(addresses_of("192.0.2.7").await, Some(vec![IpAddr::from([192, 0, 2, 7])]));
        assert_eq!(addresses_of("no such name").await, None);
    }
}
