//! `par call`: one call, its answer as it is.

use std::io::{self, Read as _, Write as _};

use anyhow::Context as _;
use bytes::Bytes;
use clap::Args;
use http::header::CONTENT_TYPE;
use http::{Method, StatusCode};
use http_body_util::Full;
use par_model::headers::REQUEST_TIMEOUT;
use serde::de::IgnoredAny;

use super::Context;
use crate::client::{Answer, ClientError, Events, segment};
use crate::exit::{Exit, Problem};
use crate::terminal::{Terminal, harmless, indent};

const JSON: &str = "application/json";
const EVENTS: &str = "text/event-stream";

#[derive(Args)]
#[command(after_help = "Examples:\n  \
        par call hello '{\"name\": \"Ada\"}'       the agent's entrypoint\n  \
        par call hello greet '{\"name\": \"Ada\"}' one of its exports\n  \
        par call hello @question.json          the body from a file\n  \
        echo '{}' | par call hello -           the body from standard input\n  \
        par call stream '{\"to\": 3}' --stream   values as the agent yields them\n\n\
        Without a body, `{}` is sent. A second word that is JSON, `-` or begins with `@` is the body.")]
pub(crate) struct Call {
    agent: String,

    /// An export of the agent; without one, its entrypoint is called
    #[arg(value_name = "EXPORT")]
    export_or_body: Option<String>,

    /// The body: JSON, @FILE, or - for standard input
    #[arg(value_name = "JSON|@FILE|-", allow_hyphen_values = true)]
    body: Option<String>,

    /// Print the values of a generator as they come
    #[arg(long)]
    stream: bool,

    /// Give up after so many seconds
    #[arg(long, value_name = "SECONDS")]
    timeout: Option<f64>,
}

impl Call {
    pub(crate) async fn run(self, context: &Context) -> anyhow::Result<()> {
        let (export, body) = self.words();
        let body = read_body(body)?;
        let path = match export {
            Some(export) => format!(
                "/agents/{}/exports/{}",
                segment(&self.agent),
                segment(export)
            ),
            None => format!("/agents/{}/invoke", segment(&self.agent)),
        };
        let media_type = if self.stream { EVENTS } else { JSON };
        let mut request = context
            .client
            .request_for(Method::POST, &path, media_type)
            .header(CONTENT_TYPE, JSON);
        if let Some(seconds) = self.timeout {
            request = request.header(REQUEST_TIMEOUT, seconds.to_string());
        }
        let progress = context.terminal.progress();
        progress.say(format!("waiting for {}", self.agent));
        let answer = progress
            .during(context.client.send(request, Full::new(body)))
            .await?;
        if answer.status() != StatusCode::OK {
            return Err(self.refused(context, answer).await?.into());
        }
        match answer.media_type() {
            EVENTS => print_events(context.terminal, answer).await,
            JSON if !self.stream => print_json(context.terminal, answer).await,
            _ => print_as_it_comes(context.terminal, answer).await,
        }
    }

    /// The export, if one is named, and the body.
    fn words(&self) -> (Option<&str>, &str) {
        match (self.export_or_body.as_deref(), self.body.as_deref()) {
            (None, _) => (None, "{}"),
            (Some(word), None) if is_body(word) => (None, word),
            (Some(export), body) => (Some(export), body.unwrap_or("{}")),
        }
    }

    async fn refused(&self, context: &Context, answer: Answer) -> Result<Problem, ClientError> {
        let status = answer.status();
        let refusal = answer.refusal().await?;
        let exit = refusal.exit();
        let agent = &self.agent;
        let help = match (exit, status.as_u16()) {
            (Exit::Unknown, _) => {
                format!("`{}` lists the agents", context.par("ps"))
            }
            (Exit::NotNow, _) => {
                format!(
                    "`{}` shows how it is; then try again",
                    context.par(&format!("ps {agent}"))
                )
            }
            (_, 500..) => {
                let logs = context.par(&format!("logs {agent}"));
                format!("`{logs}` shows what it wrote")
            }
            _ => return Ok(Problem::new(exit, refusal.to_string())),
        };
        let message = format!("{agent} answered {}: {refusal}", status.as_u16());
        Ok(Problem::new(exit, message).help(help))
    }
}

