//! What was measured on: the CPU, its caches, the kernel.

use std::fs;

use crate::parallel::cpus;
use crate::text::escape;

/// CPU, how many of them, kernel.
pub(super) fn machine() -> String {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let model = model.map_or("CPU of unknown model", |(_, model)| model);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!("{}, {} usable CPUs, Linux {}", escape(model.trim()), cpus(), escape(kernel.trim()))
}

/// What tells this machine, since its start, from others.
pub(super) fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

/// Bytes of the first CPU's cache of that level, where the kernel says.
pub(super) fn cache_bytes(level: u32) -> Option<usize> {
    let entries = fs::read_dir("/sys/devices/system/cpu/cpu0/cache").ok()?;
    entries.flatten().find_map(|entry| {
        let read = |name| fs::read_to_string(entry.path().join(name)).ok();
        let is_data = matches!(read("type")?.trim(), "Data" | "Unified");
        let is_it = is_data && read("level")?.trim() == level.to_string();
        is_it.then(|| kibibytes(read("size")?.trim())).flatten()
    })
}

/// `1024K`.
fn kibibytes(size: &str) -> Option<usize> {
    size.strip_suffix('K')?.parse::<usize>().ok()?.checked_mul(1 << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cache_sizes_are_read_as_the_kernel_writes_them() {
        assert_eq!(kibibytes("32768K"), Some(32 << 20));
        assert_eq!((kibibytes("K"), kibibytes("12"), kibibytes("")), (None, None, None));
    }
}
