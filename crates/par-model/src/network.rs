//! Where an agent may go: destinations as they are written in `agent.yaml`, on command lines and in the state file.
//!
//! ```text
//! api.example.org:443        that name, that port
//! *.example.org:443          every name below it, not the name itself
//! 127.0.0.1:5432, [::1]:80   that very address: the only way to private addresses, and to those of this machine
//! https://api.example.org    the proxy speaks TLS there, for an agent that asks it for http://api.example.org/
//! ```

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Of a destination as it is written.
const LONGEST: usize = 300;
/// Of a name, by the rules of DNS.
const LONGEST_NAME: usize = 253;
const LONGEST_LABEL: usize = 63;
const HTTPS: u16 = 443;

/// Where somebody may go.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Destination {
    pub hosts: HostPattern,
    pub port: u16,
    pub speaks: Speaks,
}

/// Who speaks what with a destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Speaks {
    /// The agent, whatever it likes: through a tunnel, or in plain HTTP.
    Anything,
    /// The proxy, TLS, on behalf of an agent that speaks plain HTTP with the proxy.
    Https,
}

/// One host, or many.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum HostPattern {
    Exactly(Host),
    /// Every name that ends with a dot and this one.
    Below(String),
}

/// A host that somebody wants to reach. Names are in lower case, without a dot at their end.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Host {
    Name(String),
    Address(IpAddr),
}

/// Why a text is no destination, or no host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidDestination {
    #[error("longer than {LONGEST} characters")]
    TooLong,
    #[error("no host; write HOST:PORT, such as api.example.org:443")]
    NoHost,
    #[error("no port; write HOST:PORT, such as api.example.org:443")]
    NoPort,
    #[error("the port is not a number from 1 to 65535")]
    Port,
    #[error("`http://` says too little; write HOST:PORT, such as api.example.org:80")]
    Http,
    #[error(
        "not HOST:PORT, nor https://HOST; schemes, paths, users and blanks have no place in it"
    )]
    Shape,
    #[error(
        "not a name of letters, digits, `-`, `_` and dots; others are written in their `xn--` form"
    )]
    Name,
    #[error("neither a name nor an address; write an IPv4 address as four decimal numbers")]
    Spelling,
    #[error("not an IPv6 address in brackets, such as [2001:db8::1]:443")]
    Ipv6,
    #[error(
        "`*` stands for all that is below a name of two parts at least, such as *.example.org:443"
    )]
    Wildcard,
    #[error("a name never leads to this machine; write its address, such as 127.0.0.1:5432")]
    Localhost,
    #[error("an address that no connection leads to")]
    Nowhere,
    #[error("an IPv4 address in IPv6 clothes; write it as four decimal numbers")]
    Mapped,
}

use InvalidDestination as Wrong;

impl Host {
    /// As it stands in a request; a port does not belong to it, brackets around an IPv6 address do.
    pub fn parse(text: &str) -> Result<Self, InvalidDestination> {
        if text.is_empty() {
            return Err(Wrong::NoHost);
        }
        if let Some(rest) = text.strip_prefix('[') {
            let inner = rest.strip_suffix(']').ok_or(Wrong::Ipv6)?;
            let address: Ipv6Addr = inner.parse().map_err(|_| Wrong::Ipv6)?;
            return Ok(Self::Address(IpAddr::V6(address)));
        }
        let name = text.strip_suffix('.').unwrap_or(text);
        if looks_like_ipv4(name) {
            // What others read as an address in octal, hexadecimal or fewer parts is none here.
            let address: Ipv4Addr = name.parse().map_err(|_| Wrong::Spelling)?;
            return Ok(Self::Address(IpAddr::V4(address)));
        }
        check_name(name)?;
        Ok(Self::Name(name.to_ascii_lowercase()))
    }
}

/// The rule of the URL standard: a last part that is a number makes an address of the whole.
fn looks_like_ipv4(name: &str) -> bool {
    let last = name.rsplit('.').next().unwrap_or_default();
    let hexadecimal = last
        .strip_prefix("0x")
        .or_else(|| last.strip_prefix("0X"))
        .is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
    let decimal = !last.is_empty() && last.bytes().all(|byte| byte.is_ascii_digit());
    hexadecimal || decimal
}

