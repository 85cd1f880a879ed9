//! What `agent.yaml` may say, and what it gets for a mistake.

use std::fmt::Write;

use par_package::{Limits, Manifest};
use proptest::prelude::*;
use serde_json::json;

use crate::MANIFEST;

fn parse(text: &str) -> Manifest {
    Manifest::parse(text.as_bytes(), &Limits::default())
        .unwrap_or_else(|problems| panic!("{text}: {problems}"))
}

/// With a name, a version and an entrypoint before it.
fn with(more: &str) -> Manifest {
    parse(&format!("{MANIFEST}{more}"))
}

fn problems(text: &str) -> Vec<String> {
    let problems = Manifest::parse(text.as_bytes(), &Limits::default()).expect_err(text);
    problems.0.iter().map(ToString::to_string).collect()
}

fn problem(text: &str) -> String {
    let problems = problems(text);
    let [problem] = &problems[..] else {
        panic!("not one problem: {problems:?}");
    };
    problem.clone()
}

fn problem_with(more: &str) -> String {
    problem(&format!("{MANIFEST}{more}"))
}

#[test]
fn every_field_is_understood() {
    let manifest = parse(
        r#"
version: '1.0'
name: all-fields
display_name: All
description: >-
  two
  lines
author: A
license: MIT
entrypoint: src.main:Agent.run
runtime: python3.11
exports:
  - {name: add, type: function, handler: src.math.add, description: adds}
  - {name: sub, handler: "src.math:sub", public: no}
  - plain
capabilities: [code-execution]
environment: {B: x, A: 'y'}
dependencies: [requests>=2]
rest: {entry: mount, prefix: /v1}
a2a: {service: src.a2a:make}
http_server: main:app
ui: {path: ./ui/, basePath: /app}
mcp: {enabled: true, config_file: mcp.json}
plan_mode: {supported: true}
metadata:
  version: 0.1.0
  homepage: https://example.org
  sub_agents:
    - {name: add, public: false}
    - {name: word-count}
    - {name: secret, public: false}
custom: {n: 1, f: 1.5, t: yes, z: ~, s: "1"}
"#,
    );
    assert_eq!(manifest.label(), "all-fields@0.1.0");
    assert_eq!(manifest.description.as_deref(), Some("two lines"));
    assert_eq!(
        manifest
            .entrypoint
            .as_ref()
            .map(ToString::to_string)
            .as_deref(),
        Some("src.main:Agent.run")
    );
    assert_eq!(
        manifest
            .rest_entry
            .as_ref()
            .map(ToString::to_string)
            .as_deref(),
        Some("src.main:mount")
    );
    assert_eq!(
        manifest
            .a2a_service
            .as_ref()
            .map(ToString::to_string)
            .as_deref(),
        Some("src.a2a:make")
    );
    assert_eq!(
        manifest
            .asgi_app
            .as_ref()
            .map(ToString::to_string)
            .as_deref(),
        Some("main:app")
    );
    assert_eq!(
        manifest.ui_path.as_ref().map(|path| path.as_str()),
        Some("ui")
    );
    assert_eq!(
        manifest.environment.iter().collect::<Vec<_>>(),
        [("B", "x"), ("A", "y")]
    );
    let exports: Vec<_> = manifest
        .exports
        .iter()
        .map(|e| (e.name.as_str(), e.public, e.sub_agent))
        .collect();
    let expected = [
        ("add", true, false),
        ("sub", false, false),
        ("plain", true, false),
        ("word-count", true, true),
        ("secret", false, true),
    ];
    assert_eq!(exports, expected);
    assert_eq!(
        manifest.exports[0]
            .handler
            .as_ref()
            .map(ToString::to_string)
            .as_deref(),
        Some("src.math:add")
    );
    assert_eq!(manifest.shown["plan_mode"], json!({"supported": true}));
    assert_eq!(
        manifest.unknown["custom"],
        json!({"n": 1, "f": 1.5, "t": true, "z": null, "s": "1"})
    );
    assert_eq!(
        manifest.unknown["metadata"],
        json!({"homepage": "https://example.org"})
    );
    assert_eq!(manifest.unknown["rest"], json!({"prefix": "/v1"}));
}

#[test]
fn the_older_spelling_of_the_entrypoint_is_read() {
    let manifest = parse("name: a\nversion: 1\nentry_point: main:f\n");
    assert_eq!(
        manifest
            .entrypoint
            .map(|entry| entry.to_string())
            .as_deref(),
        Some("main:f")
    );
}

#[test]
fn the_version_of_the_metadata_wins() {
    assert_eq!(
        parse("name: a\nversion: '1.0'\nentrypoint: a:b\nmetadata: {version: 2.10}")
            .version
            .as_str(),
        "2.10"
    );
}

