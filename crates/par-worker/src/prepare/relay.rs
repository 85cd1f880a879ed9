//! The installer's only way out: a proxy that leads to the package index, and nowhere else.
//!
//! `CONNECT` becomes a tunnel; a request in plain HTTP is passed on with the connection it came over, which is used for no
//! other. Where the machine itself has to go through a proxy, so do we.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::rc::Rc;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use par_model::log::Level;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tracing::debug;

use super::index::Place;
use crate::reports::Reporter;

/// Connections of one installer at one time; more wait.
const MOST_CONNECTIONS: usize = 128;
const LARGEST_HEAD: usize = 64 << 10;
const LONGEST_HEAD: Duration = Duration::from_secs(30);
const LONGEST_CONNECT: Duration = Duration::from_secs(30);
/// After an accept that failed for want of descriptors.
const BREATH: Duration = Duration::from_millis(50);
/// Refusals that the log hears of, each place once.
const MOST_TOLD: usize = 20;

pub(super) struct Relay {
    pub(super) places: BTreeSet<Place>,
    pub(super) proxies: Proxies,
    pub(super) reporter: Reporter,
    pub(super) told: RefCell<BTreeSet<Place>>,
}

/// Those that the machine has to use. Has no `Debug`: they may have credentials.
#[derive(Default)]
pub(super) struct Proxies {
    http: Option<Proxy>,
    https: Option<Proxy>,
    /// Endings of names that are reached without.
    except: Vec<String>,
}

#[derive(Clone)]
struct Proxy {
    place: Place,
    /// For `Proxy-Authorization`.
    credentials: Option<String>,
}

impl Proxies {
    /// By the variables that all programs know, and what pip is configured with.
    pub(super) fn of(
        environment: &BTreeMap<String, String>,
        configured: Option<&str>,
    ) -> Result<Self, String> {
        let get = |name: &str| {
            let found = environment.get(name);
            let found = found.or_else(|| environment.get(&name.to_uppercase()));
            found.map(String::as_str).filter(|value| !value.is_empty())
        };
        let proxy = |name| {
            let url = configured
                .or_else(|| get(name))
                .or_else(|| get("all_proxy"));
            url.map(|url| Proxy::parse(url).ok_or_else(|| unknown(name)))
                .transpose()
        };
        let except = get("no_proxy").unwrap_or_default().split(',');
        let except =
            except.map(|name| name.trim().trim_start_matches("*.").trim_start_matches('.'));
        Ok(Self {
            http: proxy("http_proxy")?,
            https: proxy("https_proxy")?,
            except: except
                .filter(|name| !name.is_empty())
                .map(str::to_ascii_lowercase)
                .collect(),
        })
    }

    fn for_request(&self, request: &Request) -> Option<&Proxy> {
        let host = &request.place.host;
        let direct = self.except.iter().any(|name| {
            let ending = host.strip_suffix(name.as_str());
            name == "*" || ending.is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        });
        match request.is_tunnel {
            _ if direct => None,
            true => self.https.as_ref(),
            false => self.http.as_ref(),
        }
    }
}

/// Without its value, which may have a password.
fn unknown(name: &str) -> String {
    format!(
        "the proxy for dependencies (`{name}`) is not understood; write it like http://proxy.example.org:3128"
    )
}

impl Proxy {
    fn parse(url: &str) -> Option<Self> {
        let rest = match url.split_once("://") {
            Some(("http", rest)) => rest,
            Some(_) => return None,
            None => url,
        };
        let authority = rest.split('/').next()?;
        let (credentials, authority) = match authority.rsplit_once('@') {
            Some((credentials, authority)) => (Some(credentials), authority),
            None => (None, authority),
        };
        let plain = |words: &str| percent_encoding::percent_decode_str(words).collect::<Vec<u8>>();
        Some(Self {
            place: Place::parse(authority, 80)?,
            credentials: credentials.map(|words| BASE64_STANDARD.encode(plain(words))),
        })
    }
}

/// The head of a request to a proxy.
struct Request {
    is_tunnel: bool,
    place: Place,
    method: String,
    /// As it was asked for, and as the server itself is asked for it.
    target: String,
    path: String,
    /// Those that are not for us.
    headers: Vec<String>,
}

