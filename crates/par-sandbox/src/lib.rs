//! Starts a confined process, says which protections took hold, and ends it with all its descendants.
