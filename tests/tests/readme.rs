//! Every command that the README shows, run as it stands: its `sh` blocks, in order, in one shell in an empty directory.

use std::fs;
use std::process::Command;

use ringtide_tests::content::{self, MIB};
use ringtide_tests::ringtide;

/// The lines of all ```sh blocks.
fn shell_blocks(readme: &str) -> String {
    let mut inside = false;
    let mut script = String::new();
    for line in readme.lines() {
        match line.trim_end() {
            "```sh" => inside = true,
            "```" => inside = false,
            line if inside => {
                script.push_str(line);
                script.push('\n');
            }
            _ => {}
        }
    }
    script
}

#[test]
fn the_readme_s_commands_work() {
    let readme = fs::read_to_string(content::repository().join("README.md")).expect("a README");
    let script = shell_blocks(&readme);
    assert!(
        script.contains("ringtide get") && script.contains("ringtide seed"),
        "the README shows get and seed"
    );
    let dir = content::disk_dir();
    content::write_file(&dir.path().join("image.raw"), 20 * MIB + 1, 1);
    let bin = ringtide::binary().canonicalize().expect("the binary");
    let path = std::env::join_paths(
        std::iter::once(bin.parent().expect("a directory").to_owned())
            .chain(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())),
    );
    let output = Command::new("bash")
        .args(["-euo", "pipefail", "-c"])
        // Whatever the commands leave in the background ends with the shell.
        .arg(format!("trap 'jobs -p | xargs -r kill' EXIT\n{script}"))
        .current_dir(dir.path())
        .env("PATH", path.expect("paths without colons"))
        .env("CARGO_TARGET_DIR", content::target_dir())
        .output()
        .expect("bash");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "the README's commands failed:\n{script}\n{said}");
}

#[test]
fn blocks_are_found() {
    assert_eq!(shell_blocks("a\n```sh\nb\nc\n```\nd\n```\ne\n```\n```sh\nf\n```\n"), "b\nc\nf\n");
}
