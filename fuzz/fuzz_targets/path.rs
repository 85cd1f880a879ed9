//! An accepted path stays below the folder that it is joined to.
#![no_main]

use std::path::{Component, Path};

use libfuzzer_sys::fuzz_target;
use par_package::EntryPath;

fuzz_target!(|text: &str| {
    let Ok(path) = text.parse::<EntryPath>() else {
        return;
    };
    let joined = Path::new("/root").join(&path);
    assert!(joined.starts_with("/root"));
    let below: Vec<_> = joined.components().skip(2).collect();
    assert!(!below.is_empty() && below.len() == path.depth());
    assert!(below.iter().all(|part| matches!(part, Component::Normal(_))));
    assert_eq!(path.parents().count() + 1, path.depth());
});
