//! End-to-end measurement: yardsticks and rivals side by side.

pub mod bare_leech;
pub mod bare_seed;
pub mod memory;
pub mod one_file;
pub mod relay;
#[cfg(test)]
mod testing;
pub mod usage;
