//! From `pixell/agent.proto` and `pixell/python_agent.proto`, as far as they are used here.

use std::collections::BTreeMap;

use bytes::Bytes;
use prost::Message;

pub(crate) const INVOKE: &str = "/pixell.agent.AgentService/Invoke";
pub(crate) const EXECUTE: &str = "/pixell.python_agent.PythonAgent/Execute";
pub(crate) const STREAM_EXECUTE: &str = "/pixell.python_agent.PythonAgent/StreamExecute";

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ActionRequest {
    #[prost(string, tag = "1")]
    pub(crate) action: String,
    #[prost(btree_map = "string, string", tag = "2")]
    pub(crate) parameters: BTreeMap<String, String>,
    #[prost(string, tag = "3")]
    pub(crate) request_id: String,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ActionResult {
    #[prost(bool, tag = "1")]
    pub(crate) success: bool,
    #[prost(string, tag = "2")]
    pub(crate) result: String,
    #[prost(string, tag = "4")]
    pub(crate) request_id: String,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ExecuteRequest {
    #[prost(string, tag = "1")]
    pub(crate) code: String,
    #[prost(string, tag = "4")]
    pub(crate) session_id: String,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ExecuteResponse {
    #[prost(bool, tag = "1")]
    pub(crate) success: bool,
    /// MessagePack.
    #[prost(btree_map = "string, bytes", tag = "4")]
    pub(crate) results: BTreeMap<String, Bytes>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct StreamChunk {
    #[prost(int32, tag = "1")]
    pub(crate) kind: i32,
    #[prost(bytes = "bytes", tag = "2")]
    pub(crate) data: Bytes,
}

impl StreamChunk {
    pub(crate) const STDOUT: i32 = 0;
    pub(crate) const RESULT: i32 = 2;
}
