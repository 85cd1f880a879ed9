//! Whatever a caller sends as a credential, and an issuer as keys, is read without a panic, and a token of ours never
//! passes for the agent's.
#![no_main]

use libfuzzer_sys::fuzz_target;
use par_access::{Access, Keys, Verified, is_our_token, presented};

fuzz_target!(|input: (&[u8], &[u8], bool)| {
    let (own, line, to_agent) = input;
    let own = (!own.is_empty()).then_some(own);
    if let Ok(presented) = presented(own, [line], to_agent, Some("https://issuer")) {
        assert!(!is_our_token(line) || presented.takes_authorization);
        if let Some(credential) = presented.credential {
            let identified = Access::open().identify(credential, &mut Verified::default(), 0);
            assert!(identified.is_err(), "there is no token, and no issuer");
        }
    }
    if let Ok(keys) = Keys::parse(line, 1) {
        assert!(!keys.is_empty());
    }
});
