//! `Content`: the files of a torrent and which bytes of which piece lie where in them.
//!
//! Owns the arithmetic between pieces and files. Knows nothing of directories and descriptors.

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::{Path, PathBuf};

use ringtide_proto::layout::{LayoutError, PieceIndex, PieceLayout};
use ringtide_proto::metainfo::Metainfo;

/// A file of a torrent, as it was described.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContentFile {
    /// Where it lies beneath the torrent's directory, made of sanitised names only.
    pub path: PathBuf,
    /// Bytes.
    pub len: u64,
    /// Whether it is padding (BEP 47): zeros that are never written to disk.
    pub pad: bool,
    /// Whether it is to be executable (BEP 47).
    pub executable: bool,
    /// For a symbolic link (BEP 47), where it leads beneath the torrent's directory; such a file is empty.
    pub link: Option<PathBuf>,
    /// Whether it is to be downloaded. Of one that is not, only what shares a piece with one that is comes to disk.
    pub wanted: bool,
}

impl ContentFile {
    /// An ordinary file.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>, len: u64) -> ContentFile {
        ContentFile { path: path.into(), len, pad: false, executable: false, link: None, wanted: true }
    }

    /// Padding (BEP 47).
    #[must_use]
    pub fn pad(len: u64) -> ContentFile {
        ContentFile { pad: true, ..ContentFile::new(".pad", len) }
    }
}

/// A file of a [`Content`], by its position.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileId(u32);

impl FileId {
    /// The position, for slices.
    #[must_use]
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// A run of torrent bytes that lies in one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileSpan {
    /// The file.
    pub file: FileId,
    /// First byte within the file.
    pub file_offset: u64,
    /// Where the bytes are in the buffer that was asked about; never empty.
    pub range: Range<usize>,
    /// Whether the file is padding: the bytes are zeros and on no disk.
    pub pad: bool,
}

impl FileSpan {
    /// First byte within the file that is not part of it any more.
    #[must_use]
    pub fn file_end(&self) -> u64 {
        self.file_offset + self.range.len() as u64
    }
}

/// What a torrent consists of: a name, pieces and files.
#[derive(Clone, Debug)]
pub struct Content {
    name: PathBuf,
    several_files: bool,
    layout: PieceLayout,
    files: Vec<ContentFile>,
    /// Where each file ends in the torrent. Never decreases; equal neighbours are empty files.
    ends: Vec<u64>,
}

impl Content {
    /// What a metainfo file describes, or `None` when it has no v1 pieces (BEP 52 alone).
    #[must_use]
    pub fn of(metainfo: &Metainfo) -> Option<Content> {
        metainfo.layout()?;
        let several = metainfo.is_multi_file();
        // Paths of a directory begin with its name, which is the content's.
        let below = |path: &[String]| path.iter().skip(usize::from(several)).collect::<PathBuf>();
        let files = metainfo.files().iter().map(|file| ContentFile {
            path: below(&file.path),
            len: file.length,
            pad: file.pad,
            executable: file.executable,
            link: file.symlink.as_deref().map(below),
            wanted: true,
        });
        Content::new(metainfo.name().into(), several, files.collect(), metainfo.piece_length()).ok()
    }

    /// The same content, of which only those files are to be downloaded that `wanted` says, by their position.
    #[must_use]
    pub fn selecting(mut self, wanted: impl Fn(usize) -> bool) -> Content {
        self.files.iter_mut().enumerate().for_each(|(index, file)| file.wanted = wanted(index));
        self
    }

    /// The content of a torrent that is one file called `name`.
    ///
    /// # Errors
    /// When there would be too many pieces, or pieces of length zero.
    pub fn single(name: impl Into<PathBuf>, len: u64, piece_len: u32) -> Result<Content, LayoutError> {
        let name = name.into();
        let file = ContentFile::new(name.clone(), len);
        Content::new(name, false, vec![file], piece_len)
    }

    /// The content of a torrent that is a directory called `name` with `files` in it.
    ///
    /// # Errors
    /// When there would be too many pieces, or pieces of length zero.
    pub fn directory(
        name: impl Into<PathBuf>,
        files: Vec<ContentFile>,
        piece_len: u32,
    ) -> Result<Content, LayoutError> {
        Content::new(name.into(), true, files, piece_len)
    }

