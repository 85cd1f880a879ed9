//! Ranges of agent ports that no other test has, in this process or another.

use std::net::TcpListener;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::process;
use std::sync::atomic::{AtomicU16, Ordering};

/// Ports of one range: enough for the agents of one test.
const SIZE: u16 = 12;
/// HTTP ports from here up, gRPC ports 10000 higher: both below the ports that the kernel gives to clients.
const FIRST: u16 = 11_000;
const SLOTS: u16 = 800;

static NEXT: AtomicU16 = AtomicU16::new(0);

/// A range of free ports whose gRPC ports, 10000 higher, are free too. Given back when dropped.
#[derive(Debug)]
pub struct PortRange {
    pub first: u16,
    pub last: u16,
    /// An abstract socket's name is ours while we live, and leaves nothing behind.
    _claim: UnixListener,
}

impl PortRange {
    /// # Panics
    /// When every range is taken.
    pub fn claim() -> Self {
        let own = (process::id() % u32::from(SLOTS)) as u16;
        (0..SLOTS)
            .find_map(|_| {
                let turn = NEXT.fetch_add(1, Ordering::Relaxed) % SLOTS;
                // Steps of a number prime to the slots, so that processes with neighbouring ids start far apart.
                let slot = (u32::from(own) * 37 + u32::from(turn)) % u32::from(SLOTS);
                Self::claim_slot(slot as u16)
            })
            .expect("some range of ports is free")
    }

    fn claim_slot(slot: u16) -> Option<Self> {
        let name = format!("par-testkit-ports-{slot}");
        let address = SocketAddr::from_abstract_name(name).expect("a short name");
        let claim = UnixListener::bind_addr(&address).ok()?;
        let range = Self {
            first: FIRST + slot * SIZE,
            last: FIRST + slot * SIZE + SIZE - 1,
            _claim: claim,
        };
        range.taken().is_empty().then_some(range)
    }

    /// Ports of the range, gRPC ports included, that somebody listens on.
    pub fn taken(&self) -> Vec<u16> {
        (self.first..=self.last)
            .flat_map(|port| [port, port + 10_000])
            .filter(|port| TcpListener::bind(("127.0.0.1", *port)).is_err())
            .collect()
    }

    /// As `--agent-ports` takes it.
    pub fn argument(&self) -> String {
        format!("{}-{}", self.first, self.last)
    }
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
