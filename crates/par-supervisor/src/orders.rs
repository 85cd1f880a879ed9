//! What a worker is told, and its end when it does not listen. The last order is the one that holds: there is no queue
//! that could be full, and a kill is heard while a worker does not read.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use par_model::control::Command;
use par_model::egress::Egress;
use par_sandbox::Target;
use rustix::process::Signal;
use tokio::io::{AsyncWrite, AsyncWriteExt as _};
use tokio::sync::watch;
use tokio::time::{Instant, interval_at};

/// Between two questions whether a worker is there.
pub(crate) const PING_EVERY: Duration = Duration::from_secs(10);

/// Has no `Debug`: it may hold secrets.
#[derive(Clone, Default)]
pub(crate) struct Orders {
    /// It is known to whoever comes after us.
    keep: bool,
    /// How often it was to freeze.
    freezes: u64,
    drain: Option<Duration>,
    kill: bool,
    /// Where its agent may go from now on.
    egress: Option<Arc<Egress>>,
}

/// Has no `Debug`: it may hold secrets.
pub(crate) enum Order {
    Keep,
    Freeze,
    Drain(Duration),
    Kill,
    Egress(Arc<Egress>),
}

pub(crate) type Given = watch::Receiver<Orders>;

pub(crate) fn channel() -> (watch::Sender<Orders>, Given) {
    watch::channel(Orders::default())
}

impl Orders {
    pub(crate) fn give(&mut self, order: Order) {
        match order {
            Order::Keep => self.keep = true,
            Order::Freeze => self.freezes += 1,
            Order::Drain(within) => self.drain = Some(within),
            Order::Kill => self.kill = true,
            Order::Egress(egress) => self.egress = Some(egress),
        }
    }

    /// What a worker has to be told that knows of `before`.
    fn since(&self, before: &Self) -> impl Iterator<Item = Command> + use<> {
        let keep = (self.keep && !before.keep).then_some(Command::Keep);
        let freeze = (self.freezes != before.freezes).then_some(Command::Freeze);
        let drain = self.drain.filter(|_| self.drain != before.drain);
        let drain = drain.map(|within| Command::Drain { within });
        let told = |egress: &&Arc<Egress>| {
            let before = before.egress.as_ref();
            before.is_some_and(|before| Arc::ptr_eq(before, egress))
        };
        let egress = self.egress.as_ref().filter(|egress| !told(egress));
        let egress = egress.map(|egress| Command::Egress {
            egress: Box::new(Egress::clone(egress)),
        });
        keep.into_iter().chain(egress).chain(freeze).chain(drain)
    }
}

/// Tells a worker orders as they are given, and asks it from time to time whether it is there. Ends when no more orders
/// can come.
pub(crate) async fn tell(
    mut orders: Given,
    write: &mut (impl AsyncWrite + Unpin),
) -> io::Result<()> {
    let mut told = Orders::default();
    let mut pings = interval_at(Instant::now() + PING_EVERY, PING_EVERY);
    loop {
        let now = orders.borrow_and_update().clone();
        for command in now.since(&told) {
            write_line(write, &command).await?;
        }
        told = now;
        tokio::select! {
            changed = orders.changed() => if changed.is_err() {
                return Ok(());
            },
            _ = pings.tick() => write_line(write, &Command::Ping).await?,
        }
    }
}

/// Kills a worker and all below it, once this is ordered.
pub(crate) async fn kill_when_ordered(mut orders: Given, pid: u32, worker: &Target) {
    if orders.wait_for(|orders| orders.kill).await.is_ok() {
        par_sandbox::kill_descendants(pid);
        worker.signal(Signal::KILL);
    }
}

pub(crate) async fn write_line(
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

    fn give(orders: &watch::Sender<Orders>, order: Order) {
        orders.send_modify(|orders| orders.give(order));
    }

    #[tokio::test]
    async fn a_kill_is_heard_while_a_worker_does_not_read_and_after_any_number_of_drains() {
        let mut command = process::Command::new("/bin/sleep");
        let mut child = command.arg("1000").spawn().expect("started");
        let worker = Target::of(&child).expect("alive");
        let pid = child.id().expect("alive");
        let (orders_in, orders) = channel();
        let (mut ours, _unread) = tokio::io::duplex(16);
        for seconds in 0..100 {
            give(&orders_in, Order::Drain(Duration::from_secs(seconds)));
        }
        give(&orders_in, Order::Kill);
        let told = async {
            tokio::join!(
                tell(orders.clone(), &mut ours),
                kill_when_ordered(orders.clone(), pid, &worker),
            )
        };
        tokio::select! {
            status = child.wait() => assert!(!status.expect("waited for").success()),
            _ = told => panic!("orders go on until the worker has ended"),
        }
    }

    #[tokio::test]
    async fn a_worker_hears_the_last_of_each_kind_that_came_while_nobody_told_it() {
        let (orders_in, orders) = channel();
        let (mut ours, mut theirs) = tokio::io::duplex(1024);
        for order in [
            Order::Drain(Duration::from_secs(9)),
            Order::Keep,
            Order::Freeze,
            Order::Freeze,
            Order::Drain(Duration::ZERO),
        ] {
            give(&orders_in, order);
        }
        drop(orders_in);
        tell(orders, &mut ours).await.expect("written");
        drop(ours);
        let mut heard = String::new();
        theirs.read_to_string(&mut heard).await.expect("read");
        let within = Duration::ZERO;
        let expected = [Command::Keep, Command::Freeze, Command::Drain { within }];
        let expected = expected.map(|it| serde_json::to_string(&it).expect("JSON") + "\n");
        assert_eq!(heard, expected.concat());
    }
}
