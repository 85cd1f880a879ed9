//! What one worker and its supervisors know of each other, and nobody else.

use std::fs::File;
use std::io::{self, Read as _};

use par_model::control::Secret;
use sha2::{Digest as _, Sha256};

/// 64 hexadecimal digits that nobody can guess.
pub(crate) fn new() -> io::Result<Secret> {
    let mut bytes = [0; 32];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(Secret(hex(&bytes)))
}

/// By which the processes of one incarnation are found wherever they went. Tells nothing of the secret.
pub(crate) fn mark(secret: &Secret) -> String {
    let digest = Sha256::digest(secret.0.as_bytes());
    format!("PAR_INCARNATION={}", hex(&digest[..12]))
}

/// What an agent has in the place of a secret. It opens nothing by itself; that nobody can guess it keeps one agent's from being
/// taken for another's.
pub(crate) fn placeholder(name: &str) -> io::Result<String> {
    let mut bytes = [0; 12];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(format!("par-secret-{name}-{}", hex(&bytes)))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_differ_and_do_not_stand_in_their_marks() {
        let (one, other) = (new().expect("random"), new().expect("random"));
        assert!(one != other);
        assert_eq!(one.0.len(), 64);
        assert_eq!(mark(&one), mark(&one));
        assert_ne!(mark(&one), mark(&other));
        assert!(!mark(&one).contains(&one.0[..12]));
    }
}
