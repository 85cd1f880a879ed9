//! Header names of our own. Those that say who calls are set by us and stripped wherever they arrive.

/// Asks for another deadline than the agent's own: seconds, decimals allowed.
pub const REQUEST_TIMEOUT: &str = "x-request-timeout";
/// The name of one call: what its caller says, else what the worker makes up. Each answer tells it, and lines of the log
/// that the call wrote have it.
pub const REQUEST_ID: &str = "x-request-id";
/// The agent that calls, set by the supervisor from the channel on which the call came.
pub const CALLER: &str = "x-par-caller";
/// How many agents have called each other for this call.
pub const HOPS: &str = "x-par-hops";
/// The agent that is asked, in the metadata of a gRPC call; a worker answers for no other.
pub const AGENT_ID: &str = "x-agent-id";
/// The session that a call belongs to: all calls of a session go to the replica that has it.
pub const SESSION_ID: &str = "x-session-id";
/// The call on whose behalf an agent calls another one over gRPC, said by its own process: an id of the channel.
pub const PARENT: &str = "x-par-parent";
/// The call that a gRPC call to an agent's own service is to the agent's process: what it is to name as [`PARENT`].
pub const CALL: &str = "x-par-call";
/// The path under which the agent is reached, such as `/agents/hello`.
pub const FORWARDED_PREFIX: &str = "x-forwarded-prefix";

/// Says who calls, where `authorization` is meant for the agent: `Bearer TOKEN`. Never passed on.
pub const AUTHORIZATION: &str = "x-par-authorization";

/// Agents that may call each other for one call.
pub const MAX_HOPS: u32 = 16;
