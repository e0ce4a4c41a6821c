//! `RINGTIDE_KERNEL` reaches the hashing of a process: each value is tried in a process of its own.

use std::process::Command;

use ringtide_hasher::{Algorithm, Dispatcher, KERNEL_VARIABLE, Kernel};

/// Run by the other test only, with the variable set; by itself it checks the default.
#[test]
fn the_kernel_in_use_hashes_right() {
    let expected = "a9993e364706816aba3e25717850c26c9cd0d89d";
    let digest: String = ringtide_hasher::sha1(b"abc").iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(digest, expected);
    println!("kernel={}", Dispatcher::current().mix(Algorithm::Sha1, 1)[0]);
}

#[test]
fn the_variable_chooses_the_kernel() {
    for kernel in Kernel::available() {
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "the_kernel_in_use_hashes_right", "--nocapture"])
            .env(KERNEL_VARIABLE, kernel.to_string())
            .output()
            .unwrap();
        let stdout = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{kernel}: {stdout}");
        assert!(stdout.contains(&format!("kernel={kernel}\n")), "{kernel}: {stdout}");
    }
}
