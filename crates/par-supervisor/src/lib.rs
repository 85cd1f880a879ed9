//! The daemon: performs what the lifecycle decides; control API, gateway.