    fn new(
        name: PathBuf,
        several_files: bool,
        files: Vec<ContentFile>,
        piece_len: u32,
    ) -> Result<Content, LayoutError> {
        let ends = running_ends(&files);
        let layout = PieceLayout::new(ends.last().copied().unwrap_or(0), piece_len)?;
        Ok(Content { name, several_files, layout, files, ends })
    }

    /// The name of the file or directory.
    #[must_use]
    pub fn name(&self) -> &Path {
        &self.name
    }

    /// Whether it is a directory of files, and not one file.
    #[must_use]
    pub fn is_directory(&self) -> bool {
        self.several_files
    }

    /// How the bytes divide into pieces.
    #[must_use]
    pub fn layout(&self) -> &PieceLayout {
        &self.layout
    }

    /// The file of that id.
    #[must_use]
    pub fn file(&self, file: FileId) -> &ContentFile {
        &self.files[file.index()]
    }

    /// The files that are on disk, which padding is not; links are told apart.
    pub fn real_files(&self) -> impl Iterator<Item = (FileId, &ContentFile)> {
        let files = self.files.iter().enumerate().filter(|(_, file)| !file.pad && file.link.is_none());
        // Positions fit: the constructor's callers have at most as many files as a metainfo file has tokens.
        files.map(|(index, file)| (FileId(u32::try_from(index).expect("fewer than 2^32 files")), file))
    }

    /// Those of them that are to be downloaded.
    pub fn wanted_files(&self) -> impl Iterator<Item = (FileId, &ContentFile)> {
        self.real_files().filter(|(_, file)| file.wanted)
    }

    /// The symbolic links that are to be made: where each lies and where it leads, beneath the torrent's directory.
    pub fn links(&self) -> impl Iterator<Item = (&Path, &Path)> {
        let wanted = self.files.iter().filter(|file| file.wanted);
        wanted.filter_map(|file| Some((&*file.path, file.link.as_deref()?)))
    }

    /// Files that are not wanted but have parts of pieces with what is: those parts come to disk, too.
    #[must_use]
    pub fn neighbours(&self) -> BTreeSet<FileId> {
        if self.files.iter().all(|file| file.wanted) {
            return BTreeSet::new();
        }
        let wanted = self.files.iter().zip(&self.ends).filter(|(file, _)| file.wanted && file.len > 0);
        // Pieces between the first of a file and its last have nothing of another.
        let at_edges = wanted.flat_map(|(file, &end)| [end - file.len, end - 1]);
        let piece_len = u64::from(self.layout.nominal_piece_len());
        let shared = at_edges.filter_map(|at| self.layout.piece(u32::try_from(at / piece_len).ok()?));
        let spans = shared.flat_map(|piece| self.piece_spans(piece));
        spans.filter(|span| !span.pad && !self.file(span.file).wanted).map(|span| span.file).collect()
    }

    /// How many files there are, padding included.
    #[must_use]
    pub fn file_count(&self) -> usize {
        self.files.len()
    }

    /// Which files hold the whole piece; ranges are within the piece.
    #[must_use]
    pub fn piece_spans(&self, piece: PieceIndex) -> Spans<'_> {
        self.spans(piece, 0, self.layout.piece_len(piece))
    }

    /// Which files hold `len` bytes from `begin` in the piece, in order; ranges count from `begin`. Empty files
    /// hold none.
    ///
    /// # Panics
    /// When the range leaves the piece.
    #[must_use]
    pub fn spans(&self, piece: PieceIndex, begin: u32, len: u32) -> Spans<'_> {
        let end = begin.checked_add(len).expect("a range within a piece");
        assert!(end <= self.layout.piece_len(piece), "bytes {begin} to {end} are not all in {piece:?}");
        let offset = self.layout.piece_offset(piece) + u64::from(begin);
        let file = self.ends.partition_point(|&end| end <= offset);
        Spans { content: self, file, offset, done: 0, len: len as usize }
    }
}

fn running_ends(files: &[ContentFile]) -> Vec<u64> {
    let mut end = 0_u64;
    // Saturation shows as a layout with too many pieces.
    files
        .iter()
        .map(|file| {
            end = end.saturating_add(file.len);
            end
        })
        .collect()
}

