//! One test for every way in which a package's archive is refused; none leaves anything behind.

use par_package::{ArchiveError, Limits, PackageError};

use crate::raw_zip::{RawEntry, RawZip};
use crate::{Bench, MANIFEST, package, told};

/// Admits the package, which must be refused for its own fault, and leave nothing.
fn refusal(bytes: &[u8]) -> ArchiveError {
    refusal_within(bytes, &Limits::default())
}

fn refusal_within(bytes: &[u8], limits: &Limits) -> ArchiveError {
    let bench = Bench::new();
    let apkg = bench.write("x.apkg", bytes);
    let error = bench
        .store
        .admit(&apkg, limits)
        .expect_err("the package must be refused");
    assert!(error.blames_the_package(), "{}", told(&error));
    assert_eq!(bench.stored(), [] as [&str; 0]);
    let PackageError::Archive(error) = error else {
        panic!("not a matter of the archive: {}", told(&error));
    };
    error
}

/// A package that is right but for one entry.
fn one_wrong(change: impl FnOnce(&mut RawEntry)) -> Vec<u8> {
    let mut zip = plain();
    change(zip.file("src/x.py", b"x = 1\n"));
    zip.finish()
}

fn plain() -> RawZip {
    let mut zip = RawZip::default();
    zip.file("agent.yaml", MANIFEST.as_bytes());
    zip
}

fn named(name: &str) -> ArchiveError {
    refusal(&one_wrong(|entry| {
        entry.name = name.into();
        entry.local_name = name.into();
    }))
}

#[test]
fn paths_that_lead_elsewhere_are_refused() {
    for name in [
        "../x",
        "src/../../x",
        "/tmp/x",
        "C:/x",
        "src\\x",
        "a\0b",
        "./x",
        "a//b",
        "..",
        "a/./b",
    ] {
        assert!(matches!(named(name), ArchiveError::Path(_)), "{name}");
    }
}

#[test]
fn long_and_deep_paths_are_refused() {
    assert!(matches!(
        named(&format!("{}x", "d/".repeat(64))),
        ArchiveError::TooDeep { limit: 64, .. }
    ));
    assert!(matches!(
        named(&"d/".repeat(1000)),
        ArchiveError::PathTooLong { .. }
    ));
    assert!(matches!(named(&"x".repeat(300)), ArchiveError::Path(_)));
}

#[test]
fn names_that_are_not_utf8_are_refused() {
    for flags in [0, 1 << 11] {
        let bytes = one_wrong(|entry| {
            entry.flags = flags;
            entry.name = b"src/\xff.py".to_vec();
            entry.local_name = entry.name.clone();
        });
        assert!(matches!(refusal(&bytes), ArchiveError::NameNotUtf8(_)));
    }
}

#[test]
fn links_devices_pipes_and_sockets_are_refused() {
    for mode in [
        0o120_777, 0o020_666, 0o060_666, 0o010_644, 0o140_644, 0o040_755, 0o150_000,
    ] {
        let mut zip = plain();
        zip.special("src/x", mode);
        assert!(
            matches!(refusal(&zip.finish()), ArchiveError::SpecialFile { .. }),
            "{mode:o}"
        );
    }
}

#[test]
fn a_name_twice_is_refused() {
    let mut zip = plain();
    zip.file("src/x.py", b"1");
    zip.file("src/y.py", b"1");
    zip.file("src/x.py", b"2");
    let error = refusal(&zip.finish());
    assert!(
        matches!(&error, ArchiveError::Duplicate(name) if name == "src/x.py"),
        "{error}"
    );
}

#[test]
fn a_folder_twice_is_refused() {
    let mut zip = plain();
    for _ in 0..2 {
        zip.file("src/", b"").mode = 0o040_755;
    }
    assert!(matches!(refusal(&zip.finish()), ArchiveError::Duplicate(_)));
}

#[test]
fn a_file_where_others_need_a_folder_is_refused() {
    assert!(
        matches!(refusal(&package(&[("src", ""), ("src/x.py", "")])), ArchiveError::FileAndFolder(name) if name == "src")
    );
    let mut zip = plain();
    zip.file("src", b"");
    zip.file("src/", b"").mode = 0o040_755;
    assert!(matches!(refusal(&zip.finish()), ArchiveError::FileAndFolder(name) if name == "src"));
}

#[test]
fn a_folder_with_content_is_refused() {
    let mut zip = plain();
    zip.file("src/", b"x").mode = 0o040_755;
    assert!(matches!(
        refusal(&zip.finish()),
        ArchiveError::Dishonest { .. }
    ));
}

#[test]
fn encrypted_entries_are_refused() {
    assert!(matches!(
        refusal(&one_wrong(|entry| entry.flags = 1)),
        ArchiveError::Encrypted(_)
    ));
}

#[test]
fn unusual_compression_is_refused() {
    for method in [9, 12, 14, 93, 99] {
        let error = refusal(&one_wrong(|entry| entry.method = method));
        assert!(
            matches!(error, ArchiveError::UnknownCompression(_)),
            "{method}: {error}"
        );
    }
}