fn is_body(word: &str) -> bool {
    let meant_as_json = word.starts_with(['{', '[', '"']);
    word == "-" || word.starts_with('@') || meant_as_json || check(word.as_bytes()).is_ok()
}

fn check(json: &[u8]) -> serde_json::Result<()> {
    serde_json::from_slice::<IgnoredAny>(json).map(drop)
}

fn read_body(word: &str) -> anyhow::Result<Bytes> {
    let (bytes, place) = match (word, word.strip_prefix('@')) {
        ("-", _) => {
            let mut bytes = vec![];
            let read = io::stdin().lock().read_to_end(&mut bytes);
            read.context("failed to read standard input")?;
            (bytes, "standard input".to_owned())
        }
        (_, Some(path)) => {
            let bytes = std::fs::read(path).with_context(|| format!("failed to read `{path}`"))?;
            (bytes, format!("`{path}`"))
        }
        _ => (word.as_bytes().to_vec(), "the body".to_owned()),
    };
    check(&bytes).map_err(|source| {
        Problem::new(Exit::Usage, format!("{place} is not JSON"))
            .because(source)
            .help("quote it for the shell: par call AGENT '{\"key\": \"value\"}'")
    })?;
    Ok(bytes.into())
}

async fn print_json(terminal: Terminal, answer: Answer) -> anyhow::Result<()> {
    let bytes = answer.bytes().await?;
    let text = String::from_utf8_lossy(&bytes);
    if terminal.json || terminal.out.width.is_none() {
        terminal.print(&text)?;
    } else {
        terminal.print(&harmless(&indent(&text)))?;
    }
    Ok(())
}

async fn print_events(terminal: Terminal, answer: Answer) -> anyhow::Result<()> {
    let mut events = Events::of(answer);
    while let Some(event) = events.next().await? {
        if event.name == "error" {
            return Err(Problem::new(Exit::Failed, failure_of(&event.data)).into());
        }
        if event.data.is_empty() {
            continue;
        }
        terminal.print(&shown(terminal, &event.data))?;
    }
    Ok(())
}

/// What went wrong in the middle of a stream.
fn failure_of(data: &str) -> String {
    let parsed: Option<par_model::api::Detail> = serde_json::from_str(data).ok();
    parsed.map_or_else(|| data.to_owned(), |body| body.detail)
}

async fn print_as_it_comes(terminal: Terminal, mut answer: Answer) -> anyhow::Result<()> {
    while let Some(chunk) = answer.chunk().await? {
        let mut out = io::stdout().lock();
        if terminal.out.width.is_some() {
            let text = String::from_utf8_lossy(&chunk);
            out.write_all(shown(terminal, &text).as_bytes())?;
        } else {
            out.write_all(&chunk)?;
        }
        out.flush()?;
    }
    if terminal.out.width.is_some() {
        terminal.print("")?;
    }
    Ok(())
}

fn shown(terminal: Terminal, text: &str) -> String {
    if terminal.out.width.is_some() {
        harmless(text).into_owned()
    } else {
        text.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(first: &str, second: Option<&str>) -> (Option<String>, String) {
        let call = Call {
            agent: "a".to_owned(),
            export_or_body: Some(first.to_owned()),
            body: second.map(str::to_owned),
            stream: false,
            timeout: None,
        };
        let (export, body) = call.words();
        (export.map(str::to_owned), body.to_owned())
    }

    #[test]
    fn a_lone_second_word_is_the_body_when_it_can_be_one() {
        for body in ["{}", "[1]", "3", "null", "\"x\"", "-", "@file", "{broken"] {
            assert_eq!(words(body, None), (None, body.to_owned()));
        }
    }

    #[test]
    fn any_other_second_word_is_an_export() {
        assert_eq!(words("greet", None), (Some("greet".into()), "{}".into()));
        assert_eq!(words("3", Some("[]")), (Some("3".into()), "[]".into()));
    }
}