impl Request {
    fn parse(head: &str) -> Option<Self> {
        let mut lines = head.split("\r\n");
        let mut words = lines.next()?.split(' ');
        let (method, target) = (words.next()?, words.next()?);
        let headers = lines.take_while(|line| !line.is_empty());
        let headers = headers.filter(|line| {
            let name = line.split(':').next().unwrap_or_default();
            let name = name.trim().to_ascii_lowercase();
            !name.starts_with("proxy-") && name != "connection" && name != "keep-alive"
        });
        let headers = headers.map(ToOwned::to_owned).collect();
        let is_tunnel = method == "CONNECT";
        let (place, path) = match is_tunnel {
            true => (Place::parse(target, 443)?, ""),
            false => {
                let rest = target.strip_prefix("http://")?;
                let end = rest.find(['/', '?']).unwrap_or(rest.len());
                let (authority, path) = rest.split_at(end);
                let (_nobody, authority) = authority.rsplit_once('@').unwrap_or(("", authority));
                (Place::parse(authority, 80)?, path)
            }
        };
        Some(Self {
            is_tunnel,
            place,
            method: method.to_owned(),
            target: target.to_owned(),
            path: match path.starts_with('/') {
                true => path.to_owned(),
                false => format!("/{path}"),
            },
            headers,
        })
    }

    /// What whoever we connect to has to hear first.
    fn head_for(&self, proxy: Option<&Proxy>) -> String {
        if self.is_tunnel && proxy.is_none() {
            return String::new();
        }
        let target = match proxy {
            Some(_) => &self.target,
            None => &self.path,
        };
        let mut lines = vec![format!("{} {target} HTTP/1.1", self.method)];
        lines.extend(self.headers.iter().cloned());
        if let Some(credentials) = proxy.and_then(|proxy| proxy.credentials.as_ref()) {
            lines.push(format!("Proxy-Authorization: Basic {credentials}"));
        }
        if !self.is_tunnel {
            lines.push("Connection: close".to_owned());
        }
        lines.join("\r\n") + "\r\n\r\n"
    }
}

impl Relay {
    /// Serves until it is dropped, and all connections with it.
    pub(super) async fn serve(self: Rc<Self>, listener: TcpListener) {
        let mut open = JoinSet::new();
        loop {
            while open.try_join_next().is_some() {}
            if open.len() >= MOST_CONNECTIONS {
                open.join_next().await;
            }
            match listener.accept().await {
                Ok((near, _)) => {
                    let relay = Rc::clone(&self);
                    open.spawn_local(async move {
                        if let Err(error) = relay.carry(near).await {
                            debug!(%error, "a connection of an installer broke");
                        }
                    });
                }
                Err(error) => {
                    debug!(%error, "failed to accept a connection of an installer");
                    sleep(BREATH).await;
                }
            }
        }
    }

    async fn carry(&self, mut near: TcpStream) -> io::Result<()> {
        let (head, rest) = timeout(LONGEST_HEAD, read_head(&mut near)).await??;
        let Some(request) = Request::parse(&head) else {
            return answer(
                &mut near,
                "400 Bad Request",
                "this is a proxy for http and https",
            )
            .await;
        };
        if !self.places.contains(&request.place) {
            let words = self.refuse(&request.place);
            return answer(&mut near, "403 Forbidden", &words).await;
        }
        let proxy = self.proxies.for_request(&request);
        let to = proxy.map_or(&request.place, |proxy| &proxy.place);
        let connecting = TcpStream::connect((to.host.as_str(), to.port));
        let mut far = match timeout(LONGEST_CONNECT, connecting).await {
            Ok(Ok(far)) => far,
            Ok(Err(error)) => {
                let words = format!("{to} cannot be reached: {error}");
                return answer(&mut near, "502 Bad Gateway", &words).await;
            }
            Err(_elapsed) => {
                let words = format!("{to} does not answer");
                return answer(&mut near, "504 Gateway Timeout", &words).await;
            }
        };
        far.write_all(request.head_for(proxy).as_bytes()).await?;
        far.write_all(&rest).await?;
        if request.is_tunnel && proxy.is_none() {
            near.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")
                .await?;
        }
        copy_bidirectional(&mut near, &mut far).await.map(drop)
    }

