//! Addresses that are closed to what developers bring: private and special ones, and the metadata services of clouds. One
//! list for the packet filters of builds and instances, and for what the server fetches at the request of a developer.

use std::net::{IpAddr, Ipv4Addr};

use super::address_block::AddressBlock;

/// IPv4 addresses that are not on the Internet (RFC 6890). The documentation ranges stay open: nobody uses them but tests.
const IPV4: [AddressBlock; 11] = [
    AddressBlock::v4(0, 0, 0, 0, 8),
    AddressBlock::v4(10, 0, 0, 0, 8),
    AddressBlock::v4(100, 64, 0, 0, 10),
    AddressBlock::v4(127, 0, 0, 0, 8),
    AddressBlock::v4(169, 254, 0, 0, 16),
    AddressBlock::v4(172, 16, 0, 0, 12),
    AddressBlock::v4(192, 0, 0, 0, 24),
    AddressBlock::v4(192, 168, 0, 0, 16),
    // Multicast, reserved, broadcast.
    AddressBlock::v4(224, 0, 0, 0, 3),
    METADATA_IPV4[1],
    METADATA_IPV4[2],
];

/// IPv6 addresses that are not on the Internet, whatever they contain.
const IPV6: [AddressBlock; 7] = [
    // Unspecified, loopback, IPv4-compatible.
    AddressBlock::v6(0, 96),
    // IPv4-mapped.
    AddressBlock::v6(0xffff << 32, 96),
    // IPv4/IPv6 translation within a site (RFC 8215).
    AddressBlock::v6(0x0064_ff9b_0001 << 80, 48),
    AddressBlock::v6(0xfc00 << 112, 7),
    AddressBlock::v6(0xfe80 << 112, 10),
    // Site-local, deprecated.
    AddressBlock::v6(0xfec0 << 112, 10),
    AddressBlock::v6(0xff00 << 112, 8),
];

/// IPv4 addresses at which clouds serve credentials to every process on the machine.
const METADATA_IPV4: [AddressBlock; 4] = [
    AddressBlock::v4(169, 254, 0, 0, 16),
    AddressBlock::v4(100, 100, 100, 200, 32),
    AddressBlock::v4(168, 63, 129, 16, 32),
    AddressBlock::v4(192, 0, 0, 192, 32),
];

/// The same in IPv6.
const METADATA_IPV6: [AddressBlock; 5] = [
    AddressBlock::v6(0xfe80 << 112, 10),
    AddressBlock::v6(0xfd00_0ec2 << 96, 32),
    AddressBlock::v6((0xfd20_00ce << 96) + 0x254, 128),
    AddressBlock::v6((0xfd00_0042 << 96) + 0x42, 128),
    AddressBlock::v6((0xfd00_00c1 << 96) + 0xa9fe_a9fe, 128),
];

/// Prefix of translated IPv4 addresses (RFC 6052), which the address follows.
const TRANSLATED: u128 = 0x0064_ff9b << 96;
/// Prefix of 6to4 addresses (RFC 3056), which the IPv4 address follows.
const SIX_TO_FOUR: u128 = 0x2002 << 112;

/// What no build reaches besides this machine and its containers: everything that is not on the Internet. IPv6 forms of
/// closed IPv4 addresses are included.
pub fn closed_to_builds() -> Vec<AddressBlock> {
    with_ipv6_forms(&IPV4, &IPV6)
}

/// The metadata services of clouds, which no build and no instance reaches. IPv6 forms of IPv4 addresses are included.
pub fn metadata_services() -> Vec<AddressBlock> {
    with_ipv6_forms(&METADATA_IPV4, &METADATA_IPV6)
}

