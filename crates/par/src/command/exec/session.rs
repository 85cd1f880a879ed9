//! A session of an agent, as the execution backend offers it over HTTP.

use std::collections::BTreeMap;
use std::hash::{BuildHasher as _, RandomState};
use std::time::Duration;

use http::header::CONTENT_TYPE;
use http::{Method, StatusCode};
use http_body_util::Full;
use par_model::{RunFailure, SessionId, Tier};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;
use tokio::time::timeout;

use crate::client::{ClientError, Event, Events, segment};
use crate::command::{Context, fleet};
use crate::exit::{Exit, Problem};

/// The result that is the value of the last expression.
const VALUE: &str = "_";
const EVENTS: &str = "text/event-stream";
/// How long the end of a session is waited for.
const CLOSING: Duration = Duration::from_secs(10);

pub(crate) struct Session<'a> {
    context: &'a Context,
    agent: String,
    id: SessionId,
    life: Life,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Life {
    /// It has a name that somebody has chosen, and stays.
    Stays,
    /// It is ours, and ends with us.
    Ours,
}

pub(crate) struct Asked {
    pub(crate) code: String,
    /// Seconds; without a number, the backend's usual ones.
    pub(crate) timeout: Option<f64>,
    pub(crate) tier: Tier,
}

/// Code that runs. Dropping it interrupts the code.
pub(crate) struct Run<'a> {
    session: &'a Session<'a>,
    events: Events,
}

pub(crate) enum News {
    Output(Stream, String),
    Progress(Step),
    Ended(Ended),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stream {
    Stdout,
    Stderr,
}

/// What the code says of how far it is.
#[derive(Debug, Deserialize)]
pub(crate) struct Step {
    pub(crate) value: Option<f64>,
    #[serde(default)]
    pub(crate) message: String,
}

/// How the code ended, letter for letter: long numbers stay what they are.
pub(crate) struct Ended {
    pub(crate) outcome: Outcome,
    pub(crate) fields: BTreeMap<String, Box<RawValue>>,
}

#[derive(Deserialize)]
pub(crate) struct Outcome {
    pub(crate) success: bool,
    #[serde(default)]
    pub(crate) results: BTreeMap<String, Box<RawValue>>,
    /// Results that are shown as their `repr`.
    #[serde(default)]
    pub(crate) opaque: Vec<String>,
    pub(crate) failure: Option<RunFailure>,
    pub(crate) error: Option<String>,
    pub(crate) traceback: Option<String>,
    /// Variables that a failed run may have changed all the same.
    #[serde(default)]
    pub(crate) changed: Vec<String>,
    #[serde(default)]
    pub(crate) stdout_truncated: bool,
    #[serde(default)]
    pub(crate) stderr_truncated: bool,
}

impl Outcome {
    /// The value of the last expression, unless it was `None`.
    pub(crate) fn value(&self) -> Option<&str> {
        self.results.get(VALUE).map(|value| value.get())
    }

    /// The value in Python's own words, where it has no others.
    pub(crate) fn words_of_value(&self) -> Option<String> {
        let is_repr = self.opaque.iter().any(|name| name == VALUE);
        let value = self.value().filter(|_| is_repr)?;
        serde_json::from_str(value).ok()
    }
}

impl<'a> Session<'a> {
    /// Names a session of an agent that has sessions; without a name one of our own.
    pub(crate) async fn open(
        context: &'a Context,
        agent: String,
        named: Option<SessionId>,
    ) -> anyhow::Result<Self> {
        // An agent without the backend may have an application that would take the code for something else.
        let offers = fleet::offers(&context.client, &agent);
        let offers = offers
            .await
            .map_err(|error| refusal(context, &agent, error))?;
        if !offers.sessions() {
            let message = format!("{agent} has no execution backend");
            let help = "add `capabilities: [code-execution]` to its agent.yaml";
            return Err(Problem::new(Exit::Unknown, message).help(help).into());
        }
        let life = if named.is_some() {
            Life::Stays
        } else {
            Life::Ours
        };
        Ok(Self {
            context,
            agent,
            id: named.unwrap_or_else(one_of_our_own),
            life,
        })
    }

    pub(super) fn agent(&self) -> &str {
        &self.agent
    }

    pub(super) fn id(&self) -> &SessionId {
        &self.id
    }

    pub(super) fn life(&self) -> Life {
        self.life
    }

