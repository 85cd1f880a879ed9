//! Where agents may go, and the secrets that they were given: as it is now, and how the operator changes it. Decides, and
//! writes nothing down.

use std::collections::BTreeMap;

use par_model::AgentId;
use par_model::egress::{
    BoundSecret, Egress, LARGEST_SECRETS, MOST_GRANTS, MOST_SECRETS, SecretName,
};
use par_model::network::{Destination, Host, HostPattern};
use par_store::{Change, KeptAllowance, KeptSecret};

/// Has no `Debug`: it holds secrets.
#[derive(Clone, Default)]
pub(crate) struct Allowances {
    by_agent: BTreeMap<AgentId, KeptAllowance>,
    /// The supervisor's and the workers', where no grant on this machine leads.
    own_ports: Vec<(u16, u16)>,
}

/// What an operator wants of an agent. Has no `Debug`.
pub(crate) enum Allow {
    Grant(Vec<Destination>),
    Revoke(Vec<Destination>),
    SetSecret(Box<KeptSecret>),
    RemoveSecret(SecretName),
}

/// Why it is not done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotAllowed {
    #[error("`{0}` is the runtime's own: nothing is granted there")]
    OwnPort(Destination),
    #[error("`{0}` is not granted")]
    NotGranted(Destination),
    #[error("an agent has {MOST_GRANTS} grants at most")]
    TooManyGrants,
    #[error("there is no secret `{0}`")]
    NoSecret(SecretName),
    #[error("an agent has {MOST_SECRETS} secrets at most, of {LARGEST_SECRETS} bytes together")]
    TooManySecrets,
}

impl Allowances {
    pub(crate) fn new(
        by_agent: BTreeMap<AgentId, KeptAllowance>,
        own_ports: Vec<(u16, u16)>,
    ) -> Self {
        Self {
            by_agent,
            own_ports,
        }
    }

    pub(crate) fn own_ports(&self) -> Vec<(u16, u16)> {
        self.own_ports.clone()
    }

    pub(crate) fn of(&self, agent: &AgentId) -> Option<&KeptAllowance> {
        self.by_agent.get(agent)
    }

    /// Does what is wanted and answers with what has to be kept; or does nothing.
    pub(crate) fn apply(
        &mut self,
        agent: &AgentId,
        allow: Allow,
        now_ms: u64,
    ) -> Result<Vec<Change>, NotAllowed> {
        let mut after = self.by_agent.get(agent).cloned().unwrap_or_default();
        let changes = match allow {
            Allow::Grant(all) => self.grant(agent, &mut after, all, now_ms)?,
            Allow::Revoke(all) => revoke(agent, &mut after, all)?,
            Allow::SetSecret(secret) => set(agent, &mut after, *secret)?,
            Allow::RemoveSecret(name) => {
                let known = after.secrets.iter().position(|it| it.name == name);
                let known = known.ok_or_else(|| NotAllowed::NoSecret(name.clone()))?;
                after.secrets.remove(known);
                vec![Change::RemoveSecret(agent.clone(), name)]
            }
        };
        self.by_agent.insert(agent.clone(), after);
        Ok(changes)
    }

    fn grant(
        &self,
        agent: &AgentId,
        after: &mut KeptAllowance,
        all: Vec<Destination>,
        now_ms: u64,
    ) -> Result<Vec<Change>, NotAllowed> {
        let mut changes = vec![];
        for destination in all {
            if self.is_own(&destination) {
                return Err(NotAllowed::OwnPort(destination));
            }
            if !after.granted.contains_key(&destination) {
                after.granted.insert(destination.clone(), now_ms);
                changes.push(Change::Grant(agent.clone(), destination, now_ms));
            }
        }
        match after.granted.len() > MOST_GRANTS {
            true => Err(NotAllowed::TooManyGrants),
            false => Ok(changes),
        }
    }

    fn is_own(&self, destination: &Destination) -> bool {
        let HostPattern::Exactly(Host::Address(address)) = &destination.hosts else {
            return false;
        };
        let mut ranges = self.own_ports.iter();
        address.is_loopback()
            && ranges.any(|(first, last)| (*first..=*last).contains(&destination.port))
    }

    pub(crate) fn forget(&mut self, agent: &AgentId) {
        self.by_agent.remove(agent);
    }

    /// What the agent's workers are told.
    pub(crate) fn egress(&self, agent: &AgentId) -> Egress {
        let kept = self.by_agent.get(agent);
        let granted = kept.iter().flat_map(|kept| kept.granted.keys());
        let secrets = kept.iter().flat_map(|kept| &kept.secrets);
        let bound = secrets
            .filter(|secret| !secret.as_env)
            .map(|secret| BoundSecret {
                name: secret.name.clone(),
                value: secret.value.clone(),
                placeholder: secret.placeholder.clone(),
                hosts: secret.hosts.clone(),
                header: secret.header.clone(),
            });
        Egress {
            granted: granted.cloned().collect(),
            secrets: bound.collect(),
            own_ports: self.own_ports.clone(),
        }
    }

