//! Which layer wins, and what no layer may set.

use std::collections::BTreeMap;

use par_package::agent_environment;
use proptest::prelude::*;

use crate::{Bench, MANIFEST, with_manifest};

type Map = BTreeMap<String, String>;

fn map(pairs: &[(&str, &str)]) -> Map {
    pairs
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

struct Case {
    dotenv: &'static str,
    manifest: String,
    deploy: &'static str,
    deployer: Map,
}

impl Case {
    fn of_manifest(environment: &str) -> Self {
        Self {
            dotenv: "",
            manifest: environment.to_owned(),
            deploy: "{}",
            deployer: Map::new(),
        }
    }

    fn environment(&self) -> (Map, Vec<String>) {
        let bench = Bench::new();
        let manifest = format!("{MANIFEST}environment: {}\n", self.manifest);
        let bytes = with_manifest(
            &manifest,
            &[(".env", self.dotenv), ("deploy.json", self.deploy)],
        );
        let package = bench.admit(&bytes).expect("a good package");
        agent_environment(
            &package,
            &self.deployer,
            &map(&[("A2A_PORT", "18001"), ("PAR_AGENT_ID", "hello")]),
        )
    }
}

#[test]
fn a_higher_layer_wins_and_the_runtime_wins_over_all() {
    let case = Case {
        dotenv: "A=env\nB=env\nC=env\nD=env",
        manifest: "{B: yaml, C: yaml, D: yaml}".to_owned(),
        deploy: r#"{"environment": {"C": "deploy", "D": "deploy"}}"#,
        deployer: map(&[("D", "deployer"), ("PAR_AGENT_ID", "other")]),
    };
    let (all, warnings) = case.environment();
    let expected = map(&[
        ("A", "env"),
        ("B", "yaml"),
        ("C", "deploy"),
        ("D", "deployer"),
        ("A2A_PORT", "18001"),
        ("PAR_AGENT_ID", "hello"),
    ]);
    assert_eq!(all, expected);
    assert_eq!(
        warnings,
        ["the deployment: `PAR_AGENT_ID` is set by the runtime alone; ignored"]
    );
}

#[test]
fn references_reach_lower_layers_earlier_variables_and_the_runtime() {
    let case = Case {
        dotenv: "HOST=h\nRAW=${HOST}",
        manifest: "{URL: 'http://${HOST}:${A2A_PORT}', AGAIN: '<${URL}>', HOST: '${HOST:-x}2', D: '${NO:-d}'}".to_owned(),
        deploy: r#"{"environment": {"E": "${D}${HOST}"}}"#,
        deployer: map(&[("F", "${HOST}")]),
    };
    let (all, warnings) = case.environment();
    for (name, value) in [
        ("RAW", "${HOST}"),
        ("URL", "http://h:18001"),
        ("AGAIN", "<http://h:18001>"),
        ("HOST", "h2"),
        ("D", "d"),
        ("E", "dh2"),
        ("F", "${HOST}"),
    ] {
        assert_eq!(all[name], value, "{name}");
    }
    assert_eq!(warnings, [] as [&str; 0]);
}

#[test]
fn a_reference_to_nothing_is_empty_and_warned_about() {
    let (all, warnings) = Case::of_manifest("{A: 'x${NOPE}y'}").environment();
    assert_eq!(all["A"], "xy");
    assert_eq!(
        warnings,
        ["agent.yaml: `A` refers to `NOPE`, which is not set"]
    );
}

#[test]
fn names_that_change_what_runs_are_ignored_in_every_layer() {
    let names = [
        "PAR_PORT",
        "A2A_PORT",
        "LD_PRELOAD",
        "PYTHONPATH",
        "PYTHONUNBUFFERED",
        "PATH",
    ];
    let given: Vec<(&str, &str)> = names.iter().map(|name| (*name, "evil")).collect();
    let case = Case {
        dotenv: "PAR_PORT=evil\nA2A_PORT=evil\nLD_PRELOAD=evil\nPYTHONPATH=evil\nPYTHONUNBUFFERED=evil\nPATH=evil",
        manifest: "{PAR_PORT: evil, A2A_PORT: evil, LD_PRELOAD: evil, PYTHONPATH: evil, PYTHONUNBUFFERED: evil, PATH: evil}".to_owned(),
        deploy: r#"{"environment": {"PAR_PORT": "evil", "A2A_PORT": "evil", "LD_PRELOAD": "evil", "PYTHONPATH": "evil", "PYTHONUNBUFFERED": "evil", "PATH": "evil"}}"#,
        deployer: map(&given),
    };
    let (all, warnings) = case.environment();
    assert!(!all.values().any(|value| value == "evil"), "{all:?}");
    assert_eq!(warnings.len(), 4 * names.len());
    assert!(
        warnings.contains(&".env: `LD_PRELOAD` is set by the runtime alone; ignored".to_owned())
    );
}

#[test]
fn values_are_data_and_never_shell_text() {
    let (all, _) =
        Case::of_manifest(r#"{X: "$(touch /x)", Y: "a; b #", Z: "line1\nline2", W: "`id` $HOME"}"#)
            .environment();
    assert_eq!(
        [&all["X"], &all["Y"], &all["Z"], &all["W"]],
        ["$(touch /x)", "a; b #", "line1\nline2", "`id` $HOME"]
    );
}

#[test]
fn variables_that_double_each_other_stay_bounded() {
    let doubling: Vec<String> = (1..200)
        .map(|n| format!("V{n}: '${{V{}}}${{V{}}}'", n - 1, n - 1))
        .collect();
    let (all, warnings) =
        Case::of_manifest(&format!("{{V0: 'xxxxxxxx', {}}}", doubling.join(", "))).environment();
    let bytes: usize = all
        .iter()
        .map(|(name, value)| name.len() + value.len())
        .sum();
    assert!(bytes <= 1 << 20, "{bytes}");
    assert!(warnings.iter().any(|warning| warning.contains("ignored")));
}

#[test]
fn an_environment_that_no_process_could_have_is_cut_where_it_is_full() {
    let copies: Vec<String> = (0..50).map(|n| format!("C{n}: '${{V}}'")).collect();
    let manifest = format!("{{V: '{}', {}}}", "x".repeat(100_000), copies.join(", "));
    let (all, warnings) = Case::of_manifest(&manifest).environment();
    let copied = (0..50)
        .filter(|n| all.contains_key(&format!("C{n}")))
        .count();
    assert_eq!((copied, warnings.len()), (9, 41));
}

#[test]
fn a_reference_sees_the_value_that_the_runtime_will_set() {
    let bench = Bench::new();
    let manifest = format!("{MANIFEST}environment: {{CACHE: '${{HOME}}/cache'}}\n");
    let bytes = with_manifest(&manifest, &[(".env", "HOME=/elsewhere")]);
    let package = bench.admit(&bytes).expect("a good package");
    let (all, _) = agent_environment(&package, &Map::new(), &map(&[("HOME", "/own")]));
    assert_eq!([&all["HOME"], &all["CACHE"]], ["/own", "/own/cache"]);
}

#[test]
fn what_no_process_could_have_is_ignored_when_it_is_deployed() {
    let mut case = Case::of_manifest("{}");
    case.deployer = map(&[("A=B", "x"), ("", "x"), ("N", "a\0b"), ("OK", "x")]);
    let (all, warnings) = case.environment();
    assert_eq!(
        all.keys().collect::<Vec<_>>(),
        ["A2A_PORT", "OK", "PAR_AGENT_ID"]
    );
    assert_eq!(warnings.len(), 3);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn every_variable_comes_from_the_highest_layer_that_sets_it(
        low in prop::collection::btree_map("[A-D]", "[a-z]{0,3}", 0..4),
        high in prop::collection::btree_map("[A-D]", "[a-z]{0,3}", 0..4),
    ) {
        let mut case = Case::of_manifest(&serde_json::to_string(&low).expect("JSON"));
        case.deployer = high.clone();
        let (mut all, _) = case.environment();
        all.retain(|name, _| name.len() == 1);
        let mut expected = low;
        expected.extend(high);
        prop_assert_eq!(all, expected);
    }
}
