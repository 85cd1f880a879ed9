//! Whether a request is for us: the host that it names, and the page that it comes from.
//!
//! A page in a browser on this machine can send requests to our address, under a name of its own that was bound to it
//! (DNS rebinding), or across origins. Neither may reach what can start programs.

use std::net::{IpAddr, Ipv6Addr};

use par_model::CallError;

/// Longer than any name of the DNS, with a port.
const LONGEST: usize = 300;
/// Longest part of a caller's own words that is said back.
const MAX_SHOWN: usize = 80;

/// What the `Host` line, or the authority of the target, says: `name`, `name:port`, `1.2.3.4:80` or `[::1]:80`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Host<'a> {
    name: Name<'a>,
    port: Option<u16>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Name<'a> {
    Address(IpAddr),
    /// Letters of either case.
    Dns(&'a str),
}

impl<'a> Host<'a> {
    /// None for anything that another parser could read differently: user names, spaces, escapes, paths.
    pub fn parse(text: &'a str) -> Option<Self> {
        if text.len() > LONGEST {
            return None;
        }
        let (name, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (address, port) = rest.split_once(']')?;
                let address: Ipv6Addr = address.parse().ok()?;
                (Name::Address(address.into()), port)
            }
            None => {
                let end = text.find(':').unwrap_or(text.len());
                let (name, port) = text.split_at(end);
                (Name::parse(name)?, port)
            }
        };
        let port = match port {
            "" => None,
            port => Some(decimal(port.strip_prefix(':')?)?),
        };
        Some(Self { name, port })
    }
}

impl<'a> Name<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        if text.is_empty() || !text.bytes().all(fits) {
            return None;
        }
        let address = text.parse().ok().map(Self::Address);
        Some(address.unwrap_or(Self::Dns(text)))
    }

    fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Address(one), Self::Address(other)) => one == other,
            (Self::Dns(one), Self::Dns(other)) => one.eq_ignore_ascii_case(other),
            _ => false,
        }
    }
}

fn decimal(digits: &str) -> Option<u16> {
    let all_digits = digits.bytes().all(|digit| digit.is_ascii_digit());
    digits.parse().ok().filter(|_| all_digits)
}

/// The page that a request comes from: `scheme://host`, `scheme://host:port`.
fn same_origin(origin: &str, host: &Host<'_>) -> bool {
    let Some((scheme, authority)) = origin.split_once("://") else {
        return false;
    };
    let usual = match scheme {
        "http" => 80,
        "https" => 443,
        _ => return false,
    };
    Host::parse(authority).is_some_and(|origin| {
        origin.name.is(&host.name) && origin.port.unwrap_or(usual) == host.port.unwrap_or(usual)
    })
}

/// Who we are, and whose pages may use us.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    hosts: Hosts,
    /// As browsers write them; `*` is everybody.
    origins: Vec<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Hosts {
    /// We cannot know our names.
    #[default]
    Any,
    /// Addresses, names of this machine, and these.
    Known(Vec<String>),
}

impl Names {
    /// Of a server that listens on `own`. Behind an address that others reach, our names are only known when they are
    /// listed.
    pub fn of(own: IpAddr, listed: Vec<String>, origins: Vec<String>) -> Self {
        let hosts = if own.is_loopback() || !listed.is_empty() {
            Hosts::Known(listed)
        } else {
            Hosts::Any
        };
        Self { hosts, origins }
    }

    /// The decision on one request. `host` is the one that it is routed by.
    pub fn admit(&self, host: &str, origin: Option<&str>) -> Result<(), CallError> {
        let parsed = Host::parse(host)
            .ok_or_else(|| CallError::BadRequest(format!("`{}` is not a host", shown(host))))?;
        if !self.has(&parsed) {
            return Err(CallError::ForeignHost(shown(host)));
        }
        match origin {
            Some(origin) if !same_origin(origin, &parsed) && !self.lets_in(origin) => {
                Err(CallError::ForeignOrigin(shown(origin)))
            }
            _ => Ok(()),
        }
    }

    fn has(&self, host: &Host<'_>) -> bool {
        let Hosts::Known(listed) = &self.hosts else {
            return true;
        };
        match host.name {
            // Nobody can bind an address to another one.
            Name::Address(_) => true,
            Name::Dns(name) => {
                is_of_this_machine(name)
                    || listed.iter().any(|known| known.eq_ignore_ascii_case(name))
            }
        }
    }

    fn lets_in(&self, origin: &str) -> bool {
        let mut known = self.origins.iter();
        known.any(|known| known == "*" || known.eq_ignore_ascii_case(origin))
    }
}

