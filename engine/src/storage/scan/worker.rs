//! `Worker`: one thread of a scan.
//!
//! Owns the order of things: a step is planned, which begins its reads, before the one ahead of it is hashed. Where
//! bytes come from is decided by `source`.

use std::collections::VecDeque;
use std::ops::Range;

use ringtide_hasher::{Sha1Digest, Sha1State, finish_many, update_many};
use ringtide_proto::layout::PieceIndex;

use super::source::{Skim, Source, Sources};
use super::{Found, LANES, STEP_BYTES, Shared};

/// Bytes of each lane that are hashed at a time: what has to be read for all lanes stays in the L2 cache.
const BITE_BYTES: usize = 32 << 10;

/// Files that are asked for ahead of being read, if a thread may keep as many open.
const FILES_AHEAD: usize = 24;

static ZEROS: [u8; BITE_BYTES] = [0; BITE_BYTES];

pub(super) struct Worker<'a> {
    shared: &'a Shared<'a>,
    sources: Sources<'a>,
    plan: Plan,
    /// The group that is being hashed.
    lanes: Vec<Lane>,
    /// Room for a bite of each of [`LANES`] lanes.
    buf: Vec<u8>,
    /// The slab that the next step uses.
    slab: usize,
    cancelled: bool,
}

/// The group that is being planned.
#[derive(Default)]
struct Plan {
    pieces: Vec<PieceIndex>,
    /// The strip of each piece that comes next; empty when all was planned.
    left: Range<u32>,
    strip_len: u32,
    is_new: bool,
}

/// A strip of each piece of a group.
struct Step {
    /// The pieces, where the step begins a group.
    group: Option<Vec<PieceIndex>>,
    strip: Range<u32>,
    /// One for each piece.
    sources: Vec<Source>,
    slab: usize,
    ends_group: bool,
}

/// A piece that is being hashed.
struct Lane {
    piece: PieceIndex,
    len: u32,
    state: Sha1State,
    /// Bytes of it that come from files and not from holes and padding, so far.
    data: u64,
    /// Some of its bytes cannot be had.
    gone: bool,
}

/// How far files are asked for ahead of those that are read.
struct Ahead {
    /// Lanes that nothing was asked for yet.
    lanes: Range<usize>,
    /// Of how many files something was asked for, for each lane that is still to be read.
    asked: VecDeque<usize>,
}

