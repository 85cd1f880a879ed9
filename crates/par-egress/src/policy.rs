//! What one agent may reach. Decides without a clock, a socket or a resolver.

use std::net::{IpAddr, SocketAddr};

use par_model::egress::{BoundSecret, Egress};
use par_model::network::{Destination, Host, HostPattern, Speaks};

use crate::address::special;
use crate::refusal::Refusal;

const HTTP: u16 = 80;

/// Has no `Debug`: it holds secrets.
#[derive(Default)]
pub struct Policy {
    egress: Egress,
}

/// Where a request goes, and who speaks what there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Way {
    pub host: Host,
    pub port: u16,
    pub speaks: Speaks,
}

impl Policy {
    pub fn new(egress: Egress) -> Self {
        Self { egress }
    }

    /// `CONNECT host:port`
    pub fn tunnel(&self, host: &Host, port: u16) -> Result<Way, Refusal> {
        if self.grants(host, port, Speaks::Anything) {
            return Ok(way(host, port, Speaks::Anything));
        }
        let asked = destination(host, port, Speaks::Anything);
        Err(match self.grants(host, port, Speaks::Https) {
            true => Refusal::OnlyByTheProxy { asked },
            false => Refusal::NotGranted { asked },
        })
    }

    /// `GET http://host:port/…`: in plain HTTP, or in TLS where that is what was granted. Without a port, port 80 means the
    /// usual port of either.
    pub fn plain(&self, host: &Host, port: Option<u16>) -> Result<Way, Refusal> {
        let secure = self.egress.granted.iter().find(|granted| {
            let same_port = match port {
                None | Some(HTTP) => true,
                Some(port) => granted.port == port,
            };
            granted.speaks == Speaks::Https && same_port && granted.hosts.matches(host)
        });
        if let Some(granted) = secure {
            return Ok(way(host, granted.port, Speaks::Https));
        }
        let port = port.unwrap_or(HTTP);
        match self.grants(host, port, Speaks::Anything) {
            true => Ok(way(host, port, Speaks::Anything)),
            false => Err(Refusal::NotGranted {
                asked: destination(host, port, Speaks::Anything),
            }),
        }
    }

    /// Whether a granted host may be reached at this address. `ours`: it is one of this machine.
    pub fn address(&self, address: SocketAddr, ours: bool) -> Result<(), Refusal> {
        let (ip, port) = (address.ip(), address.port());
        let here = ours || ip.to_canonical().is_loopback();
        if here && self.is_own_port(port) {
            return Err(Refusal::OwnPort { port });
        }
        if self.names(ip, port) {
            return Ok(());
        }
        let what = special(ip).or_else(|| ours.then_some("this machine"));
        what.map_or(Ok(()), |what| Err(Refusal::Address { address, what }))
    }

    pub fn secrets(&self) -> &[BoundSecret] {
        &self.egress.secrets
    }

    fn grants(&self, host: &Host, port: u16, speaks: Speaks) -> bool {
        self.egress.granted.iter().any(|granted| {
            granted.port == port && granted.speaks == speaks && granted.hosts.matches(host)
        })
    }

    /// Whether the operator wrote down this very address.
    fn names(&self, ip: IpAddr, port: u16) -> bool {
        self.egress.granted.iter().any(|granted| {
            granted.port == port && granted.hosts == HostPattern::Exactly(Host::Address(ip))
        })
    }

    fn is_own_port(&self, port: u16) -> bool {
        let mut ranges = self.egress.own_ports.iter();
        ranges.any(|(first, last)| (*first..=*last).contains(&port))
    }
}

fn way(host: &Host, port: u16, speaks: Speaks) -> Way {
    Way {
        host: host.clone(),
        port,
        speaks,
    }
}

