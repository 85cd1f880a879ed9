//! Signs what is sent, by the convention of Standard Webhooks: HMAC-SHA256 over `id.timestamp.body`.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

/// The key that sender and receiver share.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Vec<u8>);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// Says nothing of the secret itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadSecret {
    #[error("the secret is empty")]
    Empty,
    #[error("the secret begins with `whsec_`, but what follows is not base64")]
    NotBase64,
}

impl FromStr for Secret {
    type Err = BadSecret;

    /// `whsec_` and base64, or any other text, whose bytes are the key.
    fn from_str(text: &str) -> Result<Self, BadSecret> {
        let key = match text.strip_prefix("whsec_") {
            Some(encoded) => STANDARD.decode(encoded).map_err(|_| BadSecret::NotBase64)?,
            None => text.as_bytes().to_vec(),
        };
        match key.is_empty() {
            true => Err(BadSecret::Empty),
            false => Ok(Self(key)),
        }
    }
}

impl Secret {
    /// The value of `webhook-signature`.
    pub(super) fn sign(&self, id: &str, timestamp: u64, body: &[u8]) -> String {
        let mut mac =
            Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes keys of any length");
        mac.update(format!("{id}.{timestamp}.").as_bytes());
        mac.update(body);
        format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_signs_as_others_do() {
        let secret: Secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
            .parse()
            .expect("a secret");
        let signature = secret.sign(
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            1_614_265_330,
            br#"{"test": 2432232314}"#,
        );
        // Computed with Python's hmac.
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn a_secret_is_never_shown() {
        let secret: Secret = "hunter2".parse().expect("a secret");
        assert_eq!(format!("{secret:?}"), "Secret");
        assert_eq!("".parse::<Secret>(), Err(BadSecret::Empty));
        assert_eq!("whsec_".parse::<Secret>(), Err(BadSecret::Empty));
        assert_eq!("whsec_!".parse::<Secret>(), Err(BadSecret::NotBase64));
    }
}