impl<'a> Worker<'a> {
    pub(super) fn new(shared: &'a Shared<'a>) -> Worker<'a> {
        Worker {
            shared,
            sources: Sources::new(shared),
            plan: Plan::default(),
            lanes: Vec::new(),
            buf: vec![0; LANES * BITE_BYTES],
            slab: 0,
            cancelled: false,
        }
    }

    /// Takes groups until there are none left; false when the scan was cancelled before.
    pub(super) fn run(mut self) -> bool {
        let mut next = self.plan_step();
        while let Some(step) = next {
            next = self.plan_step();
            if !self.hash_step(&step) {
                return false;
            }
        }
        !self.cancelled
    }

    fn plan_step(&mut self) -> Option<Step> {
        while self.plan.left.is_empty() {
            if self.is_cancelled() {
                return None;
            }
            let group = self.shared.take()?;
            self.begin_group(&group);
        }
        let slab = self.slab;
        self.slab ^= 1;
        self.sources.clear(slab);
        let group = std::mem::take(&mut self.plan.is_new).then(|| self.plan.pieces.clone());
        let strip = self.plan.next_strip();
        let layout = self.shared.content.layout();
        let source = |piece: &PieceIndex| {
            let strip = clip(&strip, layout.piece_len(*piece));
            self.sources.source(*piece, &strip, slab)
        };
        let sources = self.plan.pieces.iter().map(source).collect();
        self.sources.submit(slab);
        Some(Step { group, strip, sources, slab, ends_group: self.plan.left.is_empty() })
    }

    /// Plans the pieces of a group that hold data, and tells of the others.
    fn begin_group(&mut self, group: &Range<u32>) {
        let layout = self.shared.content.layout();
        self.sources.begin_group(group);
        self.plan.pieces.clear();
        for piece in group.clone().filter_map(|number| layout.piece(number)) {
            let found = match self.sources.skim(piece) {
                Skim::Data => {
                    self.plan.pieces.push(piece);
                    continue;
                }
                Skim::Hole => Found::Hole,
                Skim::Gone => Found::NotThere,
            };
            if self.is_cancelled() {
                self.plan.pieces.clear();
                return;
            }
            self.shared.scan.passed(layout.piece_len(piece).into(), 0);
            self.shared.scan.found(piece, found);
        }
        self.plan.begin(layout.nominal_piece_len());
    }

    /// False when the scan was cancelled.
    fn hash_step(&mut self, step: &Step) -> bool {
        if let Some(pieces) = &step.group {
            let layout = self.shared.content.layout();
            let lane = |piece: &PieceIndex| Lane::new(*piece, layout.piece_len(*piece));
            self.lanes = pieces.iter().map(lane).collect();
        }
        self.sources.wait(step.slab);
        for first in (0..self.lanes.len()).step_by(LANES) {
            let lanes = first..self.lanes.len().min(first + LANES);
            if !self.hash_lanes(step, lanes.clone()) || step.ends_group && !self.report(lanes) {
                return false;
            }
        }
        true
    }

    /// Hashes the strip of some lanes; false when the scan was cancelled.
    fn hash_lanes(&mut self, step: &Step, lanes: Range<usize>) -> bool {
        let (mut passed, mut read) = (0, 0);
        for begin in step.strip.clone().step_by(BITE_BYTES) {
            if self.is_cancelled() {
                return false;
            }
            let bite = begin..step.strip.end.min(begin + BITE_BYTES as u32);
            read += self.read_bite(step, lanes.clone(), &bite);
            self.feed_bite(step, lanes.clone(), &bite);
        }
        for at in lanes {
            let strip = clip(&step.strip, self.lanes[at].len);
            step.sources[at].release(u64::from(strip.end - strip.start));
            passed += u64::from(strip.end - strip.start);
            if step.sources[at].is_broken() && !self.start_over(at, strip.end) {
                return false;
            }
        }
        self.shared.scan.passed(passed, read);
        true
    }

    /// Reads what cannot be hashed where it is; how many bytes of the bite come from files, in either way.
    fn read_bite(&mut self, step: &Step, lanes: Range<usize>, bite: &Range<u32>) -> u64 {
        let (mut read, mut ahead) = (0, Ahead { lanes: lanes.clone(), asked: VecDeque::new() });
        for (slot, at) in lanes.enumerate() {
            self.read_ahead(step, &mut ahead, bite);
            let (lane, source) = (&mut self.lanes[at], &step.sources[at]);
            let part = clip(bite, lane.len);
            let len = (part.end - part.start) as usize;
            let data = match source {
                Source::Gone => None,
                _ if lane.gone || len == 0 => continue,
                Source::Zeros => Some(0),
                _ if self.sources.bytes(source, step.within(&part)).is_some() => Some(len),
                _ => self.sources.read(lane.piece, &part, &mut self.buf[slot * BITE_BYTES..][..len]),
            };
            lane.gone |= data.is_none();
            lane.data += data.unwrap_or(0) as u64;
            read += data.unwrap_or(0) as u64;
        }
        read
    }

    /// Asks for what will be read next, if the disk has to be waited for.
    fn read_ahead(&mut self, step: &Step, ahead: &mut Ahead, bite: &Range<u32>) {
        let most = FILES_AHEAD.min(self.sources.most_ahead());
        while ahead.asked.iter().sum::<usize>() < most
            && let Some(at) = ahead.lanes.next()
        {
            let lane = &self.lanes[at];
            let is_read = matches!(step.sources[at], Source::Files) && !lane.gone;
            let files = if is_read { self.sources.read_ahead(lane.piece, &clip(bite, lane.len)) } else { 0 };
            ahead.asked.push_back(files);
        }
        // The lane that is about to be read was the first to be asked for.
        ahead.asked.pop_front();
    }

    fn feed_bite(&mut self, step: &Step, lanes: Range<usize>, bite: &Range<u32>) {
        let mut streams = Vec::with_capacity(LANES);
        let bufs = self.buf.chunks_exact(BITE_BYTES);
        for ((lane, source), buf) in self.lanes[lanes.clone()].iter_mut().zip(&step.sources[lanes]).zip(bufs)
        {
            let part = clip(bite, lane.len);
            let len = (part.end - part.start) as usize;
            if lane.gone || len == 0 {
                continue;
            }
            let bytes = match source {
                Source::Zeros => &ZEROS[..len],
                _ => self.sources.bytes(source, step.within(&part)).unwrap_or(&buf[..len]),
            };
            streams.push((&mut lane.state, bytes));
        }
        update_many(&mut streams);
    }

    /// Hashes a piece again up to `end`, by ordinary reads: it was mapped and is not what it was. They find out
    /// whether this piece has lost any bytes. False when the scan was cancelled.
    fn start_over(&mut self, lane: usize, end: u32) -> bool {
        self.lanes[lane].state = Sha1State::new();
        for begin in (0..end).step_by(BITE_BYTES) {
            if self.is_cancelled() {
                return false;
            }
            let lane = &mut self.lanes[lane];
            let part = begin..end.min(begin + BITE_BYTES as u32);
            let buf = &mut self.buf[..(part.end - part.start) as usize];
            if lane.gone || self.sources.read(lane.piece, &part, buf).is_none() {
                lane.gone = true;
                return true;
            }
            lane.state.update(buf);
        }
        true
    }

    /// Tells of pieces that are complete; false when the scan was cancelled.
    fn report(&self, lanes: Range<usize>) -> bool {
        let lanes = &self.lanes[lanes];
        let states: Vec<_> = lanes.iter().map(|lane| &lane.state).collect();
        let mut digests = [Sha1Digest::default(); LANES];
        finish_many(&states, &mut digests[..states.len()]);
        lanes.iter().zip(digests).all(|(lane, digest)| {
            let found = match lane {
                Lane { gone: true, .. } => Found::NotThere,
                Lane { data: 0, .. } => Found::Hole,
                _ => Found::Digest(digest),
            };
            let goes_on = !self.shared.scan.is_cancelled();
            if goes_on {
                self.shared.scan.found(lane.piece, found);
            }
            goes_on
        })
    }

    fn is_cancelled(&mut self) -> bool {
        self.cancelled |= self.shared.scan.is_cancelled();
        self.cancelled
    }
}

