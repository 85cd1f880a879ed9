//! One agent's process: its surfaces, its adapter.
