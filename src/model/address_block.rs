//! Blocks of addresses, in CIDR notation.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

use super::line::Line;

/// A block of IPv4 or IPv6 addresses, such as `10.0.0.0/8`; an address alone is a block, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AddressBlock {
    address: IpAddr,
    bits: u8,
}

/// Text that is not a block of addresses.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidAddressBlock {
    /// It is not an address, optionally followed by `/` and a number of bits.
    #[error("{0:?} is no address and no CIDR block such as 10.0.0.0/8 or fd00::/8")]
    Syntax(String),
    /// Bits behind the prefix are set.
    #[error(
        "{written:?} is no CIDR block: {bits} bits of it are {block}; write that, or {address} for this address alone"
    )]
    BitsBehindPrefix {
        /// What was written.
        written: String,
        /// Length of the prefix.
        bits: u8,
        /// The block of this length.
        block: AddressBlock,
        /// The address that was written.
        address: IpAddr,
    },
}

impl AddressBlock {
    /// The block of IPv4 addresses that begin with these bits.
    pub(super) const fn v4(a: u8, b: u8, c: u8, d: u8, bits: u8) -> Self {
        Self { address: IpAddr::V4(Ipv4Addr::new(a, b, c, d)), bits }
    }

    /// The block of IPv6 addresses that begin with these bits.
    pub(super) const fn v6(address: u128, bits: u8) -> Self {
        Self { address: IpAddr::V6(Ipv6Addr::from_bits(address)), bits }
    }

    /// First address.
    pub fn first(self) -> IpAddr {
        self.address
    }

    /// Length of the prefix, in bits.
    pub fn bits(self) -> u8 {
        self.bits
    }

    /// The address, if the block has only one.
    pub fn single(self) -> Option<IpAddr> {
        let all = if self.address.is_ipv6() { 128 } else { 32 };
        (self.bits == all).then_some(self.address)
    }

    /// Whether it is a block of IPv6 addresses.
    pub fn is_ipv6(self) -> bool {
        self.address.is_ipv6()
    }

    /// Whether the address is in the block.
    pub fn contains(self, address: IpAddr) -> bool {
        self.covers(address.into())
    }

    /// Whether all addresses of the other block are in this one.
    pub fn covers(self, other: Self) -> bool {
        self.bits <= other.bits && self.overlaps(other)
    }

    /// Whether an address is in both blocks.
    pub fn overlaps(self, other: Self) -> bool {
        let differ = match (self.address, other.address) {
            (IpAddr::V4(one), IpAddr::V4(two)) => u128::from(one.to_bits() ^ two.to_bits()) << 96,
            (IpAddr::V6(one), IpAddr::V6(two)) => one.to_bits() ^ two.to_bits(),
            _ => return false,
        };
        differ.leading_zeros() >= u32::from(self.bits.min(other.bits))
    }
}

impl From<IpAddr> for AddressBlock {
    fn from(address: IpAddr) -> Self {
        Self { address, bits: if address.is_ipv6() { 128 } else { 32 } }
    }
}

/// In CIDR notation, as packet filters list it: an address alone has all of its bits.
impl fmt::Display for AddressBlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.bits)
    }
}

impl FromStr for AddressBlock {
    type Err = InvalidAddressBlock;

    fn from_str(text: &str) -> Result<Self, InvalidAddressBlock> {
        let invalid = || InvalidAddressBlock::Syntax(Line::excerpt(text));
        let (address, bits) = text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
        let address: IpAddr = address.parse().map_err(|_| invalid())?;
        let whole = Self::from(address);
        let Some(bits) = bits else { return Ok(whole) };
        // Digits alone: `parse` would also accept a plus sign.
        let bits = Some(bits).filter(|bits| bits.bytes().all(|b| b.is_ascii_digit()));
        let bits = bits.and_then(|bits| bits.parse().ok()).filter(|bits: &u8| *bits <= whole.bits);
        let bits = bits.ok_or_else(invalid)?;
        let first = match address {
            IpAddr::V4(v4) => {
                Ipv4Addr::from_bits(v4.to_bits() & u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0)).into()
            }
            IpAddr::V6(v6) => {
                Ipv6Addr::from_bits(v6.to_bits() & u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0)).into()
            }
        };
        let block = Self { address: first, bits };
        if first != address {
            return Err(InvalidAddressBlock::BitsBehindPrefix { written: Line::excerpt(text), bits, block, address });
        }
        Ok(block)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(text: &str) -> AddressBlock {
        text.parse().unwrap()
    }

    #[test]
    fn blocks_are_read_and_written_in_cidr_notation() {
        for text in ["10.0.0.0/8", "0.0.0.0/0", "::/0", "192.0.2.7/32", "fd00::/8", "fd00::7/128"] {
            assert_eq!(block(text).to_string(), text);
        }
        assert_eq!(block("192.0.2.7").to_string(), "192.0.2.7/32");
        assert_eq!(block("fd00::7").single(), Some("fd00::7".parse().unwrap()));
        for bad in ["", "10.0.0", "10.0.0.0/33", "10.0.0.0/", "10.0.0.0/+8", "10.0.0.0/-1", "fd00::/129", "a/8", "/8"] {
            assert!(matches!(bad.parse::<AddressBlock>(), Err(InvalidAddressBlock::Syntax(_))), "{bad}");
        }
        assert_eq!(
            "10.1.2.3/8".parse::<AddressBlock>().unwrap_err().to_string(),
            "\"10.1.2.3/8\" is no CIDR block: 8 bits of it are 10.0.0.0/8; write that, or 10.1.2.3 for this address alone"
        );
    }

    #[test]
    fn a_block_contains_its_addresses() {
        for (in_block, address, expected) in [
            ("10.210.0.0/16", "10.210.7.9", true),
            ("10.210.0.0/16", "10.211.0.1", false),
            ("0.0.0.0/0", "8.8.8.8", true),
            ("192.0.2.7/32", "192.0.2.7", true),
            ("192.0.2.7/32", "192.0.2.6", false),
            ("fd00:1::/64", "fd00:1::5", true),
            ("fd00:1::/64", "fd00:2::5", false),
            ("fd00:1::/64", "10.0.0.1", false),
            ("::/0", "10.0.0.1", false),
        ] {
            assert_eq!(block(in_block).contains(address.parse().unwrap()), expected, "{in_block} {address}");
        }
        assert!(block("10.0.0.0/8").covers(block("10.1.0.0/16")) && block("10.1.0.0/16").overlaps(block("10.0.0.0/8")));
        assert!(
            !block("10.1.0.0/16").covers(block("10.0.0.0/8")) && !block("10.0.0.0/8").overlaps(block("11.0.0.0/8"))
        );
    }
}
