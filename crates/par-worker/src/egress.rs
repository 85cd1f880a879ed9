//! The agent's way out: a proxy of its own, on loopback, that knows what the operator granted. An agent in a network of its
//! own reaches it through a tunnel ([`crate::agent::tunnels`]).

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use par_egress::{Authorization, Door, Figures, Policy, Trust, serve, system_resolver};
use par_model::control::{Report, WorkerSpec};
use par_model::egress::{Egress, EgressFigures};
use par_model::log::Level;
use par_model::network::{Host, HostPattern};
use rustix::rand::{GetRandomFlags, getrandom};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use crate::reports::Reporter;

/// Between two reports of what went through.
const REPORT_EVERY: Duration = Duration::from_secs(1);
/// Hosts of the agent's own: what it serves itself is asked without a proxy.
const LOOPBACK: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// What holds now, for a proxy to follow.
pub(crate) type Policies = watch::Receiver<Arc<Policy>>;

pub(crate) fn policies(egress: &Egress) -> (watch::Sender<Arc<Policy>>, Policies) {
    watch::channel(Arc::new(Policy::new(egress.clone())))
}

/// A proxy that serves until this is dropped. Has no `Debug`: the URL has a password.
pub(crate) struct Outlet {
    url: String,
    address: SocketAddr,
    figures: Rc<Figures>,
    _serving: AbortOnDropHandle<()>,
    _reporting: AbortOnDropHandle<()>,
}

impl Outlet {
    /// On the machine's loopback, where others are: whoever uses it needs the URL.
    pub(crate) async fn open(
        spec: &WorkerSpec,
        policy: Policies,
        reporter: &Reporter,
    ) -> io::Result<Self> {
        let (listener, address) = listen_beside(spec).await?;
        let authorization = Authorization::new(password()?);
        let url = authorization.url(address);
        let figures = Rc::new(Figures::default());
        let saying = reporter.clone();
        let door = Door {
            agent: spec.agent.clone(),
            policy,
            authorization: Some(authorization),
            figures: Rc::clone(&figures),
            resolver: system_resolver(),
            trust: Trust::Machine,
            say: Box::new(move |line| saying.say(Level::Warning, line)),
        };
        let serving = tokio::task::spawn_local(serve(listener, door, std::future::pending()));
        let reporting = tokio::task::spawn_local(report(Rc::clone(&figures), reporter.clone()));
        Ok(Self {
            url,
            address,
            figures,
            _serving: AbortOnDropHandle::new(serving),
            _reporting: AbortOnDropHandle::new(reporting),
        })
    }

    /// Of the machine. An agent in a network of its own finds the proxy at the same port of its own loopback.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn figures(&self) -> EgressFigures {
        self.figures.look()
    }

    /// By which programs find it, in both spellings that there are.
    pub(crate) fn variables(
        &self,
        egress: &Egress,
        supervisor_url: &str,
    ) -> BTreeMap<String, String> {
        let direct = without_proxy(egress, supervisor_url);
        let pairs = [
            ("HTTP_PROXY", &self.url),
            ("HTTPS_PROXY", &self.url),
            ("NO_PROXY", &direct),
        ];
        let both = |(name, value): (&str, &String)| {
            [name.to_owned(), name.to_lowercase()].map(|name| (name, value.clone()))
        };
        pairs.into_iter().flat_map(both).collect()
    }
}

/// At a port that is none of the agent's own, wherever those listen: in a network of its own they lie side by side.
async fn listen_beside(spec: &WorkerSpec) -> io::Result<(TcpListener, SocketAddr)> {
    let supervisor = spec.supervisor_url.rsplit(':').next();
    let supervisor = supervisor.and_then(|port| port.parse().ok());
    let taken = [Some(spec.port), Some(spec.grpc_port), supervisor];
    loop {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        if !taken.contains(&Some(address.port())) {
            return Ok((listener, address));
        }
    }
}

/// Loopback is the agent's own, but for an address of it that was granted: that one is meant to be reached through the
/// proxy. Then the supervisor is named with its port.
fn without_proxy(egress: &Egress, supervisor_url: &str) -> String {
    let is_granted = |host: &str| {
        egress.granted.iter().any(|granted| match &granted.hosts {
            HostPattern::Exactly(Host::Address(address)) => {
                host.parse::<IpAddr>().as_ref() == Ok(address)
            }
            _ => false,
        })
    };
    let own = LOOPBACK.into_iter().filter(|host| !is_granted(host));
    let supervisor = supervisor_url.strip_prefix("http://").unwrap_or_default();
    let by_port = supervisor
        .parse::<SocketAddr>()
        .is_ok_and(|address| is_granted(&address.ip().to_string()));
    own.chain(by_port.then_some(supervisor))
        .collect::<Vec<_>>()
        .join(",")
}

/// 32 hexadecimal digits that nobody can guess.
fn password() -> io::Result<String> {
    let mut bytes = [0; 16];
    getrandom(&mut bytes, GetRandomFlags::empty())?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Soon after something was counted, and not more often than that.
async fn report(figures: Rc<Figures>, reporter: Reporter) {
    loop {
        figures.changed().await;
        tokio::time::sleep(REPORT_EVERY).await;
        let figures = figures.look();
        reporter.state(Report::Egress { figures });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_asked_without_the_proxy_unless_it_was_granted() {
        let direct = |granted: &[&str]| {
            let granted = granted.iter().map(|it| it.parse().expect("a destination"));
            let egress = Egress {
                granted: granted.collect(),
                ..Egress::default()
            };
            without_proxy(&egress, "http://127.0.0.1:8000")
        };
        assert_eq!(direct(&[]), "localhost,127.0.0.1,::1");
        assert_eq!(direct(&["api.example.org:443"]), "localhost,127.0.0.1,::1");
        assert_eq!(direct(&["127.0.0.1:11434"]), "localhost,::1,127.0.0.1:8000");
    }
}
