//! An agent that answers: what its surfaces need of it.

use std::collections::HashSet;
use std::rc::Rc;

use par_model::CallError;
use par_package::Manifest;
use par_protocol::frame::Frame;
use par_protocol::harness::{Adapter, Ready};

use crate::admission::Admission;
use crate::agent::Exchange;
use crate::agent::channel::{Channel, Gone};
use crate::agent::logs::Output;
use crate::fate::Fate;

pub(crate) struct Serving {
    pub(crate) channel: Rc<Channel>,
    pub(crate) output: Rc<Output>,
    pub(crate) admission: Rc<Admission>,
    pub(crate) ready: Ready,
    exports: HashSet<String>,
    actions: HashSet<String>,
    /// Exports that only other agents may call.
    private: HashSet<String>,
    fate: Rc<Fate>,
}

impl Serving {
    pub(crate) fn new(
        channel: Rc<Channel>,
        output: Rc<Output>,
        admission: Rc<Admission>,
        ready: Ready,
        manifest: &Manifest,
        fate: Rc<Fate>,
    ) -> Self {
        let private = manifest.exports.iter().filter(|export| !export.public);
        Self {
            channel,
            output,
            admission,
            exports: ready.exports.iter().cloned().collect(),
            actions: ready.actions.iter().cloned().collect(),
            private: private.map(|export| export.name.clone()).collect(),
            ready,
            fate,
        }
    }

    /// Whether `/exports/{name}` is there for a caller; other agents see more than the world.
    pub(crate) fn has_export(&self, name: &str, caller_is_agent: bool) -> bool {
        self.exports.contains(name) && (caller_is_agent || !self.private.contains(name))
    }

    /// Whether the gRPC action is there for a caller. Handlers of the agent's own are for everybody.
    pub(crate) fn has_action(&self, name: &str, caller_is_agent: bool) -> bool {
        self.actions.contains(name) && (caller_is_agent || !self.private.contains(name))
    }

    pub(crate) fn can_be_invoked(&self) -> bool {
        self.ready.adapter != Adapter::None
    }

    /// The next frame of a call, or why there will be none.
    pub(crate) async fn next(&self, exchange: &mut Exchange) -> Result<Frame, CallError> {
        match exchange.next().await {
            Ok(frame) => Ok(frame),
            Err(Gone) => Err(CallError::AgentGone(self.fate.words().await)),
        }
    }
}