    /// What the agent's environment gets of its secrets: placeholders, or values where the operator said so.
    pub(crate) fn variables(&self, agent: &AgentId) -> BTreeMap<String, String> {
        let kept = self.by_agent.get(agent);
        let secrets = kept.iter().flat_map(|kept| &kept.secrets);
        let variable = |secret: &KeptSecret| {
            let shown = match secret.as_env {
                true => &secret.value,
                false => &secret.placeholder,
            };
            (secret.name.to_string(), shown.clone())
        };
        secrets.map(variable).collect()
    }

    /// What of `asked` an agent may not have.
    pub(crate) fn missing<'a>(
        &self,
        agent: &AgentId,
        asked: &'a [Destination],
    ) -> impl Iterator<Item = &'a Destination> + use<'a> {
        let granted = self.by_agent.get(agent).map(|kept| kept.granted.clone());
        let granted = granted.unwrap_or_default();
        asked.iter().filter(move |it| !granted.contains_key(it))
    }
}

fn revoke(
    agent: &AgentId,
    after: &mut KeptAllowance,
    all: Vec<Destination>,
) -> Result<Vec<Change>, NotAllowed> {
    let mut changes = vec![];
    for destination in all {
        if after.granted.remove(&destination).is_none() {
            return Err(NotAllowed::NotGranted(destination));
        }
        changes.push(Change::Revoke(agent.clone(), destination));
    }
    Ok(changes)
}

/// A secret that there is already keeps its placeholder: who has that goes on with the new value.
fn set(
    agent: &AgentId,
    after: &mut KeptAllowance,
    mut secret: KeptSecret,
) -> Result<Vec<Change>, NotAllowed> {
    let known = after.secrets.iter().position(|it| it.name == secret.name);
    if let Some(known) = known {
        let before = after.secrets.remove(known);
        secret.placeholder = before.placeholder;
    }
    after.secrets.push(secret.clone());
    after.secrets.sort_by(|a, b| a.name.cmp(&b.name));
    let bytes: usize = after.secrets.iter().map(|it| it.value.len()).sum();
    if after.secrets.len() > MOST_SECRETS || bytes > LARGEST_SECRETS {
        return Err(NotAllowed::TooManySecrets);
    }
    Ok(vec![Change::SetSecret(agent.clone(), Box::new(secret))])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agent() -> AgentId {
        "a".parse().expect("an id")
    }

    fn to(text: &str) -> Destination {
        text.parse().expect("a destination")
    }

    fn secret(name: &str, value: &str, placeholder: &str) -> Box<KeptSecret> {
        Box::new(KeptSecret {
            name: name.parse().expect("a name"),
            value: value.to_owned(),
            placeholder: placeholder.to_owned(),
            hosts: vec!["api.example.org".parse().expect("a host")],
            header: None,
            as_env: false,
            set_at_ms: 1,
        })
    }

    #[test]
    fn several_grants_happen_together_or_not_at_all_and_twice_is_once() {
        let mut all = Allowances::new(BTreeMap::new(), vec![(8000, 8000)]);
        let (good, own) = (to("api.example.org:443"), to("127.0.0.1:8000"));
        let both = Allow::Grant(vec![good.clone(), own.clone()]);
        assert_eq!(
            all.apply(&agent(), both, 1).err(),
            Some(NotAllowed::OwnPort(own))
        );
        assert!(all.egress(&agent()).granted.is_empty());
        for expected in [1, 0] {
            let grant = Allow::Grant(vec![good.clone()]);
            let changes = all
                .apply(&agent(), grant, 1)
                .unwrap_or_else(|it| panic!("{it}"));
            assert_eq!(changes.len(), expected);
        }
        assert_eq!(all.egress(&agent()).granted, std::slice::from_ref(&good));
        let asked = [good.clone(), to("b.example.org:443")];
        assert_eq!(
            all.missing(&agent(), &asked).collect::<Vec<_>>(),
            [&asked[1]]
        );
        let twice = Allow::Revoke(vec![good.clone(), good.clone()]);
        assert_eq!(
            all.apply(&agent(), twice, 1).err(),
            Some(NotAllowed::NotGranted(good))
        );
        assert_eq!(all.egress(&agent()).granted.len(), 1, "nothing was revoked");
    }

    #[test]
    fn a_secret_that_changes_keeps_its_placeholder_and_the_environment_shows_no_value() {
        let mut all = Allowances::default();
        for (value, placeholder) in [("one", "p1"), ("two", "p2")] {
            let set = Allow::SetSecret(secret("KEY", value, placeholder));
            assert!(all.apply(&agent(), set, 1).is_ok());
        }
        let bound = all.egress(&agent()).secrets;
        assert_eq!(bound.len(), 1);
        assert_eq!(
            (bound[0].value.as_str(), bound[0].placeholder.as_str()),
            ("two", "p1")
        );
        assert_eq!(all.variables(&agent())["KEY"], "p1");
        let as_env = KeptSecret {
            as_env: true,
            ..*secret("KEY", "three", "p3")
        };
        let set = Allow::SetSecret(Box::new(as_env));
        assert!(all.apply(&agent(), set, 1).is_ok());
        assert_eq!(all.variables(&agent())["KEY"], "three");
        assert!(
            all.egress(&agent()).secrets.is_empty(),
            "the proxy does not know it"
        );
    }
}
