//! Any bytes: parsing and reading everything back does not panic, and what is canonical is written back the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ringtide_proto::bencode::{Bencode, Document, Kind, Limits, Value};

/// Reads all that there is. Depth is at most 100, so recursing is fine.
fn tree(value: Value<'_>) -> Bencode<'_> {
    match value.kind() {
        // An integer that does not fit is kept as it is.
        Kind::Int => value.int().map_or(Bencode::Verbatim(value.raw().into()), Bencode::Int),
        Kind::Bytes => value.bytes().expect("a string").into(),
        Kind::List => Bencode::List(value.list().expect("a list").map(tree).collect()),
        Kind::Dict => Bencode::Dict(
            value.dict().expect("a dictionary").map(|(key, value)| (key.into(), tree(value))).collect(),
        ),
    }
}

fuzz_target!(|input: &[u8]| {
    let Ok((document, len)) = Document::parse_prefix(input, &Limits::PEER) else {
        return;
    };
    let root = document.root();
    assert_eq!(root.raw(), &input[..len]);
    let written = tree(root).encode();
    if root.check_canonical().is_ok() {
        assert_eq!(written, root.raw());
    }
    Document::parse(&written, &Limits::PEER).expect("what we write is valid");
});
