use proptest::prelude::*;

use super::*;

fn normal(text: &str) -> String {
    let requirement: Requirement = text
        .parse()
        .unwrap_or_else(|error| panic!("{text}: {error}"));
    requirement.to_string()
}

fn from_files(
    requirements: Option<&str>,
    pyproject: Option<&str>,
) -> (Requirements, Vec<Problem>, Vec<String>) {
    let papers = Papers {
        requirements: requirements.map(|text| text.as_bytes().to_vec()),
        pyproject: pyproject.map(|text| text.as_bytes().to_vec()),
        ..Papers::default()
    };
    let (mut problems, mut warnings) = (vec![], vec![]);
    let requirements = Requirements::gather(&papers, None, &mut problems, &mut warnings);
    (requirements, problems, warnings)
}

#[test]
fn requirements_have_one_normal_form() {
    for (text, expected) in [
        ("requests", "requests"),
        ("Foo_Bar.baz", "foo-bar-baz"),
        ("a >= 1.0 , < 2", "a<2,>=1.0"),
        ("a (>=1.0)", "a>=1.0"),
        ("a[Z, y_x,z]==1.*", "a[y-x,z]==1.*"),
        ("a ~=1.4.2,!=1.5", "a!=1.5,~=1.4.2"),
        ("a===1!2.0+local", "a===1!2.0+local"),
        ("a;python_version<'3.11'", "a ; python_version < \"3.11\""),
        (
            "a>1 ; (os_name == \"posix\" or extra == 'x') and 'linux' not in sys_platform",
            "a>1 ; ( os_name == \"posix\" or extra == \"x\" ) and \"linux\" not in sys_platform",
        ),
    ] {
        assert_eq!(normal(text), expected, "{text}");
    }
}

#[test]
fn options_are_refused() {
    for text in [
        "--index-url http://x/simple",
        "-e .",
        "-r other.txt",
        "-c c.txt",
        "--pre",
        "a==1 --hash=sha256:00",
    ] {
        assert!(
            matches!(
                text.parse::<Requirement>(),
                Err(InvalidRequirement::PipOption(_))
            ),
            "{text}"
        );
    }
}

#[test]
fn places_to_fetch_from_are_refused() {
    for text in [
        "a @ https://x/a.whl",
        "a@file:///x",
        "./a",
        "/a",
        "../a",
        "a/b",
        "https://x/a",
        "git+ssh://x",
        "a.whl",
        "a-1.tar.gz",
        "a>=1.zip,<2",
        "$HOME",
        "~/a",
        r"a\b",
    ] {
        assert!(
            matches!(
                text.parse::<Requirement>(),
                Err(InvalidRequirement::Place(_))
            ),
            "{text}"
        );
    }
}

#[test]
fn what_is_no_requirement_is_refused() {
    for text in [
        "",
        "=1",
        "a b",
        "a==",
        "a=1",
        "a[",
        "a[x",
        "a[x y]",
        "a>=1,,<2",
        "a;",
        "a;x",
        "a; python_version",
        "a; (os_name=='x'",
        "é",
    ] {
        assert!(text.parse::<Requirement>().is_err(), "{text}");
    }
}

#[test]
fn a_file_is_read_with_comments_and_continuations() {
    let (requirements, problems, _) = from_files(
        Some("# all\r\n\nB==1 # why\na>=1, \\\n  <2\na<2,>=1\nb==1\n"),
        None,
    );
    assert_eq!(problems, []);
    assert_eq!(requirements.text(), "a<2,>=1\nb==1\n");
}

#[test]
fn every_bad_line_is_named() {
    let (_, problems, _) = from_files(Some("a\n--index-url x\nb \\\n==\n"), None);
    let places: Vec<_> = problems
        .iter()
        .map(|problem| problem.place.as_str())
        .collect();
    assert_eq!(places, ["requirements.txt:2", "requirements.txt:3"]);
}

#[test]
fn pyproject_is_read_when_there_is_no_requirements_file() {
    let pyproject =
        "[project]\nname = \"x\"\ndependencies = [\n  \"b>=1\",\n  \"c @ https://x\",\n]\n";
    let (requirements, problems, _) = from_files(None, Some(pyproject));
    assert_eq!(requirements.text(), "b>=1\n");
    assert_eq!(problems[0].place, "pyproject.toml:5");
    let (requirements, problems, _) = from_files(Some("a\n"), Some(pyproject));
    assert_eq!((requirements.text().as_str(), problems.len()), ("a\n", 0));
}

#[test]
fn dynamic_dependencies_are_warned_about() {
    let (_, problems, warnings) = from_files(None, Some("[project]\ndynamic = [\"dependencies\"]"));
    assert_eq!((problems.len(), warnings.len()), (0, 1));
    let (_, problems, _) = from_files(None, Some("[project\n"));
    assert_eq!(problems[0].place, "pyproject.toml:1");
}

#[test]
fn the_key_depends_on_what_is_asked_for_and_on_the_interpreter() {
    let python = |path: &str, minor| Interpreter {
        path: path.into(),
        version: (3, minor, 0),
        implementation: "cpython".to_owned(),
    };
    let (one, ..) = from_files(Some("a\nB==1"), None);
    let (same, ..) = from_files(Some("b == 1\nA"), None);
    let (other, ..) = from_files(Some("a\nb==2"), None);
    let base = one.key(&python("/usr/bin/python3", 11));
    assert_eq!(base, same.key(&python("/usr/bin/python3", 11)));
    assert_ne!(base, other.key(&python("/usr/bin/python3", 11)));
    assert_ne!(base, one.key(&python("/usr/bin/python3", 12)));
    assert_ne!(base, one.key(&python("/opt/python3", 11)));
    assert_eq!(base.as_str().len(), 64);
}

proptest! {
    #[test]
    fn the_normal_form_is_a_requirement_and_its_own_normal_form(
        text in "[A-Za-z0-9._-]{1,8}(\\[[a-z, ]{0,6}\\])? ?((==|>=|<|~=)[0-9.]{1,4},?){0,2}( ?; ?(python_version|os_name) ?(<|==) ?['\"][0-9a-z]{0,3}['\"])?"
    ) {
        if let Ok(requirement) = text.parse::<Requirement>() {
            let again: Requirement = requirement.to_string().parse().expect("the normal form is valid");
            prop_assert_eq!(again, requirement);
        }
    }

    #[test]
    fn an_accepted_line_never_names_a_place_or_an_option(text in "[ -~\n\t]{0,40}") {
        if let Ok(requirement) = text.parse::<Requirement>() {
            let line = requirement.to_string();
            prop_assert!(!line.contains('\n') && !line.starts_with('-'));
            let what = line.split(';').next().unwrap_or_default();
            prop_assert!(!what.contains(['@', '/', '\\', '$', '#']), "{}", line);
        }
    }

    #[test]
    fn no_file_makes_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let papers = Papers { requirements: Some(bytes.clone()), ..Papers::default() };
        let _either_way_is_fine = Requirements::gather(&papers, None, &mut vec![], &mut vec![]);
        let papers = Papers { pyproject: Some(bytes), ..Papers::default() };
        let _either_way_is_fine = Requirements::gather(&papers, None, &mut vec![], &mut vec![]);
    }
}
