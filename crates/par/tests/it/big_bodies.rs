//! Large bodies pass through the supervisor; they do not stay in it.

use crate::raw::Raw;
use crate::scene::Scene;

/// `PAR_TEST_BODY_MIB` asks for more.
const USUAL_MIB: u64 = 256;
const MOST_GROWTH: u64 = 30 << 20;

const APPLICATION: &str = r#"
PIECE = bytes(range(256)) * 1024

async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    received, more = 0, True
    while more:
        message = await receive()
        received += len(message.get("body", b""))
        more = message.get("more_body", False)
    headers = [(b"content-type", b"application/octet-stream")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    if scope["path"].endswith("/api/count"):
        return await send({"type": "http.response.body", "body": b"%d" % received})
    for _ in range(int(scope["query_string"]) * 4):
        await send({"type": "http.response.body", "body": PIECE, "more_body": True})
    await send({"type": "http.response.body"})
"#;

fn mebibytes() -> u64 {
    let asked = std::env::var("PAR_TEST_BODY_MIB").ok();
    asked
        .and_then(|text| text.parse().ok())
        .unwrap_or(USUAL_MIB)
}

/// The most memory that a process has had, from now on.
struct Peak {
    who: &'static str,
    pid: u32,
    before: u64,
}

impl Peak {
    fn begin(who: &'static str, pid: u32) -> Self {
        std::fs::write(format!("/proc/{pid}/clear_refs"), "5").expect("our own child");
        let before = resident_peak(pid);
        Self { who, pid, before }
    }

    #[track_caller]
    #[expect(clippy::print_stderr, reason = "a figure for whoever runs it by hand")]
    fn is_small(&self, what: &str) {
        let growth = resident_peak(self.pid).saturating_sub(self.before);
        eprintln!("{} grew by {} KiB for the {what}", self.who, growth >> 10);
        assert!(growth < MOST_GROWTH, "{} grew by {growth} bytes", self.who);
    }
}

fn resident_peak(pid: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes = line.and_then(|line| line.trim().strip_suffix(" kB"));
    let kilobytes: Option<u64> = kilobytes.and_then(|number| number.trim().parse().ok());
    kilobytes.expect("a number of kilobytes") << 10
}

#[test]
fn a_large_upload_and_a_large_answer_take_no_memory_of_the_supervisor() {
    let scene = Scene::start();
    scene.asgi("bulk", APPLICATION);
    let size = mebibytes() << 20;
    let processes = [
        ("supervisor", scene.system.pid()),
        ("worker", scene.pid("bulk", "pid")),
    ];

    let peaks = processes.map(|(who, pid)| Peak::begin(who, pid));
    assert_eq!(upload(&scene, size), size.to_string());
    peaks.iter().for_each(|peak| peak.is_small("upload"));

    let peaks = processes.map(|(who, pid)| Peak::begin(who, pid));
    assert_eq!(download(&scene, mebibytes()), size);
    peaks.iter().for_each(|peak| peak.is_small("answer"));
}

fn upload(scene: &Scene, size: u64) -> String {
    let mut raw = Raw::connect(scene.system.url());
    let length = format!("content-length: {size}");
    raw.send_head(
        "POST /agents/bulk/api/count",
        &["connection: close", &length],
    );
    let piece = vec![b'u'; 1 << 20];
    for _ in 0..size >> 20 {
        raw.send(&piece).expect("the agent reads");
    }
    let head = raw.head();
    assert_eq!(head[0], "HTTP/1.1 200 OK", "{head:?}");
    String::from_utf8(raw.body(&head)).expect("digits")
}

fn download(scene: &Scene, mebibytes: u64) -> u64 {
    let mut raw = Raw::connect(scene.system.url());
    let request = format!("GET /agents/bulk/api/send?{mebibytes}");
    raw.send_head(&request, &["connection: close"]);
    let head = raw.head();
    assert_eq!(head[0], "HTTP/1.1 200 OK", "{head:?}");
    assert!(
        head.contains(&"transfer-encoding: chunked".to_owned()),
        "{head:?}"
    );
    let mut total = 0;
    loop {
        let chunk = raw.chunk();
        if chunk.is_empty() {
            return total;
        }
        total += chunk.len() as u64;
    }
}
