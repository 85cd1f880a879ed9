//! What somebody wants of an agent, as it has to be kept beyond the end of everything.

use crate::Release;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Desired {
    pub wanted: Wanted,
    pub replicas: u32,
    /// The release that takes the calls.
    pub current: Release,
    /// The release that takes a share of them.
    pub canary: Option<Canary>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    Up,
    /// Stopped by hand.
    Stopped,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Canary {
    pub release: Release,
    pub permille: u16,
}
