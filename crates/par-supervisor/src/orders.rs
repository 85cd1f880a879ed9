//! What a worker is told, and its end when it does not listen. The last order is the one that holds: there is no queue
//! that could be full, and a kill is heard while a worker does not read.

use std::io;
use std::time::Duration;

use par_model::control::Command;
use par_sandbox::Target;
use rustix::process::Signal;
use tokio::io::{AsyncWrite, AsyncWriteExt as _};
use tokio::sync::watch;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    Live,
    Drain(Duration),
    Kill,
}

pub(crate) type Orders = watch::Receiver<Order>;

pub(crate) fn channel() -> (watch::Sender<Order>, Orders) {
    watch::channel(Order::Live)
}

/// Tells a worker drains as they are ordered, after what it is to be.
pub(crate) async fn tell(
    mut orders: Orders,
    write: &mut (impl AsyncWrite + Unpin),
    spec: &impl serde::Serialize,
) -> io::Result<()> {
    write_line(write, spec).await?;
    loop {
        let order = *orders.borrow_and_update();
        if let Order::Drain(within) = order {
            write_line(write, &Command::Drain { within }).await?;
        }
        if orders.changed().await.is_err() {
            return Ok(());
        }
    }
}

/// Kills a worker and all below it, each time that this is ordered.
pub(crate) async fn kill_when_ordered(mut orders: Orders, pid: u32, worker: &Target) {
    while orders.wait_for(|order| *order == Order::Kill).await.is_ok() {
        par_sandbox::kill_descendants(pid);
        worker.signal(Signal::KILL);
        if orders.changed().await.is_err() {
            return;
        }
    }
}

async fn write_line(
    write: &mut (impl AsyncWrite + Unpin),
    value: &impl serde::Serialize,
) -> io::Result<()> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    write.write_all(&line).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt as _;
    use tokio::process;

    #[tokio::test]
    async fn a_kill_is_heard_while_a_worker_does_not_read_and_after_any_number_of_drains() {
        let mut command = process::Command::new("/bin/sleep");
        let mut child = command.arg("1000").spawn().expect("started");
        let worker = Target::of(&child).expect("alive");
        let pid = child.id().expect("alive");
        let (orders_in, orders) = channel();
        let (mut ours, _unread) = tokio::io::duplex(16);
        for seconds in 0..100 {
            orders_in.send_replace(Order::Drain(Duration::from_secs(seconds)));
        }
        orders_in.send_replace(Order::Kill);
        let spec = "x".repeat(1000);
        let told = async {
            tokio::join!(
                tell(orders.clone(), &mut ours, &spec),
                kill_when_ordered(orders.clone(), pid, &worker),
            )
        };
        tokio::select! {
            status = child.wait() => assert!(!status.expect("waited for").success()),
            _ = told => panic!("orders go on until the worker has ended"),
        }
    }

    #[tokio::test]
    async fn a_worker_hears_the_last_drain_that_came_while_it_was_told_what_to_be() {
        let (orders_in, orders) = channel();
        let (mut ours, mut theirs) = tokio::io::duplex(16);
        for within in [Duration::from_secs(9), Duration::ZERO] {
            orders_in.send_replace(Order::Drain(within));
        }
        drop(orders_in);
        let told = async {
            tell(orders, &mut ours, &"spec").await.expect("written");
            drop(ours);
        };
        let mut heard = String::new();
        let (_, read) = tokio::join!(told, theirs.read_to_string(&mut heard));
        read.expect("read");
        let within = Duration::ZERO;
        let drain = serde_json::to_string(&Command::Drain { within }).expect("JSON");
        assert_eq!(heard, format!("\"spec\"\n{drain}\n"));
    }
}
