//! Ranges of agent ports that no other test has, in this process or another.

use std::net::TcpListener;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::process;
use std::sync::atomic::{AtomicU16, Ordering};

/// Ports of a slot: enough for the agents of most tests.
const SIZE: u16 = 12;
/// HTTP ports from here up, gRPC ports 10000 higher: both below the ports that the kernel gives to clients.
const FIRST: u16 = 11_000;
const SLOTS: u16 = 800;
/// One for the supervisor of each slot, above all those.
const FIRST_OF_SUPERVISORS: u16 = FIRST + SLOTS * SIZE + 10_000;

static NEXT: AtomicU16 = AtomicU16::new(0);

/// A range of free ports whose gRPC ports, 10000 higher, are free too. Given back when dropped.
#[derive(Debug)]
pub struct PortRange {
    pub first: u16,
    pub last: u16,
    /// For a supervisor that another one follows: no client is ever given it by the kernel.
    pub supervisor: u16,
    /// An abstract socket's name is ours while we live, and leaves nothing behind.
    _claims: Vec<UnixListener>,
}

impl PortRange {
    /// Room for the agents of most tests.
    ///
    /// # Panics
    /// When every range is taken.
    pub fn claim() -> Self {
        Self::claim_for(SIZE)
    }

    /// # Panics
    /// When every range is taken.
    pub fn claim_for(agents: u16) -> Self {
        let own = (process::id() % u32::from(SLOTS)) as u16;
        let wanted = agents.div_ceil(SIZE).max(1);
        (0..SLOTS)
            .find_map(|_| {
                let turn = NEXT.fetch_add(1, Ordering::Relaxed) % SLOTS;
                // Steps of a number prime to the slots, so that processes with neighbouring ids start far apart.
                let slot = (u32::from(own) * 37 + u32::from(turn)) % u32::from(SLOTS);
                Self::claim_slots(slot as u16, wanted)
            })
            .expect("some range of ports is free")
    }

    fn claim_slots(first: u16, count: u16) -> Option<Self> {
        if first + count > SLOTS {
            return None;
        }
        let claims = (first..first + count).map(claim_slot);
        let range = Self {
            first: FIRST + first * SIZE,
            last: FIRST + (first + count) * SIZE - 1,
            supervisor: FIRST_OF_SUPERVISORS + first,
            _claims: claims.collect::<Option<_>>()?,
        };
        let free = range.taken().is_empty() && !is_taken(range.supervisor);
        free.then_some(range)
    }

    /// Ports of the range, gRPC ports included, that somebody listens on.
    pub fn taken(&self) -> Vec<u16> {
        (self.first..=self.last)
            .flat_map(|port| [port, port + 10_000])
            .filter(|port| is_taken(*port))
            .collect()
    }

    /// As `--agent-ports` takes it.
    pub fn argument(&self) -> String {
        format!("{}-{}", self.first, self.last)
    }
}

fn claim_slot(slot: u16) -> Option<UnixListener> {
    let name = format!("par-testkit-ports-{slot}");
    let address = SocketAddr::from_abstract_name(name).expect("a short name");
    UnixListener::bind_addr(&address).ok()
}

fn is_taken(port: u16) -> bool {
    TcpListener::bind(("127.0.0.1", port)).is_err()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_claims_never_share_a_port() {
        let ranges: Vec<PortRange> = (0..20).map(|_| PortRange::claim()).collect();
        for (index, a) in ranges.iter().enumerate() {
            for b in &ranges[index + 1..] {
                assert!(a.last < b.first || b.last < a.first, "{a:?} {b:?}");
            }
        }
    }

    #[test]
    fn a_port_that_somebody_listens_on_is_told() {
        let range = PortRange::claim();
        let listener = TcpListener::bind(("127.0.0.1", range.first + 10_000)).expect("free");
        assert_eq!(range.taken(), [range.first + 10_000]);
        drop(listener);
    }
}
