//! What all interpreters of a worker stand on.

use std::path::PathBuf;

use par_model::SessionLimits;

use super::interpreter::Serials;

pub(crate) struct Ground {
    pub(crate) python: PathBuf,
    /// The Python program of a session.
    pub(crate) program: PathBuf,
    /// Folders of installed modules.
    pub(crate) site: Vec<PathBuf>,
    /// For the variable of that name.
    pub(crate) path: String,
    /// Each session has a folder below it.
    pub(crate) folder: PathBuf,
    /// What has to be seen under its own path even where that lies in `/tmp`.
    pub(crate) keep: Vec<PathBuf>,
    /// Of a session's own `/tmp`.
    pub(crate) tmp_bytes: u64,
    pub(crate) limits: SessionLimits,
    pub(crate) serials: Serials,
}
