//! Where a webhook is.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use http::Uri;
use http::uri::Scheme;
use sha2::{Digest as _, Sha256};

/// An `http` or `https` URL. What follows the host may be secret, and is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Target {
    pub(super) is_secure: bool,
    /// As a name is looked up: without brackets.
    pub(super) host: String,
    pub(super) port: u16,
    /// For the header `host`.
    pub(super) authority: String,
    /// Path and query.
    pub(super) path: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadTarget {
    #[error("it is no URL such as https://example.com/hook")]
    NoUrl,
    #[error("it begins neither with http:// nor with https://")]
    Scheme,
    #[error("names and passwords in it are not sent; the receiver knows us by the signature")]
    User,
}

impl FromStr for Target {
    type Err = BadTarget;

    fn from_str(text: &str) -> Result<Self, BadTarget> {
        let uri: Uri = text.parse().map_err(|_| BadTarget::NoUrl)?;
        let authority = uri.authority().ok_or(BadTarget::NoUrl)?;
        let is_secure = match uri.scheme() {
            Some(scheme) if *scheme == Scheme::HTTPS => true,
            Some(scheme) if *scheme == Scheme::HTTP => false,
            _ => return Err(BadTarget::Scheme),
        };
        if authority.as_str().contains('@') {
            return Err(BadTarget::User);
        }
        let host = authority.host();
        if host.is_empty() {
            return Err(BadTarget::NoUrl);
        }
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        Ok(Self {
            is_secure,
            host: host.trim_matches(['[', ']']).to_owned(),
            port: authority
                .port_u16()
                .unwrap_or(if is_secure { 443 } else { 80 }),
            authority: authority.to_string(),
            path: path.to_owned(),
        })
    }
}

impl Target {
    pub(crate) fn is_secure(&self) -> bool {
        self.is_secure
    }

    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn authority(&self) -> &str {
        &self.authority
    }

    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    /// Whether nobody on the way can change what comes from there.
    pub(crate) fn is_trustworthy(&self) -> bool {
        let address = self.host.parse::<IpAddr>();
        let is_here = address.is_ok_and(|address| address.is_loopback());
        self.is_secure || is_here || self.host == "localhost"
    }

    fn scheme(&self) -> &'static str {
        if self.is_secure { "https" } else { "http" }
    }

    /// Tells it from others without telling what it is.
    pub(super) fn fingerprint(&self) -> String {
        let whole = format!("{}://{}{}", self.scheme(), self.authority, self.path);
        let digest = Sha256::digest(whole);
        digest[..8]
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect()
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rest = if self.path == "/" { "" } else { "/…" };
        write!(f, "{}://{}{rest}", self.scheme(), self.authority)
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Target({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_taken_apart_and_its_secret_part_is_not_shown() {
        let target: Target = "https://[::1]:8443/T0KEN?a=b".parse().expect("a URL");
        assert_eq!((target.host.as_str(), target.port), ("::1", 8443));
        assert_eq!(target.path, "/T0KEN?a=b");
        assert_eq!(target.to_string(), "https://[::1]:8443/…");
        assert!(!format!("{target:?}").contains("T0KEN"));
        let plain: Target = "http://example.com".parse().expect("a URL");
        assert_eq!((plain.port, plain.path.as_str()), (80, "/"));
        assert_ne!(plain.fingerprint(), target.fingerprint());
    }

    #[test]
    fn what_cannot_be_posted_to_is_refused() {
        for (text, why) in [
            ("", BadTarget::NoUrl),
            ("/path", BadTarget::NoUrl),
            ("example.com", BadTarget::Scheme),
            ("ftp://example.com/x", BadTarget::Scheme),
            ("http://", BadTarget::NoUrl),
            ("http://a b/", BadTarget::NoUrl),
            ("https://user:pw@example.com/", BadTarget::User),
        ] {
            assert_eq!(text.parse::<Target>(), Err(why), "{text}");
        }
    }
}
