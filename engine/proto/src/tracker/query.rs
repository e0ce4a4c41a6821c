//! Query strings: percent-encoding of arbitrary bytes and the way back. What the parameters mean is not
//! known here.

/// Appends `bytes`, percent-encoded: all but the characters that RFC 3986 calls unreserved.
pub(super) fn encode(bytes: &[u8], out: &mut String) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for &byte in bytes {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push('%');
            out.push(char::from(HEX[usize::from(byte >> 4)]));
            out.push(char::from(HEX[usize::from(byte & 15)]));
        }
    }
}

/// The bytes that `text` stands for; `None` for a percent sign without two hexadecimal digits. A plus is a
/// space: that is what the form encoders that some clients use make of the byte 0x20, and a plus that is
/// meant is escaped by every client.
pub(super) fn decode(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'%' => digit(bytes.next()?)? << 4 | digit(bytes.next()?)?,
            b'+' => b' ',
            other => other,
        });
    }
    Some(out)
}

/// The parameters of a query in order, values as they were written.
pub(super) fn pairs(query: &str) -> impl Iterator<Item = (&str, &str)> {
    query.split('&').filter(|pair| !pair.is_empty()).map(|pair| pair.split_once('=').unwrap_or((pair, "")))
}

fn digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).map(|value| value as u8)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_unreserved_characters_stay() {
        let mut out = String::new();
        encode(b"aZ9-._~ +/&=%\x00\xff", &mut out);
        assert_eq!(out, "aZ9-._~%20%2B%2F%26%3D%25%00%FF");
    }

    #[test]
    fn broken_escapes_are_refused() {
        assert_eq!(decode("%4"), None);
        assert_eq!(decode("%"), None);
        assert_eq!(decode("%g0"), None);
        assert_eq!(decode("%+1"), None);
        assert_eq!(decode("a+b%2b%2B"), Some(b"a b++".to_vec()));
    }

    #[test]
    fn pairs_are_taken_apart() {
        let found: Vec<_> = pairs("a=1&&b&c=x=y&").collect();
        assert_eq!(found, [("a", "1"), ("b", ""), ("c", "x=y")]);
    }

    proptest! {
        #[test]
        fn any_bytes_come_back(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let mut text = String::new();
            encode(&bytes, &mut text);
            prop_assert_eq!(decode(&text), Some(bytes));
        }
    }
}
