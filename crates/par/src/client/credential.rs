//! As whom we ask: a token from a file, a variable, what `par token create --save` has kept, or, on this machine, from the
//! state folder of the supervisor itself. Never from the command line, which others see.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use http::HeaderValue;
use par_supervisor::{OperatorToken, usual_state};

use super::Origin;
use crate::exit::{Exit, Problem};

const TOKEN: &str = "PAR_TOKEN";
const STATE: &str = "PAR_STATE";

/// What is sent as `authorization`. Its `Debug` does not show it.
#[derive(Clone, Debug)]
pub(crate) struct Credential(HeaderValue);

impl Credential {
    /// `file`: the one that was named, which has to be there then.
    pub(crate) fn find(file: Option<&Path>, origin: &Origin) -> Result<Option<Self>, Problem> {
        if let Some(path) = file {
            let token = fs::read_to_string(path).map_err(|error| {
                let words = format!("the token file `{}` cannot be read", path.display());
                Problem::new(Exit::Usage, words).because(error)
            })?;
            let named = format!("the token file `{}`", path.display());
            return Self::of(&token, &named).map(Some);
        }
        if let Some(token) = std::env::var_os(TOKEN) {
            return Self::of(&token.to_string_lossy(), TOKEN).map(Some);
        }
        let saved = saved()
            .ok()
            .and_then(|mut all| all.remove(&origin.to_string()));
        let known = saved.or_else(|| of_this_machine(origin));
        known
            .map(|token| Self::of(&token, "a saved token"))
            .transpose()
    }

    fn of(token: &str, place: &str) -> Result<Self, Problem> {
        let value = HeaderValue::try_from(format!("Bearer {}", token.trim()));
        let Ok(mut value) = value else {
            return Err(Problem::new(Exit::Usage, format!("{place} holds no token")));
        };
        value.set_sensitive(true);
        Ok(Self(value))
    }

    pub(super) fn header(&self) -> &HeaderValue {
        &self.0
    }
}

/// Only to this machine, and to the port that the supervisor of the state folder has said it serves.
fn of_this_machine(origin: &Origin) -> Option<String> {
    let host = origin.host();
    let address: Option<std::net::IpAddr> = host.parse().ok();
    let is_here = host == "localhost" || address.is_some_and(|address| address.is_loopback());
    let state = std::env::var_os(STATE).map_or_else(usual_state, PathBuf::from);
    let token = is_here.then(|| OperatorToken::read(&state, origin.port()))??;
    Some(token.token)
}

/// Keeps a token for one supervisor, readable by this user alone. Returns the file.
pub(crate) fn save(origin: &Origin, token: &str) -> io::Result<PathBuf> {
    let path =
        place().ok_or_else(|| io::Error::other("neither XDG_CONFIG_HOME nor HOME is set"))?;
    if let Some(folder) = path.parent() {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)?;
    }
    let mut all = saved()?;
    all.insert(origin.to_string(), token.to_owned());
    let new = path.with_extension("new");
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&new)?;
    file.write_all(&serde_json::to_vec_pretty(&all)?)?;
    fs::rename(&new, &path)?;
    Ok(path)
}

/// Tokens by the supervisor's URL.
fn saved() -> io::Result<BTreeMap<String, String>> {
    let Some(path) = place() else {
        return Ok(BTreeMap::new());
    };
    match fs::read(path) {
        Ok(text) => Ok(serde_json::from_slice(&text)?),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(BTreeMap::new()),
        Err(error) => Err(error),
    }
}

/// `$XDG_CONFIG_HOME/par/tokens.json`, usually `~/.config/par/tokens.json`.
fn place() -> Option<PathBuf> {
    let absolute = |name: &str| {
        let path = std::env::var_os(name).map(PathBuf::from);
        path.filter(|path| path.is_absolute())
    };
    let home = || absolute("HOME").map(|home| home.join(".config"));
    let folder = absolute("XDG_CONFIG_HOME").or_else(home)?;
    Some(folder.join("par").join("tokens.json"))
}