#[test]
fn a_wrong_checksum_is_refused() {
    let error = refusal(&one_wrong(|entry| entry.crc ^= 1));
    assert!(
        matches!(&error, ArchiveError::Dishonest { entry, .. } if entry == "src/x.py"),
        "{error}"
    );
}

#[test]
fn an_entry_larger_or_smaller_than_it_said_is_refused() {
    for said in [5, 7] {
        let error = refusal(&one_wrong(|entry| entry.said_size = said));
        assert!(
            matches!(error, ArchiveError::Dishonest { .. }),
            "{said}: {error}"
        );
    }
}

#[test]
fn too_many_entries_are_refused_by_the_count_alone() {
    let limits = Limits {
        entries: 3,
        ..Limits::default()
    };
    let bytes = package(&[("a", ""), ("b", ""), ("c", "")]);
    let error = refusal_within(&bytes, &limits);
    assert!(
        matches!(
            error,
            ArchiveError::TooManyEntries {
                entries: 4,
                limit: 3
            }
        ),
        "{error}"
    );
}

#[test]
fn a_count_that_is_not_true_is_refused() {
    let counted = |said| {
        let mut zip = plain();
        zip.file("a", b"");
        zip.file("b", b"");
        zip.said_entries = Some(said);
        refusal(&zip.finish())
    };
    assert!(matches!(counted(0), ArchiveError::Empty));
    assert!(matches!(counted(2), ArchiveError::Damaged(_)));
    assert!(matches!(counted(4), ArchiveError::NotAZip));
    assert!(matches!(counted(60_000), ArchiveError::NotAZip));
}

#[test]
fn more_bytes_than_the_limits_allow_are_refused_before_unpacking() {
    let limits = Limits {
        unpacked_bytes: 100,
        ..Limits::default()
    };
    let error = refusal_within(&package(&[("a", &"x".repeat(101))]), &limits);
    assert!(
        matches!(error, ArchiveError::TooLarge { limit: 100, .. }),
        "{error}"
    );
    let error = refusal(&one_wrong(|entry| entry.said_size = u32::MAX - 1));
    assert!(matches!(error, ArchiveError::TooLarge { .. }), "{error}");
}

#[test]
fn a_manifest_over_its_limit_is_refused() {
    let mut zip = RawZip::default();
    zip.file("agent.yaml", &vec![b'#'; (1 << 20) + 1]);
    assert!(matches!(
        refusal(&zip.finish()),
        ArchiveError::FileTooLarge { .. }
    ));
}

#[test]
fn a_manifest_that_is_not_at_the_root_is_found_and_named() {
    let mut zip = RawZip::default();
    zip.file("hello/agent.yaml", MANIFEST.as_bytes());
    assert!(
        matches!(refusal(&zip.finish()), ArchiveError::ManifestInFolder { folder } if folder == "hello")
    );
    let mut zip = RawZip::default();
    zip.file("Agent.YAML", MANIFEST.as_bytes());
    assert!(
        matches!(refusal(&zip.finish()), ArchiveError::ManifestMisspelt { found } if found == "Agent.YAML")
    );
    let mut zip = RawZip::default();
    zip.file("inner.apkg", &package(&[]));
    assert!(matches!(refusal(&zip.finish()), ArchiveError::NoManifest));
}

#[test]
fn what_is_no_archive_is_refused() {
    let whole = package(&[("src/main.py", "x = 1")]);
    let mut prefixed = b"#!/bin/sh\n".to_vec();
    prefixed.extend(&whole);
    let mut suffixed = whole.clone();
    suffixed.push(0);
    for bytes in [
        &b""[..],
        b"PK",
        b"hello",
        &whole[..whole.len() - 1],
        &whole[1..],
        &prefixed,
        &suffixed,
    ] {
        assert!(
            matches!(refusal(bytes), ArchiveError::NotAZip),
            "{} bytes",
            bytes.len()
        );
    }
    assert!(matches!(
        refusal(&RawZip::default().finish()),
        ArchiveError::Empty
    ));
}

#[test]
fn a_second_end_record_in_the_comment_is_refused() {
    let mut zip = plain();
    zip.comment = package(&[]);
    let bytes = zip.finish();
    // The inner archive's directory is not where it says: it is read as no archive at all.
    assert!(matches!(refusal(&bytes), ArchiveError::NotAZip));
}

#[test]
fn headers_that_disagree_about_a_name_are_refused() {
    let error = refusal(&one_wrong(|entry| entry.local_name = b"src/y.py".to_vec()));
    assert!(matches!(error, ArchiveError::Damaged(_)), "{error}");
}

#[test]
fn entries_that_share_their_bytes_are_refused() {
    let mut zip = plain();
    zip.file("a", b"1234");
    let again = zip.file("b", b"1234");
    again.shares = Some(1);
    assert!(matches!(refusal(&zip.finish()), ArchiveError::Damaged(_)));
}

#[test]
fn bytes_that_belong_to_no_entry_are_refused() {
    let mut zip = plain();
    zip.gap = 1 << 20;
    assert!(matches!(refusal(&zip.finish()), ArchiveError::Damaged(_)));
}
