//! `ringtide verify`: right content passes, wrong and missing content is named.

mod common;

use std::fs;

use common::{Sandbox, fixture, noise};
use serde_json::json;

/// A tree of three files in pieces of 16 KiB: 0 to 2 lie in `a`, 2 to 3 in `b`, 3 to 6 in `c/d`.
fn tree() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.write("tree/a", noise(40_000, 1));
    sandbox.write("tree/b", noise(20_000, 2));
    sandbox.write("tree/c/d", noise(50_000, 3));
    sandbox.write("tree/e", "");
    sandbox.succeed(["create", "tree", "--piece-length", "16KiB"]);
    sandbox
}

#[test]
fn the_directory_and_what_holds_it_will_both_do() {
    let sandbox = tree();
    for path in [".", "tree"] {
        let report = sandbox.succeed(["verify", "tree.torrent", path, "--json"]).json();
        assert_eq!((&report["pieces"], &report["good"]), (&json!(7), &json!(7)));
        assert_eq!((&report["bad"], &report["missing_files"]), (&json!([]), &json!([])));
        assert!(report["wall_s"].is_f64() && report["gb_per_s"].is_f64(), "{report}");
        assert_eq!(report.as_object().map(serde_json::Map::len), Some(6));
    }
    let said = sandbox.succeed(["verify", "tree.torrent", "."]);
    assert!(said.text().starts_with("tree: 7 of 7 pieces good"), "{}", said.text());
}

#[test]
fn a_single_file_may_have_another_name() {
    let sandbox = Sandbox::new();
    sandbox.write("image", noise(100_000, 1));
    sandbox.succeed(["create", "image"]);
    fs::rename(sandbox.path("image"), sandbox.path("copy")).expect("can be renamed");
    sandbox.succeed(["verify", "image.torrent", "copy"]);
}

#[test]
fn bad_and_missing_data_is_named() {
    let sandbox = tree();
    let mut bytes = noise(40_000, 1);
    bytes[20_000] ^= 1;
    sandbox.write("tree/a", bytes);
    fs::remove_file(sandbox.path("tree/e")).expect("can be removed");
    let ended = sandbox.run(["verify", "tree.torrent", ".", "--json"]);
    assert_eq!(ended.code, Some(4), "{ended:?}");
    let report = ended.json();
    assert_eq!((&report["good"], &report["bad"]), (&json!(6), &json!([1])));
    assert_eq!(report["missing_files"], json!(["tree/e"]));

    fs::remove_file(sandbox.path("tree/b")).expect("can be removed");
    sandbox.write("tree/c/d", &noise(50_000, 3)[..40_000]);
    let ended = sandbox.run(["verify", "tree.torrent", ".", "--json"]);
    let report = ended.json();
    assert_eq!((&report["good"], &report["bad"]), (&json!(3), &json!([1, 2, 3, 6])));
    assert_eq!(report["missing_files"], json!(["tree/b", "tree/e"]));
    let said = sandbox.run(["verify", "tree.torrent", "."]);
    assert_eq!(said.code, Some(4));
    assert!(said.text().contains("pieces 1-3, 6\nmissing file: tree/b\n"), "{}", said.text());
}

#[test]
fn bad_input_is_told_from_bad_data() {
    let sandbox = tree();
    let said = sandbox.fail(3, ["verify", "tree.torrent", "gone"]);
    assert!(said.contains("\"gone\"") && said.contains("check the path"), "{said}");
    sandbox.fail(3, ["verify", "gone.torrent", "."]);
    assert!(sandbox.fail(3, ["verify", "tree/a", "."]).contains("\"tree/a\""));
    let v2 = fixture("v2_only.torrent");
    let said = sandbox.fail(3, ["verify".as_ref(), v2.as_os_str(), ".".as_ref()]);
    assert!(said.contains("v2-only"), "{said}");
}
