//! Places where a test has the confiner wait, to end somebody just then. Not in a release.

use super::plan::Confinement;

/// Waits for ever, with a name by which it is found, if this is the step that is asked for.
#[cfg(debug_assertions)]
pub(super) fn reached(asked: &Confinement, step: &str) {
    if asked.failpoint.as_deref() != Some(step) {
        return;
    }
    let name = std::ffi::CString::new(format!("at-{step}")).unwrap_or_default();
    // It is found by its name or not at all: then the test says so.
    let _found_or_not = rustix::thread::set_name(&name);
    std::thread::sleep(std::time::Duration::from_secs(3600));
}

#[cfg(not(debug_assertions))]
pub(super) fn reached(_asked: &Confinement, _step: &str) {}
