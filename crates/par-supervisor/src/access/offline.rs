//! A token for a state folder that no supervisor uses: the first one of an address that others reach.

use std::path::Path;

use par_access::MOST_TOKENS;
use par_model::access::{TokenCreated, TokenRequest};
use par_store::{StoreError, Tokens};

use super::token::{has_expired, info, kept, new_token, now_ms};
use crate::state::{StateError, StateFolder};

#[derive(Debug, thiserror::Error)]
pub enum OfflineError {
    #[error(transparent)]
    State(#[from] StateError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("no token can be made")]
    Random(#[from] std::io::Error),
    #[error("{0}")]
    Wrong(String),
}

/// Whether anybody has a token that is valid. Nobody else may have the state file open.
pub(crate) fn has_token(state: &Path) -> Result<bool, StoreError> {
    let tokens = Tokens::open(state)?.all()?;
    let now = now_ms();
    Ok(tokens.iter().any(|token| !has_expired(token, now)))
}

/// Fails while a supervisor has the folder: that one is to be asked.
pub fn create_token(state: &Path, request: TokenRequest) -> Result<TokenCreated, OfflineError> {
    let folder = StateFolder::open(state, None)?;
    let store = Tokens::open(folder.root())?;
    let (token, now) = (new_token()?, now_ms());
    let kept = kept(request, &token, now).map_err(OfflineError::Wrong)?;
    if store.all()?.len() >= MOST_TOKENS {
        let words = format!("there are {MOST_TOKENS} tokens, which is as many as there may be");
        return Err(OfflineError::Wrong(words));
    }
    if !store.add(&kept)? {
        let words = format!(
            "there is a token `{}` already: revoke it, or take another name",
            kept.name
        );
        return Err(OfflineError::Wrong(words));
    }
    Ok(TokenCreated {
        token: token.expose(),
        info: info(&kept, now),
        notes: vec![],
    })
}