#[test]
fn numbers_and_truth_values_are_text_where_text_is_asked_for() {
    let manifest =
        with("environment: {PORT: 8080, ON: true, HEX: 0x1F, V: 1.10, NONE: , Q: \"no\"}");
    let expected = [
        ("PORT", "8080"),
        ("ON", "true"),
        ("HEX", "0x1F"),
        ("V", "1.10"),
        ("NONE", ""),
        ("Q", "no"),
    ];
    assert_eq!(manifest.environment.iter().collect::<Vec<_>>(), expected);
}

#[test]
fn an_entry_that_only_mirrors_the_http_server_is_no_grpc_service() {
    let manifest = with("a2a: {entry: 'main:app', http_server: 'main:app', service: null}");
    assert!(manifest.a2a_service.is_none() && manifest.asgi_app.is_some());
}

#[test]
fn a_surface_is_enough_without_an_entrypoint() {
    for surface in [
        "rest: {entry: a:b}",
        "a2a: {service: a:b}",
        "http_server: a:b",
        "ui: {path: ui}",
    ] {
        parse(&format!("name: a\nversion: 1\n{surface}\n"));
    }
    let message = problem("name: a\nversion: 1\n");
    assert!(
        message.starts_with("agent.yaml:1:1: entrypoint: missing"),
        "{message}"
    );
}

#[test]
fn a_mistake_is_reported_with_field_line_and_column() {
    assert_eq!(
        problem_with("environment:\n  PORT: [1]\n"),
        "agent.yaml:5:9: environment.PORT: expected text, found a list"
    );
    assert_eq!(
        problem_with("rest: [a]\n"),
        "agent.yaml:4:7: rest: expected a mapping, found a list"
    );
    assert_eq!(
        problem_with("exports: {a: b}\n"),
        "agent.yaml:4:10: exports: expected a list, found a mapping"
    );
    assert_eq!(
        problem_with("exports: [{name: a, public: 3}]\n"),
        "agent.yaml:4:29: exports[0].public: expected true or false, found text"
    );
    assert_eq!(
        problem_with("metadata: {sub_agents: [{}]}\n"),
        "agent.yaml:4:25: metadata.sub_agents[0]: `name` is missing"
    );
    assert_eq!(
        problem_with("runtime: [a]\n"),
        "agent.yaml:4:10: runtime: expected text or a mapping, found a list"
    );
    assert_eq!(
        problem_with("author: {a: b}\n"),
        "agent.yaml:4:9: author: expected text, found a mapping"
    );
    assert_eq!(
        problem("- a\n"),
        "agent.yaml:1:1: the manifest: expected a mapping, found a list"
    );
    assert_eq!(
        problem("hello\n"),
        "agent.yaml:1:1: the manifest: expected a mapping, found text"
    );
}

#[test]
fn all_mistakes_are_reported_in_the_order_of_the_file() {
    let found = problems("runtime: []\nname: X\nentrypoint: nope\nversion: a/b\n");
    let places: Vec<_> = found
        .iter()
        .map(|line| line.split(' ').next().unwrap_or_default())
        .collect();
    assert_eq!(
        places,
        [
            "agent.yaml:1:10:",
            "agent.yaml:2:7:",
            "agent.yaml:3:13:",
            "agent.yaml:4:10:"
        ]
    );
}

#[test]
fn what_is_missing_is_named() {
    let found = problems("author: x\n");
    assert_eq!(
        found[..2],
        [
            "agent.yaml:1:1: name: missing",
            "agent.yaml:1:1: version: missing"
        ]
    );
}

#[test]
fn values_that_could_be_misused_are_refused() {
    for more in [
        "rest: {entry: ../x:y}",
        "http_server: a/b:c",
        "ui: {path: .}",
        "ui: {path: /}",
        "ui: {path: ''}",
        "ui: {path: ../x}",
        "ui: {path: ./}",
        "ui: {path: /srv}",
        "mcp: {config_file: /etc/passwd}",
        "metadata: {version: ../../x}",
        "environment: {A=B: x}",
        "environment: {'': x}",
        "environment: {A: \"a\\0b\"}",
        "environment: {A B: x}",
        "exports: [{name: 'a/b'}]",
        "exports: [{name: ''}]",
        "exports: [{name: a}, {name: a}]",
        "exports: [{name: a, handler: ../x:y}]",
        "runtime: {python: banana}",
    ] {
        problem_with(more);
    }
    for name in ["../x", "/x", "A", "1a", "a_b", "a b", "''"] {
        problem(&format!("name: {name}\nversion: 1\nentrypoint: a:b\n"));
    }
}

#[test]
fn a_key_twice_is_refused_with_both_places() {
    assert_eq!(
        problem_with("name: other\n"),
        "agent.yaml:4:1: `name` is already there at 1:1"
    );
}

#[test]
fn tags_that_make_objects_are_refused() {
    let message = problem_with("description: !!python/object/apply:os.system [x]\n");
    assert_eq!(
        message,
        "agent.yaml:4:14: the tag `python/object/apply:os.system` is not allowed"
    );
    problem_with("description: !Custom x\n");
    assert_eq!(
        with("description: !!str 1").description.as_deref(),
        Some("1")
    );
}

