//! Somebody whom agents ask: answers 200 to every request, and keeps the heads of what it was asked.

use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

/// Ends with the test's process.
pub(crate) struct Upstream {
    pub(crate) address: SocketAddr,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Upstream {
    pub(crate) fn start() -> Self {
        Self::speaking(Ok)
    }

    /// `secured`: what is put over each connection.
    pub(crate) fn speaking<S: Read + Write>(
        secured: impl Fn(TcpStream) -> std::io::Result<S> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("bound");
        let heads = Arc::new(Mutex::new(vec![]));
        let (kept, secured) = (Arc::clone(&heads), Arc::new(secured));
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (kept, secured) = (Arc::clone(&kept), Arc::clone(&secured));
                thread::spawn(move || {
                    if let Ok(stream) = secured(stream) {
                        answer(stream, &kept);
                    }
                });
            }
        });
        Self { address, heads }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    /// Heads of requests, in lower case, in the order in which they came.
    pub(crate) fn heads(&self) -> Vec<String> {
        self.heads.lock().expect("nobody panics with it").clone()
    }
}

fn answer(stream: impl Read + Write, heads: &Mutex<Vec<String>>) {
    let mut stream = BufReader::new(stream);
    loop {
        let mut head = String::new();
        loop {
            match stream.read_line(&mut head) {
                Ok(0) | Err(_) => return,
                Ok(_) if head.ends_with("\r\n\r\n") => break,
                Ok(_) => {}
            }
        }
        let mut all = heads.lock().expect("nobody panics with it");
        all.push(head.to_lowercase());
        drop(all);
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello";
        if stream.get_mut().write_all(answer).is_err() {
            return;
        }
    }
}
