//! Builds packages and whole systems for tests; holds the arrows as a test.

mod http;
mod leftovers;
mod package;
mod ports;
mod processes;
mod python;
mod system;
mod wait;

pub use http::{Answer, Http};
pub use leftovers::control_groups;
pub use package::PackageBuilder;
pub use ports::PortRange;
pub use processes::descendants_of;
pub use python::python_environment;
pub use system::{Ended, System, SystemBuilder};
pub use wait::{comes_within, wait_for};
