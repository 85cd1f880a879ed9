//! What is said between a worker and the interpreter of one execution session, over frames of the same shape as an
//! agent's ([`crate::frame`]). `python/par_session` is the other speaker.
//!
//! | kind     | worker → session                | session → worker |
//! |----------|---------------------------------|------------------|
//! | `load`   | JSON [`Load`], first frame      | – |
//! | `ready`  | –                               | empty, answers `load` |
//! | `call`   | MessagePack [`Call`]            | – |
//! | `chunk`  | –                               | flags `u8`, then JSON: progress of the run, under credit |
//! | `credit` | `u32`                           | – |
//! | `result` | –                               | MessagePack [`Ran`], one for each `call` |
//! | `stop`   | end with code 0                 | – |
//!
//! A run is interrupted with SIGINT. What it writes comes through the pipes that are its standard output and error.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use bytes::Bytes;
use serde::de::{Error as _, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

/// MessagePack values by name.
pub type Values = BTreeMap<String, Bytes>;

/// What the interpreter is to be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Load {
    /// A package whose modules can be imported.
    pub root: Option<PathBuf>,
    /// Folders of installed modules.
    pub site: Vec<PathBuf>,
    /// The session's own, writable: its current folder.
    pub folder: PathBuf,
    /// Where compiled Python goes.
    pub bytecode: PathBuf,
    /// Most bytes that the values of one answer may have together.
    pub result_bytes: u64,
}

/// One run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Call<'a> {
    pub code: &'a str,
    /// Variables that are set before the code runs.
    pub context: &'a Values,
    pub files: &'a [Bytes],
    /// What an earlier interpreter of the same session left: set before anything else.
    pub restore: &'a Values,
}

/// The most entries that a map or a list of [`Ran`] may have: a name takes many times its bytes where it is kept.
pub const MOST_ENTRIES: usize = 20_000;

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Ran {
    pub ok: bool,
    /// The variables of the session after a run that succeeded; of very many, the first.
    #[serde(deserialize_with = "bounded_values")]
    pub variables: Values,
    /// `_`, `figure_1` and the like.
    #[serde(deserialize_with = "bounded_values")]
    pub extras: Values,
    /// Names whose values are not told: modules, `_private` ones, and some of very many.
    #[serde(deserialize_with = "bounded_names")]
    pub hidden: Vec<String>,
    /// Variables and extras whose value does not come back from its MessagePack form as it was.
    #[serde(deserialize_with = "bounded_names")]
    pub opaque: Vec<String>,
    /// One line, empty when it succeeded.
    pub error: String,
    /// `compile`, `raised`, `interrupted`, `input` or `memory`.
    pub kind: String,
    pub traceback: String,
    /// Variables that a failed run may have changed.
    #[serde(deserialize_with = "bounded_names")]
    pub changed: Vec<String>,
    /// Seconds.
    pub wall: f64,
    /// Seconds of processor time, children that ended included.
    pub cpu: f64,
    /// Bytes.
    pub memory: u64,
}

fn bounded_values<'de, D: Deserializer<'de>>(from: D) -> Result<Values, D::Error> {
    struct Bounded;
    impl<'de> Visitor<'de> for Bounded {
        type Value = Values;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "a map of at most {MOST_ENTRIES} values")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Values, A::Error> {
            let mut values = Values::new();
            while let Some((name, value)) = map.next_entry()? {
                values.insert(name, value);
                if values.len() > MOST_ENTRIES {
                    return Err(A::Error::invalid_length(values.len(), &self));
                }
            }
            Ok(values)
        }
    }
    from.deserialize_map(Bounded)
}

fn bounded_names<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    struct Bounded;
    impl<'de> Visitor<'de> for Bounded {
        type Value = Vec<String>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "a list of at most {MOST_ENTRIES} names")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<String>, A::Error> {
            let mut names = vec![];
            while let Some(name) = list.next_element()? {
                names.push(name);
                if names.len() > MOST_ENTRIES {
                    return Err(A::Error::invalid_length(names.len(), &self));
                }
            }
            Ok(names)
        }
    }
    from.deserialize_seq(Bounded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_than_anybody_has_use_for_is_refused_while_it_is_read() {
        let names: Vec<String> = (0..=MOST_ENTRIES).map(|n| format!("n{n}")).collect();
        let read = |text: serde_json::Value| serde_json::from_value::<Ran>(text);
        let fitting = serde_json::json!({ "ok": true, "opaque": &names[1..] });
        assert_eq!(read(fitting).expect("it fits").opaque.len(), MOST_ENTRIES);
        assert!(read(serde_json::json!({ "opaque": names })).is_err());
        let map: serde_json::Map<_, _> = names.into_iter().map(|name| (name, [1].into())).collect();
        assert!(read(serde_json::json!({ "variables": map })).is_err());
    }
}
