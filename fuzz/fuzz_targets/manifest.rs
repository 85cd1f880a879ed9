//! A manifest is refused with a place, or understood; either is quick, and neither overflows the stack.
#![no_main]

use libfuzzer_sys::fuzz_target;
use par_package::{Limits, Manifest};

fuzz_target!(|bytes: &[u8]| match Manifest::parse(bytes, &Limits::default()) {
    Ok(manifest) => assert!(!manifest.label().contains(['/', '\0'])),
    Err(problems) => assert!(problems.0.iter().all(|problem| problem.place.starts_with("agent.yaml"))),
});
