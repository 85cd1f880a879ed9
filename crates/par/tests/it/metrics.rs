//! Figures, as a real Prometheus reads them.

use std::io::Write as _;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use par_testkit::{Http, PackageBuilder, wait_for};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::grpc::{Client, Way};
use crate::scene::{PATIENCE, Scene};

const ECHO: &str = "def handler(x):\n    return x\n";
const BOOM: &str = "def handler(x):\n    1 / 0\n";

const ASGI: &str = r#"
async def app(scope, receive, send):
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"my own"})
"#;

/// Whether Debian's Prometheus is here; where it must be (`PAR_NEEDS_PROMETHEUS`), a test without it fails.
fn has_prometheus(test: &str) -> bool {
    let answers = |program| {
        let asked = Command::new(program).arg("--version").output();
        asked.is_ok_and(|output| output.status.success())
    };
    let has_it = answers("prometheus") && answers("promtool");
    let must = std::env::var_os("PAR_NEEDS_PROMETHEUS").is_some();
    assert!(
        has_it || !must,
        "prometheus and promtool are not on the PATH"
    );
    if !has_it {
        // Not by a macro that prints: what those say of a test that passes is never seen.
        let said = writeln!(
            std::io::stderr(),
            "SKIPPED {test}: prometheus and promtool are not on the PATH"
        );
        said.expect("standard error takes it");
    }
    has_it
}

/// The page at `path`, for one who asks for nothing special.
#[track_caller]
fn page(http: &Http, path: &str) -> String {
    let answer = http.get(path).expect("an answer");
    assert_eq!(answer.status, 200, "{}", answer.text());
    let kind = answer.header("content-type").expect("a content type");
    assert_eq!(kind, "text/plain; version=0.0.4; charset=utf-8");
    answer.text()
}

#[track_caller]
fn wait_for_line(http: &Http, path: &str, line: &str) {
    let has_it = || {
        page(http, path)
            .lines()
            .any(|found| found == line)
            .then_some(())
    };
    wait_for(line, PATIENCE, has_it);
}

fn worker(scene: &Scene, agent: &str) -> Http {
    let port = scene.process(agent)["port"].as_u64().expect("a port");
    Http::new(&format!("http://127.0.0.1:{port}"))
}

/// Two calls that go well, one that fails, and one to nobody.
fn busy_scene() -> Scene {
    let scene = Scene::start();
    scene.agent("echo", ECHO);
    scene.agent("boom", BOOM);
    for _ in 0..2 {
        assert_eq!(scene.call("echo", &json!(1)).status, 200);
    }
    assert_eq!(scene.call("boom", &json!(1)).status, 500);
    assert_eq!(scene.call("ghost", &json!(1)).status, 404);
    scene
}

#[test]
fn the_supervisor_tells_what_it_and_its_agents_do() {
    let scene = busy_scene();
    for line in [
        r#"par_gateway_calls_total{agent="echo",surface="http",outcome="2xx"} 2"#,
        r#"par_gateway_calls_total{agent="boom",surface="http",outcome="5xx"} 1"#,
        r#"par_gateway_calls_total{agent="_unknown",surface="http",outcome="4xx"} 1"#,
        r#"http_server_request_duration_seconds_count{agent="echo"} 2"#,
        r#"par_agents{state="running"} 2"#,
        r#"par_agent_state{agent="echo",state="running"} 1"#,
        r#"par_agent_restarts_total{agent="echo"} 0"#,
        r#"par_gateway_replicas{agent="echo",role="ready"} 1"#,
        concat!(
            r#"par_build_info{version=""#,
            env!("CARGO_PKG_VERSION"),
            r#""} 1"#
        ),
    ] {
        wait_for_line(&scene.http(), "/metrics", line);
    }
    let text = page(&scene.http(), "/metrics");
    for beginning in [
        r#"par_agent_memory_rss_bytes{agent="echo"} "#,
        r#"par_agent_cpu_seconds_total{agent="echo",mode="user"} "#,
        r#"par_agent_threads{agent="echo"} "#,
        "process_resident_memory_bytes ",
        "process_cpu_seconds_total ",
    ] {
        assert!(
            text.lines().any(|line| line.starts_with(beginning)),
            "{text}"
        );
    }
}