fn check_name(name: &str) -> Result<(), InvalidDestination> {
    let fits = |label: &str| {
        let named = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        !label.is_empty()
            && label.len() <= LONGEST_LABEL
            && label.bytes().all(named)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    match name.len() <= LONGEST_NAME && name.split('.').all(fits) {
        true => Ok(()),
        false => Err(Wrong::Name),
    }
}

impl HostPattern {
    pub fn matches(&self, host: &Host) -> bool {
        match (self, host) {
            (Self::Exactly(own), host) => own == host,
            (Self::Below(parent), Host::Name(name)) => name
                .strip_suffix(parent.as_str())
                .is_some_and(|rest| rest.len() > 1 && rest.ends_with('.')),
            (Self::Below(_), Host::Address(_)) => false,
        }
    }
}

impl FromStr for HostPattern {
    type Err = InvalidDestination;

    fn from_str(text: &str) -> Result<Self, InvalidDestination> {
        if text.len() > LONGEST {
            return Err(Wrong::TooLong);
        }
        let Some(parent) = text.strip_prefix("*.") else {
            if text.contains('*') {
                return Err(Wrong::Wildcard);
            }
            return exactly(text);
        };
        match Host::parse(parent) {
            Ok(Host::Name(name)) if name.contains('.') => Ok(Self::Below(name)),
            Ok(_) | Err(_) => Err(Wrong::Wildcard),
        }
    }
}

fn exactly(text: &str) -> Result<HostPattern, InvalidDestination> {
    let host = Host::parse(text)?;
    match &host {
        Host::Name(name) if name == "localhost" || name.ends_with(".localhost") => {
            return Err(Wrong::Localhost);
        }
        Host::Address(IpAddr::V4(address))
            if address.is_unspecified() || address.is_multicast() || address.is_broadcast() =>
        {
            return Err(Wrong::Nowhere);
        }
        Host::Address(IpAddr::V6(address))
            if address.is_unspecified() || address.is_multicast() =>
        {
            return Err(Wrong::Nowhere);
        }
        Host::Address(IpAddr::V6(address)) if address.to_ipv4_mapped().is_some() => {
            return Err(Wrong::Mapped);
        }
        _ => {}
    }
    Ok(HostPattern::Exactly(host))
}

impl FromStr for Destination {
    type Err = InvalidDestination;

    fn from_str(text: &str) -> Result<Self, InvalidDestination> {
        if text.len() > LONGEST {
            return Err(Wrong::TooLong);
        }
        let (speaks, rest) = match text.strip_prefix("https://") {
            Some(rest) => (Speaks::Https, rest),
            None if text.starts_with("http://") => return Err(Wrong::Http),
            None => (Speaks::Anything, text),
        };
        let odd = |c: char| "/@?#\\%".contains(c) || c.is_whitespace() || c.is_control();
        if rest.contains(odd) {
            return Err(Wrong::Shape);
        }
        let (host, port) = match (split_port(rest), speaks) {
            ((host, Some(port)), _) => (host, parse_port(port)?),
            ((host, None), Speaks::Https) => (host, HTTPS),
            ((_, None), Speaks::Anything) => return Err(Wrong::NoPort),
        };
        Ok(Self {
            hosts: host.parse()?,
            port,
            speaks,
        })
    }
}

/// The colons of an IPv6 address are in brackets.
pub fn split_port(text: &str) -> (&str, Option<&str>) {
    let after = text.rfind(']').map_or(0, |bracket| bracket + 1);
    match text[after..].rfind(':') {
        Some(colon) => (&text[..after + colon], Some(&text[after + colon + 1..])),
        None => (text, None),
    }
}

fn parse_port(text: &str) -> Result<u16, InvalidDestination> {
    let canonical = !text.starts_with('0') && text.bytes().all(|byte| byte.is_ascii_digit());
    let port = canonical.then(|| text.parse().ok()).flatten();
    port.ok_or(Wrong::Port)
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Address(IpAddr::V4(address)) => write!(f, "{address}"),
            Self::Address(IpAddr::V6(address)) => write!(f, "[{address}]"),
        }
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exactly(host) => write!(f, "{host}"),
            Self::Below(parent) => write!(f, "*.{parent}"),
        }
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { hosts, port, .. } = self;
        match (self.speaks, *port) {
            (Speaks::Https, HTTPS) => write!(f, "https://{hosts}"),
            (Speaks::Https, port) => write!(f, "https://{hosts}:{port}"),
            (Speaks::Anything, port) => write!(f, "{hosts}:{port}"),
        }
    }
}

impl TryFrom<String> for Destination {
    type Error = InvalidDestination;

    fn try_from(text: String) -> Result<Self, InvalidDestination> {
        text.parse()
    }
}

impl From<Destination> for String {
    fn from(destination: Destination) -> Self {
        destination.to_string()
    }
}

impl TryFrom<String> for HostPattern {
    type Error = InvalidDestination;

    fn try_from(text: String) -> Result<Self, InvalidDestination> {
        text.parse()
    }
}

