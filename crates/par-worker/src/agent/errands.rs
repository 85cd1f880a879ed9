//! What the agent asks of its worker by itself: lines for its log, and calls to other agents.

use std::collections::HashMap;
use std::rc::Rc;

use par_model::control::{CallLimits, WorkerSpec};
use par_model::log::Level;
use par_model::{CallError, headers};
use par_protocol::frame::{Frame, Kind};
use par_protocol::harness;
use tokio::task::{AbortHandle, JoinSet};

use super::channel::Channel;
use super::outbound::{self, OutboundCall, Supervisor};
use crate::reports::Reporter;

/// Calls to other agents that are under way; dropped, they are given up.
pub(crate) struct Errands {
    supervisor: Option<Supervisor>,
    limits: CallLimits,
    reporter: Reporter,
    under_way: JoinSet<()>,
    /// By the ids of the calls, for those that the agent gives up.
    handles: HashMap<u32, AbortHandle>,
}

impl Errands {
    pub(crate) fn new(spec: &WorkerSpec, reporter: Reporter) -> Self {
        Self {
            supervisor: Supervisor::of(spec),
            limits: spec.limits,
            reporter,
            under_way: JoinSet::new(),
            handles: HashMap::new(),
        }
    }

    pub(crate) fn run(&mut self, frame: Frame, channel: &Rc<Channel>) {
        while self.under_way.try_join_next().is_some() {}
        self.handles.retain(|_, call| !call.is_finished());
        let id = frame.id;
        match frame.kind {
            Kind::Outbound => {
                if let Err(refusal) = self.call(frame, channel) {
                    outbound::refuse(channel, id, refusal)
                        .expect("a refusal is smaller than the largest frame");
                }
            }
            Kind::Cancel => {
                if let Some(call) = self.handles.remove(&id) {
                    call.abort();
                }
            }
            _ => log_frame(&self.reporter, &frame),
        }
    }

    fn call(&mut self, frame: Frame, channel: &Rc<Channel>) -> Result<(), String> {
        let call = OutboundCall::read(frame).ok_or("the call was not understood")?;
        let supervisor = self
            .supervisor
            .clone()
            .ok_or("no supervisor is here: this agent runs alone")?;
        if self.under_way.len() >= self.limits.queue as usize {
            return Err(CallError::Overloaded.to_string());
        }
        let hops = channel.hops(call.parent()).saturating_add(1);
        if hops > headers::MAX_HOPS {
            outbound::answer(channel, call.id, &CallError::TooManyHops(headers::MAX_HOPS));
            return Ok(());
        }
        let id = call.id;
        let work = call.perform(supervisor, hops, self.limits.deadline, Rc::clone(channel));
        self.handles.insert(id, self.under_way.spawn_local(work));
        Ok(())
    }
}

pub(crate) fn log_frame(reporter: &Reporter, frame: &Frame) {
    if frame.kind != Kind::Log {
        return;
    }
    if let Ok(log) = serde_json::from_slice::<harness::Log>(&frame.body) {
        let level = log.level.parse().unwrap_or(Level::Info);
        reporter.say(level, log.message);
    }
}
