//! The supervisor's address, as people write it.

use std::fmt;
use std::str::FromStr;

use http::Uri;

/// `http://host:port` or `https://host:port`, perhaps with a path below which the supervisor is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Origin {
    is_secure: bool,
    host: String,
    port: u16,
    base_path: String,
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InvalidOrigin {
    #[error("this is no URL; write it like http://127.0.0.1:8000")]
    NoUrl,
    #[error("only http:// and https:// are spoken here; write it like http://127.0.0.1:8000")]
    Scheme,
    #[error("a user name, query or fragment has no meaning here")]
    Extra,
}

impl Origin {
    pub(crate) fn host(&self) -> &str {
        self.host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'))
            .unwrap_or(&self.host)
    }

    pub(crate) fn is_secure(&self) -> bool {
        self.is_secure
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn base_path(&self) -> &str {
        &self.base_path
    }

    pub(crate) fn authority(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    /// Whether it is the one that commands ask when they are not told another.
    pub(crate) fn is_default(&self) -> bool {
        self.to_string() == "http://127.0.0.1:8000"
    }
}

impl FromStr for Origin {
    type Err = InvalidOrigin;

    fn from_str(text: &str) -> Result<Self, InvalidOrigin> {
        let uri: Uri = text.trim().parse().map_err(|_| InvalidOrigin::NoUrl)?;
        let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
            return Err(InvalidOrigin::NoUrl);
        };
        let (is_secure, usual_port) = match scheme {
            "http" => (false, 80),
            "https" => (true, 443),
            _ => return Err(InvalidOrigin::Scheme),
        };
        if uri.query().is_some() || authority.as_str().contains('@') || text.contains('#') {
            return Err(InvalidOrigin::Extra);
        }
        Ok(Self {
            is_secure,
            host: authority.host().to_owned(),
            port: authority.port_u16().unwrap_or(usual_port),
            base_path: uri.path().trim_end_matches('/').to_owned(),
        })
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_secure { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.authority(), self.base_path)
    }
}

/// `text` as one segment of a path, or one value of a query.
pub(crate) fn segment(text: &str) -> String {
    text.bytes().fold(String::new(), |mut encoded, byte| {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
        encoded
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_an_http_url() {
        let origin: Origin = "http://[::1]:9000/par/".parse().expect("valid");
        assert_eq!(
            (origin.host(), origin.port(), origin.base_path()),
            ("::1", 9000, "/par")
        );
        assert_eq!(origin.to_string(), "http://[::1]:9000/par");
        let secure: Origin = "https://par.example".parse().expect("valid");
        assert!(secure.is_secure());
        assert_eq!(secure.to_string(), "https://par.example:443");
        assert!(Origin::from_str("http://127.0.0.1:8000/").is_ok_and(|origin| origin.is_default()));
    }

    #[test]
    fn what_is_no_http_url_is_refused_with_its_reason() {
        for (text, reason) in [
            ("127.0.0.1:8000", InvalidOrigin::NoUrl),
            ("", InvalidOrigin::NoUrl),
            ("ftp://host", InvalidOrigin::Scheme),
            ("http://user@host", InvalidOrigin::Extra),
            ("http://host/?q", InvalidOrigin::Extra),
        ] {
            assert_eq!(Origin::from_str(text), Err(reason), "{text}");
        }
    }

    #[test]
    fn a_segment_stays_one_segment() {
        assert_eq!(segment("a/../b ?#%ä"), "a%2F..%2Fb%20%3F%23%25%C3%A4");
    }
}
