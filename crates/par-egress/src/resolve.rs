//! From names to addresses, as this machine does it: its hosts file, its name servers.

use std::io;
use std::net::{IpAddr, ToSocketAddrs as _};
use std::rc::Rc;
use std::sync::Arc;

use futures_util::future::LocalBoxFuture;
use tokio::sync::Semaphore;

/// Names of one agent that are asked for at the same time. Each has a thread, also one that nobody waits for any more.
const AT_ONE_TIME: usize = 8;

/// Answers with the addresses of a name.
pub type Resolver = Rc<dyn Fn(String) -> LocalBoxFuture<'static, io::Result<Vec<IpAddr>>>>;

pub fn system_resolver() -> Resolver {
    let places = Arc::new(Semaphore::new(AT_ONE_TIME));
    Rc::new(move |name| {
        let places = Arc::clone(&places);
        Box::pin(async move {
            let place = places.acquire_owned().await.map_err(io::Error::other)?;
            let asked = tokio::task::spawn_blocking(move || {
                let _place = place;
                let found = (name.as_str(), 0).to_socket_addrs()?;
                Ok(found.map(|address| address.ip()).collect())
            });
            asked.await.map_err(io::Error::other)?
        })
    })
}
