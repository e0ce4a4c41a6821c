//! End-to-end measurement: yardsticks and rivals side by side.

pub mod bare_seed;
