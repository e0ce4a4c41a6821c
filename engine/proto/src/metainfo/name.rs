//! Names from torrents made safe to use below a directory: one component at a time, and no two files alike.
//! Does not decide where files go. Linux rules only: case matters, and any byte but `/` and NUL is allowed.

use std::collections::HashSet;

use super::{FileEntry, MetainfoError};

/// Longest component of a path on Linux's filesystems (NAME_MAX), in bytes.
const MAX_COMPONENT_BYTES: usize = 255;
/// A longer "extension" is no extension, and is not kept when a name is cut.
const MAX_EXTENSION_BYTES: usize = 16;
/// Most attempts at finding free names for all duplicates of a torrent together, as in libtorrent: the n-th
/// duplicate of one name takes n attempts, so thousands of them would take quadratic time.
const MAX_RENAME_ATTEMPTS: usize = 500;

/// One component of a path made safe: valid UTF-8 without separators, control characters and marks that change the
/// direction of writing, at most 255 bytes long. `None` for `.` and `..`, which must not be walked, and for nothing but NULs.
pub(super) fn sanitize_component(raw: &[u8]) -> Option<String> {
    let mut name = String::with_capacity(raw.len());
    for chunk in raw.utf8_chunks() {
        name.extend(
            chunk.valid().chars().filter(|c| !is_removed(*c)).map(|c| if c.is_control() { '_' } else { c }),
        );
        if !chunk.invalid().is_empty() {
            name.push('_');
        }
    }
    match name.as_str() {
        "" if raw.contains(&0) => None,
        "" => Some("_".to_owned()),
        "." | ".." => None,
        _ => Some(fit(name)),
    }
}

/// Free text such as a comment: invalid UTF-8 replaced, nothing else. Escaping it is the printer's job.
pub(super) fn lossy_text(raw: &[u8]) -> String {
    String::from_utf8_lossy(raw).into_owned()
}

/// Gives files that have the path of an earlier file or of a directory a name of their own: `bar.txt` becomes
/// `bar.1.txt`, as in libtorrent, so that data laid down by either is found by the other. Pad files are never
/// written and may share names.
pub(super) fn rename_duplicates(files: &mut [FileEntry]) -> Result<(), MetainfoError> {
    let mut taken = directories(files);
    let mut attempts = 0;
    for file in files.iter_mut().filter(|file| !file.pad) {
        if taken.insert(file.path.join("/")) {
            continue;
        }
        let original = file.path.last().cloned().unwrap_or_default();
        for number in 1.. {
            if let Some(last) = file.path.last_mut() {
                *last = numbered(&original, number);
            }
            if taken.insert(file.path.join("/")) {
                break;
            }
            attempts += 1;
            if attempts > MAX_RENAME_ATTEMPTS {
                let problem = format!("has more than {MAX_RENAME_ATTEMPTS} collisions between file names");
                return Err(MetainfoError::invalid("info.files.path", problem));
            }
        }
    }
    Ok(())
}

/// Every directory that a file implies.
fn directories(files: &[FileEntry]) -> HashSet<String> {
    let mut directories = HashSet::new();
    let mut previous: &[String] = &[];
    for file in files.iter().filter(|file| !file.pad) {
        let parents = &file.path[..file.path.len().saturating_sub(1)];
        // Files of one directory follow each other: its ancestors are known already.
        if parents != previous {
            directories.extend((1..=parents.len()).map(|depth| parents[..depth].join("/")));
            previous = parents;
        }
    }
    directories
}