/// `supervisor` is what workers call us.
fn is_of_this_machine(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    name == "localhost" || name.ends_with(".localhost") || name == "supervisor"
}

/// A hostile word, cut and without control characters.
fn shown(word: &str) -> String {
    word.chars()
        .take(MAX_SHOWN)
        .flat_map(char::escape_debug)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::net::Ipv4Addr;

    const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
    const EVERYWHERE: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

    fn list(items: &[&str]) -> Vec<String> {
        items.iter().map(|item| (*item).to_owned()).collect()
    }

    #[test]
    fn a_host_is_a_name_or_an_address_and_perhaps_a_port() {
        for good in [
            "localhost",
            "a.example:8000",
            "127.0.0.1",
            "127.0.0.1:8000",
            "[::1]",
            "[::1]:443",
            "A-b_c.example",
        ] {
            assert!(Host::parse(good).is_some(), "{good}");
        }
        for bad in [
            "",
            ":80",
            "a:",
            "a:x",
            "a:+1",
            "a:65536",
            "a:80:80",
            "user@a",
            "user:pw@a",
            "a b",
            " a",
            "a\t",
            "a/b",
            "a?b",
            "a#b",
            "a%2eb",
            "a,b",
            "a\\b",
            "[::1",
            "::1",
            "[::1]x",
            "[::1]:",
            "[a]",
            "[v1.x]",
            "ä",
            "a\0",
        ] {
            assert_eq!(Host::parse(bad), None, "{bad:?}");
        }
        assert_eq!(Host::parse(&"a".repeat(LONGEST + 1)), None);
    }

    #[test]
    fn pages_of_other_origins_and_foreign_names_stay_outside() {
        let names = Names::of(HERE, list(&["par.example"]), list(&["https://app.example"]));
        for (host, origin, inside) in [
            ("127.0.0.1:8000", None, true),
            ("localhost:8000", None, true),
            ("app.localhost", None, true),
            ("[::1]:8000", None, true),
            ("10.0.0.1", None, true),
            ("PAR.example:1", None, true),
            ("localhost:8000", Some("http://localhost:8000"), true),
            ("localhost", Some("http://localhost:80"), true),
            ("localhost:443", Some("https://LOCALHOST"), true),
            ("localhost:8000", Some("https://app.example"), true),
            ("localhost:8000", Some("http://localhost"), false),
            ("localhost:8000", Some("http://127.0.0.1:8000"), false),
            ("localhost:8000", Some("http://app.example"), false),
            ("localhost:8000", Some("http://evil.example"), false),
            ("localhost:8000", Some("null"), false),
            ("localhost:8000", Some(""), false),
            ("localhost:8000", Some("ftp://localhost:8000"), false),
            ("evil.example:8000", None, false),
            ("par.example.evil", None, false),
            ("localhost.evil", None, false),
            ("evil.example:8000", Some("http://evil.example:8000"), false),
        ] {
            let admitted = names.admit(host, origin);
            assert_eq!(admitted.is_ok(), inside, "{host} {origin:?}: {admitted:?}");
        }
    }

    #[test]
    fn behind_an_address_for_all_any_name_may_be_ours_unless_they_are_listed() {
        let anybody = Names::of(EVERYWHERE, vec![], vec![]);
        assert_eq!(anybody.admit("any.example", None), Ok(()));
        assert!(
            anybody
                .admit("any.example", Some("http://evil.example"))
                .is_err()
        );
        let known = Names::of(EVERYWHERE, list(&["par.example"]), list(&["*"]));
        assert!(known.admit("any.example", None).is_err());
        assert_eq!(known.admit("par.example", Some("null")), Ok(()));
    }

    #[test]
    fn a_refusal_says_what_was_refused_cut_and_escaped() {
        let refused = Names::of(HERE, vec![], vec![]).admit("a\u{1b}b", None);
        let words = refused.expect_err("no host").to_string();
        assert!(words.contains(r"a\u{1b}b"), "{words}");
    }

    proptest! {
        #[test]
        fn nothing_that_is_a_host_holds_a_user_an_escape_or_a_path(text in "[a-z0-9.:\\[\\]@%/_-]{0,20}") {
            if Host::parse(&text).is_some() {
                prop_assert!(!text.contains(['@', '%', '/']));
                let again: http::uri::Authority = text.parse().expect("what we take is an authority");
                prop_assert_eq!(again.as_str(), text);
            }
        }

        #[test]
        fn no_text_makes_it_panic(host: String, origin: Option<String>) {
            let _either_way = Names::of(HERE, vec![], vec![]).admit(&host, origin.as_deref());
        }
    }
}
