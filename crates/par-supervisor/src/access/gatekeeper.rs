//! Keeps tokens, and publishes them with the rules of agents and the keys of the issuer at the gate.

use std::sync::Arc;

use par_access::{Access, KeptToken, Keys, MOST_TOKENS, Rules, Tokens};
use par_gateway::Gate;
use par_model::TokenName;
use par_model::access::{TokenCreated, TokenInfo, TokenRequest};
use par_store::{Store, StoreError};
use tokio::sync::Mutex;

use super::token::{has_expired, info, kept, known, new_token, now_ms};
use crate::events::blocking;

pub(crate) struct Gatekeeper {
    gate: Gate,
    store: Arc<Store>,
    operator: KeptToken,
    /// Who changes tokens, one after the other: what is published last is what is kept.
    turn: Mutex<()>,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum TokenError {
    #[error("{0}")]
    Wrong(String),
    #[error("there is a token `{0}` already: revoke it, or take another name")]
    Taken(TokenName),
    #[error("there is no token `{0}`")]
    Unknown(TokenName),
    #[error("there are {MOST_TOKENS} tokens, which is as many as there may be: revoke some")]
    TooMany,
    #[error("no token can be made")]
    Random(#[from] std::io::Error),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Gatekeeper {
    /// From now on tokens are known.
    pub(crate) async fn new(
        gate: Gate,
        store: Arc<Store>,
        operator: KeptToken,
    ) -> Result<Self, StoreError> {
        let keeper = Self {
            gate,
            store,
            operator,
            turn: Mutex::default(),
        };
        let kept = keeper.kept().await?;
        keeper.publish(&kept);
        Ok(keeper)
    }

    pub(crate) async fn list(&self) -> Result<Vec<TokenInfo>, TokenError> {
        let now = now_ms();
        let kept = self.kept().await?;
        Ok(kept.iter().map(|token| info(token, now)).collect())
    }

    /// The token holds when this returns.
    pub(crate) async fn create(&self, request: TokenRequest) -> Result<TokenCreated, TokenError> {
        let (token, now) = (new_token()?, now_ms());
        let new = kept(request, &token, now).map_err(TokenError::Wrong)?;
        let _turn = self.turn.lock().await;
        let mut all = self.kept().await?;
        let is_first = all.iter().all(|other| has_expired(other, now));
        if all.len() >= MOST_TOKENS {
            return Err(TokenError::TooMany);
        }
        let (store, added) = (Arc::clone(&self.store), new.clone());
        if !blocking(move || store.add_token(&added)).await? {
            return Err(TokenError::Taken(new.name));
        }
        let info = info(&new, now);
        all.push(new);
        self.publish(&all);
        let mut notes = vec![];
        if is_first && self.gate.load().policy.is_anonymous() {
            notes.push(STILL_OPEN.to_owned());
        }
        Ok(TokenCreated {
            token: token.expose(),
            info,
            notes,
        })
    }

    /// It is of no use any more when this returns.
    pub(crate) async fn revoke(&self, name: TokenName) -> Result<(), TokenError> {
        let _turn = self.turn.lock().await;
        let (store, removed) = (Arc::clone(&self.store), name.clone());
        if !blocking(move || store.remove_token(&removed)).await? {
            return Err(TokenError::Unknown(name));
        }
        self.publish(&self.kept().await?);
        Ok(())
    }

    async fn kept(&self) -> Result<Vec<par_store::KeptToken>, StoreError> {
        let store = Arc::clone(&self.store);
        blocking(move || store.tokens()).await
    }

    fn publish(&self, kept: &[par_store::KeptToken]) {
        let tokens = kept.iter().map(known);
        let all: Vec<KeptToken> = tokens.chain([self.operator.clone()]).collect();
        self.gate.change(move |access: &mut Access| {
            let policy = Arc::clone(&access.policy);
            let tokens = Tokens::new(all.iter().cloned(), |standing| policy.widened(standing));
            access.tokens = Arc::new(tokens);
        });
    }
}

const STILL_OPEN: &str = "on this machine everything is still allowed without a token: `anonymous_loopback = false` in [access] of par.toml ends that";

/// Rules of agents hold for every call that begins after this returns.
pub(crate) fn publish_rules(gate: &Gate, rules: &Arc<Rules>) {
    gate.change(|access: &mut Access| access.rules = Arc::clone(rules));
}

pub(crate) fn publish_keys(gate: &Gate, keys: &Arc<Keys>) {
    gate.change(|access: &mut Access| access.keys = Arc::clone(keys));
}
