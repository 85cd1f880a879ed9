//! One form with one file, sent as it is read: `multipart/form-data` with its length known beforehand.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http::request::Builder;
use hyper::body::{Body, Frame, SizeHint};
use tokio::fs::File;
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio_util::io::poll_read_buf;

const PIECE: u64 = 64 << 10;

/// A form field `options`, then the file.
pub(crate) struct Upload {
    boundary: String,
    reader: Pin<Box<dyn AsyncRead + Send + Sync>>,
    left: u64,
    length: u64,
    on_progress: Box<dyn FnMut(u64, u64) + Send + Sync>,
}

impl Upload {
    /// `on_progress` hears of the bytes sent, and of all there are.
    pub(crate) async fn new(
        options: &str,
        file: File,
        on_progress: impl FnMut(u64, u64) + Send + Sync + 'static,
    ) -> io::Result<Self> {
        let size = file.metadata().await?.len();
        // Random, so that no file can hold it on purpose.
        let boundary = format!(
            "par-upload-{:016x}",
            RandomState::new().build_hasher().finish()
        );
        let head = format!(
            "--{boundary}\r\nContent-Disposition: form-data; name=\"options\"\r\n\
             Content-Type: application/json\r\n\r\n{options}\r\n\
             --{boundary}\r\nContent-Disposition: form-data; name=\"file\"; filename=\"package.apkg\"\r\n\
             Content-Type: application/octet-stream\r\n\r\n"
        );
        let tail = format!("\r\n--{boundary}--\r\n");
        let length = size + head.len() as u64 + tail.len() as u64;
        let reader = io::Cursor::new(head)
            .chain(file.take(size))
            .chain(io::Cursor::new(tail));
        Ok(Self {
            boundary,
            reader: Box::pin(reader),
            left: length,
            length,
            on_progress: Box::new(on_progress),
        })
    }

    pub(crate) fn describe(&self, request: Builder) -> Builder {
        let content_type = format!("multipart/form-data; boundary={}", self.boundary);
        request.header(http::header::CONTENT_TYPE, content_type)
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        let mut piece = BytesMut::with_capacity(PIECE.min(self.left) as usize);
        let read = ready!(poll_read_buf(self.reader.as_mut(), context, &mut piece))?;
        if read == 0 {
            let shrunk = "the file became shorter while it was sent";
            return Poll::Ready(Some(Err(io::Error::other(shrunk))));
        }
        self.left -= read as u64;
        let (sent, length) = (self.length - self.left, self.length);
        (self.on_progress)(sent, length);
        Poll::Ready(Some(Ok(Frame::data(piece.freeze()))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt as _;

    #[tokio::test]
    async fn an_upload_is_as_long_as_it_says_and_holds_the_file_as_it_is() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("x.apkg");
        let content: Vec<u8> = (0..200_000_u32).map(|n| (n % 251) as u8).collect();
        std::fs::write(&path, &content).expect("written");
        let file = File::open(&path).await.expect("opened");
        let upload = Upload::new("{}", file, |_, _| {})
            .await
            .expect("its size is known");
        let end = format!("\r\n--{}--\r\n", upload.boundary);
        let announced = upload.size_hint().exact();
        let bytes = upload.collect().await.expect("read").to_bytes();
        assert_eq!(announced, Some(bytes.len() as u64));
        let found = bytes.windows(content.len()).any(|window| window == content);
        assert!(found, "the file's bytes are in the body");
        assert!(bytes.ends_with(end.as_bytes()));
    }
}
