//! Who may use a proxy that others on the machine can reach: whoever has its URL.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;
use http::header::PROXY_AUTHORIZATION;

const USER: &str = "par";

/// The password of one proxy. Has no `Debug`.
pub struct Authorization {
    expected: String,
    password: String,
}

impl Authorization {
    /// `password`: letters and digits that nobody can guess.
    pub fn new(password: String) -> Self {
        let expected = format!("Basic {}", STANDARD.encode(format!("{USER}:{password}")));
        Self { expected, password }
    }

    /// What an agent's `HTTP_PROXY` is, when the proxy listens at `address`.
    pub fn url(&self, address: std::net::SocketAddr) -> String {
        format!("http://{USER}:{}@{address}", self.password)
    }

    pub(crate) fn admits(&self, headers: &HeaderMap) -> bool {
        let mut given = headers.get_all(PROXY_AUTHORIZATION).iter();
        let (Some(given), None) = (given.next(), given.next()) else {
            return false;
        };
        let (ours, theirs) = (self.expected.as_bytes(), given.as_bytes());
        // Takes as long for a wrong one as for the right one of the same length.
        let differences = ours.iter().zip(theirs).fold(0, |all, (a, b)| all | (a ^ b));
        ours.len() == theirs.len() && differences == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_has_the_url_is_admitted_and_nobody_else() {
        let authorization = Authorization::new("s3cret".to_owned());
        let address = "127.0.0.1:3128".parse().expect("an address");
        assert_eq!(
            authorization.url(address),
            "http://par:s3cret@127.0.0.1:3128"
        );
        let admits = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(PROXY_AUTHORIZATION, value.parse().expect("a value"));
            }
            authorization.admits(&headers)
        };
        let right = format!("Basic {}", STANDARD.encode("par:s3cret"));
        let wrong = format!("Basic {}", STANDARD.encode("par:s3creT"));
        assert!(admits(&[&right]));
        assert!(!admits(&[]));
        assert!(!admits(&[&wrong]));
        assert!(!admits(&["Basic"]));
        assert!(!admits(&[&right, &right]));
    }
}