impl From<HostPattern> for String {
    fn from(pattern: HostPattern) -> Self {
        pattern.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_written_well_is_understood_and_written_the_same() {
        for (text, written) in [
            ("api.example.org:443", "api.example.org:443"),
            ("API.Example.ORG.:8443", "api.example.org:8443"),
            ("*.example.org:443", "*.example.org:443"),
            ("db:5432", "db:5432"),
            ("127.0.0.1:5432", "127.0.0.1:5432"),
            ("[0:0:0:0:0:0:0:1]:80", "[::1]:80"),
            ("https://api.example.org", "https://api.example.org"),
            ("https://api.example.org:443", "https://api.example.org"),
            ("https://*.example.org:8443", "https://*.example.org:8443"),
        ] {
            let destination: Destination = text.parse().unwrap_or_else(|e| panic!("{text}: {e}"));
            assert_eq!(destination.to_string(), written);
        }
    }

    #[test]
    fn what_is_written_badly_is_refused_with_what_is_wrong() {
        for (text, wrong) in [
            ("", Wrong::NoPort),
            (":443", Wrong::NoHost),
            ("api.example.org", Wrong::NoPort),
            ("api.example.org:", Wrong::Port),
            ("api.example.org:0", Wrong::Port),
            ("api.example.org:0443", Wrong::Port),
            ("api.example.org:+443", Wrong::Port),
            ("api.example.org:65536", Wrong::Port),
            ("http://api.example.org", Wrong::Http),
            ("ftp://api.example.org:21", Wrong::Shape),
            ("https://api.example.org/v1", Wrong::Shape),
            ("user@api.example.org:443", Wrong::Shape),
            ("a b:443", Wrong::Shape),
            ("ex\u{e4}mple.org:443", Wrong::Name),
            ("-a.example.org:443", Wrong::Name),
            ("a..example.org:443", Wrong::Name),
            ("*:443", Wrong::Wildcard),
            ("*.org:443", Wrong::Wildcard),
            ("a.*.example.org:443", Wrong::Wildcard),
            ("*.0.0.1:443", Wrong::Wildcard),
            ("2130706433:80", Wrong::Spelling),
            ("0x7f000001:80", Wrong::Spelling),
            ("0x7f.1:80", Wrong::Spelling),
            ("0177.0.0.1:80", Wrong::Spelling),
            ("127.1:80", Wrong::Spelling),
            ("::1:80", Wrong::Name),
            ("[::1%25lo]:80", Wrong::Shape),
            ("[::ffff:127.0.0.1]:80", Wrong::Mapped),
            ("localhost:80", Wrong::Localhost),
            ("x.localhost.:80", Wrong::Localhost),
            ("0.0.0.0:80", Wrong::Nowhere),
            ("[::]:80", Wrong::Nowhere),
            ("224.0.0.1:80", Wrong::Nowhere),
        ] {
            assert_eq!(text.parse::<Destination>(), Err(wrong), "{text}");
        }
    }

    #[test]
    fn a_star_means_what_is_below_and_nothing_that_only_ends_alike() {
        let pattern: HostPattern = "*.example.org".parse().expect("a pattern");
        for (name, means) in [
            ("a.example.org", true),
            ("a.b.example.org", true),
            ("example.org", false),
            (".example.org", false),
            ("badexample.org", false),
            ("a.example.org.evil.net", false),
        ] {
            let host = Host::Name(name.to_owned());
            assert_eq!(pattern.matches(&host), means, "{name}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic_and_what_is_read_is_written_and_read_the_same(text in "\\PC{0,40}") {
            if let Ok(destination) = text.parse::<Destination>() {
                prop_assert_eq!(destination.to_string().parse(), Ok(destination));
            }
        }

        #[test]
        fn every_plausible_text_is_read_back_as_it_was_understood(
            text in "(https://)?(\\*\\.)?[a-z0-9.\\[\\]:x-]{1,20}:?[0-9]{0,5}"
        ) {
            if let Ok(destination) = text.parse::<Destination>() {
                prop_assert_eq!(destination.to_string().parse(), Ok(destination));
            }
        }

        #[test]
        fn an_address_has_one_spelling(bits in any::<u32>()) {
            let address = Ipv4Addr::from(bits);
            prop_assert_eq!(
                Host::parse(&address.to_string()),
                Ok(Host::Address(IpAddr::V4(address)))
            );
            for other in [format!("{bits}"), format!("{bits:#x}"), format!("0{bits:o}")] {
                prop_assert_eq!(Host::parse(&other), Err(Wrong::Spelling));
            }
        }
    }
}
