//! IPv4 addresses of bridges and instances.

use std::{net::Ipv4Addr, str::FromStr};

use super::line::Line;

/// Text that is not a private IPv4 /16.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} must be a private /16 such as 10.210.0.0/16")]
pub struct InvalidAddressRange(pub String);

/// How a private IPv4 /16 (`network.range`) is divided: 63 subnets of 1,024 addresses for app bridges, the last one for
/// the build bridge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AddressPlan {
    /// First address of the range.
    base: u32,
}

impl AddressPlan {
    /// Maximum number of app bridges.
    pub const APP_BRIDGES: u32 = 63;
    /// Maximum number of instances on one app bridge.
    pub const INSTANCES_A_BRIDGE: u32 = 1000;

    /// Subnet of app bridge `index`, as `address/22`, and its gateway.
    pub fn app_bridge(self, index: u32) -> (String, Ipv4Addr) {
        self.subnet(index)
    }

    /// Subnet of the build bridge, as `address/22`, and its gateway.
    pub fn build_bridge(self) -> (String, Ipv4Addr) {
        self.subnet(Self::APP_BRIDGES)
    }

    /// Address at which instances of all bridges reach the router if their app is linked to another: the gateway of the first
    /// app bridge.
    pub fn router_address(self) -> Ipv4Addr {
        self.app_bridge(0).1
    }

    /// Address of the instance in `slot` (from 0) on app bridge `index`.
    pub fn instance(self, index: u32, slot: u32) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.base + index * 1024 + 2 + slot)
    }

    /// The app bridge that has this address.
    pub fn bridge_of(self, address: Ipv4Addr) -> Option<u32> {
        let offset = address.to_bits().checked_sub(self.base)?;
        Some(offset / 1024).filter(|index| *index < Self::APP_BRIDGES)
    }

    /// The whole range, as `address/16`.
    pub fn range(self) -> String {
        format!("{}/16", Ipv4Addr::from_bits(self.base))
    }

    fn subnet(self, index: u32) -> (String, Ipv4Addr) {
        let start = self.base + index * 1024;
        (format!("{}/22", Ipv4Addr::from_bits(start)), Ipv4Addr::from_bits(start + 1))
    }
}

impl FromStr for AddressPlan {
    type Err = InvalidAddressRange;

    fn from_str(text: &str) -> Result<Self, InvalidAddressRange> {
        let invalid = || InvalidAddressRange(Line::excerpt(text));
        let address: Ipv4Addr = text.strip_suffix("/16").ok_or_else(invalid)?.parse().map_err(|_| invalid())?;
        if !address.is_private() || address.to_bits() & 0xffff != 0 {
            return Err(invalid());
        }
        Ok(Self { base: address.to_bits() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subnets_do_not_overlap() {
        let plan: AddressPlan = "10.210.0.0/16".parse().unwrap();
        assert_eq!(plan.range(), "10.210.0.0/16");
        assert_eq!(plan.app_bridge(0), ("10.210.0.0/22".into(), Ipv4Addr::new(10, 210, 0, 1)));
        assert_eq!(plan.build_bridge(), ("10.210.252.0/22".into(), Ipv4Addr::new(10, 210, 252, 1)));
        assert_eq!(plan.instance(0, 999), Ipv4Addr::new(10, 210, 3, 233));
        assert_eq!(plan.instance(1, 0), Ipv4Addr::new(10, 210, 4, 2));
        assert_eq!(plan.bridge_of(plan.instance(0, 999)), Some(0));
        assert_eq!(plan.bridge_of(plan.instance(62, 0)), Some(62));
        assert_eq!(plan.bridge_of(plan.build_bridge().1), None);
        assert_eq!(plan.bridge_of(Ipv4Addr::new(10, 209, 255, 255)), None);
    }

    #[test]
    fn only_a_private_range_of_16_bits_is_accepted() {
        for text in ["8.8.0.0/16", "10.210.0.0/8", "10.210.1.0/16", "10.210.0.0", "nonsense/16", ""] {
            assert_eq!(text.parse::<AddressPlan>(), Err(InvalidAddressRange(text.to_owned())), "{text}");
        }
    }
}
