//! Properties of parser and writer together: what is written is read back, and no bytes make the parser panic.

use proptest::prelude::*;

use super::{Bencode, Document, Kind, Limits, Value};

/// Trees up to five levels deep of every kind of value.
fn tree() -> impl Strategy<Value = Bencode<'static>> {
    let leaf = prop_oneof![
        any::<i64>().prop_map(Bencode::Int),
        prop::collection::vec(any::<u8>(), 0..40).prop_map(Bencode::from),
    ];
    leaf.prop_recursive(5, 60, 8, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..8).prop_map(Bencode::List),
            prop::collection::btree_map(prop::collection::vec(any::<u8>(), 0..10), inner, 0..8)
                .prop_map(|map| Bencode::Dict(map.into_iter().map(|(k, v)| (k.into(), v)).collect())),
        ]
    })
}

/// The tree that a parsed value stands for.
fn to_tree(value: Value<'_>) -> Bencode<'static> {
    match value.kind() {
        Kind::Int => Bencode::Int(value.int().unwrap()),
        Kind::Bytes => value.bytes().unwrap().to_vec().into(),
        Kind::List => Bencode::List(value.list().unwrap().map(to_tree).collect()),
        Kind::Dict => {
            Bencode::Dict(value.dict().unwrap().map(|(k, v)| (k.to_vec().into(), to_tree(v))).collect())
        }
    }
}

/// Reads everything that can be read, so that a wrong index anywhere panics.
fn touch_everything(value: Value<'_>) -> usize {
    let _ = value.check_canonical();
    let own = value.raw().len() + value.int().map_or(0, |_| 1) + value.text().map_or(0, str::len);
    let elements: usize = value.list().into_iter().flatten().map(touch_everything).sum();
    let entries: usize = value.dict().into_iter().flatten().map(|(_, v)| touch_everything(v)).sum();
    own + elements + entries
}

fn parse_and_touch(input: &[u8]) {
    if let Ok((document, len)) = Document::parse_prefix(input, &Limits::PEER) {
        assert_eq!(document.root().raw(), &input[..len]);
        touch_everything(document.root());
    }
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(tree in tree()) {
        let encoded = tree.encode();
        let document = Document::parse(&encoded, &Limits::PEER).unwrap();
        prop_assert_eq!(to_tree(document.root()), tree);
        prop_assert_eq!(document.root().check_canonical(), Ok(()));
        prop_assert_eq!(document.root().raw(), &encoded[..]);
    }

    #[test]
    fn a_cut_document_is_refused(tree in tree(), at in any::<prop::sample::Index>()) {
        let encoded = tree.encode();
        let cut = &encoded[..at.index(encoded.len())];
        let error = Document::parse(cut, &Limits::PEER).expect_err("a prefix of a value is no value");
        prop_assert!(error.offset <= cut.len());
    }

    #[test]
    fn random_bytes_never_panic(input in prop::collection::vec(any::<u8>(), 0..300)) {
        parse_and_touch(&input);
    }

    #[test]
    fn random_grammar_never_panics(input in "[dlie0-9:a-]{0,80}") {
        parse_and_touch(input.as_bytes());
    }

    #[test]
    fn a_mutated_document_never_panics(
        tree in tree(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..5),
    ) {
        let mut encoded = tree.encode();
        for (at, byte) in changes {
            let at = at.index(encoded.len());
            encoded[at] = byte;
        }
        parse_and_touch(&encoded);
    }
}
