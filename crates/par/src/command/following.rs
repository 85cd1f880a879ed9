//! Streams of the supervisor that go on and on: after a break they go on behind the last item that was seen.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, StatusCode};
use http_body_util::Empty;
use serde::de::DeserializeOwned;
use tokio::time::sleep;

use super::Context;
use crate::client::{ClientError, Events};

/// How soon a supervisor that is gone is looked for again; twice as long after each look, up to the second.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// Shows each item of the stream at `path`, whenever the supervisor is there. `id` is what an item is called, for who comes
/// back.
pub(super) async fn follow<T: DeserializeOwned>(
    context: &Context,
    path: &str,
    show: impl Fn(&T) -> io::Result<()>,
    id: impl Fn(&T) -> Option<u64>,
) -> anyhow::Result<()> {
    let mut seen = Seen::default();
    let mut pause = FIRST_PAUSE;
    let mut is_told = false;
    loop {
        let items_before = seen.items;
        let ended = read(context, path, &show, &id, &mut seen).await;
        match ended {
            // What was asked for is wrong, or nobody was there to begin with.
            Err(Ended::Refused(error)) => return Err(error.into()),
            Err(Ended::Gone(error)) if !seen.has_begun => return Err(error.into()),
            Err(Ended::Screen(error)) => return Err(error.into()),
            Ok(()) | Err(Ended::Gone(_)) => {}
        }
        if seen.items > items_before {
            (pause, is_told) = (FIRST_PAUSE, false);
        }
        if !is_told {
            context
                .terminal
                .note("the supervisor is gone; waiting for it");
            is_told = true;
        }
        sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// What was seen of the stream so far.
#[derive(Default)]
struct Seen {
    has_begun: bool,
    items: u64,
    last: Option<u64>,
}

enum Ended {
    Gone(ClientError),
    Refused(ClientError),
    Screen(io::Error),
}

impl From<ClientError> for Ended {
    fn from(error: ClientError) -> Self {
        match error {
            // It is ending.
            ClientError::Refused { status, .. } if status == StatusCode::SERVICE_UNAVAILABLE => {
                Self::Gone(error)
            }
            ClientError::Refused { .. } | ClientError::Request(_) => Self::Refused(error),
            _ => Self::Gone(error),
        }
    }
}

async fn read<T: DeserializeOwned>(
    context: &Context,
    path: &str,
    show: impl Fn(&T) -> io::Result<()>,
    id: impl Fn(&T) -> Option<u64>,
    seen: &mut Seen,
) -> Result<(), Ended> {
    let client = &context.client;
    let mut request = client.request_for(Method::GET, path, "text/event-stream");
    if let Some(last) = seen.last {
        request = request.header("last-event-id", last);
    }
    let answer = client.send(request, Empty::<Bytes>::new()).await?;
    let mut events = Events::of(answer.success().await?);
    seen.has_begun = true;
    while let Some(item) = events.next_json::<T>().await? {
        show(&item).map_err(Ended::Screen)?;
        seen.items += 1;
        seen.last = id(&item).or(seen.last);
    }
    Ok(())
}
