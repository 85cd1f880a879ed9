//! Decisions and identities as a whole.

mod decisions;
mod jwts;
