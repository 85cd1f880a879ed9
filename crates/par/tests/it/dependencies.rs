//! Requirements are installed once for all who ask for the same, and what cannot be had is named. Needs an index.

use par_testkit::PackageBuilder;
use serde_json::json;

use crate::scene::Scene;

const USES_SIX: &str =
    "import six\ndef handler(body):\n    return [six.__version__, six.__file__]\n";

#[test]
fn agents_that_require_the_same_share_one_environment_and_an_unknown_package_is_named() {
    let scene = Scene::start();
    let with = |name: &str, requirement: &str| {
        PackageBuilder::new(name)
            .main(USES_SIX)
            .file("requirements.txt", requirement)
    };
    scene.spawn(&with("first", "six==1.16.0\n"), &json!({}));
    scene.spawn(&with("second", "# the same\nsix == 1.16.0\n"), &json!({}));
    scene.spawn(
        &with("hopeless", "no-such-package-of-par-tests==1.0\n"),
        &json!({}),
    );
    let [first, second] = ["first", "second"].map(|name| {
        scene.wait_until(name, "running");
        scene.call(name, &json!({})).json()
    });
    assert_eq!(first[0], "1.16.0");
    assert_eq!(first, second, "one file for both");
    let hopeless = scene.wait_until("hopeless", "failed");
    let error = hopeless["error"].as_str().unwrap_or_default();
    assert!(error.contains("no-such-package-of-par-tests"), "{hopeless}");
    scene.wait_for_log("hopeless", "no-such-package-of-par-tests");
    let environments = scene.system.state().join("environments/2");
    let kept = std::fs::read_dir(environments).expect("a folder");
    let kept = kept.filter(|entry| entry.as_ref().is_ok_and(|entry| entry.path().is_dir()));
    assert_eq!(kept.count(), 1, "what could not be installed is not kept");
}
