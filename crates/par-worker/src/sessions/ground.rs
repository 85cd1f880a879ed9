//! What all interpreters of a worker stand on.

use std::cell::RefCell;
use std::path::PathBuf;

use par_model::SessionLimits;
use par_model::control::IsolationSpec;
use par_model::log::Level;
use par_sandbox::{Confined, Group, View};

use super::interpreter::Serials;
use crate::reports::Reporter;

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
    /// What each sees of the machine's files, besides its own folder.
    pub(crate) view: View,
    pub(crate) isolation: IsolationSpec,
    pub(crate) limits: SessionLimits,
    /// Where each interpreter has a control group, if there are any.
    pub(crate) group: Option<Group>,
    /// Processes and threads of each.
    pub(crate) pids: Option<u64>,
    /// Bytes of the files of each.
    pub(crate) disk: Option<u64>,
    /// Of each process.
    pub(crate) open_files: Option<u64>,
    pub(crate) serials: Serials,
    /// For what the agent's log has to say of its sessions.
    pub(crate) reporter: Reporter,
    /// What was said already.
    pub(crate) said: RefCell<Option<String>>,
}

impl Ground {
    /// What did not take hold is said, once for each reason in a row.
    pub(super) fn note(&self, confined: Confined) {
        let reason = confined.without_private_tmp;
        if let Some(reason) = &reason
            && self.said.borrow().as_ref() != Some(reason)
        {
            let message = format!("sessions have no /tmp of their own: {reason}");
            self.reporter.say(Level::Warning, message);
        }
        self.said.replace(reason);
    }
}
