//! Resolve, check, pin: the address that was checked is the address that is connected to, and nobody asks for the name again.

use std::cell::RefCell;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use par_model::network::Host;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tracing::debug;

use crate::policy::{Policy, Way};
use crate::refusal::Refusal;
use crate::resolve::Resolver;

/// For a name to be resolved.
const RESOLVED_WITHIN: Duration = Duration::from_secs(10);
/// For one address to answer.
const CONNECTED_WITHIN: Duration = Duration::from_secs(10);
/// Addresses of one name that are tried.
const MOST_ADDRESSES: usize = 6;

/// The addresses by which a way may be gone, in the order of the resolver.
pub(crate) async fn addresses(
    policy: &Policy,
    resolver: &Resolver,
    way: &Way,
) -> Result<Vec<SocketAddr>, Refusal> {
    let found = match &way.host {
        Host::Address(address) => vec![*address],
        Host::Name(name) => resolve(resolver, name, &way.host).await?,
    };
    let refused = RefCell::new(None);
    let may = |address: &SocketAddr| {
        let verdict = policy.address(*address, is_ours(*address));
        verdict
            .inspect_err(|refusal| {
                refused.borrow_mut().get_or_insert_with(|| refusal.clone());
            })
            .is_ok()
    };
    let all = found.into_iter().map(|ip| SocketAddr::new(ip, way.port));
    let reachable: Vec<SocketAddr> = all.filter(may).take(MOST_ADDRESSES).collect();
    match (reachable.is_empty(), refused.into_inner()) {
        (false, _) => Ok(reachable),
        (true, Some(refusal)) => Err(refusal),
        (true, None) => Err(Refusal::NoSuchName {
            host: way.host.clone(),
        }),
    }
}

async fn resolve(resolver: &Resolver, name: &str, host: &Host) -> Result<Vec<IpAddr>, Refusal> {
    let unknown = || Refusal::NoSuchName { host: host.clone() };
    match timeout(RESOLVED_WITHIN, resolver(name.to_owned())).await {
        Ok(Ok(found)) => Ok(found),
        Ok(Err(error)) => {
            debug!(name, %error, "a name could not be resolved");
            Err(unknown())
        }
        Err(_) => Err(unknown()),
    }
}

/// The first that answers.
pub(crate) async fn connect(addresses: &[SocketAddr], way: &Way) -> Result<TcpStream, Refusal> {
    for address in addresses {
        match timeout(CONNECTED_WITHIN, TcpStream::connect(*address)).await {
            Ok(Ok(stream)) => {
                // Small requests do not wait for each other.
                if let Err(error) = stream.set_nodelay(true) {
                    debug!(%error, "a connection waits with small packets");
                }
                return Ok(stream);
            }
            Ok(Err(error)) => debug!(%address, %error, "failed to connect"),
            Err(_) => debug!(%address, "failed to connect in time"),
        }
    }
    Err(Refusal::Unreachable {
        host: way.host.clone(),
        port: way.port,
    })
}

/// Whether an address is one of this machine: then the way there begins at the address itself. Nothing is sent.
fn is_ours(address: SocketAddr) -> bool {
    let any: IpAddr = match address {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let way = UdpSocket::bind((any, 0)).and_then(|socket| {
        socket.connect(address)?;
        socket.local_addr()
    });
    way.is_ok_and(|local| local.ip() == address.ip())
}

#[cfg(test)]
mod tests {
    use super::*;
    use par_model::egress::Egress;
    use par_model::network::Speaks;
    use std::rc::Rc;

    fn resolver(addresses: &'static [&'static str]) -> Resolver {
        Rc::new(move |_| {
            let found = addresses.iter().map(|it| it.parse().expect("an address"));
            let found: Vec<IpAddr> = found.collect();
            Box::pin(async move { Ok(found) })
        })
    }

    async fn asked(
        granted: &[&str],
        found: &'static [&'static str],
    ) -> Result<Vec<String>, Refusal> {
        let granted = granted.iter().map(|it| it.parse().expect("a destination"));
        let policy = Policy::new(Egress {
            granted: granted.collect(),
            ..Egress::default()
        });
        let way = Way {
            host: Host::Name("a.example.org".to_owned()),
            port: 443,
            speaks: Speaks::Anything,
        };
        let addresses = addresses(&policy, &resolver(found), &way).await?;
        Ok(addresses.iter().map(ToString::to_string).collect())
    }

    #[tokio::test]
    async fn of_several_addresses_only_those_of_the_public_internet_are_tried() {
        let mixed = asked(
            &[],
            &["10.0.0.1", "93.184.216.34", "::1", "2606:4700::1111"],
        )
        .await;
        assert_eq!(
            mixed.expect("some are public"),
            ["93.184.216.34:443", "[2606:4700::1111]:443"]
        );
    }

    #[tokio::test]
    async fn a_name_that_leads_only_inside_is_refused_with_where_it_leads() {
        let inside = asked(&[], &["169.254.169.254"]).await;
        let Err(Refusal::Address { address, .. }) = inside else {
            panic!("it is refused for its address: {inside:?}");
        };
        assert_eq!(address.to_string(), "169.254.169.254:443");
        assert!(
            asked(&["10.0.0.1:443"], &["10.0.0.1"]).await.is_ok(),
            "unless that is granted"
        );
    }

    #[tokio::test]
    async fn a_name_without_addresses_is_none() {
        assert!(matches!(
            asked(&[], &[]).await,
            Err(Refusal::NoSuchName { .. })
        ));
    }

    #[tokio::test(start_paused = true)]
    async fn a_resolver_that_hangs_keeps_nobody_for_ever() {
        let hangs: Resolver = Rc::new(|_| Box::pin(std::future::pending()));
        let way = Way {
            host: Host::Name("a.example.org".to_owned()),
            port: 443,
            speaks: Speaks::Anything,
        };
        let asked = addresses(&Policy::default(), &hangs, &way).await;
        assert!(matches!(asked, Err(Refusal::NoSuchName { .. })));
    }

    #[test]
    fn this_machine_knows_its_own_address() {
        assert!(is_ours("127.0.0.1:80".parse().expect("an address")));
    }
}
