//! What is in a package, and what is wrong with it, without unpacking it.

use std::io::BufReader;
use std::path::Path;

use par_model::PackageDigest;
use par_model::network::Destination;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use crate::archive::{Archive, Entry};
use crate::dotenv::Dotenv;
use crate::manifest::{self, EntryPoint, Export, Manifest};
use crate::pack;
use crate::papers::{DEPLOY, DOTENV, MANIFEST, Meaning, Papers};
use crate::problem::{Problem, Problems};
use crate::store::{digest_of, open_plain_file};
use crate::{Limits, PackageError};

/// Everything that can be told. What could not be read is empty, and `problems` say why.
#[derive(Clone, Debug, Serialize)]
pub struct Inspection {
    /// `name@version`
    pub label: Option<String>,
    pub digest: PackageDigest,
    /// Of the package itself.
    pub bytes: u64,
    pub entries: usize,
    pub unpacked_bytes: u64,
    pub layout: Option<Layout>,
    pub entrypoint: Option<EntryPoint>,
    pub surfaces: Surfaces,
    pub exports: Vec<Export>,
    /// Where it asks to go.
    pub network: Vec<Destination>,
    /// In normal form.
    pub requirements: Vec<String>,
    /// Names alone: values may be secrets.
    pub environment: Vec<Variable>,
    /// As it was written.
    pub manifest: Option<Json>,
    pub warnings: Vec<String>,
    pub problems: Vec<Problem>,
}

/// Who made the package, by the look of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Layout {
    #[serde(rename = "pixell-kit 0.2-0.3")]
    Kit02,
    #[serde(rename = "pixell-kit 0.4")]
    Kit04,
    #[serde(rename = "pixell-sdk 0.5")]
    Sdk05,
    #[serde(rename = "par")]
    Par,
    #[serde(rename = "by hand")]
    ByHand,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Surfaces {
    pub rest: bool,
    pub a2a: bool,
    pub ui: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Variable {
    pub name: String,
    /// The file that sets it.
    pub from: &'static str,
}

/// Reads a package; an error only when the file itself cannot be read.
pub fn inspect(apkg: &Path, limits: &Limits) -> Result<Inspection, PackageError> {
    let mut file = open_plain_file(apkg)?;
    let unreadable = |source| PackageError::Open {
        path: apkg.to_owned(),
        source,
    };
    let (digest, bytes) = digest_of(&mut file).map_err(unreadable)?;
    let mut inspection = Inspection::empty(digest, bytes);
    if bytes > limits.packed_bytes {
        let too_large = PackageError::TooLarge {
            limit: limits.packed_bytes,
        };
        inspection
            .problems
            .push(Problem::new("the package", too_large.to_string()));
        return Ok(inspection);
    }
    if let Err(error) = inspection.look_into(BufReader::new(file), limits) {
        inspection
            .problems
            .push(Problem::new("the package", error.to_string()));
    }
    Ok(inspection)
}

impl Inspection {
    fn empty(digest: PackageDigest, bytes: u64) -> Self {
        Self {
            label: None,
            digest,
            bytes,
            entries: 0,
            unpacked_bytes: 0,
            layout: None,
            entrypoint: None,
            surfaces: Surfaces::default(),
            exports: vec![],
            network: vec![],
            requirements: vec![],
            environment: vec![],
            manifest: None,
            warnings: vec![],
            problems: vec![],
        }
    }

    fn look_into(
        &mut self,
        file: BufReader<std::fs::File>,
        limits: &Limits,
    ) -> Result<(), crate::ArchiveError> {
        let mut archive = Archive::open(file, self.bytes, limits)?;
        self.entries = archive.entries().len();
        self.unpacked_bytes = archive.bytes();
        let description = archive.read(pack::PACKAGE_JSON)?;
        self.layout = Some(Layout::of(archive.entries(), description.as_deref()));
        let has_ui = archive
            .entries()
            .iter()
            .any(|entry| entry.path.as_str().starts_with("dist/ui/"));
        let papers = archive.papers()?;
        self.manifest = papers
            .manifest
            .as_deref()
            .and_then(|bytes| manifest::as_json(bytes, limits).ok());
        match papers.understand(limits) {
            Ok(meaning) => self.tell(meaning, has_ui),
            Err(Problems(problems)) => {
                self.problems.extend(problems);
                self.tell_what_is_right(&papers, has_ui, limits);
            }
        }
        archive.verify()
    }

    fn tell(&mut self, meaning: Meaning, has_ui: bool) {
        self.tell_manifest(meaning.manifest, has_ui);
        self.requirements = meaning
            .requirements
            .iter()
            .map(ToString::to_string)
            .collect();
        self.add_variables(meaning.dotenv.variables.names(), DOTENV);
        self.add_variables(meaning.deploy.environment.names(), DEPLOY);
        self.warnings = meaning.warnings;
    }

    fn tell_what_is_right(&mut self, papers: &Papers, has_ui: bool, limits: &Limits) {
        if let Some(Ok(manifest)) = papers
            .manifest
            .as_deref()
            .map(|bytes| Manifest::parse(bytes, limits))
        {
            self.tell_manifest(manifest, has_ui);
        }
        let dotenv = papers
            .dotenv
            .as_deref()
            .map(Dotenv::parse)
            .unwrap_or_default();
        self.add_variables(dotenv.variables.names(), DOTENV);
        self.warnings = dotenv.warnings;
    }

    fn tell_manifest(&mut self, manifest: Manifest, has_ui: bool) {
        self.label = Some(manifest.label());
        self.surfaces = Surfaces {
            rest: manifest.rest_entry.is_some() || manifest.asgi_app.is_some(),
            a2a: manifest.a2a_service.is_some(),
            ui: manifest.ui_path.is_some() || has_ui,
        };
        self.add_variables(manifest.environment.names(), MANIFEST);
        self.entrypoint = manifest.entrypoint;
        self.exports = manifest.exports;
        self.network = manifest.network;
    }

    fn add_variables<'a>(&mut self, names: impl Iterator<Item = &'a str>, from: &'static str) {
        self.environment.extend(names.map(|name| Variable {
            name: name.to_owned(),
            from,
        }));
    }
}

impl Layout {
    /// `description` is the content of `.pixell/package.json`.
    fn of(entries: &[Entry], description: Option<&[u8]>) -> Self {
        #[derive(Deserialize)]
        struct Description {
            created_by: String,
        }
        let Some(description) = description else {
            return Self::ByHand;
        };
        let made_by_us = serde_json::from_slice::<Description>(description)
            .is_ok_and(|description| description.created_by == pack::CREATED_BY);
        let has_deploy = entries.iter().any(|entry| entry.path.as_str() == DEPLOY);
        let has_dist = entries.iter().any(|entry| {
            let path = entry.path.as_str();
            path == "dist" || path.starts_with("dist/")
        });
        match (has_deploy, has_dist) {
            _ if made_by_us => Self::Par,
            (true, true) => Self::Kit04,
            (true, false) => Self::Sdk05,
            (false, _) => Self::Kit02,
        }
    }
}
