//! A small blocking HTTP/1.1 client: it says what came, and follows, retries and hides nothing.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::Value;

/// Silence longer than this fails the test.
const PATIENCE: Duration = Duration::from_secs(60);

/// Asks one server.
#[derive(Clone, Debug)]
pub struct Http {
    address: String,
}

#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    /// Names in lowercase, in order, duplicates kept.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(candidate, _)| candidate == name);
        found.map(|(_, value)| value.as_str())
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// # Panics
    /// When the body is not JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        let parsed = serde_json::from_slice(&self.body);
        parsed.unwrap_or_else(|error| panic!("{error} in {} {}", self.status, self.text()))
    }
}

impl Http {
    /// `url` is `http://host:port`, a path below it is ignored.
    pub fn new(url: &str) -> Self {
        let rest = url.strip_prefix("http://").unwrap_or(url);
        let address = rest.split('/').next().unwrap_or(rest).to_owned();
        Self { address }
    }

    pub fn get(&self, path: &str) -> io::Result<Answer> {
        self.request("GET", path, &[], b"")
    }

    pub fn post(&self, path: &str, body: &Value) -> io::Result<Answer> {
        let headers = [("content-type", "application/json")];
        self.request("POST", path, &headers, body.to_string().as_bytes())
    }

    pub fn delete(&self, path: &str) -> io::Result<Answer> {
        self.request("DELETE", path, &[], b"")
    }

    pub fn request(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> io::Result<Answer> {
        let mut stream = TcpStream::connect(&self.address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut head = format!(
            "{method} {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\ncontent-length: {}\r\n",
            self.address,
            body.len()
        );
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        stream.write_all(head.as_bytes())?;
        // A server may refuse before it has read everything: what it answered counts.
        let sent = stream.write_all(body);
        let answer = read_answer(BufReader::new(stream), method == "HEAD");
        answer.or_else(|unread| sent.and(Err(unread)))
    }
}

fn read_answer(mut reader: BufReader<TcpStream>, is_head: bool) -> io::Result<Answer> {
    let status_line = read_line(&mut reader)?;
    let status = status_line
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok());
    let status = status.ok_or_else(|| invalid(&status_line))?;
    let mut headers = vec![];
    loop {
        let line = read_line(&mut reader)?;
        if line.is_empty() {
            break;
        }
        let (name, value) = line.split_once(':').ok_or_else(|| invalid(&line))?;
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let mut answer = Answer {
        status,
        headers,
        body: vec![],
    };
    if is_head || status == 204 || status == 304 {
        return Ok(answer);
    }
    answer.body = read_body(reader, &answer)?;
    Ok(answer)
}

fn read_body(mut reader: BufReader<TcpStream>, head: &Answer) -> io::Result<Vec<u8>> {
    let mut body = vec![];
    if head
        .header("transfer-encoding")
        .is_some_and(|value| value.contains("chunked"))
    {
        while read_chunk(&mut reader, &mut body)? {}
        return Ok(body);
    }
    match head.header("content-length") {
        Some(length) => {
            let length = length.parse().map_err(|_| invalid(length))?;
            body.resize(length, 0);
            reader.read_exact(&mut body)?;
        }
        None => {
            reader.read_to_end(&mut body)?;
        }
    }
    Ok(body)
}

/// Whether there are more.
fn read_chunk(reader: &mut BufReader<TcpStream>, body: &mut Vec<u8>) -> io::Result<bool> {
    let line = read_line(reader)?;
    let size = line.split(';').next().unwrap_or("").trim();
    let size = usize::from_str_radix(size, 16).map_err(|_| invalid(&line))?;
    if size == 0 {
        while !read_line(reader)?.is_empty() {}
        return Ok(false);
    }
    let start = body.len();
    body.resize(start + size, 0);
    reader.read_exact(&mut body[start..])?;
    read_line(reader)?;
    Ok(true)
}

fn read_line(reader: &mut BufReader<TcpStream>) -> io::Result<String> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

fn invalid(line: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("not HTTP: {line:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use std::thread;

    fn answered(raw: &'static str) -> Answer {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        let address = listener.local_addr().expect("bound");
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a client");
            let mut request = BufReader::new(stream.try_clone().expect("cloned"));
            let mut line = String::new();
            while request.read_line(&mut line).expect("a line") > 2 {
                line.clear();
            }
            stream.write_all(raw.as_bytes()).expect("written");
        });
        let answer = Http::new(&format!("http://{address}/ignored"))
            .get("/")
            .expect("an answer");
        server.join().expect("the server ends");
        answer
    }

    #[test]
    fn bodies_end_by_length_by_chunks_or_with_the_connection() {
        let by_length = answered("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}");
        let by_chunks = answered(
            "HTTP/1.1 404 No\r\nTransfer-Encoding: chunked\r\n\r\n1;x\r\n{\r\n1\r\n}\r\n0\r\nT: t\r\n\r\n",
        );
        let by_close = answered("HTTP/1.1 200 OK\r\nX-A: 1\r\nX-A: 2\r\n\r\n{}");
        assert_eq!(by_length.json(), by_chunks.json());
        assert_eq!((by_chunks.status, by_close.text().as_str()), (404, "{}"));
        assert_eq!(by_close.headers.len(), 2);
    }
}