/// Iterator over [`FileSpan`]s.
#[derive(Clone, Debug)]
pub struct Spans<'a> {
    content: &'a Content,
    /// Position of the file that holds `offset`, when any bytes are left.
    file: usize,
    offset: u64,
    done: usize,
    len: usize,
}

impl Iterator for Spans<'_> {
    type Item = FileSpan;

    fn next(&mut self) -> Option<FileSpan> {
        let left = self.len - self.done;
        if left == 0 {
            return None;
        }
        while self.content.ends[self.file] <= self.offset {
            self.file += 1;
        }
        let file = &self.content.files[self.file];
        let in_file = self.content.ends[self.file] - self.offset;
        let take = usize::try_from(in_file).unwrap_or(usize::MAX).min(left);
        let span = FileSpan {
            file: FileId(u32::try_from(self.file).expect("fewer than 2^32 files")),
            file_offset: file.len - in_file,
            range: self.done..self.done + take,
            pad: file.pad,
        };
        self.done += take;
        self.offset += take as u64;
        Some(span)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn content(lens: &[u64], piece_len: u32) -> Content {
        let files = lens.iter().enumerate().map(|(index, &len)| ContentFile {
            pad: index % 3 == 2,
            ..ContentFile::new(index.to_string(), len)
        });
        Content::directory("d", files.collect(), piece_len).expect("a layout")
    }

    #[test]
    fn a_block_can_cover_several_files_and_empty_ones() {
        let content = content(&[10, 0, 5, 0, 0, 7], 16);
        let piece = content.layout().piece(0).expect("the first piece");
        let spans: Vec<_> =
            content.spans(piece, 8, 8).map(|s| (s.file.0, s.file_offset, s.range, s.pad)).collect();
        assert_eq!(spans, [(0, 8, 0..2, false), (2, 0, 2..7, true), (5, 0, 7..8, true)]);
    }

    #[test]
    fn an_empty_range_touches_no_file() {
        let content = content(&[10], 16);
        let piece = content.layout().piece(0).expect("the first piece");
        assert_eq!(content.spans(piece, 10, 0).count(), 0);
    }

    proptest! {
        /// The obvious implementation: every piece.
        #[test]
        fn neighbours_share_a_piece_with_what_is_wanted(
            lens in prop::collection::vec(0_u64..40, 1..20), piece_len in 1_u32..50, wanted in any::<u32>()
        ) {
            let is_wanted = |file: usize| wanted >> file & 1 == 1;
            let content = content(&lens, piece_len).selecting(is_wanted);
            let pieces = content.layout().pieces().map(|piece| content.piece_spans(piece).collect::<Vec<_>>());
            let shared = pieces.filter(|spans| spans.iter().any(|span| is_wanted(span.file.index())));
            let others = shared.flatten().filter(|span| !span.pad && !is_wanted(span.file.index()));
            prop_assert_eq!(content.neighbours(), others.map(|span| span.file).collect::<BTreeSet<_>>());
        }

        /// The obvious implementation: a table of every byte's file and offset.
        #[test]
        fn spans_agree_with_a_table_of_all_bytes(
            lens in prop::collection::vec(0_u64..40, 1..20), piece_len in 1_u32..50, begin in 0_u32..50, len in 0_u32..50
        ) {
            let content = content(&lens, piece_len);
            let table: Vec<_> =
                lens.iter().enumerate().flat_map(|(file, &len)| (0..len).map(move |at| (file, at))).collect();
            for piece in content.layout().pieces() {
                let piece_len = content.layout().piece_len(piece);
                let begin = begin.min(piece_len);
                let len = len.min(piece_len - begin);
                let mut next = 0;
                let start = usize::try_from(content.layout().piece_offset(piece)).expect("small") + begin as usize;
                for span in content.spans(piece, begin, len) {
                    prop_assert_eq!(span.range.start, next);
                    prop_assert_eq!(span.pad, span.file.index() % 3 == 2);
                    for (at, byte) in span.range.clone().enumerate() {
                        prop_assert_eq!(table[start + byte], (span.file.index(), span.file_offset + at as u64));
                    }
                    next = span.range.end;
                }
                prop_assert_eq!(next, len as usize);
            }
        }
    }
}
