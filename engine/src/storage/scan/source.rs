//! `Sources`: where one thread gets the bytes of its pieces from.
//!
//! Owns the choice between mapping, direct and ordinary reads, which is made per file and group, and the ways
//! back when a choice turns out badly: a window that broke and a direct read that failed end in ordinary reads,
//! which say what is wrong.

use std::ops::Range;
use std::rc::{Rc, Weak};

use ringtide_proto::layout::PieceIndex;

use super::super::content::{FileId, FileSpan};
use super::direct::{DirectReader, Place};
use super::files::Files;
use super::probe::{Cache, probe};
use super::window::Window;
use super::{ReadWay, Shared};

/// A shorter part of a file costs less to copy than to map.
const LEAST_MAPPED: u64 = 64 << 10;

/// A shorter part of a file is read through the page cache: nothing is gained by reading it ahead.
const LEAST_DIRECT: u64 = 256 << 10;

/// In a longer group, pages of windows are released step by step.
const MOST_MAPPED: u64 = 32 << 20;

/// Where a strip of a piece comes from.
pub(super) enum Source {
    /// Mapped. The strip begins at that offset in the file, and its pages are released after it if so.
    Window { window: Rc<Window>, start: u64, releases: bool },
    /// Being read, or read.
    Direct(Place),
    /// Holes or padding.
    Zeros,
    /// To be read in the ordinary way, bit by bit.
    Files,
    /// Some of its bytes cannot be had.
    Gone,
}

/// What a look at where a piece lies tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Skim {
    /// Nothing but holes and padding.
    Hole,
    /// There is data, or there may be.
    Data,
    /// Some of its bytes cannot be had.
    Gone,
}

pub(super) struct Sources<'a> {
    shared: &'a Shared<'a>,
    files: Files<'a>,
    ring: Ring,
    /// Torrent bytes of the group.
    group: Range<u64>,
    /// How each large file of the group is read, as far as it was decided. There may be thousands, so no
    /// descriptor is kept here.
    ways: Vec<(FileId, Way)>,
    /// What the step in each slab keeps open.
    pinned: [Pinned; 2],
}

/// Files that direct reads of a step keep open, be they among the thread's open files or not.
#[derive(Clone, Copy, Default)]
struct Pinned {
    files: usize,
    last: Option<FileId>,
}

/// How a file is read for the time of a group.
#[derive(Clone)]
enum Way {
    /// By a window of that part, as long as the steps that are under way need it.
    Window(Weak<Window>, Range<u64>),
    Direct,
    /// In the ordinary way; `cold` when it is not, or may not be, in the page cache.
    Files {
        cold: bool,
    },
}

/// The ring for direct reads, made when it is first needed.
enum Ring {
    Untried,
    Refused,
    Ready(Box<DirectReader>),
}

