//! What a call is called, for its caller and in the log.

use std::cell::RefCell;

use http::{HeaderMap, HeaderName, HeaderValue, Response};
use par_model::headers::REQUEST_ID;

use super::body::Answer;
use crate::agent::Exchange;
use crate::agent::call_names::is_name;
use crate::serving::Serving;

const HEADER: HeaderName = HeaderName::from_static(REQUEST_ID);

/// The name of one call, from its request to its answer.
pub(super) struct Naming {
    /// What the caller said, until the call has begun.
    name: RefCell<Option<String>>,
}

impl Naming {
    pub(super) fn of(headers: &HeaderMap) -> Self {
        Self {
            name: RefCell::new(given(headers).map(str::to_owned)),
        }
    }

    pub(super) fn begin(&self, serving: &Serving, exchange: &Exchange) {
        let given = self.name.take();
        let name = serving.output.names.begin(exchange.id(), given.as_deref());
        self.name.replace(Some(name));
    }

    /// An application that names its answer itself is not talked over.
    pub(super) fn tell(&self, mut response: Response<Answer>) -> Response<Answer> {
        let value = |name| HeaderValue::try_from(name).ok();
        if let Some(value) = self.name.take().and_then(value) {
            response.headers_mut().entry(HEADER).or_insert(value);
        }
        response
    }
}

/// What the caller calls its call, if that is a name.
pub(crate) fn given(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(HEADER)?.to_str().ok()?;
    Some(value).filter(|name| is_name(name))
}
