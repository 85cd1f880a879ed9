//! Multi-PAR: hosts many AI agents on a machine.
fn main() {}
