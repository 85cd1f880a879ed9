//! Logs begin and end here.
