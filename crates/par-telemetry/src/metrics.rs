//! Figures for Prometheus: how they are counted, and how they are written.
//!
//! What is counted on the way of a call are atomic numbers that its owner holds, without a lock and without looking up a
//! label. All else is gathered when somebody asks. Both are written by one [`Page`], in the format that is asked for:
//! the text format of Prometheus, or OpenMetrics 1.0.

mod calls;
mod egress;
mod histogram;
mod page;
mod process;

pub use calls::{Calls, Surface, Tally};
pub use egress::{Egress, write_egress};
pub use histogram::Histogram;
pub use page::{Family, Figure, Format, Kind, Page};
pub use process::write_process;
