//! Static files of a package's user interface, under `/ui/`.
//!
//! The folder is the agent's own, and an agent may change it while it runs. So the kernel is asked to stay beneath
//! it and to follow no link, instead of us looking at the path.

use std::fs::Metadata;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, ETAG, IF_NONE_MATCH, LOCATION};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use par_model::CallError;
use percent_encoding::percent_decode_str;
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, fstat, openat2};
use tokio::io::AsyncReadExt as _;

use super::answer;
use super::body::{Answer, StreamError};

const PIECE: usize = 64 << 10;

pub(crate) struct Ui {
    folder: PathBuf,
    /// Changes with the package: what was seen with another tag is stale.
    tag: String,
}

impl Ui {
    pub(crate) fn new(folder: PathBuf, tag: String) -> Self {
        Self { folder, tag }
    }

    /// Answers `GET` and `HEAD` of a raw path that begins with `/ui`.
    pub(crate) async fn answer(
        &self,
        method: &Method,
        raw_path: &str,
        headers: &HeaderMap,
    ) -> Result<Response<Answer>, CallError> {
        if method != Method::GET && method != Method::HEAD {
            return Ok(answer::wrong_method("GET, HEAD"));
        }
        let Some(rest) = raw_path.strip_prefix("/ui/") else {
            return Ok(to_the_folder());
        };
        let path = percent_decode_str(rest)
            .decode_utf8()
            .map_err(|_| CallError::UnknownPath)?;
        if !is_plain(&path) {
            return Err(CallError::UnknownPath);
        }
        let Some((file, name)) = self.find(&path) else {
            return Err(CallError::UnknownPath);
        };
        let response = self
            .file(file, &name, headers)
            .map_err(|_| CallError::UnknownPath)?;
        Ok(if method == Method::HEAD {
            without_body(response)
        } else {
            response
        })
    }

    /// The file for a path: itself, the index of a folder, or, when the last segment has no dot, the index of the
    /// whole, because the application behind it knows its own paths.
    fn find(&self, path: &str) -> Option<(std::fs::File, String)> {
        let itself = if path.is_empty() || path.ends_with('/') {
            format!("{path}index.html")
        } else {
            path.to_owned()
        };
        let within = format!("{path}/index.html");
        let last = path.rsplit('/').next().unwrap_or_default();
        let fallback = (!last.contains('.')).then(|| "index.html".to_owned());
        [Some(itself), Some(within), fallback]
            .into_iter()
            .flatten()
            .find_map(|name| {
                open_beneath(&self.folder, &name)
                    .ok()
                    .map(|file| (file, name))
            })
    }

    fn file(
        &self,
        file: std::fs::File,
        name: &str,
        headers: &HeaderMap,
    ) -> io::Result<Response<Answer>> {
        let metadata = file.metadata()?;
        let opaque = opaque_tag(&self.tag, &metadata)?;
        let etag = HeaderValue::try_from(format!("W/{opaque}")).map_err(io::Error::other)?;
        if was_seen(headers, &opaque) {
            let mut response = answer::empty(StatusCode::NOT_MODIFIED);
            response.headers_mut().insert(ETAG, etag);
            return Ok(response);
        }
        let length = metadata.len();
        let mut response = Response::new(read(file, length));
        let target = response.headers_mut();
        let kind = mime_guess::from_path(name).first_or_octet_stream();
        let kind = if kind.type_() == "text" {
            format!("{kind}; charset=utf-8")
        } else {
            kind.to_string()
        };
        target.insert(
            CONTENT_TYPE,
            HeaderValue::try_from(kind).map_err(io::Error::other)?,
        );
        target.insert(CONTENT_LENGTH, length.into());
        target.insert(ETAG, etag);
        target.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        target.insert(
            "x-content-type-options",
            HeaderValue::from_static("nosniff"),
        );
        Ok(response)
    }
}

/// What a file is now, in quotes: an agent may change it without a new package. Only weak, because a change within
/// one tick of the clock that keeps the length goes unseen.
fn opaque_tag(package: &str, metadata: &Metadata) -> io::Result<String> {
    let changed = metadata.modified()?.duration_since(UNIX_EPOCH);
    let changed = changed.unwrap_or_default().as_nanos();
    Ok(format!("\"{package}-{changed:x}-{:x}\"", metadata.len()))
}

/// Whether the caller has what is there, by weak comparison. Our tags hold no comma.
fn was_seen(headers: &HeaderMap, opaque: &str) -> bool {
    let listed = headers.get_all(IF_NONE_MATCH).into_iter();
    listed
        .filter_map(|list| list.to_str().ok())
        .flat_map(|list| list.split(','))
        .map(str::trim)
        .any(|seen| seen == "*" || seen.strip_prefix("W/").unwrap_or(seen) == opaque)
}

/// Whether a decoded path goes down only. What does not is no route of an application either.
fn is_plain(path: &str) -> bool {
    let strange = |segment: &str| matches!(segment, "." | "..") || segment.contains(['\\', '\0']);
    !path.starts_with('/') && !path.split('/').any(strange)
}

