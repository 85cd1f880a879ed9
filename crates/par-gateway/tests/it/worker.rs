//! Workers: one that answers with what it was asked, and any other behaviour as a closure.

use std::convert::Infallible;
use std::fmt::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;

pub(crate) type AnyBody = UnsyncBoxBody<Bytes, Infallible>;

/// Ends, with all its connections, when it is dropped.
pub(crate) struct Worker {
    _tasks: JoinSet<()>,
    connections: Arc<AtomicUsize>,
}

impl Worker {
    /// Speaks bytes: `talk` gets every connection.
    pub(crate) fn raw<F: Future<Output = ()> + Send + 'static>(
        socket: &Path,
        talk: impl Fn(UnixStream) -> F + Send + 'static,
    ) -> Self {
        let listener = UnixListener::bind(socket).expect("a socket");
        let connections = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&connections);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut open = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.expect("a connection");
                count.fetch_add(1, Ordering::SeqCst);
                open.spawn(talk(stream));
            }
        });
        Self {
            _tasks: tasks,
            connections,
        }
    }

    /// Says the same to every request, byte for byte, and stays.
    pub(crate) fn saying(socket: &Path, answer: &'static str) -> Self {
        Self::raw(socket, move |mut stream| async move {
            read_head(&mut stream).await;
            stream.write_all(answer.as_bytes()).await.expect("sent");
            // Until the other end is closed.
            drop(tokio::io::copy(&mut stream, &mut tokio::io::sink()).await);
        })
    }

    /// Speaks HTTP.
    pub(crate) fn http<F: Future<Output = Response<AnyBody>> + Send + 'static>(
        socket: &Path,
        answer: impl Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static,
    ) -> Self {
        Self::raw(socket, move |stream| {
            let answer = answer.clone();
            let service = service_fn(move |request| {
                let answer = answer(request);
                async move { Ok::<_, Infallible>(answer.await) }
            });
            let connection = hyper::server::conn::http1::Builder::new()
                .header_read_timeout(None)
                .serve_connection(TokioIo::new(stream), service);
            async move {
                // Tests break connections on purpose.
                drop(connection.await);
            }
        })
    }

    /// Answers with the request as it came.
    pub(crate) fn mirror(socket: &Path) -> Self {
        Self::http(socket, |request| async {
            Response::new(full(described(request).await))
        })
    }

    /// Answers with its name.
    pub(crate) fn named(socket: &Path, name: &'static str) -> Self {
        Self::http(socket, move |_| async move { Response::new(full(name)) })
    }

    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

pub(crate) fn full(text: impl Into<Bytes>) -> AnyBody {
    Full::new(text.into()).boxed_unsync()
}

/// Up to the empty line; nothing may follow it.
pub(crate) async fn read_head(stream: &mut UnixStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let count = stream.read_buf(&mut head).await.expect("a head");
        assert!(count > 0, "the head ended early");
    }
    String::from_utf8(head).expect("text")
}

async fn described(request: Request<Incoming>) -> String {
    let (head, body) = request.into_parts();
    let mut text = format!("{} {}\n", head.method, head.uri);
    for (name, value) in &head.headers {
        let value = String::from_utf8_lossy(value.as_bytes());
        writeln!(text, "{name}={value}").expect("a string takes all");
    }
    let body = body.collect().await.expect("a whole body");
    let trailers = body.trailers().cloned().unwrap_or_default();
    writeln!(text, "body={}", body.to_bytes().escape_ascii()).expect("a string takes all");
    for (name, value) in &trailers {
        let value = String::from_utf8_lossy(value.as_bytes());
        writeln!(text, "trailer {name}={value}").expect("a string takes all");
    }
    text
}
