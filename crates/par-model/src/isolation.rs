//! What keeps an agent apart from its machine and from other agents: what is asked for, and what holds.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A set of protections with a name, from the weakest to the strongest.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Profile {
    /// A process of its own, and nothing that would keep it from anything.
    Unsafe,
    /// Without namespaces: a user of its own, Landlock, and no sockets.
    Restricted,
    /// All but control groups, and a user of its own where there are several to have.
    Userns,
    Full,
}

impl Profile {
    /// The strongest first.
    pub const ALL: [Self; 4] = [Self::Full, Self::Userns, Self::Restricted, Self::Unsafe];

    /// Whether agents have namespaces of their own.
    pub fn has_namespaces(self) -> bool {
        matches!(self, Self::Userns | Self::Full)
    }

    /// All that has to hold.
    pub fn layers(self) -> &'static [Layer] {
        use Layer::*;
        match self {
            Self::Unsafe => &[],
            Self::Restricted => &[OwnUser, Capabilities, NoNewPrivileges, Landlock, Seccomp],
            Self::Userns => &[
                Namespaces,
                PrivateRoot,
                PrivateNetwork,
                Capabilities,
                NoNewPrivileges,
                Landlock,
                Seccomp,
            ],
            Self::Full => &[
                ControlGroup,
                OwnUser,
                Namespaces,
                PrivateRoot,
                PrivateNetwork,
                Capabilities,
                NoNewPrivileges,
                Landlock,
                Seccomp,
            ],
        }
    }

    /// What does not hold, for those who have to know.
    pub fn lost(self) -> &'static str {
        match self {
            Self::Full => "nothing",
            Self::Userns => {
                "limits by control groups (watchdogs and rlimits instead), a user of its own"
            }
            Self::Restricted => {
                "a network of its own (no sockets at all instead), processes and files out of sight (out of reach instead), limits by control groups"
            }
            Self::Unsafe => "everything",
        }
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Unsafe => "unsafe",
            Self::Restricted => "restricted",
            Self::Userns => "userns",
            Self::Full => "full",
        })
    }
}

impl FromStr for Profile {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        let found = Self::ALL
            .into_iter()
            .find(|profile| profile.to_string() == word);
        found.ok_or_else(|| format!("`{word}` is none of full, userns, restricted and unsafe"))
    }
}

/// One protection that takes hold, or does not.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Layer {
    /// It joined its control group before anything else.
    ControlGroup,
    /// It runs as a user that nobody else is.
    OwnUser,
    /// Of users, mounts, processes, IPC, names and control groups.
    Namespaces,
    /// It sees what it was given, under a root that is read-only.
    PrivateRoot,
    /// A loopback device, and nothing beyond it.
    PrivateNetwork,
    /// None, and no way to get any.
    Capabilities,
    NoNewPrivileges,
    Landlock,
    /// A list of system calls that are allowed.
    Seccomp,
}

impl fmt::Display for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::ControlGroup => "control group",
            Self::OwnUser => "user of its own",
            Self::Namespaces => "namespaces",
            Self::PrivateRoot => "root of its own",
            Self::PrivateNetwork => "network of its own",
            Self::Capabilities => "no capabilities",
            Self::NoNewPrivileges => "no new privileges",
            Self::Landlock => "Landlock",
            Self::Seccomp => "system call filter",
        })
    }
}

/// What of a profile is missing in what has taken hold.
pub fn missing(required: Profile, applied: &[Layer]) -> Vec<Layer> {
    let layers = required.layers().iter().copied();
    layers.filter(|layer| !applied.contains(layer)).collect()
}

/// What one agent was to have, and what it has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Isolation {
    /// Below this nothing starts.
    pub required: Profile,
    /// The strongest of which every layer holds.
    pub enforced: Profile,
    pub layers: Vec<Layer>,
    /// Why it is not more, one line for each stronger profile, with what to do about it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<String>,
}

/// `isolation: full (at least restricted)`, and why it is not more.
impl fmt::Display for Isolation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            required,
            enforced,
            missing,
            ..
        } = self;
        write!(f, "isolation: {enforced} (at least {required})")?;
        if !missing.is_empty() {
            write!(f, "; {}", missing.join("; "))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stronger_profile_never_has_fewer_walls_than_a_weaker_one_of_the_same_kind() {
        let has = |profile: Profile, layer| profile.layers().contains(layer);
        assert!(
            Profile::Userns
                .layers()
                .iter()
                .all(|layer| has(Profile::Full, layer))
        );
        assert!(
            Profile::Restricted
                .layers()
                .iter()
                .all(|layer| has(Profile::Full, layer))
        );
        assert!(Profile::Full > Profile::Userns && Profile::Userns > Profile::Restricted);
        assert!(Profile::Restricted > Profile::Unsafe);
    }

    #[test]
    fn what_is_missing_is_what_was_not_applied() {
        let all = Profile::Full.layers();
        assert!(missing(Profile::Full, all).is_empty());
        assert_eq!(missing(Profile::Full, &all[1..]), [Layer::ControlGroup]);
        assert!(missing(Profile::Unsafe, &[]).is_empty());
    }

    #[test]
    fn names_are_read_as_they_are_written() {
        for profile in Profile::ALL {
            assert_eq!(profile.to_string().parse(), Ok(profile));
        }
        assert!("none".parse::<Profile>().is_err());
    }
}
