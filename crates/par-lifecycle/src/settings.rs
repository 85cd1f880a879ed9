//! What holds for every agent of one fleet.

use std::ops::RangeInclusive;
use std::time::Duration;

#[derive(Clone, Debug)]
pub struct Settings {
    /// The first id that an incarnation gets: above all that were ever given.
    pub first_replica: u64,
    /// HTTP ports that agents are given.
    pub ports: RangeInclusive<u16>,
    /// An agent's gRPC port is its HTTP port plus this.
    pub grpc_offset: u16,
    /// Ports that one start tries, should others keep taking them.
    pub port_tries: usize,
    /// For the installation of dependencies.
    pub prepare_timeout: Duration,
    /// From there until the agent answers, unless its deployment says otherwise.
    pub start_timeout: Duration,
    /// For calls in flight to finish when an agent is stopped.
    pub drain_timeout: Duration,
    /// For calls, streams and sessions of a release that was replaced.
    pub retire_timeout: Duration,
    /// Between the request to end and the kill.
    pub stop_grace: Duration,
    /// An agent that served this long is healthy again: its earlier failures are forgotten.
    pub stable_after: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            first_replica: 1,
            ports: 8001..=8999,
            grpc_offset: 10_000,
            port_tries: 32,
            prepare_timeout: Duration::from_secs(600),
            start_timeout: Duration::from_secs(30),
            drain_timeout: Duration::from_secs(10),
            retire_timeout: Duration::from_secs(600),
            stop_grace: Duration::from_secs(5),
            stable_after: Duration::from_secs(30),
        }
    }
}