/// Separators, NUL, and the marks with which `exe.iso` is made to look like `osi.exe`.
fn is_removed(c: char) -> bool {
    matches!(c, '\0' | '/' | '\\' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// `name` with a number before its extension.
fn numbered(name: &str, number: usize) -> String {
    let (stem, extension) = split_extension(name);
    let suffix = format!(".{number}{extension}");
    format!("{}{suffix}", cut(stem, MAX_COMPONENT_BYTES - suffix.len()))
}

/// Shortens a name to what a filesystem takes and keeps its extension.
fn fit(name: String) -> String {
    if name.len() <= MAX_COMPONENT_BYTES {
        return name;
    }
    let (stem, extension) = split_extension(&name);
    format!("{}{extension}", cut(stem, MAX_COMPONENT_BYTES - extension.len()))
}

/// Stem and extension with its dot; names like `.profile` have none.
fn split_extension(name: &str) -> (&str, &str) {
    match name.rfind('.') {
        Some(dot) if dot > 0 && name.len() - dot <= MAX_EXTENSION_BYTES => name.split_at(dot),
        _ => (name, ""),
    }
}

/// The longest start of `text` that ends between characters and within `max` bytes.
fn cut(text: &str, max: usize) -> &str {
    let end = (0..=max.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
    &text[..end.unwrap_or(0)]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sanitized(raw: &[u8]) -> String {
        sanitize_component(raw).expect("a name remains")
    }

    #[test]
    fn traversal_and_separators() {
        assert_eq!(sanitize_component(b"."), None);
        assert_eq!(sanitize_component(b".."), None);
        assert_eq!(sanitize_component(b"../"), None);
        assert_eq!(sanitized(b"..."), "...");
        assert_eq!(sanitized(b"/foobar"), "foobar");
        assert_eq!(sanitized(b"foo/../../../bar"), "foo......bar");
        assert_eq!(sanitized(b"/"), "_");
        assert_eq!(sanitized(b"\\"), "_");
        assert_eq!(sanitized(b""), "_");
    }

    #[test]
    fn bytes_that_are_no_text() {
        assert_eq!(sanitized(b"\x82est/MB"), "_estMB");
        assert_eq!(sanitized(b"a\0b\nc\x1bd\x7f"), "ab_c_d_");
        assert_eq!(sanitize_component(b"\0\0"), None);
        assert_eq!(sanitized("a\u{202e}osi.exe".as_bytes()), "aosi.exe");
        assert_eq!(sanitized("Grüße 日本".as_bytes()), "Grüße 日本");
        assert_eq!(sanitized(b"Case Kept "), "Case Kept ");
    }

    #[test]
    fn long_names_are_cut_between_characters_and_keep_their_extension() {
        let long = format!("{}.iso", "ä".repeat(200));
        let cut = sanitized(long.as_bytes());
        assert_eq!(cut, format!("{}.iso", "ä".repeat(125)));
        assert_eq!(sanitized(&[b'x'; 300]), "x".repeat(255));
        assert_eq!(sanitized(&[b'x'; 255]).len(), 255);
    }

    fn files(paths: &[&str]) -> Vec<FileEntry> {
        paths
            .iter()
            .map(|path| FileEntry {
                path: path.split('/').map(String::from).collect(),
                ..FileEntry::default()
            })
            .collect()
    }

    fn renamed(paths: &[&str]) -> Vec<String> {
        let mut files = files(paths);
        rename_duplicates(&mut files).unwrap();
        files.iter().map(|file| file.path.join("/")).collect()
    }

    #[test]
    fn duplicates_are_numbered() {
        assert_eq!(
            renamed(&["t/bar.txt", "t/bar.txt", "t/bar.txt"]),
            ["t/bar.txt", "t/bar.1.txt", "t/bar.2.txt"]
        );
        assert_eq!(renamed(&["t/.rc", "t/.rc"]), ["t/.rc", "t/.rc.1"]);
        assert_eq!(renamed(&["t/a", "t/a.1", "t/a"]), ["t/a", "t/a.1", "t/a.2"]);
    }

    #[test]
    fn case_makes_a_difference() {
        assert_eq!(renamed(&["t/Readme", "t/README"]), ["t/Readme", "t/README"]);
    }

    #[test]
    fn directories_win_over_files() {
        assert_eq!(renamed(&["t/a", "t/a/b"]), ["t/a.1", "t/a/b"]);
        assert_eq!(renamed(&["t/a/b", "t/a"]), ["t/a/b", "t/a.1"]);
    }

    #[test]
    fn pad_files_may_collide() {
        let mut list = files(&["t/.pad/5", "t/.pad/5", "t/.pad/5"]);
        list[0].pad = true;
        list[1].pad = true;
        rename_duplicates(&mut list).unwrap();
        assert!(list.iter().all(|file| file.path.join("/") == "t/.pad/5"));
    }

    #[test]
    fn quadratic_time_is_refused() {
        let error = rename_duplicates(&mut files(&["t/same"; 118])).expect_err("too many");
        assert_eq!(error.field(), "info.files.path");
        assert!(rename_duplicates(&mut files(&["t/same"; 30])).is_ok());
    }

    #[test]
    fn a_number_still_fits() {
        let long = format!("t/{}", "x".repeat(255));
        let names = renamed(&[&long, &long]);
        assert_eq!(names[1], format!("t/{}.1", "x".repeat(253)));
    }

    proptest! {
        #[test]
        fn any_bytes_become_a_harmless_component(raw in prop::collection::vec(any::<u8>(), 0..600)) {
            if let Some(name) = sanitize_component(&raw) {
                prop_assert!(!name.is_empty() && name.len() <= 255);
                prop_assert!(name != "." && name != "..");
                prop_assert!(!name.contains(['/', '\\']) && !name.chars().any(char::is_control));
            }
        }
    }
}
