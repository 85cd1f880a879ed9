//! An answer, read whole or as it comes.

use bytes::{Buf as _, Bytes, BytesMut};
use http::header::CONTENT_TYPE;
use http::{Response, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use serde::de::DeserializeOwned;
use tokio::task::JoinSet;

use super::ClientError;

/// The longest line of a streamed answer.
const LONGEST_LINE: usize = 64 << 20;

pub(crate) struct Answer {
    url: String,
    response: Response<Incoming>,
    /// Read, but not yet handed out.
    rest: BytesMut,
    /// Drives the connection; ends with the answer.
    _connection: JoinSet<()>,
}

impl Answer {
    pub(super) fn new(response: Response<Incoming>, connection: JoinSet<()>, url: String) -> Self {
        Self {
            url,
            response,
            rest: BytesMut::new(),
            _connection: connection,
        }
    }

    pub(crate) fn status(&self) -> StatusCode {
        self.response.status()
    }

    /// The media type, without its parameters.
    pub(crate) fn media_type(&self) -> &str {
        let value = self.response.headers().get(CONTENT_TYPE);
        let text = value.and_then(|value| value.to_str().ok()).unwrap_or("");
        text.split(';').next().unwrap_or("").trim()
    }

    /// The answer, if it is a success; else what its `detail` says.
    pub(crate) async fn success(self) -> Result<Self, ClientError> {
        if self.status().is_success() {
            return Ok(self);
        }
        Err(self.refusal().await?)
    }

    pub(crate) async fn refusal(self) -> Result<ClientError, ClientError> {
        let status = self.status();
        let detail = detail_of(status, &self.bytes().await?);
        Ok(ClientError::Refused { status, detail })
    }

    pub(crate) async fn bytes(mut self) -> Result<Bytes, ClientError> {
        while let Some(more) = self.chunk().await? {
            self.rest.extend_from_slice(&more);
        }
        Ok(self.rest.freeze())
    }

    pub(crate) async fn json<T: DeserializeOwned>(self) -> Result<T, ClientError> {
        let url = self.url.clone();
        let bytes = self.bytes().await?;
        serde_json::from_slice(&bytes).map_err(|source| ClientError::Strange { url, source })
    }

    /// The next piece of the body, as it comes.
    pub(crate) async fn chunk(&mut self) -> Result<Option<Bytes>, ClientError> {
        while let Some(frame) = self.response.body_mut().frame().await {
            let broken = |source| ClientError::Broken {
                url: self.url.clone(),
                source,
            };
            if let Ok(data) = frame.map_err(broken)?.into_data() {
                return Ok(Some(data));
            }
        }
        Ok(None)
    }

    /// The next line without its end; the last one may lack an end.
    pub(crate) async fn line(&mut self) -> Result<Option<Bytes>, ClientError> {
        let mut searched = 0;
        loop {
            if let Some(end) = self.rest[searched..].iter().position(|b| *b == b'\n') {
                let mut line = self.rest.split_to(searched + end + 1);
                let ending = if line.ends_with(b"\r\n") { 2 } else { 1 };
                line.truncate(line.len() - ending);
                return Ok(Some(line.freeze()));
            }
            searched = self.rest.len();
            if searched > LONGEST_LINE {
                let (url, limit) = (self.url.clone(), LONGEST_LINE);
                return Err(ClientError::LineTooLong { url, limit });
            }
            match self.chunk().await? {
                Some(more) => self.rest.extend_from_slice(&more),
                None if self.rest.has_remaining() => {
                    return Ok(Some(self.rest.split().freeze()));
                }
                None => return Ok(None),
            }
        }
    }

    /// The next line as JSON, blank ones skipped.
    pub(crate) async fn json_line<T: DeserializeOwned>(
        &mut self,
    ) -> Result<Option<T>, ClientError> {
        while let Some(line) = self.line().await? {
            if !line.is_empty() {
                return self.parse(&line).map(Some);
            }
        }
        Ok(None)
    }

    pub(super) fn parse<T: DeserializeOwned>(&self, bytes: &[u8]) -> Result<T, ClientError> {
        let url = self.url.clone();
        serde_json::from_slice(bytes).map_err(|source| ClientError::Strange { url, source })
    }
}

/// `{"detail": …}` as text, or the beginning of whatever else was answered.
fn detail_of(status: StatusCode, body: &[u8]) -> String {
    let parsed: Option<serde_json::Value> = serde_json::from_slice(body).ok();
    match parsed.as_ref().and_then(|body| body.get("detail")) {
        Some(serde_json::Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
        None if body.is_empty() => status.to_string(),
        None => {
            let text = String::from_utf8_lossy(body);
            let beginning: String = text.chars().take(500).collect();
            format!("{status}: {beginning}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_told_by_its_detail_else_by_what_came() {
        let detail = |body: &str| detail_of(StatusCode::BAD_GATEWAY, body.as_bytes());
        assert_eq!(detail(r#"{"detail": "no"}"#), "no");
        assert_eq!(detail(r#"{"detail": [1]}"#), "[1]");
        assert_eq!(detail(""), "502 Bad Gateway");
        assert_eq!(detail("<html>"), "502 Bad Gateway: <html>");
    }
}
