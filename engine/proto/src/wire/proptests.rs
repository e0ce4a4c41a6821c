//! The codec as a whole: what was encoded is decoded however the stream is cut, and no stream makes the decoder
//! panic or hold more than its bound.

use proptest::prelude::*;

use super::*;

const BOUNDS: Bounds = Bounds { bitfield_len: 9, max_block: 200, max_extended: 600 };

/// A message and, for a block, its payload.
type Sent = (Message, Vec<u8>);

/// What a receiver makes of a stream; a block's slices are joined to compare them.
fn receive(decoder: &mut Decoder, mut input: &[u8], seen: &mut Vec<Sent>) -> Result<(), WireError> {
    while let Some(event) = decoder.decode(&mut input)? {
        match event {
            Event::Message(message) => seen.push((message, Vec::new())),
            Event::BlockBegin(span) => seen.push((Message::Piece(span), Vec::new())),
            Event::BlockData(data) => seen.last_mut().unwrap().1.extend_from_slice(data),
            Event::BlockEnd => {
                let (message, data) = seen.last().unwrap();
                assert!(matches!(message, Message::Piece(span) if span.length as usize == data.len()));
            }
        }
        assert!(decoder.buffered() <= BOUNDS.max_extended);
    }
    assert!(input.is_empty(), "None means that all was used");
    assert!(decoder.buffered() <= BOUNDS.max_extended);
    Ok(())
}

fn span() -> impl Strategy<Value = RawSpan> {
    any::<[u32; 3]>().prop_map(|[piece, begin, length]| RawSpan { piece, begin, length })
}

fn block() -> impl Strategy<Value = Sent> {
    (any::<[u32; 2]>(), prop::collection::vec(any::<u8>(), 1..=200)).prop_map(|([piece, begin], data)| {
        (Message::Piece(RawSpan { piece, begin, length: data.len() as u32 }), data)
    })
}

fn message() -> impl Strategy<Value = Message> {
    prop_oneof![
        Just(Message::KeepAlive),
        Just(Message::Choke),
        Just(Message::Unchoke),
        Just(Message::Interested),
        Just(Message::NotInterested),
        Just(Message::HaveAll),
        Just(Message::HaveNone),
        any::<u32>().prop_map(|piece| Message::Have { piece }),
        any::<u32>().prop_map(|piece| Message::SuggestPiece { piece }),
        any::<u32>().prop_map(|piece| Message::AllowedFast { piece }),
        any::<u16>().prop_map(Message::Port),
        any::<[u8; 9]>().prop_map(|bits| Message::Bitfield(bits.to_vec())),
        span().prop_map(Message::Request),
        span().prop_map(Message::Cancel),
        span().prop_map(Message::RejectRequest),
        (any::<u8>(), prop::collection::vec(any::<u8>(), 0..598))
            .prop_map(|(id, payload)| Message::Extended { id, payload }),
    ]
}

fn sent() -> impl Strategy<Value = Sent> {
    prop_oneof![3 => message().prop_map(|message| (message, Vec::new())), 1 => block()]
}

/// The places to cut, as lengths of portions that are used in turn.
fn portions() -> impl Strategy<Value = Vec<usize>> {
    prop::collection::vec(prop_oneof![1usize..20, 1usize..2000], 1..20)
}

fn cut<'a>(mut stream: &'a [u8], portions: &'a [usize]) -> impl Iterator<Item = &'a [u8]> {
    let mut lens = portions.iter().cycle();
    std::iter::from_fn(move || {
        let len = (*lens.next()?).min(stream.len());
        let (portion, rest) = stream.split_at(len);
        stream = rest;
        (len > 0).then_some(portion)
    })
}

/// Bytes that look enough like messages to get past the first check.
fn hostile() -> impl Strategy<Value = Vec<u8>> {
    let framed = (prop_oneof![0u32..1000, any::<u32>()], 0u8..24, prop::collection::vec(any::<u8>(), 0..300))
        .prop_map(|(length, id, rest)| [&length.to_be_bytes(), [id].as_slice(), &rest].concat());
    prop::collection::vec(prop_oneof![framed, prop::collection::vec(any::<u8>(), 0..50)], 0..12)
        .prop_map(|parts| parts.concat())
}

proptest! {
    #[test]
    fn what_is_encoded_is_decoded(messages in prop::collection::vec(sent(), 0..30), portions in portions()) {
        let mut stream = Vec::new();
        for (message, payload) in &messages {
            let before = stream.len();
            message.encode(&mut stream);
            prop_assert_eq!(stream.len() - before, message.encoded_len());
            stream.extend_from_slice(payload);
        }
        let (mut decoder, mut seen) = (Decoder::new(BOUNDS), Vec::new());
        for portion in cut(&stream, &portions) {
            receive(&mut decoder, portion, &mut seen).unwrap();
        }
        prop_assert_eq!(seen, messages);
        prop_assert_eq!(decoder.buffered(), 0);
    }

    #[test]
    fn hostile_streams_end_the_same_however_cut(stream in hostile(), portions in portions()) {
        let mut whole = (Decoder::new(BOUNDS), Vec::new());
        let verdict = receive(&mut whole.0, &stream, &mut whole.1);
        let mut parts = (Decoder::new(BOUNDS), Vec::new());
        let cut_verdict = cut(&stream, &portions).try_for_each(|portion| receive(&mut parts.0, portion, &mut parts.1));
        prop_assert_eq!(verdict, cut_verdict);
        prop_assert_eq!(whole.1, parts.1);
    }

    #[test]
    fn any_extended_handshake_is_survived(payload in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(handshake) = ExtendedHandshake::parse(&payload) {
            let again = ExtendedHandshake::parse(&handshake.encode());
            prop_assert_eq!(again, Ok(handshake));
        }
    }

    #[test]
    fn any_handshake_is_survived(bytes in any::<[[u8; 17]; 4]>(), right in any::<bool>()) {
        let mut bytes: [u8; HANDSHAKE_LEN] = std::array::from_fn(|i| bytes[i / 17][i % 17]);
        if right {
            bytes[..20].copy_from_slice(b"\x13BitTorrent protocol");
        }
        match Handshake::parse(&bytes) {
            Ok(handshake) => prop_assert_eq!(handshake.encode(), bytes),
            Err(_) => prop_assert!(!right),
        }
    }
}