/// The IPv4 address that a translated, mapped or 6to4 IPv6 address leads to; any other address as it is.
pub fn without_translation(address: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = address else { return address };
    let embedded = |bits: u128| IpAddr::V4(Ipv4Addr::from_bits(u32::try_from(bits & 0xffff_ffff).unwrap_or_default()));
    match v6.to_bits() {
        bits if bits >> 32 == TRANSLATED >> 32 => embedded(bits),
        bits if bits >> 112 == SIX_TO_FOUR >> 112 => embedded(bits >> 80),
        _ => address.to_canonical(),
    }
}

fn with_ipv6_forms(ipv4: &[AddressBlock], ipv6: &[AddressBlock]) -> Vec<AddressBlock> {
    let forms = |prefix: u128, prefix_bits: u8| {
        ipv4.iter().map(move |block| match block.first() {
            IpAddr::V4(v4) => {
                let address = prefix | (u128::from(v4.to_bits()) << (128 - 32 - prefix_bits));
                AddressBlock::v6(address, prefix_bits + block.bits())
            }
            IpAddr::V6(_) => *block,
        })
    };
    ipv4.iter().chain(ipv6).copied().chain(forms(TRANSLATED, 96)).chain(forms(SIX_TO_FOUR, 16)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_in(blocks: &[AddressBlock], address: &str) -> bool {
        blocks.iter().any(|block| block.contains(address.parse().unwrap()))
    }

    #[test]
    fn what_is_not_on_the_internet_is_closed_in_every_form() {
        let closed = closed_to_builds();
        for address in [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "100.64.0.1",
            "100.127.255.255",
            "127.0.0.1",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "192.0.0.192",
            "224.0.0.251",
            "239.255.255.255",
            "240.0.0.1",
            "255.255.255.255",
            "168.63.129.16",
            "::",
            "::1",
            "::10.0.0.1",
            "::ffff:10.0.0.1",
            "64:ff9b::a00:1",
            "64:ff9b::a9fe:a9fe",
            "64:ff9b:1::1",
            "2002:a00:1::1",
            "2002:a9fe:a9fe::",
            "fc00::1",
            "fd00::1",
            "fe80::1",
            "fec0::1",
            "ff02::1",
        ] {
            assert!(is_in(&closed, address), "{address}");
        }
        for address in [
            "1.1.1.1",
            "100.63.0.1",
            "100.128.0.1",
            "172.15.0.1",
            "172.32.0.1",
            "192.0.1.1",
            "192.0.2.1",
            "192.167.0.1",
            "198.51.100.7",
            "203.0.113.9",
            "223.255.255.255",
            "168.63.129.17",
            "2001:db8::1",
            "2606:4700::1",
            "64:ff9b::808:808",
            "2002:808:808::1",
        ] {
            assert!(!is_in(&closed, address), "{address}");
        }
    }

    #[test]
    fn metadata_services_are_closed_to_builds_too() {
        let closed = closed_to_builds();
        for block in metadata_services() {
            assert!(closed.iter().any(|range| range.covers(block)), "{block}");
        }
        for address in
            ["169.254.170.2", "100.100.100.200", "192.0.0.192", "fd00:ec2::254", "fd20:ce::254", "64:ff9b::6464:64c8"]
        {
            assert!(is_in(&metadata_services(), address), "{address}");
        }
        assert!(!is_in(&metadata_services(), "100.100.100.201") && !is_in(&metadata_services(), "fd00::1"));
    }

    #[test]
    fn the_ipv4_address_in_an_ipv6_address_is_found() {
        for (written, leads_to) in [
            ("64:ff9b::a9fe:a9fe", "169.254.169.254"),
            ("::ffff:127.0.0.1", "127.0.0.1"),
            ("2002:a00:1::5", "10.0.0.1"),
            ("2001:db8::1", "2001:db8::1"),
            ("10.0.0.1", "10.0.0.1"),
        ] {
            let (written, leads_to): (IpAddr, IpAddr) = (written.parse().unwrap(), leads_to.parse().unwrap());
            assert_eq!(without_translation(written), leads_to);
        }
    }
}
