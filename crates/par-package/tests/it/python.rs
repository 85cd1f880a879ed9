//! Which interpreter runs an agent, and how its dependencies are installed.

use std::path::Path;

use par_package::{Interpreter, Runtime, Sources, failure_reason, install_plan, site_packages};

fn python(minor: u8) -> Interpreter {
    Interpreter::parse(&format!(r#"{{"path": "/usr/bin/python3.{minor}", "version": [3, {minor}, 4], "implementation": "cpython"}}"#))
        .expect("a description")
}

/// What an interpreter of that minor version is told: `ok`, a warning, or a refusal.
fn verdict(runtime: &Runtime, minor: u8) -> String {
    match runtime.accepts(&python(minor)) {
        Ok(None) => "ok".to_owned(),
        Ok(Some(warning)) => format!("warning: {warning}"),
        Err(refusal) => format!("refused: {refusal}"),
    }
}

#[test]
fn the_same_minor_version_is_best_and_a_newer_one_will_do() {
    let runtime = Runtime::named("python3.11");
    assert_eq!(verdict(&runtime, 11), "ok");
    assert_eq!(
        verdict(&runtime, 12),
        "warning: runtime `python3.11` is asked for; running it on Python 3.12.4"
    );
    assert_eq!(
        verdict(&runtime, 10),
        "refused: runtime `python3.11` needs a newer Python than Python 3.10.4"
    );
    assert!(runtime.prefers(&python(11)) && !runtime.prefers(&python(12)));
}

#[test]
fn runtimes_that_are_not_python_are_refused_by_name() {
    for name in [
        "node18",
        "node20",
        "go1.21",
        "pythonista",
        "python2.7.x.y",
        "",
    ] {
        let message = verdict(&Runtime::named(name), 11);
        assert!(
            message.starts_with(&format!(
                "refused: runtime `{name}` is not supported on this machine"
            )),
            "{message}"
        );
    }
}

#[test]
fn ranges_of_versions_are_understood() {
    for (bounds, minor, expected) in [
        (">=3.8", 11, "ok"),
        (">=3.12", 11, "refused"),
        (">=3.8,<3.11", 11, "warning"),
        ("<=3.11", 11, "ok"),
        ("==3.11.*", 11, "ok"),
        ("~=3.9", 12, "ok"),
        ("3.9", 9, "ok"),
        (">=3.8, !=3.10", 11, "ok"),
    ] {
        let runtime = Runtime::of_language("python", bounds).expect(bounds);
        assert!(
            verdict(&runtime, minor).starts_with(expected),
            "{bounds} on 3.{minor}"
        );
    }
    for bad in ["", "banana", ">=x", "=>3.9", "3.9.1.2", "3.999"] {
        assert!(Runtime::of_language("python", bad).is_err(), "{bad}");
    }
    assert!(
        verdict(&Runtime::of_language("ruby", ">=3").expect("kept"), 11).starts_with("refused")
    );
}

#[test]
fn interpreters_that_cannot_run_the_harness_are_refused() {
    let any = Runtime::any_python();
    assert_eq!(verdict(&any, 9), "ok");
    assert!(verdict(&any, 8).starts_with("refused: agents need CPython 3.9"));
    let pypy = Interpreter {
        implementation: "pypy".to_owned(),
        ..python(11)
    };
    assert!(any.accepts(&pypy).is_err());
    assert!(Interpreter::parse("no json").is_err());
}

#[test]
fn an_environment_is_made_with_uv_when_it_is_there() {
    let target = Path::new("/envs/k");
    let commands = |uv: Option<&Path>| -> Vec<String> {
        let steps = install_plan(&python(11), uv, target, Sources::Built);
        steps
            .iter()
            .map(|step| {
                step.argv
                    .join(std::ffi::OsStr::new(" "))
                    .into_string()
                    .expect("UTF-8")
            })
            .collect()
    };
    assert_eq!(
        commands(Some(Path::new("/bin/uv"))),
        [
            "/bin/uv venv --quiet --no-project --allow-existing --python /usr/bin/python3.11 /envs/k",
            "/bin/uv pip install --python /envs/k/bin/python --requirement /envs/k/requirements.txt",
        ]
    );
    assert_eq!(
        commands(None),
        [
            "/usr/bin/python3.11 -I -m venv /envs/k",
            "/envs/k/bin/python -I -m pip install --no-input --disable-pip-version-check --requirement /envs/k/requirements.txt",
        ]
    );
    assert_eq!(
        site_packages(target, &python(11)),
        Path::new("/envs/k/lib/python3.11/site-packages")
    );
}

#[test]
fn the_telling_line_of_an_installer_is_picked() {
    let pip = "Looking in indexes: x\nERROR: Could not find a version that satisfies the requirement nope==1.0 (from versions: none)\n\
        ERROR: No matching distribution found for nope==1.0\n\n[notice] A new release of pip is available\n";
    assert_eq!(
        failure_reason(pip),
        "No matching distribution found for nope==1.0"
    );
    let uv = "Using Python 3.11\n  × No solution found when resolving dependencies:\n  ╰─▶ Because nope was not found in the package registry and you require\n      nope==1.0, we can conclude that your requirements are unsatisfiable.\n";
    assert!(failure_reason(uv).contains("nope was not found in the package registry"));
    let plain =
        "  cause: Because nope was not found in the package registry, it is unsatisfiable.\n";
    assert!(failure_reason(plain).starts_with("Because nope"));
    assert_eq!(failure_reason("something\nlast words\n"), "last words");
    assert_eq!(failure_reason(""), "the installer said nothing");
}
