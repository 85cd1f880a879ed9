//! Which of a request's headers says to us who calls. An `authorization` may as well be meant for the agent.

use crate::jwt;
use crate::token::has_our_form;

/// What a request shows us.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Presented<'a> {
    /// The token or JWT that is for us.
    pub credential: Option<&'a str>,
    /// It stands in `authorization`, which must not go on to anybody.
    pub takes_authorization: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    #[error("more than one credential was sent")]
    Several,
    #[error("the credential is not `Bearer` and a token")]
    NotBearer,
}

/// The longest credential that is looked at.
const LONGEST: usize = 16 << 10;

/// `own` are the lines of `x-par-authorization`, `authorization` those of that name. On the way to an agent
/// (`to_agent`), an `authorization` that does not look like ours is the agent's; `issuer` tells ours among JWTs.
pub fn presented<'a>(
    own: impl IntoIterator<Item = &'a [u8]>,
    authorization: impl IntoIterator<Item = &'a [u8]>,
    to_agent: bool,
    issuer: Option<&str>,
) -> Result<Presented<'a>, Malformed> {
    let own = only(own)?;
    let mut takes_authorization = false;
    let mut found = vec![];
    for line in authorization {
        let word = bearer(line);
        let is_ours = word.is_some_and(|word| is_ours(word, issuer));
        takes_authorization |= word.is_some_and(has_our_form);
        if is_ours || !to_agent {
            found.push(word.ok_or(Malformed::NotBearer));
        }
    }
    if let Some(own) = own {
        // Whatever else there is, is the agent's, unless it is a token of ours.
        return Ok(Presented {
            credential: Some(bearer(own).ok_or(Malformed::NotBearer)?),
            takes_authorization,
        });
    }
    match found.pop() {
        None => Ok(Presented {
            credential: None,
            takes_authorization,
        }),
        Some(_) if !found.is_empty() => Err(Malformed::Several),
        Some(word) => Ok(Presented {
            credential: Some(word?),
            takes_authorization: true,
        }),
    }
}

/// Whether a line of `authorization` holds a token of ours, right or wrong: no agent may see it.
pub fn is_our_token(line: &[u8]) -> bool {
    bearer(line).is_some_and(has_our_form)
}

fn is_ours(word: &str, issuer: Option<&str>) -> bool {
    has_our_form(word) || issuer.is_some_and(|issuer| jwt::claims_to_be_from(word, issuer))
}

fn only<'a>(lines: impl IntoIterator<Item = &'a [u8]>) -> Result<Option<&'a [u8]>, Malformed> {
    let mut lines = lines.into_iter();
    match (lines.next(), lines.next()) {
        (line, None) => Ok(line),
        _ => Err(Malformed::Several),
    }
}

fn bearer(line: &[u8]) -> Option<&str> {
    const SCHEME: &[u8] = b"bearer";
    let (scheme, rest) = line.split_at_checked(SCHEME.len())?;
    if !scheme.eq_ignore_ascii_case(SCHEME) || rest.first() != Some(&b' ') || rest.len() > LONGEST {
        return None;
    }
    let word = str::from_utf8(rest).ok()?.trim_matches(' ');
    let usual = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(&byte);
    (!word.is_empty() && word.bytes().all(usual)).then_some(word)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read<'a>(
        own: &[&'a str],
        authorization: &[&'a str],
        to_agent: bool,
    ) -> Result<(Option<&'a str>, bool), Malformed> {
        let own = own.iter().map(|line| line.as_bytes());
        let lines = authorization.iter().map(|line| line.as_bytes());
        let presented = presented(own, lines, to_agent, None)?;
        Ok((presented.credential, presented.takes_authorization))
    }

    #[test]
    fn on_the_way_to_an_agent_only_what_looks_like_ours_is_ours() {
        let agents = [
            "Basic QWxhZGRpbjpvcGVu",
            "Bearer sk-1234",
            "Bearer eyJhbGciOiJub25lIn0.e30.",
            "Digest x",
        ];
        for line in agents {
            assert_eq!(read(&[], &[line], true), Ok((None, false)), "{line}");
        }
        for line in ["Bearer par_1_2", "bearer  par_1_2", "BEARER par_1_2 "] {
            assert_eq!(
                read(&[], &[line], true),
                Ok((Some("par_1_2"), true)),
                "{line}"
            );
        }
        assert_eq!(read(&[], &[], true), Ok((None, false)));
    }

    #[test]
    fn the_control_api_has_no_agent_to_whom_it_could_be_meant() {
        assert_eq!(read(&[], &["Bearer x"], false), Ok((Some("x"), true)));
        for line in [
            "Basic x",
            "Bearer",
            "Bearer ",
            "Bearer a b",
            "Bearer \u{e4}",
        ] {
            assert_eq!(
                read(&[], &[line], false),
                Err(Malformed::NotBearer),
                "{line}"
            );
        }
    }

    #[test]
    fn a_header_of_our_own_leaves_the_other_to_the_agent() {
        let both = read(&["Bearer par_1_2"], &["Bearer for-the-agent"], true);
        assert_eq!(both, Ok((Some("par_1_2"), false)));
        let leaked = read(&["Bearer par_1_2"], &["Bearer par_3_4"], true);
        assert_eq!(leaked, Ok((Some("par_1_2"), true)));
        assert_eq!(read(&["par_1_2"], &[], true), Err(Malformed::NotBearer));
        assert_eq!(
            read(&["Bearer a", "Bearer b"], &[], true),
            Err(Malformed::Several)
        );
    }

    #[test]
    fn of_two_credentials_neither_is_taken() {
        let two = ["Bearer par_1_2", "Bearer par_3_4"];
        assert_eq!(read(&[], &two, true), Err(Malformed::Several));
    }

    proptest! {
        #[test]
        fn a_token_of_ours_never_goes_on_to_an_agent(scheme in "[bB][eE][aA][rR][eE][rR]", spaces in " {1,3}", rest in "[0-9a-f_]{0,40}", own in proptest::option::of("Bearer [a-z]{1,5}")) {
            let line = format!("{scheme}{spaces}par_{rest}");
            prop_assert!(is_our_token(line.as_bytes()));
            let own = own.as_deref().map(str::as_bytes);
            let presented = presented(own, [line.as_bytes()], true, None).ok();
            prop_assert!(presented.is_some_and(|it| it.takes_authorization));
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(line in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _either_way = presented([], [line.as_slice()], true, Some("https://issuer"));
        }
    }
}