#[test]
fn a_worker_tells_what_it_and_its_agent_do() {
    let scene = busy_scene();
    let worker = worker(&scene, "echo");
    let way = Way::Named {
        supervisor: scene.system.url().replace("http://", ""),
        agent: "echo".to_owned(),
    };
    let ping = Client::start().unary(&way, "pixell.agent.AgentService/Ping", &json!({}));
    assert!(ping["error"].is_null(), "{ping}");
    for path in ["/.par/metrics", "/metrics"] {
        for line in [
            r#"par_worker_calls_total{surface="invoke",outcome="2xx"} 2"#,
            r#"par_worker_calls_total{surface="grpc",outcome="OK"} 1"#,
            r#"http_server_request_duration_seconds_count{surface="invoke"} 2"#,
            "par_worker_calls_in_flight 0",
            "par_worker_calls_waiting 0",
        ] {
            wait_for_line(&worker, path, line);
        }
        let text = page(&worker, path);
        for beginning in [
            "par_agent_memory_rss_bytes ",
            r#"par_agent_cpu_seconds_total{mode="user"} "#,
            "process_resident_memory_bytes ",
        ] {
            assert!(
                text.lines().any(|line| line.starts_with(beginning)),
                "{text}"
            );
        }
    }
    wait_for_line(
        &scene.http(),
        "/agents/echo/.par/metrics",
        "par_worker_calls_in_flight 0",
    );
}

#[test]
fn an_agents_own_metrics_page_stays_its_own() {
    let scene = Scene::start();
    scene.asgi("mine", ASGI);
    let worker = worker(&scene, "mine");
    assert_eq!(worker.get("/metrics").expect("an answer").text(), "my own");
    let line = r#"par_worker_calls_total{surface="application",outcome="2xx"} 1"#;
    wait_for_line(&worker, "/.par/metrics", line);
}

#[test]
fn open_metrics_is_told_to_those_who_accept_it() {
    let scene = busy_scene();
    let accept = [(
        "accept",
        "application/openmetrics-text;version=1.0.0,text/plain;q=0.5",
    )];
    for (http, path) in [
        (scene.http(), "/metrics"),
        (worker(&scene, "echo"), "/.par/metrics"),
    ] {
        let answer = http.request("GET", path, &accept, b"").expect("an answer");
        let kind = answer.header("content-type").expect("a content type");
        assert!(
            kind.starts_with("application/openmetrics-text; version=1.0.0"),
            "{kind}"
        );
        assert!(answer.text().ends_with("# EOF\n"), "{}", answer.text());
    }
}