impl Plan {
    /// All pieces are to be planned, the longest of which has `piece_len` bytes.
    fn begin(&mut self, piece_len: u32) {
        let Some(each) = STEP_BYTES.checked_div(self.pieces.len()) else { return };
        let each = u32::try_from(each).unwrap_or(u32::MAX);
        // Whole bites, so that lanes stay side by side.
        self.strip_len = (each / BITE_BYTES as u32 * BITE_BYTES as u32).max(BITE_BYTES as u32);
        self.left = 0..piece_len;
        self.is_new = true;
    }

    fn next_strip(&mut self) -> Range<u32> {
        let start = self.left.start;
        self.left.start = self.left.end.min(start.saturating_add(self.strip_len));
        start..self.left.start
    }
}

impl Step {
    /// Where a part of a piece lies in the strip.
    fn within(&self, part: &Range<u32>) -> Range<usize> {
        (part.start - self.strip.start) as usize..(part.end - self.strip.start) as usize
    }
}

impl Lane {
    fn new(piece: PieceIndex, len: u32) -> Lane {
        Lane { piece, len, state: Sha1State::new(), data: 0, gone: false }
    }
}

/// The part of a range that lies in a piece of `len` bytes; may be empty.
fn clip(range: &Range<u32>, len: u32) -> Range<u32> {
    range.start.min(len)..range.end.min(len)
}