#[test]
fn aliases_and_merge_keys_are_understood() {
    let manifest = with(
        "base: &base {A: '1', B: '2'}\nenvironment: {<<: *base, B: own}\nauthor: &me me\nlicense: *me\n",
    );
    assert_eq!(
        manifest.environment.iter().collect::<Vec<_>>(),
        [("B", "own"), ("A", "1")]
    );
    assert_eq!(manifest.license.as_deref(), Some("me"));
    problem_with("x: {<<: 3}\n");
    problem_with("x: &x [*x]\n");
    problem_with("x: *unknown\n");
}

#[test]
fn an_alias_bomb_is_refused() {
    let mut bomb = "a0: &a0 [lol,lol,lol,lol,lol,lol,lol,lol,lol]\n".to_owned();
    for level in 1..30 {
        let below = level - 1;
        writeln!(
            bomb,
            "a{level}: &a{level} [*a{below},*a{below},*a{below},*a{below},*a{below},*a{below}]"
        )
        .expect("a string");
    }
    assert!(problem_with(&bomb).contains("aliases repeat more than"));
    let long = format!(
        "x: &x '{}'\ny: [{}]\n",
        "x".repeat(100_000),
        "*x,".repeat(1000)
    );
    assert!(problem_with(&long).contains("aliases repeat more than"));
}

#[test]
fn depth_is_bounded_however_it_is_written() {
    let flow = format!("x: {}{}\n", "[".repeat(100_000), "]".repeat(100_000));
    let block = (0..1000).fold(String::new(), |text, depth| {
        format!("{text}{}x:\n", " ".repeat(depth))
    });
    let sequence = format!("x:\n{}\n", "- ".repeat(100_000));
    let alias = (1..200).fold("a0: &a0 [1]\n".to_owned(), |text, level| {
        format!("{text}a{level}: &a{level} [*a{}]\n", level - 1)
    });
    for text in [flow, format!("x:\n{block}"), sequence, alias] {
        problem_with(&text);
    }
}

#[test]
fn more_than_one_document_is_refused() {
    assert!(problem_with("---\nname: b\n").contains("a second document begins"));
    parse(&format!("---\n{MANIFEST}...\n"));
}

#[test]
fn files_of_other_systems_are_read() {
    let windows = format!("\u{feff}{}", MANIFEST.replace('\n', "\r\n"));
    assert_eq!(parse(&windows).label(), "hello@0.1.0");
    let utf16: Vec<u8> = format!("\u{feff}{MANIFEST}")
        .encode_utf16()
        .flat_map(u16::to_le_bytes)
        .collect();
    let manifest = Manifest::parse(&utf16, &Limits::default()).expect("UTF-16 with its mark");
    assert_eq!(manifest.label(), "hello@0.1.0");
    let problems = Manifest::parse(b"name: \xff", &Limits::default()).expect_err("not text");
    assert_eq!(
        problems.to_string(),
        "agent.yaml: not UTF-8: line 1 has a byte that belongs to no character"
    );
    assert_eq!(problem(""), "agent.yaml:1:1: the document is empty");
}

#[test]
fn values_of_variables_are_not_in_debug_output() {
    let manifest = with("environment: {TOKEN: s3cret}");
    let shown = format!("{manifest:?}");
    assert!(
        shown.contains("TOKEN") && !shown.contains("s3cret"),
        "{shown}"
    );
}

#[test]
fn a_million_mistakes_are_reported_by_the_first_fifty() {
    let many = "{},".repeat(200_000);
    assert_eq!(
        problems(&format!("{MANIFEST}exports: [{many}]\n")).len(),
        50
    );
    let lines = "-\n".repeat(400_000);
    let bench = crate::Bench::new();
    let error = bench
        .admit(&crate::package(&[("requirements.txt", &lines)]))
        .expect_err("no requirements");
    assert!(error.to_string().len() < 10_000);
}

proptest! {
    #[test]
    fn any_text_is_understood_or_refused_with_a_place(text in "[a-z:\\[\\]{}&*#|>'\"! \n-]{0,80}") {
        if let Err(problems) = Manifest::parse(text.as_bytes(), &Limits::default()) {
            prop_assert!(!problems.0.is_empty());
            prop_assert!(problems.0.iter().all(|problem| problem.place.starts_with("agent.yaml")));
        }
    }

    #[test]
    fn environment_values_come_back_as_they_were_written(values in prop::collection::btree_map("[A-Z_]{1,8}", "[^\0]{0,40}", 0..5)) {
        let json = serde_json::to_string(&values).expect("maps of text are JSON");
        let manifest = with(&format!("environment: {json}\n"));
        let read: std::collections::BTreeMap<_, _> =
            manifest.environment.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        prop_assert_eq!(read, values);
    }
}
