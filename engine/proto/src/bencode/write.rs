//! The canonical writer: a small tree of what to write, whose dictionaries are sorted by construction.
//! Does not own parsed values; a piece of parsed input is written back with [`Bencode::Verbatim`].

use std::borrow::Cow;
use std::collections::BTreeMap;

/// Something to be written. Trees are built by us, a few levels deep; encoding one recurses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Bencode<'a> {
    /// An integer.
    Int(i64),
    /// A string of bytes.
    Bytes(Cow<'a, [u8]>),
    /// A list.
    List(Vec<Bencode<'a>>),
    /// A dictionary; the map keeps the keys in the order that BEP 3 demands.
    Dict(BTreeMap<Cow<'a, [u8]>, Bencode<'a>>),
    /// Bytes that are already one bencoded value, such as an info dictionary whose hash must not change.
    Verbatim(Cow<'a, [u8]>),
}

impl<'a> Bencode<'a> {
    /// A dictionary of these entries; of entries with the same key the last one counts.
    pub fn dict<K: AsRef<[u8]> + ?Sized + 'a>(
        entries: impl IntoIterator<Item = (&'a K, Bencode<'a>)>,
    ) -> Bencode<'a> {
        Self::Dict(entries.into_iter().map(|(key, value)| (Cow::Borrowed(key.as_ref()), value)).collect())
    }

    /// A list of these elements.
    pub fn list<V: Into<Bencode<'a>>>(elements: impl IntoIterator<Item = V>) -> Bencode<'a> {
        Self::List(elements.into_iter().map(Into::into).collect())
    }

    /// The one canonical encoding.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.encoded_len());
        self.encode_into(&mut out);
        out
    }

    /// Appends the encoding to `out`.
    pub fn encode_into(&self, out: &mut Vec<u8>) {
        match self {
            Self::Int(value) => out.extend_from_slice(format!("i{value}e").as_bytes()),
            Self::Bytes(bytes) => write_bytes(out, bytes),
            Self::List(elements) => {
                out.push(b'l');
                elements.iter().for_each(|element| element.encode_into(out));
                out.push(b'e');
            }
            Self::Dict(entries) => {
                out.push(b'd');
                for (key, value) in entries {
                    write_bytes(out, key);
                    value.encode_into(out);
                }
                out.push(b'e');
            }
            Self::Verbatim(bytes) => out.extend_from_slice(bytes),
        }
    }

    /// An upper bound of the encoded length, so that 16 MB of piece hashes are copied once.
    fn encoded_len(&self) -> usize {
        // No header or integer is longer than 22 bytes (`i-9223372036854775808e`).
        const HEADER: usize = 22;
        match self {
            Self::Int(_) => HEADER,
            Self::Bytes(bytes) => HEADER + bytes.len(),
            Self::List(elements) => 2 + elements.iter().map(Self::encoded_len).sum::<usize>(),
            Self::Dict(entries) => {
                2 + entries.iter().map(|(k, v)| HEADER + k.len() + v.encoded_len()).sum::<usize>()
            }
            Self::Verbatim(bytes) => bytes.len(),
        }
    }
}

fn write_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(format!("{}:", bytes.len()).as_bytes());
    out.extend_from_slice(bytes);
}

impl From<i64> for Bencode<'_> {
    fn from(value: i64) -> Self {
        Self::Int(value)
    }
}

/// For literals.
impl From<i32> for Bencode<'_> {
    fn from(value: i32) -> Self {
        Self::Int(i64::from(value))
    }
}

impl From<u32> for Bencode<'_> {
    fn from(value: u32) -> Self {
        Self::Int(i64::from(value))
    }
}

impl From<u16> for Bencode<'_> {
    fn from(value: u16) -> Self {
        Self::Int(i64::from(value))
    }
}

impl<'a> From<&'a [u8]> for Bencode<'a> {
    fn from(value: &'a [u8]) -> Self {
        Self::Bytes(Cow::Borrowed(value))
    }
}

impl<'a> From<&'a str> for Bencode<'a> {
    fn from(value: &'a str) -> Self {
        Self::Bytes(Cow::Borrowed(value.as_bytes()))
    }
}

impl From<Vec<u8>> for Bencode<'_> {
    fn from(value: Vec<u8>) -> Self {
        Self::Bytes(Cow::Owned(value))
    }
}

impl From<String> for Bencode<'_> {
    fn from(value: String) -> Self {
        Self::Bytes(Cow::Owned(value.into_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dictionaries_are_sorted_by_raw_bytes() {
        let dict = Bencode::dict([("b", 1i64.into()), ("a", "x".into()), ("B", Bencode::list(["y"]))]);
        assert_eq!(dict.encode(), b"d1:Bl1:ye1:a1:x1:bi1ee");
    }

    #[test]
    fn extremes_of_integers() {
        assert_eq!(Bencode::Int(i64::MIN).encode(), b"i-9223372036854775808e");
        assert_eq!(Bencode::Int(0).encode(), b"i0e");
    }

    #[test]
    fn verbatim_is_not_touched() {
        let info = b"d1:b0:1:a0:e".as_slice();
        let dict = Bencode::dict([("info", Bencode::Verbatim(info.into()))]);
        assert_eq!(dict.encode(), b"d4:infod1:b0:1:a0:ee");
    }

    #[test]
    fn the_length_bound_holds() {
        for value in
            [Bencode::Int(i64::MIN), vec![0u8; 1000].into(), Bencode::dict([("k", Bencode::list([1i64]))])]
        {
            assert!(value.encode().len() <= value.encoded_len());
        }
    }
}
