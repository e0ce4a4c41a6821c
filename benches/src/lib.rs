//! Criterion benches of the parts.
