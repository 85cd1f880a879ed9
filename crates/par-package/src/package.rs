//! A package that has been checked and unpacked.

use std::path::{Path, PathBuf};

use par_model::PackageDigest;

use crate::environment::Variables;
use crate::manifest::Manifest;
use crate::papers::{Meaning, Papers};
use crate::requirements::Requirements;
use crate::{Limits, PackageError};

#[derive(Clone, Debug)]
pub struct Package {
    pub digest: PackageDigest,
    /// The folder that it is unpacked in; its name is the digest.
    pub root: PathBuf,
    pub manifest: Manifest,
    pub warnings: Vec<String>,
    rest: Rest,
}

/// What is needed to make an agent's environment, beside the manifest.
#[derive(Clone, Debug)]
struct Rest {
    dotenv: Variables,
    deploy: Variables,
    requirements: Requirements,
}

impl Package {
    /// Reads a package that a [`crate::Store`] has admitted before.
    pub fn open(root: &Path) -> Result<Self, PackageError> {
        let limits = Limits::default();
        let unreadable = |error| PackageError::Reopen {
            root: root.to_owned(),
            source: Box::new(error),
        };
        let name = root
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default();
        let digest = name
            .parse()
            .map_err(|_| PackageError::NotStored(root.to_owned()))?;
        let papers = Papers::in_folder(root, &limits).map_err(|error| unreadable(error.into()))?;
        let meaning = papers
            .understand(&limits)
            .map_err(|error| unreadable(error.into()))?;
        Ok(Self::new(digest, root.to_owned(), meaning))
    }

    pub(crate) fn new(digest: PackageDigest, root: PathBuf, meaning: Meaning) -> Self {
        Self {
            digest,
            root,
            manifest: meaning.manifest,
            warnings: meaning.warnings,
            rest: Rest {
                dotenv: meaning.dotenv.variables,
                deploy: meaning.deploy.environment,
                requirements: meaning.requirements,
            },
        }
    }

    /// `name@version`
    pub fn label(&self) -> String {
        self.manifest.label()
    }

    pub fn requirements(&self) -> &Requirements {
        &self.rest.requirements
    }

    /// The folder of static files: `ui.path`, else `dist/ui`, whichever is there.
    pub fn ui_folder(&self) -> Option<PathBuf> {
        let declared = self
            .manifest
            .ui_path
            .iter()
            .map(|path| self.root.join(path));
        declared
            .chain([self.root.join("dist/ui")])
            .find(|folder| folder.is_dir())
    }

    pub(crate) fn dotenv(&self) -> &Variables {
        &self.rest.dotenv
    }

    pub(crate) fn deploy_environment(&self) -> &Variables {
        &self.rest.deploy
    }
}
