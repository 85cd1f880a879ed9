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
use std::path::PathBuf;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

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

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Ran {
    pub ok: bool,
    /// All variables of the session after a run that succeeded.
    pub variables: Values,
    /// `_`, `figure_1` and the like.
    pub extras: Values,
    /// Variables and extras whose value does not come back from its MessagePack form as it was.
    pub opaque: Vec<String>,
    /// One line, empty when it succeeded.
    pub error: String,
    /// `compile`, `raised`, `interrupted`, `input` or `memory`.
    pub kind: String,
    pub traceback: String,
    /// Variables that a failed run may have changed.
    pub changed: Vec<String>,
    /// Seconds.
    pub wall: f64,
    /// Seconds of processor time, children that ended included.
    pub cpu: f64,
    /// Bytes.
    pub memory: u64,
}
