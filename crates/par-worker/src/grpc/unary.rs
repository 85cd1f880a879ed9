//! Protobuf in, protobuf out: tonic reads and writes the messages, on this thread. Messages are counted with all other
//! bodies of the agent, from the first byte of the request until the caller has taken the answer.

use std::cell::Cell;

use http::{HeaderValue, Request, Response};
use hyper::body::Incoming;
use par_model::grpc;
use prost::Message;
use tokio::sync::oneshot;
use tonic::codec::CompressionEncoding::Gzip;
use tonic::server::{Grpc, ServerStreamingService, UnaryService};
use tonic::{Code, Status};

use super::codec::{Asked, Counting};
use super::counted::Counted;
use super::reply::{Reply, status};
use crate::admission::{Admission, Memory};

/// One message in, one out.
pub(super) async fn unary<Q, A, F>(
    request: Request<Incoming>,
    admission: &Admission,
    answer: impl FnOnce(Q) -> F,
) -> Response<Reply>
where
    Q: Asked,
    A: Message + Default + 'static,
    F: Future<Output = Result<A, Status>>,
{
    let (request, inherited) = counted(request, admission);
    let kept = Cell::new(None);
    let once = Once(Some(async |request: tonic::Request<Q>| {
        let asked = asked_memory(inherited, request.get_ref(), admission).await?;
        let answer = answer(request.into_inner()).await?;
        drop(asked);
        let mut memory = admission.memory();
        let length = answer.encoded_len() as u64;
        memory.grow(length).map_err(|error| status(&error))?;
        kept.set(Some(memory));
        Ok(tonic::Response::new(answer))
    }));
    let response = server::<A, Q>(admission).unary(once, request).await;
    reply(response, kept.take())
}

/// One message in, many out.
pub(super) async fn server_streaming<Q, A, S>(
    request: Request<Incoming>,
    admission: &Admission,
    answer: impl FnOnce(Q) -> Result<S, Status>,
) -> Response<Reply>
where
    Q: Asked,
    A: Message + Default + 'static,
    S: futures_util::Stream<Item = Result<A, Status>> + Send + 'static,
{
    let (request, inherited) = counted(request, admission);
    let kept = Cell::new(None);
    let once = Once(Some(async |request: tonic::Request<Q>| {
        let asked = asked_memory(inherited, request.get_ref(), admission).await?;
        kept.set(Some(asked));
        answer(request.into_inner()).map(tonic::Response::new)
    }));
    let response = server::<A, Q>(admission)
        .server_streaming(once, request)
        .await;
    reply(response, kept.take())
}

fn counted(
    request: Request<Incoming>,
    admission: &Admission,
) -> (Request<Counted>, oneshot::Receiver<Memory>) {
    let (head, body) = request.into_parts();
    let (body, inherited) = Counted::new(body, admission.memory());
    (Request::from_parts(head, body), inherited)
}

/// The memory of a request: of its bytes as they came, and of what they became, which may be more.
async fn asked_memory(
    inherited: oneshot::Receiver<Memory>,
    asked: &impl Message,
    admission: &Admission,
) -> Result<Memory, Status> {
    let mut memory = inherited.await.unwrap_or_else(|_| admission.memory());
    let grown = memory.grow(asked.encoded_len() as u64);
    grown.map_err(|error| status(&error))?;
    Ok(memory)
}

fn server<A, Q>(admission: &Admission) -> Grpc<Counting<A, Q>>
where
    Q: Asked,
    A: Message + Default + 'static,
{
    let most = usize::try_from(admission.limits().body).unwrap_or(usize::MAX);
    Grpc::new(Counting::default())
        .accept_compressed(Gzip)
        .max_decoding_message_size(most)
        // What we answer is bounded where it is made.
        .max_encoding_message_size(usize::MAX)
}

/// tonic calls a message that is too large OUT_OF_RANGE, which no service of ours answers; the protocol, and our table
/// for a body that is too large, say RESOURCE_EXHAUSTED.
fn reply(mut response: Response<tonic::body::Body>, memory: Option<Memory>) -> Response<Reply> {
    if let Some(status) = response.headers_mut().get_mut(grpc::STATUS)
        && Code::from_bytes(status.as_bytes()) == Code::OutOfRange
    {
        *status = HeaderValue::from(i32::from(Code::ResourceExhausted));
    }
    response.map(|body| Reply::ours(body, memory))
}

/// A service for the one request that it is made for.
struct Once<H>(Option<H>);

const ONE: &str = "a request is answered once";

impl<H, Q, A, F> UnaryService<Q> for Once<H>
where
    H: FnOnce(tonic::Request<Q>) -> F,
    F: Future<Output = Result<tonic::Response<A>, Status>>,
{
    type Response = A;
    type Future = F;

    fn call(&mut self, request: tonic::Request<Q>) -> F {
        (self.0.take().expect(ONE))(request)
    }
}

impl<H, Q, A, S, F> ServerStreamingService<Q> for Once<H>
where
    H: FnOnce(tonic::Request<Q>) -> F,
    S: futures_util::Stream<Item = Result<A, Status>>,
    F: Future<Output = Result<tonic::Response<S>, Status>>,
{
    type Response = A;
    type ResponseStream = S;
    type Future = F;

    fn call(&mut self, request: tonic::Request<Q>) -> F {
        (self.0.take().expect(ONE))(request)
    }
}
