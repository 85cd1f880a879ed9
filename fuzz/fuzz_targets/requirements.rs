//! The normal form of a requirement is one line, names no place, and is its own normal form.
#![no_main]

use libfuzzer_sys::fuzz_target;
use par_package::Requirement;

fuzz_target!(|text: &str| {
    let Ok(requirement) = text.parse::<Requirement>() else {
        return;
    };
    let line = requirement.to_string();
    assert!(!line.starts_with('-') && !line.contains(['\n', '\r', '#', '$', '\\']), "{line:?}");
    let what = line.split(';').next().unwrap_or_default();
    assert!(!what.contains(['@', '/']), "{line:?}");
    assert_eq!(line.parse::<Requirement>().as_ref(), Ok(&requirement), "{line:?}");
});
