//! Text from strangers made fit for a person: bounded, one line, nothing that moves a cursor or hides a word.
//! Names of files are not made here, they have rules of their own.

/// What stands in for a character that is not shown.
const REPLACEMENT: char = '\u{fffd}';

/// `bytes` as one line of at most `max_chars` characters: malformed UTF-8, control characters and those that
/// change the direction of text are replaced, and an ellipsis marks what was cut off.
pub fn printable(bytes: &[u8], max_chars: usize) -> String {
    // No character is longer than 4 bytes; what lies behind the bound need not be decoded.
    let seen = &bytes[..bytes.len().min(max_chars.saturating_add(1).saturating_mul(4))];
    let decoded = String::from_utf8_lossy(seen);
    let mut chars = decoded.chars().map(|c| if is_harmless(c) { c } else { REPLACEMENT });
    let mut text: String = chars.by_ref().take(max_chars).collect();
    if chars.next().is_some() {
        text.push('…');
    }
    text
}

/// Whether a terminal shows the character as itself and goes on to the right.
fn is_harmless(c: char) -> bool {
    let turns_text = matches!(c, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}');
    !c.is_control() && !turns_text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn terminal_escapes_and_direction_marks_are_replaced() {
        assert_eq!(printable(b"a\x1b[31m\r\nb", 80), "a\u{fffd}[31m\u{fffd}\u{fffd}b");
        assert_eq!(printable("x\u{202e}gpj.exe".as_bytes(), 80), "x\u{fffd}gpj.exe");
        assert_eq!(printable("µTorrent 1.2".as_bytes(), 80), "µTorrent 1.2");
        assert_eq!(printable(b"\xff\xfe", 80), "\u{fffd}\u{fffd}");
    }

    #[test]
    fn long_text_is_cut_with_an_ellipsis() {
        assert_eq!(printable(b"abcd", 3), "abc…");
        assert_eq!(printable(b"abc", 3), "abc");
        assert_eq!(printable("🦀🦀🦀🦀".as_bytes(), 3), "🦀🦀🦀…");
    }

    proptest! {
        #[test]
        fn the_bound_holds(bytes in prop::collection::vec(any::<u8>(), 0..200), max in 0usize..40) {
            let text = printable(&bytes, max);
            prop_assert!(text.chars().count() <= max + 1);
            prop_assert!(text.chars().all(is_harmless));
        }
    }
}