fn destination(host: &Host, port: u16, speaks: Speaks) -> Destination {
    Destination {
        hosts: HostPattern::Exactly(host.clone()),
        port,
        speaks,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn policy(granted: &[&str]) -> Policy {
        let granted = granted
            .iter()
            .map(|text| text.parse().expect("a destination"));
        Policy::new(Egress {
            granted: granted.collect(),
            own_ports: vec![(8000, 8000), (8001, 8999), (18001, 18999)],
            ..Egress::default()
        })
    }

    fn host(text: &str) -> Host {
        Host::parse(text).expect("a host")
    }

    #[test]
    fn nothing_is_granted_unless_it_was() {
        let nothing = Policy::default();
        assert!(nothing.tunnel(&host("api.example.org"), 443).is_err());
        assert!(nothing.plain(&host("api.example.org"), None).is_err());
        let some = policy(&["api.example.org:443"]);
        assert!(some.tunnel(&host("API.example.org."), 443).is_ok());
        assert!(some.tunnel(&host("api.example.org"), 80).is_err());
        assert!(some.tunnel(&host("x.api.example.org"), 443).is_err());
        assert!(some.tunnel(&host("example.org"), 443).is_err());
    }

    #[test]
    fn tls_by_the_proxy_is_asked_for_in_plain_http_and_not_through_a_tunnel() {
        let policy = policy(&["https://api.example.org", "https://other.example.org:8443"]);
        let api = host("api.example.org");
        for port in [None, Some(80), Some(443)] {
            let way = policy.plain(&api, port).expect("granted");
            assert_eq!((way.port, way.speaks), (443, Speaks::Https), "{port:?}");
        }
        assert!(policy.plain(&api, Some(8080)).is_err());
        let refused = policy.tunnel(&api, 443).expect_err("not a tunnel");
        assert!(matches!(refused, Refusal::OnlyByTheProxy { .. }));
        let way = policy
            .plain(&host("other.example.org"), None)
            .expect("granted");
        assert_eq!(way.port, 8443);
    }

    #[test]
    fn private_addresses_are_reached_only_when_the_operator_wrote_them_down() {
        let policy = policy(&["db.example.org:5432", "10.0.0.5:5432", "127.0.0.1:11434"]);
        let may = |text: &str| {
            policy
                .address(text.parse().expect("an address"), false)
                .is_ok()
        };
        assert!(may("93.184.216.34:5432"), "public");
        assert!(may("10.0.0.5:5432"));
        assert!(may("127.0.0.1:11434"));
        for address in [
            "10.0.0.5:5433",
            "10.0.0.6:5432",
            "127.0.0.1:5432",
            "127.0.0.2:11434",
            "[::ffff:10.0.0.5]:5432",
            "[::1]:11434",
            "169.254.169.254:80",
        ] {
            assert!(!may(address), "{address}");
        }
    }

    #[test]
    fn no_grant_leads_to_our_own_ports_on_this_machine() {
        let policy = policy(&["127.0.0.1:8000", "127.0.0.1:18001", "93.184.216.34:8000"]);
        for (address, ours) in [
            ("127.0.0.1:8000", false),
            ("127.0.0.1:18001", false),
            ("93.184.216.34:8000", true),
        ] {
            let refused = policy.address(address.parse().expect("an address"), ours);
            assert!(matches!(refused, Err(Refusal::OwnPort { .. })), "{address}");
        }
        let elsewhere = "93.184.216.34:8000".parse().expect("an address");
        assert!(policy.address(elsewhere, false).is_ok());
    }

    #[test]
    fn a_public_address_of_this_machine_has_to_be_written_down_too() {
        let address = "93.184.216.34:80".parse().expect("an address");
        assert!(
            policy(&["a.example.org:80"])
                .address(address, true)
                .is_err()
        );
        assert!(policy(&["93.184.216.34:80"]).address(address, true).is_ok());
    }

    proptest! {
        #[test]
        fn without_grants_nothing_is_reached(name in "[a-z]{1,8}(\\.[a-z]{1,8}){0,3}", port in 1u16..) {
            let nothing = Policy::default();
            let host = Host::Name(name);
            prop_assert!(nothing.tunnel(&host, port).is_err());
            prop_assert!(nothing.plain(&host, Some(port)).is_err());
        }

        #[test]
        fn what_is_special_needs_its_very_address(bits in any::<u32>(), port in 1u16..) {
            let ip = IpAddr::from(std::net::Ipv4Addr::from(bits));
            let address = SocketAddr::new(ip, port);
            let may = policy(&["*.example.org:1", "a.example.org:1"]).address(address, false).is_ok();
            prop_assert_eq!(may, special(ip).is_none());
        }
    }
}