    pub(crate) async fn execute(&self, asked: &Asked) -> anyhow::Result<Run<'_>> {
        let body = serde_json::json!({
            "code": asked.code,
            "resource_tier": asked.tier,
            "timeout_seconds": asked.timeout.unwrap_or_default(),
        });
        let path = format!("{}/execute", self.path());
        let client = &self.context.client;
        // No limit for the answer as a whole: its head comes at once, and the code may have to wait for its turn.
        let request = client
            .request_for(Method::POST, &path, EVENTS)
            .header(CONTENT_TYPE, "application/json");
        let answer = client.send(request, Full::from(body.to_string())).await?;
        if answer.status() != StatusCode::OK {
            return Err(refusal(self.context, &self.agent, answer.refusal().await?));
        }
        Ok(Run {
            session: self,
            events: Events::of(answer),
        })
    }

    /// Ends a session of our own, with what runs in it.
    pub(crate) async fn close(&self) {
        if self.life == Life::Ours {
            let path = self.path();
            let gone = self.context.client.delete::<IgnoredAny>(&path);
            // One that is left behind ends by itself once nobody has used it for long.
            drop(timeout(CLOSING, gone).await);
        }
    }

    fn path(&self) -> String {
        let (agent, id) = (segment(&self.agent), segment(self.id.as_str()));
        format!("/agents/{agent}/sessions/{id}")
    }

    fn broken_off(&self) -> Problem {
        let logs = self.context.par(&format!("logs {}", self.agent));
        Problem::new(
            Exit::Failed,
            "the answer broke off before the code had ended",
        )
        .help(format!("`{logs}` may say why"))
    }
}

impl Run<'_> {
    /// The last of them is the end.
    pub(crate) async fn next(&mut self) -> anyhow::Result<News> {
        loop {
            let Some(event) = self.events.next().await? else {
                return Err(self.session.broken_off().into());
            };
            match understood(&event) {
                Ok(Some(news)) => return Ok(news),
                Ok(None) => {} // a backend that is newer than we are
                Err(error) => {
                    let event = event.name;
                    return Err(anyhow::Error::new(error)
                        .context(format!("failed to read the event `{event}`")));
                }
            }
        }
    }

    /// Waits for the end, whatever is written until then.
    pub(crate) async fn ended(mut self) -> anyhow::Result<Ended> {
        loop {
            if let News::Ended(ended) = self.next().await? {
                return Ok(ended);
            }
        }
    }
}

fn understood(event: &Event) -> serde_json::Result<Option<News>> {
    #[derive(Deserialize)]
    struct Piece {
        text: String,
    }
    let output = |stream| -> serde_json::Result<Option<News>> {
        let piece: Piece = serde_json::from_str(&event.data)?;
        Ok(Some(News::Output(stream, piece.text)))
    };
    match event.name.as_str() {
        "stdout" => output(Stream::Stdout),
        "stderr" => output(Stream::Stderr),
        "progress" => serde_json::from_str(&event.data).map(|step| Some(News::Progress(step))),
        "result" | "error" => Ok(Some(News::Ended(Ended {
            outcome: serde_json::from_str(&event.data)?,
            fields: serde_json::from_str(&event.data)?,
        }))),
        _ => Ok(None),
    }
}

fn refusal(context: &Context, agent: &str, error: ClientError) -> anyhow::Error {
    let ps = |words: &str| format!("`{}` shows", context.par(words));
    match error.exit() {
        Exit::Unknown => fleet::unknown(agent).into(),
        Exit::NotNow => {
            let status = ps(&format!("ps {agent}"));
            Problem::new(Exit::NotNow, format!("{agent} does not take code now"))
                .help(format!("{status} how it is; then try again"))
                .because(error)
                .into()
        }
        _ => error.into(),
    }
}

fn one_of_our_own() -> SessionId {
    // A hasher's keys are as random as names have to be.
    let random = RandomState::new().hash_one(std::process::id());
    let name = format!("exec-{random:016x}");
    name.parse()
        .expect("letters, digits and `-` are a session's name")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(name: &str, data: &str) -> Event {
        Event {
            name: name.to_owned(),
            data: data.to_owned(),
        }
    }

    #[test]
    fn the_value_of_the_last_expression_is_kept_letter_for_letter() {
        let data = r#"{"success":true,"results":{"_":[1.10,18446744073709551616],"x":1},"error":null,"traceback":null}"#;
        let Ok(Some(News::Ended(ended))) = understood(&event("result", data)) else {
            panic!("it is an end");
        };
        assert_eq!(ended.outcome.value(), Some("[1.10,18446744073709551616]"));
        assert!(ended.outcome.success);
    }

    #[test]
    fn an_event_that_nobody_knows_is_passed_over_and_nonsense_is_not() {
        assert!(matches!(understood(&event("weather", "sunny")), Ok(None)));
        assert!(understood(&event("stdout", "sunny")).is_err());
    }

    #[test]
    fn two_sessions_of_our_own_have_two_names() {
        assert_ne!(one_of_our_own(), one_of_our_own());
    }
}
