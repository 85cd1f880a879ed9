//! The loopback device of a network of our own, and who listens there.

use std::io;
use std::net::{Ipv4Addr, TcpListener};

use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socket_with,
};

/// Of a new network namespace, where it is always the first device.
const LOOPBACK: i32 = 1;

/// `struct nlmsghdr` and `struct ifinfomsg` of rtnetlink(7).
const HEADER: usize = 16;
const MESSAGE: usize = HEADER + 16;
const RTM_NEWLINK: u16 = 16;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const IFF_UP: u32 = 1;

/// Switches it on; the kernel gives it its addresses.
pub(super) fn up() -> io::Result<()> {
    let flags = SocketFlags::CLOEXEC;
    // Protocol 0 of this family is NETLINK_ROUTE.
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, None)?;
    send(&socket, &switch_on(LOOPBACK), SendFlags::empty())?;
    let mut answer = [0; 128];
    let (length, _) = recv(&socket, &mut answer, RecvFlags::empty())?;
    outcome(&answer[..length])
}

fn switch_on(device: i32) -> [u8; MESSAGE] {
    let mut message = [0; MESSAGE];
    let mut put = |at: usize, bytes: &[u8]| message[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &32_u32.to_ne_bytes());
    put(4, &RTM_NEWLINK.to_ne_bytes());
    put(6, &(NLM_F_REQUEST | NLM_F_ACK).to_ne_bytes());
    put(HEADER + 4, &device.to_ne_bytes());
    put(HEADER + 8, &IFF_UP.to_ne_bytes());
    put(HEADER + 12, &IFF_UP.to_ne_bytes());
    message
}

/// An acknowledgement is an error message with the number 0.
fn outcome(answer: &[u8]) -> io::Result<()> {
    let number = answer
        .get(HEADER..HEADER + 4)
        .and_then(|bytes| bytes.try_into().ok());
    match number.map(i32::from_ne_bytes) {
        Some(0) => Ok(()),
        Some(number) => Err(io::Error::from_raw_os_error(-number)),
        None => Err(io::Error::other("the kernel's answer is too short")),
    }
}

pub(super) fn listen(ports: &[u16]) -> io::Result<Vec<TcpListener>> {
    let listen = |port: &u16| TcpListener::bind((Ipv4Addr::LOCALHOST, *port));
    ports.iter().map(listen).collect()
}
