//! Reading a parsed document: a copyable cursor and its iterators. Does not own the parser.

use super::parse::{Tag, Token};
use super::{BencodeError, BencodeErrorKind, Document};

/// What a value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// An integer of any size.
    Int,
    /// A string of bytes.
    Bytes,
    /// A list.
    List,
    /// A dictionary.
    Dict,
}

/// A value inside a [`Document`]: a cursor, cheap to copy.
#[derive(Clone, Copy)]
pub struct Value<'d> {
    pub(super) document: &'d Document<'d>,
    /// Index of its token, never an `End`.
    pub(super) index: usize,
}

impl<'d> Value<'d> {
    /// What this value is.
    pub fn kind(self) -> Kind {
        match self.token().tag() {
            Tag::Int => Kind::Int,
            Tag::Bytes => Kind::Bytes,
            Tag::List => Kind::List,
            Tag::Dict | Tag::End => Kind::Dict,
        }
    }

    /// The integer, if it is one and fits.
    pub fn int(self) -> Option<i64> {
        if self.kind() != Kind::Int {
            return None;
        }
        let raw = self.raw();
        let text = std::str::from_utf8(&raw[1..raw.len() - 1]).ok()?;
        text.parse().ok()
    }

    /// The integer, if it is one, fits and is not negative.
    pub fn uint(self) -> Option<u64> {
        self.int().and_then(|value| u64::try_from(value).ok())
    }

    /// The bytes of a string.
    pub fn bytes(self) -> Option<&'d [u8]> {
        (self.kind() == Kind::Bytes).then(|| &self.raw()[self.token().payload()..])
    }

    /// The string, if it is one and is UTF-8.
    pub fn text(self) -> Option<&'d str> {
        self.bytes().and_then(|bytes| std::str::from_utf8(bytes).ok())
    }

    /// The elements of a list.
    pub fn list(self) -> Option<ListIter<'d>> {
        (self.kind() == Kind::List).then(|| ListIter { rest: self.children() })
    }

    /// The entries of a dictionary, in the order of the input.
    pub fn dict(self) -> Option<DictIter<'d>> {
        (self.kind() == Kind::Dict).then(|| DictIter { rest: self.children() })
    }

    /// The value of a dictionary's key; the first one where the key is repeated. `None` also where this is no
    /// dictionary. Takes time linear in the number of entries.
    pub fn get(self, key: impl AsRef<[u8]>) -> Option<Value<'d>> {
        let key = key.as_ref();
        self.dict()?.find(|(name, _)| *name == key).map(|(_, value)| value)
    }

    /// The bytes of this value exactly as they stand in the input, with which info hashes are computed.
    pub fn raw(self) -> &'d [u8] {
        let end_token = self.document.tokens[self.next_index() - usize::from(self.is_container())];
        let end = end_token.offset as usize + usize::from(self.is_container());
        &self.document.input[self.offset()..end]
    }

    /// Where it begins in the input, in bytes.
    pub fn offset(self) -> usize {
        self.token().offset as usize
    }

    /// Whether the value is written the only way BEP 3 allows: keys sorted and unique, no leading zeros.
    ///
    /// # Errors
    /// The first thing that is not, and where.
    pub fn check_canonical(self) -> Result<(), BencodeError> {
        for index in self.index..self.next_index() {
            let value = Value { document: self.document, index };
            match value.token().tag() {
                Tag::Int => value.check_integer()?,
                Tag::Bytes => value.check_length()?,
                Tag::Dict => value.check_key_order()?,
                Tag::List | Tag::End => {}
            }
        }
        Ok(())
    }

    fn check_integer(self) -> Result<(), BencodeError> {
        let raw = self.raw();
        match &raw[1..raw.len() - 1] {
            [b'-', b'0', ..] | [b'0', _, ..] => self.fail(BencodeErrorKind::NonCanonicalInteger),
            _ => Ok(()),
        }
    }

    fn check_length(self) -> Result<(), BencodeError> {
        // A header of two bytes is one digit and the colon.
        if self.token().payload() > 2 && self.raw()[0] == b'0' {
            return self.fail(BencodeErrorKind::NonCanonicalLength);
        }
        Ok(())
    }

    fn check_key_order(self) -> Result<(), BencodeError> {
        let mut previous: Option<&[u8]> = None;
        for (key, value) in (DictIter { rest: self.children() }) {
            if previous.is_some_and(|previous| previous >= key) {
                return value.fail(BencodeErrorKind::UnsortedKeys);
            }
            previous = Some(key);
        }
        Ok(())
    }

    fn fail(self, kind: BencodeErrorKind) -> Result<(), BencodeError> {
        Err(BencodeError { offset: self.offset(), kind })
    }

    fn token(self) -> Token {
        self.document.tokens[self.index]
    }

    fn is_container(self) -> bool {
        matches!(self.token().tag(), Tag::List | Tag::Dict)
    }

    /// Index of the first token that is not part of this value.
    fn next_index(self) -> usize {
        self.index + if self.is_container() { self.token().payload() } else { 1 }
    }

    fn children(self) -> Cursor<'d> {
        Cursor { document: self.document, index: self.index + 1 }
    }
}