#[test]
fn promtool_finds_nothing_to_object_to() {
    if !has_prometheus("promtool_finds_nothing_to_object_to") {
        return;
    }
    let scene = busy_scene();
    for page in [
        page(&scene.http(), "/metrics"),
        page(&worker(&scene, "echo"), "/.par/metrics"),
    ] {
        let mut check = Command::new("promtool")
            .args(["check", "metrics"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("promtool starts");
        let mut stdin = check.stdin.take().expect("it was spawned with a pipe");
        stdin.write_all(page.as_bytes()).expect("it reads");
        drop(stdin);
        let said = check.wait_with_output().expect("it ends");
        let words = String::from_utf8_lossy(&said.stderr);
        assert!(said.status.success() && words.is_empty(), "{words}\n{page}");
    }
}

/// Ends with the test.
struct Prometheus {
    child: Child,
    http: Http,
    _folder: TempDir,
}

impl Prometheus {
    /// Looks at every target again and again.
    fn scraping(jobs: &[(&str, &str, &str)]) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let jobs = jobs.iter().map(|(name, address, path)| {
            format!(
                "  - job_name: {name}\n    metrics_path: {path}\n    static_configs: [{{targets: ['{address}']}}]\n"
            )
        });
        let config = format!(
            "global: {{scrape_interval: 200ms, scrape_timeout: 200ms}}\nscrape_configs:\n{}",
            jobs.collect::<String>()
        );
        let file = folder.path().join("prometheus.yml");
        std::fs::write(&file, config).expect("written");
        let (child, address) = Self::start(folder.path(), &file);
        Self {
            child,
            http: Http::new(&format!("http://{address}")),
            _folder: folder,
        }
    }

    fn start(folder: &Path, config: &Path) -> (Child, String) {
        // It cannot be given a socket: the port may be taken meanwhile, which the wait for its answer would show.
        let free = TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr());
        let address = free.expect("a free port").to_string();
        let child = Command::new("prometheus")
            .arg(format!("--config.file={}", config.display()))
            .arg(format!(
                "--storage.tsdb.path={}",
                folder.join("data").display()
            ))
            .arg(format!("--web.listen-address={address}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        (child.expect("prometheus starts"), address)
    }

    /// What a query that names a metric finds, each with its labels and its value.
    fn query(&self, query: &str) -> Vec<(Value, String)> {
        let Ok(answer) = self.http.get(&format!("/api/v1/query?query={query}")) else {
            return Vec::new(); // not up yet
        };
        let Ok(body) = serde_json::from_slice::<Value>(&answer.body) else {
            return Vec::new();
        };
        let found = body["data"]["result"].as_array().cloned();
        let found = found.unwrap_or_default().into_iter();
        found
            .map(|sample| {
                let value = sample["value"][1].as_str().unwrap_or_default().to_owned();
                (sample["metric"].clone(), value)
            })
            .collect()
    }

    /// Waits until a sample with these labels has the value.
    #[track_caller]
    fn wait_for(&self, query: &str, labels: &[(&str, &str)], value: &str) {
        let mut last = Vec::new();
        let look = || {
            last = self.query(query);
            let mut found = last.iter();
            let fits = |metric: &Value| labels.iter().all(|(name, value)| metric[*name] == *value);
            found
                .any(|(metric, found)| fits(metric) && found == value)
                .then_some(())
        };
        wait_for(&format!("{query} {labels:?} is {value}"), PATIENCE, look);
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        self.child.kill().expect("it is ours");
        self.child.wait().expect("it is ours");
    }
}

#[test]
fn a_prometheus_counts_the_calls_that_were_made() {
    if !has_prometheus("a_prometheus_counts_the_calls_that_were_made") {
        return;
    }
    let scene = busy_scene();
    let worker_port = scene.process("echo")["port"].clone();
    let supervisor = scene.system.url().replace("http://", "");
    let worker = format!("127.0.0.1:{worker_port}");
    let prometheus = Prometheus::scraping(&[
        ("supervisor", &supervisor, "/metrics"),
        ("worker", &worker, "/.par/metrics"),
    ]);
    prometheus.wait_for("up", &[("job", "supervisor")], "1");
    prometheus.wait_for("up", &[("job", "worker")], "1");
    for _ in 0..40 {
        assert_eq!(scene.call("echo", &json!(1)).status, 200);
    }
    let well = ("outcome", "2xx");
    prometheus.wait_for("par_gateway_calls_total", &[("agent", "echo"), well], "42");
    prometheus.wait_for(
        "par_worker_calls_total",
        &[("surface", "invoke"), well],
        "42",
    );
    let of_echo = [("job", "supervisor"), ("agent", "echo")];
    prometheus.wait_for("http_server_request_duration_seconds_count", &of_echo, "42");
    prometheus.wait_for(
        "par_gateway_calls_total",
        &[("agent", "boom"), ("outcome", "5xx")],
        "1",
    );
}

#[test]
fn agents_that_failed_are_on_the_page_too() {
    let scene = Scene::start();
    scene.spawn(&PackageBuilder::new("broken").main("1 / 0\n"), &json!({}));
    let line = r#"par_agent_state{agent="broken",state="failed"} 1"#;
    wait_for_line(&scene.http(), "/metrics", line);
    wait_for_line(&scene.http(), "/metrics", r#"par_agents{state="failed"} 1"#);
}
