//! Server-sent events, as they come.

use serde::de::DeserializeOwned;

use super::{Answer, ClientError};

/// One event: its name, if it has one, and its data lines joined.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) name: String,
    pub(crate) data: String,
}

pub(crate) struct Events {
    answer: Answer,
}

impl Events {
    pub(crate) fn of(answer: Answer) -> Self {
        Self { answer }
    }

    /// The next event that carries data; comments and keep-alives are passed over.
    pub(crate) async fn next(&mut self) -> Result<Option<Event>, ClientError> {
        let mut event = Event::default();
        let mut has_data = false;
        while let Some(line) = self.answer.line().await? {
            let line = String::from_utf8_lossy(&line);
            match line.split_once(':').unwrap_or((&line, "")) {
                ("", "") if line.is_empty() && has_data => return Ok(Some(event)),
                ("data", value) => {
                    if has_data {
                        event.data.push('\n');
                    }
                    event
                        .data
                        .push_str(value.strip_prefix(' ').unwrap_or(value));
                    has_data = true;
                }
                ("event", value) => value.trim_start().clone_into(&mut event.name),
                _ => {}
            }
        }
        Ok(None)
    }

    pub(crate) async fn next_json<T: DeserializeOwned>(
        &mut self,
    ) -> Result<Option<T>, ClientError> {
        match self.next().await? {
            Some(event) => self.answer.parse(event.data.as_bytes()).map(Some),
            None => Ok(None),
        }
    }
}
