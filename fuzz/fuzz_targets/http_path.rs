//! A path leads to the agent of its third segment, decoded once, or to none; nothing below is touched.
#![no_main]

use libfuzzer_sys::fuzz_target;
use par_gateway::path::{Asked, split};

fuzz_target!(|path: &str| {
    let Asked::Agent { id, rest } = split(path) else {
        return assert!(!path.starts_with("/agents/") || path == "/agents/");
    };
    let named = path.strip_prefix("/agents/").and_then(|below| below.strip_suffix(rest));
    let named = named.expect("prefix, name and rest are the path");
    assert!(!named.contains('/') && (rest.is_empty() || rest.starts_with('/')));
    if !named.contains('%') {
        assert_eq!(id, named);
    }
});
