//! The gRPC services of every worker. The Rust is written by `cargo xtask protobuf` from `proto/`.

/// Descriptors of all of it, as reflection tells them: an encoded `FileDescriptorSet`.
pub const DESCRIPTORS: &[u8] = include_bytes!("protobuf/descriptors.bin");

/// `pixell.agent`
pub mod agent {
    include!("protobuf/pixell.agent.rs");

    pub const SERVICE: &str = "pixell.agent.AgentService";
}

/// `pixell.python_agent`: the execution backend.
pub mod python_agent {
    include!("protobuf/pixell.python_agent.rs");

    pub const SERVICE: &str = "pixell.python_agent.PythonAgent";
}
