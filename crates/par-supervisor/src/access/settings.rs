//! What the operator has set about access, and whether that is enough for the address.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::PathBuf;

use par_access::{AgentsMay, Issuer, Policy};
use par_model::{Role, Scope};

use crate::events::webhooks::Target;

/// `[access]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessSettings {
    /// On loopback, whoever does not say who it is may do everything.
    pub anonymous_loopback: bool,
    pub agents: AgentsMay,
    /// Calls that were allowed are in the audit log, too.
    pub audit_calls: bool,
    /// What a role may do.
    pub roles: BTreeMap<Role, BTreeSet<Scope>>,
    /// Roles by the name in a client's certificate.
    pub certificates: BTreeMap<String, BTreeSet<Role>>,
    pub oidc: Option<Oidc>,
}

impl Default for AccessSettings {
    fn default() -> Self {
        Self {
            anonymous_loopback: true,
            agents: AgentsMay::default(),
            audit_calls: false,
            roles: BTreeMap::new(),
            certificates: BTreeMap::new(),
            oidc: None,
        }
    }
}

/// Somebody else vouches for callers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Oidc {
    pub issuer: Issuer,
    pub keys: KeySource,
}

/// Where the keys of an issuer are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySource {
    File(PathBuf),
    Url(Target),
    /// There is written where.
    Discovery(Target),
}

impl AccessSettings {
    /// Who reaches the address decides whether anybody may be nobody there.
    pub(crate) fn policy(&self, host: IpAddr) -> Policy {
        let policy = Policy::new(self.agents, self.roles.clone(), &self.certificates);
        policy.with_anonymous(self.is_anonymous(host))
    }

    pub(crate) fn is_anonymous(&self, host: IpAddr) -> bool {
        self.anonymous_loopback && host.is_loopback()
    }
}

/// An address that others reach, and nobody could be told from anybody.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "on {host} others than this machine could call, and there is no token yet that tells who may: \
     `par token create NAME --scope admin --state {}` makes one, or set [access.oidc] in par.toml; \
     or listen on 127.0.0.1", state.display()
)]
pub struct OpenToOthers {
    pub host: IpAddr,
    pub state: PathBuf,
}

/// `has_token`: whether there is one that is valid.
pub(crate) fn check_open(
    host: IpAddr,
    settings: &AccessSettings,
    has_token: bool,
    state: PathBuf,
) -> Result<(), OpenToOthers> {
    let somebody_is_known = has_token || settings.oidc.is_some();
    match host.is_loopback() || somebody_is_known {
        true => Ok(()),
        false => Err(OpenToOthers { host, state }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_others_reach_needs_somebody_who_is_known() {
        let settings = AccessSettings::default();
        for (host, has_token, opens) in [
            ("127.0.0.1", false, true),
            ("::1", false, true),
            ("0.0.0.0", false, false),
            ("::", false, false),
            ("10.0.0.1", false, false),
            ("10.0.0.1", true, true),
        ] {
            let host: IpAddr = host.parse().expect("an address");
            let opened = check_open(host, &settings, has_token, "/s".into());
            assert_eq!(opened.is_ok(), opens, "{host}");
            if let Err(refused) = opened {
                assert!(
                    refused.to_string().contains("par token create NAME"),
                    "{refused}"
                );
            }
        }
    }

    #[test]
    fn nobody_is_anonymous_where_others_call() {
        let settings = AccessSettings::default();
        let others: IpAddr = "0.0.0.0".parse().expect("an address");
        assert!(!settings.policy(others).is_anonymous());
        let here: IpAddr = "127.0.0.1".parse().expect("an address");
        assert!(settings.policy(here).is_anonymous());
        let strict = AccessSettings {
            anonymous_loopback: false,
            ..settings
        };
        assert!(!strict.policy(here).is_anonymous());
    }
}
