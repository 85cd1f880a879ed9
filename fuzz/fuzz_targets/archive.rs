//! Whatever the bytes, opening and reading them as a package ends in bounded time and memory, and every path that
//! would be written to is a plain relative one.
#![no_main]

use std::io::Cursor;
use std::path::Component;

use libfuzzer_sys::fuzz_target;
use par_package::{Archive, Limits};

fuzz_target!(|bytes: &[u8]| {
    let limits = Limits { unpacked_bytes: 4 << 20, entries: 200, ..Limits::default() };
    let Ok(mut archive) = Archive::open(Cursor::new(bytes), bytes.len() as u64, &limits) else {
        return;
    };
    assert!(archive.entries().len() <= 200 && archive.bytes() <= limits.unpacked_bytes);
    for entry in archive.entries() {
        let path = entry.path.as_ref() as &std::path::Path;
        assert!(path.components().all(|part| matches!(part, Component::Normal(_))));
    }
    let _either_way_is_fine = archive.verify();
});
