//! Sends a call to a ready replica; waits for one if there is none.
