//! The body of an answer to a gRPC call, which always ends with a word on how the call went: the worker's, or ours
//! when it can say none any more.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::RecvStream;
use http_body::{Body, Frame};
use par_model::CallError;
use tokio_util::task::AbortOnDropHandle;
use tracing::debug;

use crate::backend::InFlight;
use crate::body::BoxError;
use crate::deadline::Timer;
use crate::forward::gone;
use crate::grpc;
use crate::trunk::Seat;

pub(crate) struct CallBody {
    /// None once it is over.
    exchange: Option<Exchange>,
    timer: Option<Timer>,
}

struct Exchange {
    answer: RecvStream,
    only_trailers_left: bool,
    _underway: Underway,
}

/// What lasts as long as the call: dropping it tells the worker that nobody wants the rest.
pub(crate) struct Underway {
    pub(crate) _upload: Option<AbortOnDropHandle<()>>,
    pub(crate) _seat: Seat,
    pub(crate) _in_flight: InFlight,
}

impl CallBody {
    pub(crate) fn new(answer: RecvStream, underway: Underway, timer: Option<Timer>) -> Self {
        Self {
            exchange: Some(Exchange {
                answer,
                only_trailers_left: false,
                _underway: underway,
            }),
            timer,
        }
    }

    fn end_with(&mut self, error: &CallError) -> Frame<Bytes> {
        self.exchange = None;
        Frame::trailers(grpc::trailers(error))
    }
}

impl Exchange {
    fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<Frame<Bytes>>, h2::Error>> {
        if !self.only_trailers_left {
            if let Some(piece) = ready!(self.answer.poll_data(cx)).transpose()? {
                self.answer.flow_control().release_capacity(piece.len())?;
                return Poll::Ready(Ok(Some(Frame::data(piece))));
            }
            self.only_trailers_left = true;
        }
        let trailers = ready!(self.answer.poll_trailers(cx))?;
        Poll::Ready(Ok(trailers.map(Frame::trailers)))
    }
}

impl Body for CallBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        let Some(exchange) = &mut this.exchange else {
            return Poll::Ready(None);
        };
        // First: an agent that never stops to answer must stop too.
        if let Some(timer) = &mut this.timer
            && let Poll::Ready(exceeded) = timer.poll_exceeded(cx)
        {
            return Poll::Ready(Some(Ok(this.end_with(&exceeded))));
        }
        match ready!(exchange.poll_frame(cx)) {
            Ok(Some(frame)) => {
                if frame.is_trailers() {
                    this.exchange = None;
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Ok(None) => {
                this.exchange = None;
                Poll::Ready(None)
            }
            // The worker ended this call only, and a reset says why.
            Err(error) if error.is_reset() => Poll::Ready(Some(Err(error.into()))),
            Err(error) => {
                debug!(%error, "call broken during its answer");
                let end = this.end_with(&gone("its connection closed during the answer"));
                Poll::Ready(Some(Ok(end)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.exchange {
            Some(exchange) => exchange.answer.is_end_stream(),
            None => true,
        }
    }
}
