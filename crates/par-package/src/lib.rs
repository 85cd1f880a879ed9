//! An APKG becomes a verified, unpacked, content-addressed package with its environment.
//!
//! ```text
//! file ─digest─▶ archive ─▶ papers ─▶ manifest, requirements, environment
//!                   └──────unpack──────▶ {store}/{digest}, by one rename
//! ```
//!
//! Nothing here starts a process or opens a socket: [`install_plan`] says which commands make an environment of
//! dependencies, somebody else runs them.

mod archive;
mod deploy;
mod dotenv;
mod entry_path;
mod environment;
mod error;
mod expand;
mod inspect;
mod install;
mod interpreter;
mod limits;
mod manifest;
mod pack;
mod package;
mod papers;
mod problem;
mod requirements;
mod runtime;
mod store;
mod stubs;
mod text;
mod yaml;

pub use archive::{Archive, ArchiveError, Entry, Kind};
pub use dotenv::Dotenv;
pub use entry_path::{EntryPath, InvalidPath};
pub use environment::{Variables, agent_environment, is_reserved};
pub use error::PackageError;
pub use inspect::{Inspection, Layout, Surfaces, Variable, inspect};
pub use install::{REQUIREMENTS_FILE, Sources, Step, failure_reason, install_plan, site_packages};
pub use interpreter::{Interpreter, UnknownInterpreter};
pub use limits::Limits;
pub use manifest::{AgentName, EntryPoint, Export, InvalidWord, Manifest, Mcp, is_variable_name};
pub use pack::{PackError, Packed, pack};
pub use package::Package;
pub use papers::FolderError;
pub use problem::{Problem, Problems};
pub use requirements::{EnvironmentKey, InvalidRequirement, Requirement, Requirements};
pub use runtime::{InvalidRange, OtherPython, Runtime, Unsupported};
pub use store::{Store, remove_tree};
pub use stubs::StubNeeds;
