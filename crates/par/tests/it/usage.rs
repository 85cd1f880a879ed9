//! Words that are understood, and words that are not.

use crate::ran::{par, par_in};

const COMMANDS: [&str; 19] = [
    "up",
    "demo",
    "deploy",
    "ps",
    "call",
    "exec",
    "logs",
    "events",
    "stop",
    "start",
    "restart",
    "rm",
    "inspect",
    "build",
    "init",
    "run",
    "doctor",
    "completions",
    "help",
];

#[test]
fn help_names_every_command_in_one_sentence_and_every_exit_code() {
    let help = par(["--help"]).ended_with(0).stdout;
    for command in COMMANDS {
        let line = help
            .lines()
            .find(|line| line.trim_start().starts_with(&format!("{command} ")));
        assert!(line.is_some(), "{command} is missing in\n{help}");
    }
    for code in 0..=6 {
        assert!(
            help.contains(&format!("\n  {code}  ")),
            "{code} is missing in\n{help}"
        );
    }
    assert!(
        !help.contains("__confine"),
        "what is not for people is not shown"
    );
}

#[test]
fn help_of_every_command_has_an_example() {
    for command in COMMANDS.iter().filter(|command| **command != "help") {
        let help = par([command, "--help"]).ended_with(0).stdout;
        assert!(help.contains("Examples:\n"), "{help}");
        let example = format!("\n  par {command}");
        assert!(help.contains(&example), "{help}");
    }
}

#[test]
fn no_line_of_a_short_help_is_wider_than_100_columns() {
    for command in COMMANDS.iter().filter(|command| **command != "help") {
        let help = par([command, "-h"]).ended_with(0).stdout;
        let widest = help
            .lines()
            .max_by_key(|line| line.chars().count())
            .unwrap_or("");
        assert!(widest.chars().count() <= 100, "{widest}");
    }
}

#[test]
fn wrong_usage_ends_with_2_and_says_what_is_wrong() {
    for (words, said) in [
        (&["frobnicate"][..], "frobnicate"),
        (&["deploy"], "FILE|FOLDER"),
        (&["deploy", "x", "--env", "novalue"], "KEY=VALUE"),
        (&["deploy", "x", "--name", "Not An Id"], "lowercase"),
        (&["deploy", "x", "--restart", "often"], "on-failure"),
        (&["deploy", "x", "--memory", "1"], "16"),
        (
            &["deploy", "x", "--priority", "urgent"],
            "low, normal, high",
        ),
        (&["up", "--limits-by", "hope"], "cgroup1"),
        (&["stop"], "AGENT"),
        (&["exec"], "AGENT"),
        (&["exec", "x", "-c", "1", "--timeout", "0"], "above 0"),
        (&["exec", "x", "-c", "1", "--session", "a/b"], "letters"),
        (&["exec", "x", "file.py", "-c", "1"], "cannot be used with"),
        (&["logs", "--level", "loud"], "debug, info, warning"),
        (&["ps", "--url", "ftp://host"], "http://"),
        (&["ps", "--url", "localhost"], "http://127.0.0.1:8000"),
        (&["up", "--port", "70000"], "70000"),
        (
            &["up", "--host", "nowhere", "--agent-ports", "9-8"],
            "--agent-ports",
        ),
        (&["completions", "cobol"], "bash"),
    ] {
        let ran = par(words).ended_with(2);
        assert!(ran.stderr.contains(said), "{words:?} said {}", ran.stderr);
        assert_eq!(ran.stdout, "", "{words:?}");
    }
}

#[test]
fn a_body_that_is_not_json_is_told_before_anybody_is_asked() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    std::fs::write(folder.path().join("broken.json"), "{\"a\": ").expect("written");
    for (body, input) in [("{broken", ""), ("@broken.json", ""), ("-", "no json")] {
        let ran = par_in(folder.path(), ["call", "hello", body], input).ended_with(2);
        assert!(ran.stderr.contains("is not JSON"), "{}", ran.stderr);
        assert!(ran.stderr.contains("line 1 column"), "{}", ran.stderr);
    }
}

#[test]
fn every_shell_gets_completions() {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let ran = par(["completions", shell]).ended_with(0);
        assert!(ran.stdout.contains("deploy"), "{shell}");
    }
}

#[test]
fn a_pipe_gets_no_colours() {
    for words in [
        &["--help"][..],
        &["ps", "--url", "http://127.0.0.1:1"],
        &["doctor"],
    ] {
        let ran = par(words);
        assert!(
            !ran.stdout.contains('\x1b') && !ran.stderr.contains('\x1b'),
            "{ran:?}"
        );
    }
}