    fn refuse(&self, place: &Place) -> String {
        let words = format!(
            "the installation of dependencies is not allowed to reach {place}: it is no host of the package index; `[packages] hosts` adds one"
        );
        let mut told = self.told.borrow_mut();
        if told.len() < MOST_TOLD && told.insert(place.clone()) {
            self.reporter.say(Level::Warning, words.clone());
        }
        words
    }
}

/// The head, and what came behind it.
async fn read_head(near: &mut TcpStream) -> io::Result<(String, Vec<u8>)> {
    const END: &[u8] = b"\r\n\r\n";
    let mut bytes = vec![];
    loop {
        if let Some(end) = memchr::memmem::find(&bytes, END) {
            let rest = bytes.split_off(end + END.len());
            let head = String::from_utf8(bytes).map_err(io::Error::other)?;
            return Ok((head, rest));
        }
        if bytes.len() > LARGEST_HEAD {
            return Err(io::Error::other("the head of a request is too large"));
        }
        if near.read_buf(&mut bytes).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

async fn answer(near: &mut TcpStream, status: &str, words: &str) -> io::Result<()> {
    let length = words.len();
    let answer = format!(
        "HTTP/1.1 {status}\r\ncontent-type: text/plain\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{words}"
    );
    near.write_all(answer.as_bytes()).await?;
    near.shutdown().await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(head: &str) -> Request {
        Request::parse(head).expect("understood")
    }

    #[test]
    fn a_plain_request_is_asked_of_its_server_without_what_was_for_us() {
        let asked = request(
            "GET http://u:p@Index.example.org:8080/simple/?a HTTP/1.1\r\nHost: index.example.org:8080\r\nProxy-Authorization: x\r\nConnection: keep-alive\r\n\r\n",
        );
        assert_eq!(asked.place.to_string(), "index.example.org:8080");
        assert_eq!(
            asked.head_for(None),
            "GET /simple/?a HTTP/1.1\r\nHost: index.example.org:8080\r\nConnection: close\r\n\r\n"
        );
    }

    #[test]
    fn a_tunnel_says_nothing_to_its_server_and_all_to_the_next_proxy() {
        let asked = request("CONNECT pypi.org:443 HTTP/1.1\r\nHost: pypi.org:443\r\n\r\n");
        assert_eq!(asked.head_for(None), "");
        let proxy = Proxy::parse("http://me:p%40ss@proxy.example.org:3128/").expect("a proxy");
        assert_eq!(proxy.place.to_string(), "proxy.example.org:3128");
        assert_eq!(
            asked.head_for(Some(&proxy)),
            "CONNECT pypi.org:443 HTTP/1.1\r\nHost: pypi.org:443\r\nProxy-Authorization: Basic bWU6cEBzcw==\r\n\r\n"
        );
    }

    #[test]
    fn what_is_no_request_to_a_proxy_is_not_understood() {
        for head in [
            "GET / HTTP/1.1\r\n\r\n",
            "GET https://pypi.org/ HTTP/1.1\r\n\r\n",
            "CONNECT pypi.org:https HTTP/1.1\r\n\r\n",
            "\r\n\r\n",
        ] {
            assert!(Request::parse(head).is_none(), "{head:?}");
        }
    }

    #[test]
    fn names_that_need_no_proxy_are_reached_without() {
        let environment = [
            ("HTTPS_PROXY", "http://proxy.example.org:3128"),
            ("no_proxy", "localhost, .inner.example.org"),
        ];
        let environment = environment.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let proxies = Proxies::of(&environment.into(), None).unwrap_or_default();
        let through = |host: &str| {
            let head = format!("CONNECT {host}:443 HTTP/1.1\r\n\r\n");
            proxies.for_request(&request(&head)).is_some()
        };
        assert!(through("pypi.org") && through("outerinner.example.org"));
        assert!(!through("localhost") && !through("a.inner.example.org"));
    }

    #[test]
    fn a_proxy_that_is_not_understood_is_named_without_its_password() {
        let environment = [("https_proxy".to_owned(), "socks5://u:secret@h:1".to_owned())];
        let refused = Proxies::of(&environment.into(), None)
            .err()
            .expect("refused");
        assert!(refused.contains("https_proxy") && !refused.contains("secret"));
    }
}