/// Opens a plain file beneath `folder` without following any link.
fn open_beneath(folder: &Path, name: &str) -> io::Result<std::fs::File> {
    let directory: OwnedFd = std::fs::File::open(folder)?.into();
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let stay = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let file = openat2(&directory, name, flags, Mode::empty(), stay)?;
    if FileType::from_raw_mode(fstat(&file)?.st_mode) != FileType::RegularFile {
        return Err(io::ErrorKind::NotFound.into());
    }
    Ok(file.into())
}

/// A file as a body, never more of it than was announced.
fn read(file: std::fs::File, length: u64) -> Answer {
    let file = tokio::fs::File::from_std(file).take(length);
    let pieces = futures_util::stream::try_unfold(file, |mut file| async move {
        let mut piece = Vec::with_capacity(PIECE);
        let read = (&mut file)
            .take(PIECE as u64)
            .read_to_end(&mut piece)
            .await?;
        Ok::<_, StreamError>((read > 0).then(|| (Frame::data(Bytes::from(piece)), file)))
    });
    Answer::Other(StreamBody::new(pieces).boxed_unsync())
}

fn to_the_folder() -> Response<Answer> {
    let mut response = answer::empty(StatusCode::PERMANENT_REDIRECT);
    // Relative: it holds under any prefix.
    response
        .headers_mut()
        .insert(LOCATION, HeaderValue::from_static("ui/"));
    response
}

fn without_body(mut response: Response<Answer>) -> Response<Answer> {
    *response.body_mut() = Answer::empty();
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ui() -> (tempfile::TempDir, Ui) {
        let root = tempfile::tempdir().expect("a temporary folder");
        let folder = root.path().join("ui");
        std::fs::create_dir_all(folder.join("deep")).expect("a folder");
        std::fs::write(folder.join("index.html"), "INDEX").expect("a file");
        std::fs::write(folder.join("deep/a.css"), "CSS").expect("a file");
        std::fs::write(root.path().join("secret"), "SECRET").expect("a file");
        std::os::unix::fs::symlink("../secret", folder.join("link.txt")).expect("a link");
        let ui = Ui::new(folder, "tag".to_owned());
        (root, ui)
    }

    async fn get(ui: &Ui, path: &str) -> (u16, String) {
        match ui.answer(&Method::GET, path, &HeaderMap::new()).await {
            Ok(response) => {
                let status = response.status().as_u16();
                let body = response
                    .into_body()
                    .collect()
                    .await
                    .expect("readable")
                    .to_bytes();
                (status, String::from_utf8_lossy(&body).into_owned())
            }
            Err(error) => (error.http_status(), String::new()),
        }
    }

    #[tokio::test]
    async fn files_folders_and_client_routes_are_found() {
        let (_root, ui) = ui();
        for (path, body) in [
            ("/ui/", "INDEX"),
            ("/ui/deep/a.css", "CSS"),
            ("/ui/some/route", "INDEX"),
            ("/ui/deep%2Fa.css", "CSS"),
        ] {
            assert_eq!(get(&ui, path).await, (200, body.to_owned()), "{path}");
        }
        assert_eq!(get(&ui, "/ui").await.0, 308);
    }

    #[tokio::test]
    async fn nothing_outside_the_folder_is_ever_served() {
        let (_root, ui) = ui();
        for path in [
            "/ui/../secret",
            "/ui/..%2fsecret",
            "/ui/%2e%2e/secret.txt",
            "/ui//etc/hostname.txt",
            "/ui/link.txt",
            "/ui/a%00.txt",
            "/ui/missing.js",
        ] {
            assert_eq!(get(&ui, path).await, (404, String::new()), "{path}");
        }
    }

    async fn ask(ui: &Ui, seen: Option<&str>) -> Response<Answer> {
        let mut headers = HeaderMap::new();
        if let Some(seen) = seen {
            headers.insert(IF_NONE_MATCH, HeaderValue::try_from(seen).expect("a value"));
        }
        let answer = ui.answer(&Method::GET, "/ui/", &headers).await;
        answer.expect("an answer")
    }

    #[tokio::test]
    async fn a_file_that_was_seen_is_not_sent_again_until_it_changes() {
        let (root, ui) = ui();
        let first = ask(&ui, None).await;
        let etag = first.headers()[ETAG].to_str().expect("text").to_owned();
        let strong = etag.strip_prefix("W/").expect("a weak tag");
        let list = format!("\"other\", {etag}");
        for seen in [&etag, strong, &list, "*"] {
            let again = ask(&ui, Some(seen)).await;
            assert_eq!(again.status(), StatusCode::NOT_MODIFIED, "{seen}");
            assert_eq!(again.headers()[ETAG], etag);
        }
        assert_eq!(ask(&ui, Some("\"other\"")).await.status(), StatusCode::OK);
        std::fs::write(root.path().join("ui/index.html"), "CHANGED").expect("written");
        assert_eq!(ask(&ui, Some(&etag)).await.status(), StatusCode::OK);
    }
}