impl std::fmt::Debug for Value<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}({:?})", self.kind(), String::from_utf8_lossy(self.raw()))
    }
}

/// Walks the children of one container.
#[derive(Debug, Clone)]
struct Cursor<'d> {
    document: &'d Document<'d>,
    index: usize,
}

impl<'d> Cursor<'d> {
    fn step(&mut self) -> Option<Value<'d>> {
        if self.document.tokens[self.index].tag() == Tag::End {
            return None;
        }
        let value = Value { document: self.document, index: self.index };
        self.index = value.next_index();
        Some(value)
    }
}

/// The elements of a list.
#[derive(Debug, Clone)]
pub struct ListIter<'d> {
    rest: Cursor<'d>,
}

impl<'d> Iterator for ListIter<'d> {
    type Item = Value<'d>;

    fn next(&mut self) -> Option<Value<'d>> {
        self.rest.step()
    }
}

/// The entries of a dictionary: key and value.
#[derive(Debug, Clone)]
pub struct DictIter<'d> {
    rest: Cursor<'d>,
}

impl<'d> Iterator for DictIter<'d> {
    type Item = (&'d [u8], Value<'d>);

    fn next(&mut self) -> Option<Self::Item> {
        let key = self.rest.step()?.bytes()?;
        Some((key, self.rest.step()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bencode::Limits;

    fn parse(input: &[u8]) -> Document<'_> {
        Document::parse(input, &Limits::FILE).unwrap()
    }

    #[test]
    fn reads_every_kind() {
        let document = parse(b"d3:inti-42e4:listl1:a0:e3:mapd1:xi7eee");
        let root = document.root();
        assert_eq!(root.kind(), Kind::Dict);
        assert_eq!(root.get("int").unwrap().int(), Some(-42));
        assert_eq!(root.get("int").unwrap().uint(), None);
        let list: Vec<_> = root.get("list").unwrap().list().unwrap().map(|v| v.text().unwrap()).collect();
        assert_eq!(list, ["a", ""]);
        assert_eq!(root.get("map").unwrap().get("x").unwrap().uint(), Some(7));
        assert_eq!(root.get("missing").map(Value::kind), None);
    }

    #[test]
    fn wrong_kinds_read_as_nothing() {
        let document = parse(b"l1:ae");
        let root = document.root();
        assert!(root.int().is_none() && root.bytes().is_none() && root.dict().is_none());
        assert!(root.get("a").is_none());
    }

    #[test]
    fn raw_is_verbatim_for_every_kind() {
        let input = b"d1:al2:xyi03ed0:0:ee1:bi-0e1:cd1:z0:1:yleee";
        let document = parse(input);
        let root = document.root();
        assert_eq!(root.raw(), input);
        assert_eq!(root.get("a").unwrap().raw(), b"l2:xyi03ed0:0:ee");
        assert_eq!(root.get("b").unwrap().raw(), b"i-0e");
        assert_eq!(root.get("c").unwrap().raw(), b"d1:z0:1:ylee");
        assert_eq!(root.get("c").unwrap().get("y").unwrap().raw(), b"le");
        assert_eq!(parse(b"4:spam").root().raw(), b"4:spam");
        assert_eq!(parse(b"4:spam").root().bytes(), Some(b"spam".as_slice()));
    }

    #[test]
    fn integers_outside_i64_are_no_integers() {
        assert_eq!(parse(b"i9223372036854775807e").root().int(), Some(i64::MAX));
        assert_eq!(parse(b"i-9223372036854775808e").root().int(), Some(i64::MIN));
        assert_eq!(parse(b"i9223372036854775808e").root().int(), None);
        assert_eq!(parse(b"i-0e").root().int(), Some(0));
        assert_eq!(parse(b"i007e").root().int(), Some(7));
    }

    #[test]
    fn the_first_of_repeated_keys_counts() {
        assert_eq!(parse(b"d1:ai1e1:ai2ee").root().get("a").unwrap().int(), Some(1));
    }

    #[test]
    fn finds_what_is_not_canonical() {
        use BencodeErrorKind as K;
        let check = |input: &[u8]| parse(input).root().check_canonical().map_err(|e| (e.offset, e.kind));
        assert_eq!(check(b"d1:ai0e1:bi-1e2:ba0:e"), Ok(()));
        assert_eq!(check(b"d1:ali07eee"), Err((5, K::NonCanonicalInteger)));
        assert_eq!(check(b"li-0ee"), Err((1, K::NonCanonicalInteger)));
        assert_eq!(check(b"l01:ae"), Err((1, K::NonCanonicalLength)));
        assert_eq!(check(b"l00:e"), Err((1, K::NonCanonicalLength)));
        assert_eq!(check(b"d1:b0:1:a0:e"), Err((9, K::UnsortedKeys)));
        assert_eq!(check(b"ld1:a0:1:a0:ee"), Err((10, K::UnsortedKeys)));
    }
}