impl<'a> Sources<'a> {
    pub(super) fn new(shared: &'a Shared<'a>) -> Sources<'a> {
        let files = Files::new(shared.scan, shared.threads);
        Sources {
            shared,
            files,
            ring: Ring::Untried,
            group: 0..0,
            ways: Vec::new(),
            pinned: Default::default(),
        }
    }

    /// The next sources are asked for in that group.
    pub(super) fn begin_group(&mut self, pieces: &Range<u32>) {
        let layout = self.shared.content.layout();
        let piece_len = u64::from(layout.nominal_piece_len());
        let end = (u64::from(pieces.end) * piece_len).min(layout.total_len());
        self.group = u64::from(pieces.start) * piece_len..end;
        self.ways.clear();
    }

    /// Looks at where the piece lies, up to the first data. Where that is a small file, it is not opened for this:
    /// the look would cost more than the bytes.
    pub(super) fn skim(&mut self, piece: PieceIndex) -> Skim {
        let content = self.shared.content;
        for span in content.piece_spans(piece).filter(|span| !span.pad) {
            if content.file(span.file).len < LEAST_MAPPED {
                return Skim::Data;
            }
            let Some(file) = self.files.file_of(span.file, span.file_end()) else { return Skim::Gone };
            if !file.is_hole(&range_of(&span)) {
                return Skim::Data;
            }
        }
        Skim::Hole
    }

    /// Where that strip of the piece comes from; if it has to be read, into that slab.
    pub(super) fn source(&mut self, piece: PieceIndex, strip: &Range<u32>, slab: usize) -> Source {
        let mut spans = self.shared.content.spans(piece, strip.start, strip.end - strip.start);
        let (Some(span), None) = (spans.next(), spans.next()) else { return Source::Files };
        if span.pad {
            return Source::Zeros;
        }
        let range = range_of(&span);
        let Some(file) = self.files.file_of(span.file, range.end) else { return Source::Gone };
        if !file.is_data(&range) {
            return if file.is_hole(&range) { Source::Zeros } else { Source::Files };
        }
        match self.way(piece, strip.start, &span) {
            // The file was opened once more meanwhile, and is longer than it was.
            Way::Window(_, part) if range.end > part.end => Source::Files,
            Way::Window(window, part) => {
                let window = window.upgrade().or_else(|| self.map(span.file, &part));
                window.filter(|window| !window.is_broken()).map_or(Source::Files, |window| {
                    let releases = self.group.end - self.group.start > MOST_MAPPED;
                    Source::Window { window, start: range.start, releases }
                })
            }
            Way::Direct => self.read_directly(span.file, &range, slab).map_or(Source::Files, Source::Direct),
            Way::Files { cold } => {
                if cold {
                    self.files.will_need(span.file, &range);
                }
                Source::Files
            }
        }
    }

    /// Begins to read what sources were given out for that slab.
    pub(super) fn submit(&mut self, slab: usize) {
        if let Ring::Ready(ring) = &mut self.ring {
            ring.submit(slab);
        }
    }

    /// Waits for the reads into that slab.
    pub(super) fn wait(&mut self, slab: usize) {
        if let Ring::Ready(ring) = &mut self.ring {
            ring.wait(slab);
        }
    }

    /// Ends the use of that slab.
    pub(super) fn clear(&mut self, slab: usize) {
        if let Ring::Ready(ring) = &mut self.ring {
            ring.clear(slab);
        }
        self.pinned[slab] = Pinned::default();
    }

    /// The part `within` of a strip, without a copy. `None` when it has to be [read](Self::read).
    pub(super) fn bytes<'b>(&'b self, source: &'b Source, within: Range<usize>) -> Option<&'b [u8]> {
        match (source, &self.ring) {
            (Source::Window { window, .. }, _) if window.is_broken() => None,
            (Source::Window { window, start, .. }, _) => {
                Some(window.bytes(&(start + within.start as u64..start + within.end as u64)))
            }
            (Source::Direct(place), Ring::Ready(ring)) => ring.bytes(*place, within),
            _ => None,
        }
    }

    /// Reads those bytes of a piece in the ordinary way; how many were really read, and not holes or padding.
    /// `None` when they cannot be had.
    pub(super) fn read(&mut self, piece: PieceIndex, range: &Range<u32>, buf: &mut [u8]) -> Option<usize> {
        let mut read = 0;
        for span in self.shared.content.spans(piece, range.start, range.end - range.start) {
            let part = &mut buf[span.range.clone()];
            if span.pad {
                part.fill(0);
            } else {
                read += self.files.read(span.file, &range_of(&span), part)?;
            }
        }
        Some(read)
    }

    /// Most files that may be asked for ahead of being read: they stay open until then, beside the one that is read.
    pub(super) fn most_ahead(&self) -> usize {
        self.files.capacity() - 1
    }

    /// Asks the kernel for those bytes of a piece before they are [read](Self::read), if that would have to wait; of
    /// how many files.
    pub(super) fn read_ahead(&mut self, piece: PieceIndex, range: &Range<u32>) -> usize {
        if !self.files.waits() {
            return 0;
        }
        let content = self.shared.content;
        let mut files = 0;
        for span in content.spans(piece, range.start, range.end - range.start).filter(|span| !span.pad) {
            self.files.will_need(span.file, &range_of(&span));
            files += 1;
        }
        files
    }

    /// Plans to read that range of a file past the page cache. `None` when it has to be read in the ordinary way:
    /// the step has no room for it, or keeps as many files open as it may.
    fn read_directly(&mut self, id: FileId, range: &Range<u64>, slab: usize) -> Option<Place> {
        let Ring::Ready(ring) = &mut self.ring else { return None };
        let pinned = self.pinned[slab].with(id);
        if pinned.files > self.files.capacity() {
            self.files.will_need(id, range);
            return None;
        }
        let direct = self.files.file(id)?.direct(self.shared.way == ReadWay::Direct)?;
        let place = ring.add(slab, id, &direct, range)?;
        self.pinned[slab] = pinned;
        Some(place)
    }

    /// Maps that part of a file: for the first time, or when the steps under way had no strip in its window. What
    /// cannot be mapped is read in the ordinary way from then on.
    fn map(&mut self, id: FileId, part: &Range<u64>) -> Option<Rc<Window>> {
        let fd = self.files.file(id).and_then(|file| file.fd());
        let window = fd.and_then(|fd| Window::open(fd, part)).map(Rc::new);
        if let Some((_, way)) = self.ways.iter_mut().rev().find(|(file, _)| *file == id) {
            *way = match &window {
                Some(window) => Way::Window(Rc::downgrade(window), part.clone()),
                None => Way::Files { cold: false },
            };
        }
        window
    }

    /// How the file of a span of the group is read.
    fn way(&mut self, piece: PieceIndex, begin: u32, span: &FileSpan) -> Way {
        if let Some((_, way)) = self.ways.iter().rev().find(|(file, _)| *file == span.file) {
            return way.clone();
        }
        let way = self.choose(span.file, &self.part_in_group(piece, begin, span));
        self.ways.push((span.file, way.clone()));
        way
    }

    /// The part of the span's file that belongs to the group.
    fn part_in_group(&self, piece: PieceIndex, begin: u32, span: &FileSpan) -> Range<u64> {
        let content = self.shared.content;
        let at = content.layout().piece_offset(piece) + u64::from(begin) + span.range.start as u64;
        let end = span.file_offset + (self.group.end - at);
        span.file_offset.saturating_sub(at - self.group.start)..end.min(content.file(span.file).len)
    }

    fn choose(&mut self, id: FileId, part: &Range<u64>) -> Way {
        let ordinary = Way::Files { cold: false };
        let Some(file) = self.files.file(id) else { return ordinary };
        // The file may end before the torrent says.
        let part = &(part.start..part.end.min(file.len()));
        let len = part.end.saturating_sub(part.start);
        let Some(fd) = file.fd() else { return ordinary };
        let forced = self.shared.way == ReadWay::Direct;
        let cache = match self.shared.way {
            ReadWay::Cached => return ordinary,
            ReadWay::Auto if len < LEAST_MAPPED => return ordinary,
            ReadWay::Auto => probe(fd, part),
            ReadWay::Mapped => Cache::Warm,
            ReadWay::Direct => Cache::Cold,
        };
        match cache {
            // Mapped where it is needed.
            Cache::Warm => Way::Window(Weak::new(), part.clone()),
            Cache::Cold if forced || len >= LEAST_DIRECT => {
                let direct = file.direct(forced).filter(|_| self.ring.is_ready());
                direct.map_or(Way::Files { cold: true }, |_| Way::Direct)
            }
            Cache::Cold | Cache::Unknown => Way::Files { cold: true },
        }
    }
}

impl Pinned {
    /// With one file more, unless it is the last once again.
    fn with(self, file: FileId) -> Pinned {
        Pinned { files: self.files + usize::from(self.last != Some(file)), last: Some(file) }
    }
}

impl Ring {
    /// Makes the ring the first time. Where it is refused, as in many containers, there are no direct reads.
    fn is_ready(&mut self) -> bool {
        if let Ring::Untried = self {
            *self = match DirectReader::new() {
                Ok(ring) => Ring::Ready(Box::new(ring)),
                Err(error) => {
                    tracing::debug!(%error, "no io_uring to read with: files are read through the page cache");
                    Ring::Refused
                }
            };
        }
        matches!(self, Ring::Ready(_))
    }
}

impl Source {
    /// Whether bytes of it were hashed that were not really there.
    pub(super) fn is_broken(&self) -> bool {
        matches!(self, Source::Window { window, .. } if window.is_broken())
    }

    /// Ends the use of a strip of `len` bytes.
    pub(super) fn release(&self, len: u64) {
        if let Source::Window { window, start, releases: true } = self {
            window.release(&(*start..start + len));
        }
    }
}

fn range_of(span: &FileSpan) -> Range<u64> {
    span.file_offset..span.file_end()
}
