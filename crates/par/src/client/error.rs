//! Why there is no answer, or not the one that was hoped for.

use std::io;

use http::StatusCode;

use crate::exit::Exit;

#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    #[error("no supervisor answers at {url}")]
    Unreachable {
        url: String,
        #[source]
        source: io::Error,
    },
    #[error("the connection to {url} broke")]
    Broken {
        url: String,
        #[source]
        source: hyper::Error,
    },
    /// The supervisor, or the agent, said no.
    #[error("{detail}")]
    Refused { status: StatusCode, detail: String },
    #[error("{url} answered what a supervisor does not say; is it one?")]
    Strange {
        url: String,
        #[source]
        source: serde_json::Error,
    },
    #[error("{url} answered a line longer than {limit} bytes")]
    LineTooLong { url: String, limit: usize },
    #[error("failed to write the request")]
    Request(#[source] http::Error),
}

impl ClientError {
    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self::Unreachable { .. } => Exit::Unreachable,
            Self::Refused { status, .. } => match status.as_u16() {
                404 => Exit::Unknown,
                429 | 503 | 504 => Exit::NotNow,
                _ => Exit::Failed,
            },
            _ => Exit::Failed,
        }
    }

    pub(crate) fn help(&self) -> Option<String> {
        let help = match (self, self.exit()) {
            (Self::Unreachable { .. }, _) => {
                "start one with `par up`, or name another with --url or PAR_URL"
            }
            (Self::Refused { status, .. }, _) if status.as_u16() == 401 => {
                "show a token with --token-file or PAR_TOKEN; whoever runs the supervisor makes one with `par token create`"
            }
            (_, Exit::Unknown) => "`par ps` lists the agents",
            (_, Exit::NotNow) => "`par ps` shows how the agents are; then try again",
            _ => return None,
        };
        Some(help.to_owned())
    }
}
