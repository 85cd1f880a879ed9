//! Given what is wanted and what happened, what to do next.
