//! The worker's tests from outside.

mod python_side;
