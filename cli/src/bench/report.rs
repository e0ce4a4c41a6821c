//! `Report`: what the bench measured, and on which machine.

use std::time::Duration;

use ringtide_hasher::{Algorithm, Dispatcher, Kernel};
use serde_json::{Value, json};

use super::machine::machine;
use crate::units::{BinaryBytes, Bytes, gb_per_s};

/// What was measured.
pub(super) struct Report {
    pub(super) bytes: u64,
    pub(super) piece_length: u32,
    /// From starting the leech to its end, everything on disk.
    pub(super) wall: Duration,
    pub(super) leech_cpu: Duration,
    /// Of the transfer alone.
    pub(super) seed_cpu: Duration,
    /// Until the seed had verified its image.
    pub(super) seed_start_cpu: Duration,
    /// The driver of the leech.
    pub(super) io: String,
    /// What kind of place the files were in.
    pub(super) directory: String,
}

impl Report {
    pub(super) fn json(&self) -> Value {
        json!({
            "bytes": self.bytes,
            "piece_length": self.piece_length,
            "wall_s": self.wall.as_secs_f64(),
            "gb_per_s": gb_per_s(self.bytes, self.wall),
            "leech_cpu_s": self.leech_cpu.as_secs_f64(),
            "seed_cpu_s": self.seed_cpu.as_secs_f64(),
            "seed_verify_cpu_s": self.seed_start_cpu.as_secs_f64(),
            "io": self.io,
            "hash_kernel": full_batch_kernel().to_string(),
        })
    }

    pub(super) fn text(&self) -> String {
        let rate = gb_per_s(self.bytes, self.wall);
        let line = |name: &str, cpu: Duration| {
            format!("{name:<8} {:.3} CPU-s/GB ({:.2} s)", self.per_gb(cpu), cpu.as_secs_f64())
        };
        [
            format!("machine  {}", machine()),
            format!(
                "content  {} in pieces of {}, {}",
                Bytes(self.bytes),
                BinaryBytes(self.piece_length.into()),
                self.directory
            ),
            format!(
                "engine   ringtide {}, --io {}, hash kernel {}",
                env!("CARGO_PKG_VERSION"),
                self.io,
                full_batch_kernel()
            ),
            format!(
                "fetched  {rate:.2} GB/s ({:.2} s), same as the image byte for byte",
                self.wall.as_secs_f64()
            ),
            line("leech", self.leech_cpu),
            format!(
                "{}, not counting {:.2} s to verify its image before",
                line("seed", self.seed_cpu),
                self.seed_start_cpu.as_secs_f64()
            ),
        ]
        .join("\n")
    }

    fn per_gb(&self, cpu: Duration) -> f64 {
        cpu.as_secs_f64() / (self.bytes as f64 / 1e9)
    }
}

/// What hashes where enough pieces wait to fill its lanes.
fn full_batch_kernel() -> Kernel {
    let mix = Dispatcher::current().mix(Algorithm::Sha1, 32);
    mix.into_iter().max_by_key(|kernel| kernel.lanes()).unwrap_or(Kernel::Crate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn costs_are_per_decimal_gigabyte() {
        let report = Report {
            bytes: 2_000_000_000,
            piece_length: 1 << 20,
            wall: Duration::from_secs(4),
            leech_cpu: Duration::from_millis(600),
            seed_cpu: Duration::from_millis(400),
            seed_start_cpu: Duration::from_secs(1),
            io: "uring".to_owned(),
            directory: "tmpfs".to_owned(),
        };
        let text = report.text();
        for part in [
            "2.00 GB in pieces of 1 MiB",
            "0.50 GB/s (4.00 s)",
            "leech    0.300 CPU-s/GB",
            "seed     0.200 CPU-s/GB",
        ] {
            assert!(text.contains(part), "{part:?} is not in {text}");
        }
        let json = report.json();
        assert_eq!((&json["bytes"], &json["io"]), (&json!(2_000_000_000_u64), &json!("uring")));
        assert_eq!(
            (&json["leech_cpu_s"], &json["seed_cpu_s"], &json["gb_per_s"]),
            (&json!(0.6), &json!(0.4), &json!(0.5))
        );
    }
}
