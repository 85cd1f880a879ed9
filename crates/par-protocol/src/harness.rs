//! The JSON inside frames. `python/par_harness` is the other speaker; its tests and the worker's hold both to it.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// What the harness loads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Load {
    pub agent_id: String,
    /// The unpacked package. `sys.path` gets it, `root/src` and `root/src/a2a`.
    pub root: PathBuf,
    /// Site-packages folders of the agent's dependency environment, none for a plain agent.
    pub site: Vec<PathBuf>,
    /// `module:function`, absent when only a surface is declared.
    pub entrypoint: Option<String>,
    pub exports: Vec<Export>,
    /// `module:function`, called as `mount(app: FastAPI)`.
    pub rest_entry: Option<String>,
    /// `module:app`, any ASGI application.
    pub asgi_app: Option<String>,
    /// `module:function`, a factory of gRPC handlers.
    pub a2a_service: Option<String>,
    /// Where the agent's own gRPC server listens, if it starts one.
    pub own_grpc_socket: Option<PathBuf>,
    /// Where the worker takes the agent's gRPC calls to other agents.
    pub grpc_door: Option<PathBuf>,
    /// Calls at one time, at most.
    pub concurrency: u32,
    /// Where compiled Python goes.
    pub bytecode: PathBuf,
    /// What the harness writes around that which a call printed: see [`output_mark`].
    pub mark: String,
}

/// In what the agent prints, the text from this mark on was printed by `call`, to the next mark; 0 is nobody in particular.
/// Whoever does not know `mark`, such as a program that the agent starts, cannot write in the name of a call by accident.
pub fn output_mark(mark: &str, call: u32) -> String {
    format!("{MARK_BEGIN}{mark}:{call}{MARK_END}")
}

pub const MARK_BEGIN: char = '\u{1e}';
pub const MARK_END: char = '\u{1f}';

/// An export: its own handler, or the entrypoint with `action` when it has none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Export {
    pub name: String,
    /// `module:attribute`
    pub handler: Option<String>,
    /// From `metadata.sub_agents`: a function of that name (`-` as `_`) in the entrypoint's module wins over `action`.
    pub sub_agent: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ready {
    pub adapter: Adapter,
    /// Every name that `/exports/{name}` answers.
    pub exports: Vec<String>,
    /// Every action that `pixell.agent.AgentService/Invoke` takes: the agent's own handlers, then its exports.
    #[serde(default)]
    pub actions: Vec<String>,
    /// Whether there is an ASGI application for the other paths.
    pub asgi: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Adapter {
    /// A class `PixellAdapter`.
    Class,
    /// `main()` with standard input and output, a process a call.
    Main,
    Function,
    /// No entrypoint: `/invoke` is not there.
    None,
}

/// The head of an HTTP request or WebSocket handshake; its body follows in chunks unless `end`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HttpRequest {
    pub websocket: bool,
    pub method: String,
    /// As it came, undecoded, without the query.
    pub raw_path: String,
    pub query: String,
    /// Under which path the application is reached from outside.
    pub root_path: String,
    pub scheme: String,
    /// Names in lowercase, in order, duplicates kept; values as Latin-1.
    pub headers: Vec<(String, String)>,
    pub client: Option<(String, u16)>,
    pub server: Option<(String, u16)>,
    /// There is no body.
    pub end: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum HttpResponse {
    Start {
        status: u16,
        headers: Vec<(String, String)>,
        /// Trailers will follow the body.
        trailers: bool,
    },
    Accept {
        subprotocol: Option<String>,
        headers: Vec<(String, String)>,
    },
    /// The application closes the WebSocket; before `Accept`, it refuses it.
    Close { code: u16, reason: String },
}

/// The other end of a WebSocket is gone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disconnect {
    pub code: u16,
    pub reason: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    pub kind: FailureKind,
    pub detail: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceback: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// The agent could not be loaded.
    Load,
    /// The body is not JSON, or not what the handler takes. The detail says where, or why.
    BadJson,
    /// The detail is the name that was asked for.
    UnknownExport,
    /// The handler raised.
    Raised,
    /// The answer is not JSON.
    NotJson,
    Cancelled,
    /// An outbound call could not be made.
    Unreachable,
}

/// A call to another agent: `POST /agents/{agent}{path}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outbound {
    pub agent: String,
    /// Such as `/exports/greet` or `/invoke`, percent-encoded.
    pub path: String,
    /// The call on whose behalf this one is made; 0 when there is none.
    pub parent: u32,
    pub timeout_seconds: Option<f64>,
}

/// What the agent's own gRPC server serves on its socket.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Serves {
    /// Full names, such as `shop.v1.Orders`.
    pub services: Vec<String>,
    /// `FileDescriptorProto` in base64, each after those that it needs.
    pub descriptors: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Log {
    /// `DEBUG`, `INFO`, `WARNING`, `ERROR` or `CRITICAL`.
    pub level: String,
    pub message: String,
}
