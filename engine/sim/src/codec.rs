//! The wire's bytes: where a scenario asks for it, what travels is written as bytes, cut at random points and read again, and
//! must be what was sent.

use ringtide_proto::bitfield::wire_len;
use ringtide_proto::layout::PieceLayout;
use ringtide_proto::limits::MAX_EXTENDED_LEN;
use ringtide_proto::rng::Rng;
use ringtide_proto::wire::{Bounds, Decoder, Event, Message, RawSpan};

use crate::wire::Frame;
use crate::world::World;

/// What the receiver of one side's stream has read.
pub(crate) fn new_decoder(layout: &PieceLayout) -> Decoder {
    Decoder::new(Bounds {
        bitfield_len: wire_len(layout.piece_count()),
        max_block: layout.block_len(),
        max_extended: MAX_EXTENDED_LEN,
    })
}

/// What the bytes of a frame say.
#[derive(Debug, Default, PartialEq, Eq)]
struct Said {
    messages: Vec<Message>,
    begun: Option<RawSpan>,
    data: u64,
    ended: bool,
}

impl World<'_> {
    /// Sends the frame that came for that side through the codec.
    pub(crate) fn check_codec(&mut self, conn: usize, side: usize, frame: &Frame) -> Result<(), String> {
        if !self.scenario.encoded {
            return Ok(());
        }
        let layout = self.scenario.layout;
        let end = &mut self.conns[conn].ends[side];
        let decoder = end.decoder.get_or_insert_with(|| Box::new(new_decoder(&layout)));
        let (bytes, sent) = (encode(frame), said(frame));
        let heard = decode(decoder, &bytes, &mut self.rng)
            .map_err(|error| format!("connection {conn} cannot read {frame:?}: {error}"))?;
        if heard == sent { Ok(()) } else { Err(format!("connection {conn} reads {heard:?} for {sent:?}")) }
    }
}

fn encode(frame: &Frame) -> Vec<u8> {
    let mut bytes = Vec::new();
    let fill = |bytes: &mut Vec<u8>, more: u64| bytes.resize(bytes.len() + more as usize, 0xa5);
    match frame {
        Frame::Message(message) => message.encode(&mut bytes),
        Frame::Messages(messages) => messages.iter().for_each(|message| message.encode(&mut bytes)),
        Frame::Begin(span) => bytes.extend(span.block_header()),
        Frame::Part(more) | Frame::End(_, _, more) => fill(&mut bytes, *more),
        Frame::Block(span, _) => {
            bytes.extend(span.block_header());
            fill(&mut bytes, u64::from(span.length));
        }
    }
    bytes
}

fn said(frame: &Frame) -> Said {
    match frame {
        Frame::Message(message) => Said { messages: vec![message.clone()], ..Said::default() },
        Frame::Messages(messages) => Said { messages: messages.clone(), ..Said::default() },
        Frame::Begin(span) => Said { begun: Some(*span), ..Said::default() },
        Frame::Part(data) => Said { data: *data, ..Said::default() },
        Frame::End(_, _, data) => Said { data: *data, ended: true, ..Said::default() },
        Frame::Block(span, _) => {
            Said { begun: Some(*span), data: u64::from(span.length), ended: true, ..Said::default() }
        }
    }
}

/// Reads the bytes in portions.
fn decode(
    decoder: &mut Decoder,
    bytes: &[u8],
    rng: &mut Rng,
) -> Result<Said, ringtide_proto::wire::WireError> {
    let mut said = Said::default();
    let mut rest = bytes;
    while !rest.is_empty() {
        let (mut portion, left) = rest.split_at(1 + rng.below(rest.len()));
        rest = left;
        while let Some(event) = decoder.decode(&mut portion)? {
            match event {
                Event::Message(message) => said.messages.push(message),
                Event::BlockBegin(span) => said.begun = Some(span),
                Event::BlockData(data) => said.data += data.len() as u64,
                Event::BlockEnd => said.ended = true,
            }
        }
    }
    Ok(said)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_cut_anywhere_is_read_as_it_was_sent() {
        let layout = PieceLayout::with_block_len(100, 10, 10).unwrap();
        let span = RawSpan { piece: 1, begin: 0, length: 10 };
        let messages = vec![Message::HaveAll, Message::Request(span), Message::Have { piece: 3 }];
        let marker = crate::disk::Marker::GOOD;
        let frames = [
            Frame::Messages(messages),
            Frame::Begin(span),
            Frame::Part(4),
            Frame::End(span, marker, 6),
            Frame::Block(span, marker),
        ];
        for seed in 0..100 {
            let (mut decoder, mut rng) = (new_decoder(&layout), Rng::new(seed));
            for frame in &frames {
                assert_eq!(decode(&mut decoder, &encode(frame), &mut rng), Ok(said(frame)));
            }
        }
    }
}
