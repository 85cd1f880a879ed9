//! The supervisor over TLS, as its commands see it: certificates that change, and callers that have their own.

use std::fs;
use std::path::{Path, PathBuf};

use par_testkit::{PackageBuilder, wait_for};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

use crate::ran::{Ran, par_in};
use crate::scene::{PATIENCE, Scene};

const ECHO: &str = "def handler(body):\n    return {'got': body}\n";

/// Whose certificate is in `<name>-ca.pem`, and who writes more below it.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    ca: PathBuf,
}

impl Authority {
    fn new(folder: &Path, name: &str) -> Self {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(vec![]).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = folder.join(format!("{name}-ca.pem"));
        let certificate = params.self_signed(&key).expect("a certificate");
        fs::write(&ca, certificate.pem()).expect("written");
        Self {
            issuer: Issuer::new(params, key),
            ca,
        }
    }

    /// Certificate and key for `subject`, in `<file>.pem` and `<file>-key.pem`.
    fn issue(&self, folder: &Path, file: &str, subject: &str) -> [PathBuf; 2] {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(vec![subject.to_owned()]).expect("a name");
        let certificate = params.signed_by(&key, &self.issuer).expect("signed");
        let paths = [".pem", "-key.pem"].map(|end| folder.join(format!("{file}{end}")));
        fs::write(&paths[0], certificate.pem()).expect("written");
        fs::write(&paths[1], key.serialize_pem()).expect("written");
        paths
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("plain")
}

fn par(scene: &Scene, trust: &[&str], words: &[&str]) -> Ran {
    let all = [&["--json", "--url", scene.system.url()], trust, words].concat();
    par_in(scene.folder(), all, "")
}

#[test]
fn commands_and_upgrades_work_over_tls_and_certificates_change_while_it_serves() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (before, after) = (
        Authority::new(folder.path(), "before"),
        Authority::new(folder.path(), "after"),
    );
    let [cert, key] = before.issue(folder.path(), "server", "127.0.0.1");
    let arguments = ["--tls-cert", text(&cert), "--tls-key", text(&key)];
    let mut scene = Scene::with(|builder| builder.lasting(30.0).arguments(arguments));
    assert!(scene.system.url().starts_with("https://127.0.0.1:"));
    let (old, new) = (["--ca", text(&before.ca)], ["--ca", text(&after.ca)]);
    PackageBuilder::new("echo")
        .main(ECHO)
        .folder(scene.folder())
        .expect("written");
    par(&scene, &old, &["deploy", "echo"]).ended_with(0);
    let call = |scene: &Scene, trust: &[&str]| par(scene, trust, &["call", "echo", r#"{"n":1}"#]);
    assert!(call(&scene, &old).ended_with(0).stdout.contains("\"n\""));
    let mistrusted = par(&scene, &[], &["ps"]).ended_with(3);
    assert!(
        mistrusted.stderr.contains("UnknownIssuer"),
        "{mistrusted:?}"
    );
    let upgraded = par(&scene, &old, &["upgrade"]).ended_with(0).json();
    let pid = upgraded["pid"].as_u64().expect("a process id");
    let pid = u32::try_from(pid).expect("a process id");
    scene.system.handed_over(pid);
    call(&scene, &old).ended_with(0);
    after.issue(folder.path(), "server", "127.0.0.1");
    wait_for("the new certificate", PATIENCE, || {
        (call(&scene, &new).code == 0).then_some(())
    });
    call(&scene, &old).ended_with(3);
    fs::write(&cert, "no certificate").expect("written");
    let problem = || {
        let status = par(&scene, &new, &["ps"]).ended_with(0).json();
        let problem = status["tls"]["problem"].as_str();
        problem.map(str::to_owned)
    };
    let problem = wait_for("the word on it", PATIENCE, problem);
    assert!(problem.contains("server.pem"), "{problem}");
    call(&scene, &new).ended_with(0);
}

#[test]
fn who_has_no_certificate_is_not_let_in_when_they_are_asked_for() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let authority = Authority::new(folder.path(), "our");
    let stranger = Authority::new(folder.path(), "strange");
    let [cert, key] = authority.issue(folder.path(), "server", "127.0.0.1");
    let arguments = [
        "--tls-cert",
        text(&cert),
        "--tls-key",
        text(&key),
        "--tls-client-ca",
        text(&authority.ca),
    ];
    let scene = Scene::with(|builder| builder.arguments(arguments));
    let ca = ["--ca", text(&authority.ca)];
    let [cert, key] = authority.issue(folder.path(), "caller", "caller.example");
    let known = [
        &ca[..],
        &["--client-cert", text(&cert), "--client-key", text(&key)],
    ]
    .concat();
    par(&scene, &known, &["ps"]).ended_with(0);
    let [cert, key] = stranger.issue(folder.path(), "stranger", "caller.example");
    let unknown = [
        &ca[..],
        &["--client-cert", text(&cert), "--client-key", text(&key)],
    ]
    .concat();
    for trust in [&ca[..], &unknown] {
        assert_ne!(par(&scene, trust, &["ps"]).code, 0, "{trust:?}");
    }
}

#[test]
fn files_that_cannot_be_used_start_nothing_and_are_told_all_at_once() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let config = folder.path().join("par.toml");
    for (text, said) in [
        ("[tls]\ncert = 'gone.pem'\nkey = 'gone.key'\n", "gone.pem"),
        (
            "[tls]\ncert = 'gone.pem'\n",
            "a certificate needs its `key`",
        ),
        (
            "[tls]\nclient_ca = 'ca.pem'\n",
            "TLS needs a `cert` and a `key`",
        ),
        (
            "[tls]\ncert = 'a'\nkey = 'b'\nclient_auth = 'required'\n",
            "`client_ca`",
        ),
        (
            "[tls]\nclient_auth = 'perhaps'\n",
            "none, optional or required",
        ),
        (
            "[tls]\ncertificate = 'a'\n",
            "`certificate` is not known here",
        ),
        ("[door]\nconnections = 0\n", "from 1 to"),
        ("[door]\nhosts = ['a:1']\n", "is not a host name"),
        ("[door]\norigins = ['a']\n", "is no origin"),
    ] {
        fs::write(&config, format!("port = 70000\n{text}")).expect("written");
        let ran = par_in(folder.path(), ["up", "--state", "state"], "").ended_with(2);
        assert!(
            ran.stderr.contains(said) && ran.stderr.contains("par.toml:1:"),
            "{text}: {ran:?}"
        );
        assert!(!folder.path().join("state").exists());
    }
}
