//! What `par inspect` tells.

use par_package::{Inspection, Layout, Limits, Surfaces, inspect};

use crate::raw_zip::RawZip;
use crate::{Bench, MANIFEST, package, with_manifest};

fn inspected(bytes: &[u8]) -> Inspection {
    let bench = Bench::new();
    let apkg = bench.write("x.apkg", bytes);
    inspect(&apkg, &Limits::default()).expect("the file can be read")
}

#[test]
fn a_good_package_is_told_whole() {
    let manifest =
        format!("{MANIFEST}environment: {{A: x}}\nrest: {{entry: mount}}\nexports: [add]\n");
    let seen = inspected(&with_manifest(
        &manifest,
        &[(".env", "TOKEN=s3cret\nBROKEN"), ("dist/ui/index.html", "")],
    ));
    assert_eq!(seen.label.as_deref(), Some("hello@0.1.0"));
    assert_eq!((seen.entries, seen.layout), (3, Some(Layout::ByHand)));
    assert_eq!(
        seen.surfaces,
        Surfaces {
            rest: true,
            a2a: false,
            ui: true
        }
    );
    assert_eq!(seen.requirements, ["fastapi"]);
    assert_eq!(seen.exports[0].name, "add");
    assert_eq!(seen.warnings, [".env:2: skipped: no `=`"]);
    assert_eq!(seen.problems, []);
    let variables: Vec<_> = seen
        .environment
        .iter()
        .map(|variable| (variable.name.as_str(), variable.from))
        .collect();
    assert_eq!(variables, [("A", "agent.yaml"), ("TOKEN", ".env")]);
    let json = serde_json::to_string(&seen).expect("an inspection is JSON");
    assert!(!json.contains("s3cret"));
}

#[test]
fn the_maker_is_recognised_by_what_it_adds() {
    let pixell = (".pixell/package.json", "{}");
    for (files, layout) in [
        (&[pixell][..], Layout::Kit02),
        (
            &[pixell, ("deploy.json", "{}"), ("dist/rest/index.py", "")],
            Layout::Kit04,
        ),
        (&[pixell, ("deploy.json", "{}")], Layout::Sdk05),
        (
            &[(".pixell/package.json", "{\"created_by\": \"par\"}")],
            Layout::Par,
        ),
        (&[("main.py", "")], Layout::ByHand),
    ] {
        assert_eq!(inspected(&package(files)).layout, Some(layout));
    }
}

#[test]
fn every_problem_is_told_beside_what_is_right() {
    let seen = inspected(&package(&[
        ("requirements.txt", "--pre\n-e .\n"),
        (".env", "A=1"),
    ]));
    assert_eq!(seen.label.as_deref(), Some("hello@0.1.0"));
    let places: Vec<_> = seen
        .problems
        .iter()
        .map(|problem| problem.place.as_str())
        .collect();
    assert_eq!(places, ["requirements.txt:1", "requirements.txt:2"]);
    assert_eq!(seen.environment.len(), 1);
}

#[test]
fn a_damaged_file_is_found_without_unpacking() {
    let mut zip = RawZip::default();
    zip.file("agent.yaml", MANIFEST.as_bytes());
    zip.file("x", b"x").crc ^= 1;
    let seen = inspected(&zip.finish());
    assert_eq!(seen.label.as_deref(), Some("hello@0.1.0"));
    assert_eq!(seen.problems.len(), 1);
    assert_eq!(inspected(b"hello").problems.len(), 1);
}
