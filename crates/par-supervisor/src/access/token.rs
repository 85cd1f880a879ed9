//! Tokens between what is kept, what is looked up and what is shown.

use std::fs::File;
use std::io::{self, Read as _};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use par_access::{NewToken, Standing, TokenHash, TokenId};
use par_model::access::{TokenInfo, TokenRequest};
use par_store::KeptToken;

/// Of one token.
const MOST_WORDS: usize = 100;

/// Ten years: whoever wants longer wants no end.
const LONGEST: u64 = 10 * 366 * 24 * 3600;

/// The name of whoever reads the file that only the owner of the state folder can.
pub(super) const OPERATOR: &str = "operator";

pub(super) fn new_token() -> io::Result<NewToken> {
    let mut random = [0; 40];
    File::open("/dev/urandom")?.read_exact(&mut random)?;
    Ok(NewToken::from_random(random))
}

/// What a request is to be kept as, or the field that is wrong.
pub(super) fn kept(
    request: TokenRequest,
    token: &NewToken,
    now_ms: u64,
) -> Result<KeptToken, String> {
    if request.name.as_str() == OPERATOR {
        return Err(format!(
            "name: `{OPERATOR}` is the name of whoever owns the state folder"
        ));
    }
    if request.scopes.is_empty() && request.roles.is_empty() {
        return Err(format!(
            "scopes: give one of {}, or a role",
            par_model::access::SCOPES
        ));
    }
    for (field, count) in [
        ("scopes", request.scopes.len()),
        ("roles", request.roles.len()),
    ] {
        if count > MOST_WORDS {
            return Err(format!("{field}: {count} are more than {MOST_WORDS}"));
        }
    }
    let lifetime = request.expires_in_seconds;
    if lifetime.is_some_and(|seconds| !(1..=LONGEST).contains(&seconds)) {
        return Err(format!(
            "expires_in_seconds: it is from 1 to {LONGEST}; without it there is no end"
        ));
    }
    Ok(KeptToken {
        name: request.name,
        id: u64_of(token.id),
        hash: token.hash().0,
        scopes: request.scopes.into_iter().collect(),
        roles: request.roles.into_iter().collect(),
        created_at_ms: now_ms,
        expires_at_ms: lifetime.map(|seconds| now_ms + seconds * 1000),
    })
}

pub(super) fn known(kept: &KeptToken) -> par_access::KeptToken {
    par_access::KeptToken {
        id: TokenId::from(kept.id),
        name: kept.name.clone(),
        hash: TokenHash(kept.hash),
        standing: Standing {
            scopes: kept.scopes.clone(),
            roles: kept.roles.clone(),
        },
        created_at_ms: kept.created_at_ms,
        expires_at_ms: kept.expires_at_ms,
    }
}

pub(super) fn info(kept: &KeptToken, now_ms: u64) -> TokenInfo {
    TokenInfo {
        name: kept.name.to_string(),
        id: TokenId::from(kept.id).to_string(),
        scopes: kept.scopes.iter().map(ToString::to_string).collect(),
        roles: kept.roles.iter().map(ToString::to_string).collect(),
        created_at: rfc3339(kept.created_at_ms),
        expires_at: kept.expires_at_ms.map(rfc3339),
        expired: has_expired(kept, now_ms),
    }
}

pub(super) fn has_expired(kept: &KeptToken, now_ms: u64) -> bool {
    kept.expires_at_ms.is_some_and(|end| end <= now_ms)
}

fn u64_of(id: TokenId) -> u64 {
    id.into()
}

pub(super) fn rfc3339(at_ms: u64) -> String {
    // Nothing that is kept lies beyond what the format can say.
    let at = UNIX_EPOCH + Duration::from_millis(at_ms.min(253_402_300_799_000));
    humantime::format_rfc3339_millis(at).to_string()
}

pub(super) fn now_ms() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(scopes: &[&str]) -> TokenRequest {
        TokenRequest {
            name: "ci".parse().expect("a name"),
            scopes: scopes
                .iter()
                .map(|word| word.parse().expect("a scope"))
                .collect(),
            roles: vec![],
            expires_in_seconds: None,
        }
    }

    fn refused(change: impl FnOnce(&mut TokenRequest)) -> String {
        let mut request = request(&["read"]);
        change(&mut request);
        let token = new_token().expect("random");
        match kept(request, &token, 0) {
            Err(why) => why,
            Ok(_) => "it was kept".to_owned(),
        }
    }

    #[test]
    fn a_request_that_makes_no_sense_names_its_field() {
        assert!(refused(|it| it.name = OPERATOR.parse().expect("a name")).starts_with("name: "));
        assert!(refused(|it| it.scopes.clear()).starts_with("scopes: "));
        let many = vec!["r".parse().expect("a role"); MOST_WORDS + 1];
        assert!(refused(|it| it.roles = many).starts_with("roles: "));
        for seconds in [0, u64::MAX] {
            let why = refused(|it| it.expires_in_seconds = Some(seconds));
            assert!(why.starts_with("expires_in_seconds: "), "{why}");
        }
    }

    #[test]
    fn two_tokens_are_never_the_same() {
        let (one, other) = (new_token().expect("random"), new_token().expect("random"));
        assert!(one.id != other.id && one.expose() != other.expose());
        let kept = kept(request(&["call:a"]), &one, 1000).expect("right");
        assert!(known(&kept).hash == one.hash());
        assert_eq!(info(&kept, 0).created_at, "1970-01-01T00:00:01.000Z");
        assert!(!one.expose().contains(&info(&kept, 0).created_at));
    }
}
