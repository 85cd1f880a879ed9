//! Builds packages and whole systems for tests; holds the arrows as a test.
