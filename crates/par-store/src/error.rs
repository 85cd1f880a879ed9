//! What can be wrong with a state file, and what to do about it.

use std::error::Error;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use par_model::AgentId;

use crate::kept::Revision;
use crate::seal::KeyError;

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("the state folder `{}` cannot be written: give this user its ownership, or name another with --state", folder.display())]
    NotWritable {
        folder: PathBuf,
        #[source]
        source: Cause,
    },
    #[error("the state file `{}` is closed: another process goes on with it", .0.display())]
    Closed(PathBuf),
    #[error("another process uses the state file `{}`: end it (`fuser {}` tells which), or name another state folder with --state", .0.display(), .0.display())]
    Locked(PathBuf),
    #[error("the state file `{}` is damaged ({finding}); it was left as it is. {way_back}", file.display())]
    Corrupt {
        file: PathBuf,
        finding: String,
        way_back: WayBack,
    },
    #[error("the state file `{}` is gone or empty, but its last good copy is there; nothing was changed. {way_back}", file.display())]
    Gone { file: PathBuf, way_back: WayBack },
    #[error("`{}` is no state file of ours: it is not a database; it was left as it is. {way_back}", file.display())]
    NotADatabase { file: PathBuf, way_back: WayBack },
    #[error("`{}` is the database of another program; it was left as it is. Move it away, or name another state folder with --state", .0.display())]
    Foreign(PathBuf),
    #[error("the state file `{}` was written by a newer par (its schema is {found}, this one knows {known}); it was left as it is. Run the newer par, or name another state folder with --state", file.display())]
    Newer {
        file: PathBuf,
        found: u32,
        known: u32,
    },
    #[error("no room to write the state file `{}`; what it held before still holds. Make room on its disk and try again", file.display())]
    Full {
        file: PathBuf,
        #[source]
        source: Cause,
    },
    #[error("what is kept has changed meanwhile: revision {} was expected, {} found", expected.0, found.0)]
    Conflict { expected: Revision, found: Revision },
    #[error("release {number} of `{agent}` cannot be added: its numbers up to {last} are taken")]
    NumberTaken {
        agent: AgentId,
        number: u32,
        last: u32,
    },
    #[error("`{agent}` cannot be served by its release {number}: there is none")]
    NoSuchRelease { agent: AgentId, number: u32 },
    #[error("failed to keep secrets in `{}`", folder.display())]
    Secrets {
        folder: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error(transparent)]
    Key(#[from] KeyError),
    #[error("the state file `{}` holds a `{column}` that nobody can read", file.display())]
    Unreadable { file: PathBuf, column: String },
    #[error("failed to {attempted} the state file `{}`", file.display())]
    Failed {
        attempted: &'static str,
        file: PathBuf,
        #[source]
        source: Cause,
    },
}

/// What stands behind an error, whatever the file is made of.
pub type Cause = Box<dyn Error + Send + Sync>;

/// The commands that bring a damaged state folder back to its last good copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WayBack {
    Copy { file: PathBuf, copy: PathBuf },
    None { file: PathBuf },
}

impl WayBack {
    pub(crate) fn of(file: &Path, copy: &Path) -> Self {
        let file = file.to_owned();
        match copy.is_file() {
            true => Self::Copy {
                file,
                copy: copy.to_owned(),
            },
            false => Self::None { file },
        }
    }
}

impl fmt::Display for WayBack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Copy { file, .. } | Self::None { file }) = self;
        let log = log_of(file);
        // A log that stays behind would be taken for one of the new file.
        let aside = [file, &log].map(|path| {
            let path = path.display().to_string();
            format!(
                "mv {} {}",
                quoted(&path),
                quoted(&format!("{path}.damaged"))
            )
        });
        let aside = aside.join("; ");
        match self {
            Self::Copy { file, copy } => {
                let copy = quoted(&copy.display().to_string());
                let file = quoted(&file.display().to_string());
                write!(
                    f,
                    "To go on with the last good copy: `{aside}; cp -p {copy} {file}`"
                )
            }
            Self::None { .. } => write!(f, "There is no copy of it. To begin anew: `{aside}`"),
        }
    }
}

/// SQLite's write-ahead log of a file.
fn log_of(file: &Path) -> PathBuf {
    let mut log = file.as_os_str().to_owned();
    log.push("-wal");
    PathBuf::from(log)
}

/// As a shell reads it.
fn quoted(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"/._-".contains(&b);
    if text.bytes().all(plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}
