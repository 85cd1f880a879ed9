//! The few files that say what a package is, and what they mean together.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use crate::Limits;
use crate::deploy::DeployDescriptor;
use crate::dotenv::Dotenv;
use crate::manifest::Manifest;
use crate::problem::{Problem, Problems};
use crate::requirements::Requirements;

pub(crate) const MANIFEST: &str = "agent.yaml";
pub(crate) const DOTENV: &str = ".env";
pub(crate) const DEPLOY: &str = "deploy.json";
pub(crate) const REQUIREMENTS: &str = "requirements.txt";
pub(crate) const PYPROJECT: &str = "pyproject.toml";

/// The files as they are. No `Debug`: `.env` holds secrets.
#[derive(Default)]
pub(crate) struct Papers {
    pub(crate) manifest: Option<Vec<u8>>,
    pub(crate) dotenv: Option<Vec<u8>>,
    pub(crate) deploy: Option<Vec<u8>>,
    pub(crate) requirements: Option<Vec<u8>>,
    pub(crate) pyproject: Option<Vec<u8>>,
}

/// What the files mean.
#[derive(Clone, Debug)]
pub(crate) struct Meaning {
    pub(crate) manifest: Manifest,
    pub(crate) dotenv: Dotenv,
    pub(crate) deploy: DeployDescriptor,
    pub(crate) requirements: Requirements,
    pub(crate) warnings: Vec<String>,
}

impl Papers {
    /// Reads each file with `read`, which answers `None` for one that is not there.
    pub(crate) fn gather<E>(
        mut read: impl FnMut(&str) -> Result<Option<Vec<u8>>, E>,
    ) -> Result<Self, E> {
        Ok(Self {
            manifest: read(MANIFEST)?,
            dotenv: read(DOTENV)?,
            deploy: read(DEPLOY)?,
            requirements: read(REQUIREMENTS)?,
            pyproject: read(PYPROJECT)?,
        })
    }

    pub(crate) fn in_folder(folder: &Path, limits: &Limits) -> Result<Self, FolderError> {
        Self::gather(|name| read_file(folder, name, limits.manifest_bytes))
    }

    /// Understands every file, and reports the mistakes of all of them together.
    pub(crate) fn understand(&self, limits: &Limits) -> Result<Meaning, Problems> {
        let mut problems = vec![];
        let mut warnings = vec![];
        let manifest = match &self.manifest {
            Some(bytes) => kept(Manifest::parse(bytes, limits), &mut problems),
            None => {
                problems.push(Problem::new(MANIFEST, "missing"));
                None
            }
        };
        let deploy = match &self.deploy {
            Some(bytes) => kept(DeployDescriptor::parse(bytes), &mut problems),
            None => Some(DeployDescriptor::default()),
        };
        let dotenv = self
            .dotenv
            .as_deref()
            .map(Dotenv::parse)
            .unwrap_or_default();
        warnings.extend(dotenv.warnings.iter().cloned());
        let requirements =
            Requirements::gather(self, manifest.as_ref(), &mut problems, &mut warnings);
        match (manifest, deploy) {
            (Some(manifest), Some(deploy)) if problems.is_empty() => Ok(Meaning {
                manifest,
                dotenv,
                deploy,
                requirements,
                warnings,
            }),
            _ => Err(Problems(problems)),
        }
    }
}

fn kept<T>(result: Result<T, Problems>, problems: &mut Vec<Problem>) -> Option<T> {
    match result {
        Ok(value) => Some(value),
        Err(found) => {
            problems.extend(found.0);
            None
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    #[error("failed to read `{name}`")]
    Read {
        name: String,
        #[source]
        source: io::Error,
    },
    #[error("`{name}` is larger than {limit} bytes")]
    TooLarge { name: String, limit: u64 },
}

fn read_file(folder: &Path, name: &str, limit: u64) -> Result<Option<Vec<u8>>, FolderError> {
    let failed = |source| FolderError::Read {
        name: name.to_owned(),
        source,
    };
    let path = folder.join(name);
    match std::fs::symlink_metadata(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
        // Opening a pipe would wait for its writer.
        Ok(metadata) if !metadata.is_file() => {
            return Err(failed(io::Error::other("it is not a plain file")));
        }
        Ok(_) => {}
    }
    let mut bytes = vec![];
    let file = File::open(&path).map_err(failed)?;
    file.take(limit + 1)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    if bytes.len() as u64 > limit {
        return Err(FolderError::TooLarge {
            name: name.to_owned(),
            limit,
        });
    }
    Ok(Some(bytes))
}
