//! How much is measured.

use std::time::Duration;

use serde::Serialize;

#[derive(Debug, Serialize)]
pub(crate) struct Extent {
    pub(crate) rounds: usize,
    /// One way's turn.
    pub(crate) round: Duration,
    /// One call at a time, all ways to the same worker together.
    pub(crate) latency: Duration,
    pub(crate) deploys: usize,
    pub(crate) kills: usize,
    pub(crate) starts: usize,
    /// Calls to an agent that is asleep.
    pub(crate) wakes: usize,
    /// Of supervisors with agents.
    pub(crate) returns: usize,
    /// Of one kind, under load.
    pub(crate) changes: usize,
    /// New sessions, each when interpreters are ready.
    pub(crate) sessions: usize,
    /// Of new sessions, all at once.
    pub(crate) bursts: usize,
    /// Runs that say something and go on.
    pub(crate) streams: usize,
}

impl Extent {
    pub(crate) const USUAL: Self = Self {
        rounds: 5,
        round: Duration::from_millis(1500),
        latency: Duration::from_secs(8),
        deploys: 15,
        kills: 10,
        starts: 20,
        wakes: 25,
        returns: 5,
        changes: 3,
        sessions: 20,
        bursts: 5,
        streams: 100,
    };

    /// Shows that everything works; its figures are rough.
    pub(crate) const QUICK: Self = Self {
        rounds: 2,
        round: Duration::from_millis(400),
        latency: Duration::from_secs(2),
        deploys: 3,
        kills: 2,
        starts: 3,
        wakes: 5,
        returns: 2,
        changes: 1,
        sessions: 5,
        bursts: 1,
        streams: 20,
    };
}
