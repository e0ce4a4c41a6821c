//! Names from strangers made fit for a terminal: nothing moves the cursor, hides a word or turns the text
//! round, and nothing is lost, unlike in names that are shortened for a log.

use std::fmt::Write;
use std::path::Path;

/// A name as one line: what a terminal would not show as itself becomes `\u{..}`, and a backslash is doubled, so
/// that different names look different.
pub(crate) fn escape(name: &str) -> String {
    escape_where(name, |c| c == '\\' || !is_harmless(c))
}

/// A path in quotes, for messages.
pub(crate) fn quoted(path: impl AsRef<Path>) -> String {
    // Debug escapes control characters and bytes that are no UTF-8; `guard` adds what it leaves.
    guard(&format!("{:?}", path.as_ref()))
}

/// A whole text that is about to be printed: as it is, but for what must never reach a terminal. The last line of
/// defence; names inside it have been through [`escape`].
pub(crate) fn guard(text: &str) -> String {
    escape_where(text, |c| c != '\n' && !is_harmless(c))
}

/// JSON text with harmful characters in their `\uXXXX` form, which means the same to a parser.
pub(crate) fn guard_json(json: &str) -> String {
    let mut guarded = String::with_capacity(json.len());
    for c in json.chars() {
        if is_harmless(c) || c == '\n' {
            guarded.push(c);
        } else {
            let mut units = [0; 2];
            for unit in c.encode_utf16(&mut units) {
                // Writing to a string cannot fail.
                let _ = write!(guarded, "\\u{unit:04x}");
            }
        }
    }
    guarded
}

fn escape_where(text: &str, harmful: impl Fn(char) -> bool) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' if harmful(c) => escaped.push_str("\\\\"),
            c if harmful(c) => escaped.extend(c.escape_unicode()),
            c => escaped.push(c),
        }
    }
    escaped
}

/// Whether a terminal shows the character as itself and goes on to the right.
fn is_harmless(c: char) -> bool {
    let invisible = matches!(
        c,
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}'
    );
    !c.is_control() && !invisible
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursor_and_direction_stay_ours() {
        assert_eq!(escape("a\u{1b}[2J\r\n\u{9b}31m"), "a\\u{1b}[2J\\u{d}\\u{a}\\u{9b}31m");
        assert_eq!(escape("x\u{202e}gpj.exe\u{2066}"), "x\\u{202e}gpj.exe\\u{2066}");
        assert_eq!(escape("Füße — 画像 🦀"), "Füße — 画像 🦀");
        assert_eq!(escape("\\u{1b}"), "\\\\u{1b}", "what looks escaped is told apart from what was");
    }

    #[test]
    fn a_guarded_text_keeps_its_lines() {
        assert_eq!(guard("a\nb\u{7}\\c"), "a\nb\\u{7}\\c");
    }

    #[test]
    fn guarded_json_means_the_same() {
        let value = serde_json::json!({ "name": "a\u{202e}b\u{9b}\u{e0001}c\\\"" });
        let guarded = guard_json(&value.to_string());
        assert!(guarded.chars().all(is_harmless), "{guarded}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&guarded).expect("is JSON"), value);
    }

    #[test]
    fn quoted_paths_have_no_bare_controls() {
        use std::os::unix::ffi::OsStrExt;
        let path = Path::new(std::ffi::OsStr::from_bytes(b"a\x1b\xff\xe2\x80\xae"));
        let shown = quoted(path);
        assert!(shown.chars().all(is_harmless), "{shown}");
        assert!(shown.starts_with("\"a\\u{1b}\\x"), "{shown}");
    }
}
