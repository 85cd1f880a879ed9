//! How large the program is.

use std::ffi::OsStr;
use std::fs;

use serde::Serialize;

use super::process::output_of;
use super::workshop::Workshop;

/// Bytes.
#[derive(Serialize)]
pub(crate) struct Size {
    pub(crate) as_built: u64,
    /// Without symbols and what debuggers need; `None` on a machine without `strip`.
    pub(crate) stripped: Option<u64>,
}

pub(crate) async fn measure(workshop: &Workshop) -> anyhow::Result<Size> {
    let stripped = workshop.folder().join("par-stripped");
    let arguments = [
        OsStr::new("-o"),
        stripped.as_os_str(),
        workshop.par.as_os_str(),
    ];
    let has_strip = output_of("strip", &arguments).await.is_ok();
    Ok(Size {
        as_built: fs::metadata(&workshop.par)?.len(),
        stripped: if has_strip {
            Some(fs::metadata(&stripped)?.len())
        } else {
            None
        },
    })
}
