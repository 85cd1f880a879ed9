//! Addresses that no name leads to, whoever owns the name: what is private, local, or stands for another address.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What an address is, if it is not one of the public internet.
pub fn special(address: IpAddr) -> Option<&'static str> {
    match address {
        IpAddr::V4(address) => special_v4(address),
        IpAddr::V6(address) => special_v6(address),
    }
}

/// Address, length of the prefix, what it is.
const SPECIAL_V4: [([u8; 4], u32, &str); 18] = [
    ([169, 254, 169, 254], 32, "where clouds keep credentials"),
    ([168, 63, 129, 16], 32, "where a cloud configures machines"),
    ([100, 100, 100, 200], 32, "where clouds keep credentials"),
    ([0, 0, 0, 0], 8, "this network"),
    ([10, 0, 0, 0], 8, "private"),
    ([100, 64, 0, 0], 10, "shared by a provider's customers"),
    ([127, 0, 0, 0], 8, "this machine"),
    ([169, 254, 0, 0], 16, "link-local"),
    ([172, 16, 0, 0], 12, "private"),
    ([192, 0, 0, 0], 24, "reserved"),
    ([192, 0, 2, 0], 24, "for documentation"),
    ([192, 88, 99, 0], 24, "a relay to IPv6"),
    ([192, 168, 0, 0], 16, "private"),
    ([198, 18, 0, 0], 15, "for benchmarks"),
    ([198, 51, 100, 0], 24, "for documentation"),
    ([203, 0, 113, 0], 24, "for documentation"),
    ([224, 0, 0, 0], 4, "multicast"),
    ([240, 0, 0, 0], 4, "reserved"),
];

fn special_v4(address: Ipv4Addr) -> Option<&'static str> {
    let bits = address.to_bits();
    let found = SPECIAL_V4.iter().find(|(prefix, length, _)| {
        let mask = u32::MAX << (32 - length);
        bits & mask == Ipv4Addr::from(*prefix).to_bits()
    });
    found.map(|(_, _, what)| *what)
}

/// Within the part that is for the public: address, length of the prefix, what it is.
const SPECIAL_V6: [(Ipv6Addr, u32, &str); 4] = [
    (
        Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0),
        23,
        "a tunnel, or reserved",
    ),
    (
        Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0),
        32,
        "for documentation",
    ),
    (
        Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0),
        16,
        "an IPv4 address in a tunnel",
    ),
    (
        Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0),
        20,
        "for documentation",
    ),
];

/// Only 2000::/3 is for the public. Outside lie this machine, link-local, private and multicast addresses, and all that
/// stand for an IPv4 address: mapped, compatible, and those of NAT64.
fn special_v6(address: Ipv6Addr) -> Option<&'static str> {
    let first = address.segments()[0];
    if first & 0xe000 != 0x2000 {
        return Some(match first {
            _ if address.is_loopback() => "this machine",
            _ if address.is_unspecified() => "this network",
            0xfe80..=0xfebf => "link-local",
            0xfc00..=0xfdff => "private",
            0xff00..=0xffff => "multicast",
            0 | 0x64 => "an IPv4 address in IPv6 clothes",
            _ => "reserved",
        });
    }
    let bits = address.to_bits();
    let found = SPECIAL_V6.iter().find(|(prefix, length, _)| {
        let mask = u128::MAX << (128 - length);
        bits & mask == prefix.to_bits()
    });
    found.map(|(_, _, what)| *what)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn is_special(text: &str) -> bool {
        special(text.parse().expect("an address")).is_some()
    }

    #[test]
    fn what_is_not_of_the_public_internet_is_special() {
        for address in [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "100.64.0.1",
            "100.127.255.255",
            "127.0.0.1",
            "127.255.255.254",
            "169.254.169.254",
            "169.254.0.1",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.192",
            "192.168.1.1",
            "198.18.0.1",
            "198.19.255.255",
            "224.0.0.1",
            "239.255.255.255",
            "240.0.0.1",
            "255.255.255.255",
            "168.63.129.16",
            "100.100.100.200",
            "::",
            "::1",
            "::127.0.0.1",
            "::ffff:127.0.0.1",
            "::ffff:8.8.8.8",
            "64:ff9b::7f00:1",
            "64:ff9b:1::1",
            "100::1",
            "2001::1",
            "2001:0:4136:e378:8000:63bf:3fff:fdd2",
            "2001:10::1",
            "2001:db8::1",
            "2002:7f00:1::",
            "2002:808:808::",
            "3fff::1",
            "fc00::1",
            "fd00:ec2::254",
            "fe80::1",
            "febf::1",
            "fec0::1",
            "ff02::1",
            "4000::1",
        ] {
            assert!(is_special(address), "{address}");
        }
    }

    #[test]
    fn what_is_of_the_public_internet_is_not() {
        for address in [
            "1.1.1.1",
            "8.8.8.8",
            "9.255.255.255",
            "11.0.0.1",
            "100.63.255.255",
            "100.128.0.1",
            "126.255.255.255",
            "128.0.0.1",
            "169.253.1.1",
            "172.15.0.1",
            "172.32.0.1",
            "192.0.1.1",
            "192.167.0.1",
            "198.17.0.1",
            "198.20.0.1",
            "223.255.255.255",
            "2001:200::1",
            "2001:4860:4860::8888",
            "2003::1",
            "2606:4700::1111",
            "3ffe::1",
        ] {
            assert!(!is_special(address), "{address}");
        }
    }

    proptest! {
        /// The second model: what the standard library knows of addresses.
        #[test]
        fn nothing_that_the_standard_library_knows_as_special_passes(bits in any::<u32>(), wide in any::<u128>()) {
            let v4 = Ipv4Addr::from(bits);
            let known = v4.is_private() || v4.is_loopback() || v4.is_link_local() || v4.is_multicast()
                || v4.is_broadcast() || v4.is_unspecified() || v4.is_documentation();
            prop_assert!(!known || special(v4.into()).is_some(), "{}", v4);
            let v6 = Ipv6Addr::from(wide);
            let known = v6.is_loopback() || v6.is_unspecified() || v6.is_multicast()
                || v6.is_unique_local() || v6.is_unicast_link_local() || v6.to_ipv4().is_some();
            prop_assert!(!known || special(v6.into()).is_some(), "{}", v6);
        }

        #[test]
        fn no_ipv4_address_passes_in_ipv6_clothes(bits in any::<u32>()) {
            let v4 = Ipv4Addr::from(bits);
            let [a, b] = [(bits >> 16) as u16, bits as u16];
            for v6 in [
                v4.to_ipv6_mapped(),
                v4.to_ipv6_compatible(),
                Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, a, b),
                Ipv6Addr::new(0x2002, a, b, 0, 0, 0, 0, 1),
                Ipv6Addr::new(0x2001, 0, 1, 2, 3, 4, !a, !b),
            ] {
                prop_assert!(special(v6.into()).is_some(), "{}", v6);
            }
        }
    }
}
