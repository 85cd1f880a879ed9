//! Protobuf in, protobuf out: tonic reads and writes the messages, on this thread.

use http::{HeaderValue, Request, Response};
use hyper::body::Incoming;
use par_model::{CallError, grpc};
use prost::Message;
use tonic::codec::CompressionEncoding::Gzip;
use tonic::server::{Grpc, ServerStreamingService, UnaryService};
use tonic::{Code, Status};
use tonic_prost::ProstCodec;

use super::reply::Reply;

/// One message in, one out. `most` is the largest message, in bytes.
pub(super) async fn unary<Q, A, F>(
    request: Request<Incoming>,
    most: usize,
    answer: impl FnOnce(Q) -> F,
) -> Response<Reply>
where
    Q: Message + Default + 'static,
    A: Message + Default + 'static,
    F: Future<Output = Result<A, Status>>,
{
    let once = Once(Some(async |request: tonic::Request<Q>| {
        answer(request.into_inner()).await.map(tonic::Response::new)
    }));
    by_our_table(server::<A, Q>(most).unary(once, request).await)
}

/// One message in, many out.
pub(super) async fn server_streaming<Q, A, S>(
    request: Request<Incoming>,
    most: usize,
    answer: impl FnOnce(Q) -> Result<S, Status>,
) -> Response<Reply>
where
    Q: Message + Default + 'static,
    A: Message + Default + 'static,
    S: futures_util::Stream<Item = Result<A, Status>> + Send + 'static,
{
    let once = Once(Some(async |request: tonic::Request<Q>| {
        answer(request.into_inner()).map(tonic::Response::new)
    }));
    by_our_table(server::<A, Q>(most).server_streaming(once, request).await)
}

fn server<A, Q>(most: usize) -> Grpc<ProstCodec<A, Q>>
where
    Q: Message + Default + 'static,
    A: Message + Default + 'static,
{
    Grpc::new(ProstCodec::default())
        .accept_compressed(Gzip)
        .max_decoding_message_size(most)
        .max_encoding_message_size(most)
}

/// tonic calls a message that is too large OUT_OF_RANGE, which no service of ours answers; the table says otherwise.
fn by_our_table(mut response: Response<tonic::body::Body>) -> Response<Reply> {
    if let Some(status) = response.headers_mut().get_mut(grpc::STATUS)
        && Code::from_bytes(status.as_bytes()) == Code::OutOfRange
    {
        let (_, code) = CallError::BodyTooLarge { limit: 0 }.on_the_wire();
        *status = HeaderValue::from(code);
    }
    response.map(Reply::Ours)
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
