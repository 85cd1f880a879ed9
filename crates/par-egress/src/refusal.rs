//! Why something is not let through: the rule, what it says to the agent, and how it would be allowed.

use std::fmt;
use std::net::SocketAddr;

use http::StatusCode;
use par_model::AgentId;
use par_model::egress::SecretName;
use par_model::network::{Destination, Host};

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    NotGranted {
        asked: Destination,
    },
    /// The grant is for TLS that the proxy speaks.
    OnlyByTheProxy {
        asked: Destination,
    },
    /// Granted by name, and the name leads there.
    Address {
        address: SocketAddr,
        what: &'static str,
    },
    OwnPort {
        port: u16,
    },
    /// A tunnel to `host` whose first words are for `named`.
    ServerName {
        host: Host,
        named: Option<String>,
    },
    /// A tunnel to a port of TLS, whose first words are none.
    NotTls {
        host: Host,
        port: u16,
    },
    HostHeader {
        host: Host,
    },
    SecretElsewhere {
        secret: SecretName,
        host: Host,
    },
    Unauthorized,
    BadRequest(&'static str),
    TooMany,
    NoSuchName {
        host: Host,
    },
    Unreachable {
        host: Host,
        port: u16,
    },
    /// The server at the other end could not prove who it is, or speaks no TLS.
    Untrusted {
        host: Host,
    },
}

impl Refusal {
    /// All of them, for figures.
    pub const RULES: [&'static str; 14] = [
        "not_granted",
        "only_by_the_proxy",
        "address",
        "own_port",
        "server_name",
        "not_tls",
        "host_header",
        "secret_elsewhere",
        "unauthorized",
        "bad_request",
        "too_many",
        "no_such_name",
        "unreachable",
        "untrusted",
    ];

    /// What it counts as.
    pub fn rule(&self) -> &'static str {
        let index = match self {
            Self::NotGranted { .. } => 0,
            Self::OnlyByTheProxy { .. } => 1,
            Self::Address { .. } => 2,
            Self::OwnPort { .. } => 3,
            Self::ServerName { .. } => 4,
            Self::NotTls { .. } => 5,
            Self::HostHeader { .. } => 6,
            Self::SecretElsewhere { .. } => 7,
            Self::Unauthorized => 8,
            Self::BadRequest(_) => 9,
            Self::TooMany => 10,
            Self::NoSuchName { .. } => 11,
            Self::Unreachable { .. } => 12,
            Self::Untrusted { .. } => 13,
        };
        Self::RULES[index]
    }

    pub fn status(&self) -> StatusCode {
        match self {
            Self::Unauthorized => StatusCode::PROXY_AUTHENTICATION_REQUIRED,
            Self::BadRequest(_) | Self::HostHeader { .. } => StatusCode::BAD_REQUEST,
            Self::TooMany => StatusCode::SERVICE_UNAVAILABLE,
            Self::NoSuchName { .. } | Self::Unreachable { .. } | Self::Untrusted { .. } => {
                StatusCode::BAD_GATEWAY
            }
            _ => StatusCode::FORBIDDEN,
        }
    }

    /// What an operator could do about it, if anything.
    pub fn way_to_be_allowed(&self, agent: &AgentId) -> Option<String> {
        match self {
            Self::NotGranted { asked } | Self::OnlyByTheProxy { asked } => {
                Some(format!("par network grant {agent} {asked}"))
            }
            Self::Address { address, .. } => Some(format!("par network grant {agent} {address}")),
            _ => None,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotGranted { asked } => write!(f, "{asked} is not granted"),
            Self::OnlyByTheProxy { asked } => {
                let (hosts, port) = (&asked.hosts, asked.port);
                write!(
                    f,
                    "no tunnel to {asked} is granted, only TLS by the proxy: ask it for http://{hosts}:{port}/"
                )
            }
            Self::Address { address, what } => {
                write!(f, "the name leads to {address}, which is {what}")
            }
            Self::OwnPort { port } => {
                write!(f, "port {port} of this machine is the runtime's own")
            }
            Self::ServerName { host, named } => match named {
                Some(named) => write!(
                    f,
                    "the tunnel is to {host}, and its TLS is for {}",
                    named.escape_debug()
                ),
                None => write!(f, "the tunnel is to {host}, and its TLS names nobody"),
            },
            Self::NotTls { host, port } => {
                write!(
                    f,
                    "the tunnel is to {host}:{port}, and what it begins with is not TLS"
                )
            }
            Self::HostHeader { host } => {
                write!(f, "the request is for {host}, and its Host is not")
            }
            Self::SecretElsewhere { secret, host } => {
                write!(f, "the secret {secret} is not bound to {host}")
            }
            Self::Unauthorized => f.write_str("the proxy's password is missing or wrong"),
            Self::BadRequest(what) => f.write_str(what),
            Self::TooMany => f.write_str("too many connections at the same time"),
            Self::NoSuchName { host } => write!(f, "{host} could not be resolved"),
            Self::Unreachable { host, port } => write!(f, "{host}:{port} could not be reached"),
            Self::Untrusted { host } => {
                write!(f, "no trusted TLS connection to {host} could be made")
            }
        }
    }
}
