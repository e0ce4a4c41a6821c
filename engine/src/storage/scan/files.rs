//! `Files`: the files that one thread of a scan has open.
//!
//! Owns how many there are, and where in them data is. Each thread opens files of its own: the kernel reads
//! ahead per open file.

use std::io::IoSliceMut;
use std::num::NonZeroU64;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::rc::Rc;

use rustix::fs::{Advice, OFlags, SeekFrom, fadvise, fstat, seek};
use rustix::io::{Errno, ReadWriteFlags, preadv2};
use rustix::process::{Resource, getrlimit};

use super::super::content::FileId;
use super::super::positioned::{is_memory, read_up_to, reopen};
use super::super::split::Alignment;
use super::{Fault, Scan};

/// Most files that a thread keeps open: one for each lane, and a few that lanes share.
const MOST_OPEN: usize = 40;

/// Most descriptors for a file that may be open: the file has two, one of which is for direct reads, and the reads of
/// two steps keep such ones as well, each step of at most as many files as may be open.
const DESCRIPTORS_PER_FILE: u64 = 4;

/// Share of the process's limit that the threads of a scan take together: sockets and the cache of
/// descriptors need the rest.
const SHARE_OF_LIMIT: u64 = 4;

/// Shorter files are read ahead in one go without advice (the kernel's default is 128 KiB).
const READ_AHEAD: u64 = 128 << 10;

/// So many reads in a row that found their bytes in the page cache make it likely that the next will, too.
const WAITS_REMEMBERED: u32 = 64;

/// Alignment of memory, offset and length of direct reads, unless a file asks for more.
const DIRECT_ALIGN: u64 = 4096;

pub(super) struct Files<'a> {
    scan: &'a dyn Scan,
    capacity: usize,
    /// The first is closed when there is no room for another: one that was read to its end, or else the least recently used.
    open: Vec<OpenFile>,
    /// For how many reads more it is remembered that one had to wait.
    waits: u32,
    /// A file turned out to be in memory, whose filesystem need not say so again for each of its files.
    in_memory: bool,
}

impl<'a> Files<'a> {
    /// The files of one of `threads` threads.
    pub(super) fn new(scan: &'a dyn Scan, threads: usize) -> Files<'a> {
        let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        let files = usize::try_from(limit / SHARE_OF_LIMIT / DESCRIPTORS_PER_FILE).unwrap_or(usize::MAX);
        let capacity = (files / threads.max(1)).clamp(1, MOST_OPEN);
        Files { scan, capacity, open: Vec::new(), waits: 0, in_memory: false }
    }

    /// Most files that are open at a time, at least one.
    pub(super) fn capacity(&self) -> usize {
        self.capacity
    }

    /// The file; `None` when it cannot be opened, which was told to the scan when it was found out.
    pub(super) fn file(&mut self, id: FileId) -> Option<&mut OpenFile> {
        match self.open.iter().rposition(|file| file.id == id) {
            Some(at) if at + 1 == self.open.len() => {}
            Some(at) => {
                let file = self.open.remove(at);
                self.open.push(file);
            }
            None => {
                if self.open.len() == self.capacity {
                    self.open.remove(0);
                }
                self.open.push(OpenFile::open(self.scan, id));
            }
        }
        self.open.last_mut().filter(|file| file.fd.is_some())
    }

    /// The file, if it is long enough to hold bytes up to `end`. If it is not, the scan is told.
    pub(super) fn file_of(&mut self, id: FileId, end: u64) -> Option<&mut OpenFile> {
        let scan = self.scan;
        let file = self.file(id)?;
        if file.len < end {
            scan.failed(id, Fault::TooShort);
            return None;
        }
        Some(file)
    }

    /// Reads those bytes of a file into `buf`, or fills it with zeros where nothing was written; how many bytes
    /// were really read. `None` when they cannot be had, of which the scan was told.
    pub(super) fn read(&mut self, id: FileId, range: &Range<u64>, buf: &mut [u8]) -> Option<usize> {
        let file = self.file_of(id, range.end)?;
        if file.is_hole(range) {
            buf.fill(0);
            return Some(0);
        }
        if !self.read_at_once(id, range.start, buf) {
            self.read_patiently(id, range.start, buf)?;
        }
        self.retire(range.end);
        Some(buf.len())
    }

    /// Fills `buf` if its bytes are all in the page cache, and remembers whether.
    fn read_at_once(&mut self, id: FileId, offset: u64, buf: &mut [u8]) -> bool {
        if self.in_memory {
            return false;
        }
        let Some(fd) = self.file(id).and_then(|file| file.fd()) else { return false };
        let len = buf.len();
        let in_memory = match preadv2(fd, &mut [IoSliceMut::new(buf)], offset, ReadWriteFlags::NOWAIT) {
            Ok(read) if read == len => {
                self.waits = self.waits.saturating_sub(1);
                return true;
            }
            Err(Errno::OPNOTSUPP) => is_memory(fd),
            _ => false,
        };
        self.in_memory = in_memory;
        self.waits = if in_memory { 0 } else { WAITS_REMEMBERED };
        false
    }

    /// Fills `buf`, whatever there is to wait for. `None` when the bytes cannot be had, of which the scan was told.
    fn read_patiently(&mut self, id: FileId, offset: u64, buf: &mut [u8]) -> Option<()> {
        let scan = self.scan;
        let fault = match read_up_to(self.file(id)?.fd()?, buf, offset) {
            Ok(read) if read == buf.len() => return Some(()),
            Ok(_) => Fault::TooShort,
            Err(errno) => Fault::Os(errno),
        };
        scan.failed(id, fault);
        None
    }

    /// The last file was read up to `end`. If that is all of it, it need not stay open: lanes take turns, and what the others
    /// have begun should be.
    fn retire(&mut self, end: u64) {
        if self.open.last().is_some_and(|file| file.len == end)
            && let Some(file) = self.open.pop()
        {
            self.open.insert(0, file);
        }
    }

    /// Whether reads had to wait for the disk lately, so that it pays to ask for bytes before they are read.
    pub(super) fn waits(&self) -> bool {
        self.waits > 0
    }

    /// Asks the kernel to bring those bytes into the page cache.
    pub(super) fn will_need(&mut self, id: FileId, range: &Range<u64>) {
        if let Some(fd) = self.file(id).and_then(|file| file.fd()) {
            // Only advice.
            let len = NonZeroU64::new(range.end - range.start);
            let _ = fadvise(fd, range.start, len, Advice::WillNeed);
        }
    }
}

/// A file as one thread has it open.
pub(super) struct OpenFile {
    pub(super) id: FileId,
    /// `None` when it could not be opened: remembered, so that a missing file is looked for once and not per
    /// piece.
    fd: Option<OwnedFd>,
    /// Bytes when it was opened.
    len: u64,
    extent: Extent,
    /// Opened past the page cache, once that was asked for; `None` inside when it cannot be.
    direct: Option<Option<Direct>>,
}

/// A descriptor for direct reads.
#[derive(Clone)]
pub(super) struct Direct {
    pub(super) fd: Rc<OwnedFd>,
    /// What offsets and lengths must be multiples of; at least 4096.
    pub(super) align: u64,
}

/// A run of a file that is all data, or all hole.
struct Extent {
    range: Range<u64>,
    is_data: bool,
}

impl OpenFile {
    fn open(scan: &dyn Scan, id: FileId) -> OpenFile {
        let (fd, len) = scan.open(id).map_or((None, 0), |(fd, len)| (Some(fd), len));
        if let Some(fd) = fd.as_ref().filter(|_| len > READ_AHEAD) {
            // Only advice: without it the kernel reads less ahead.
            let _ = fadvise(fd, 0, None, Advice::Sequential);
        }
        let unknown = Extent { range: 0..0, is_data: false };
        let extent = fd.as_ref().filter(|fd| is_full(fd, len)).map_or(unknown, |_| Extent::data_from(0));
        OpenFile { id, fd, len, extent, direct: None }
    }

    /// The descriptor of a file that is open.
    pub(super) fn fd(&self) -> Option<&OwnedFd> {
        self.fd.as_ref()
    }

    /// Bytes of the file when it was opened.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// Whether nothing was ever written to that range, which is not empty.
    pub(super) fn is_hole(&mut self, range: &Range<u64>) -> bool {
        let extent = self.extent_at(range.start);
        !extent.is_data && range.end <= extent.range.end
    }

    /// Whether all of that range, which is not empty, was written.
    pub(super) fn is_data(&mut self, range: &Range<u64>) -> bool {
        let extent = self.extent_at(range.start);
        extent.is_data && range.end <= extent.range.end
    }

    /// A descriptor past the page cache. Where the kernel does not say that this pays, only if `forced`.
    pub(super) fn direct(&mut self, forced: bool) -> Option<Direct> {
        let fd = self.fd.as_ref()?;
        self.direct.get_or_insert_with(|| open_direct(fd, forced)).clone()
    }

    fn extent_at(&mut self, offset: u64) -> &Extent {
        if !self.extent.range.contains(&offset) {
            self.extent = self.fd.as_ref().map_or(Extent::data_from(offset), |fd| Extent::at(fd, offset));
        }
        &self.extent
    }
}

impl Extent {
    fn at(fd: &OwnedFd, offset: u64) -> Extent {
        match seek(fd, SeekFrom::Hole(offset)) {
            Ok(hole) if hole > offset => return Extent { range: offset..hole, is_data: true },
            Ok(_) => {}
            // Block devices and some filesystems cannot tell: everything is data.
            Err(_) => return Extent::data_from(offset),
        }
        match seek(fd, SeekFrom::Data(offset)) {
            Ok(data) if data > offset => Extent { range: offset..data, is_data: false },
            // There is no data any more.
            Err(Errno::NXIO) => Extent { range: offset..u64::MAX, is_data: false },
            _ => Extent::data_from(offset),
        }
    }

    fn data_from(offset: u64) -> Extent {
        Extent { range: offset..u64::MAX, is_data: true }
    }
}

/// Whether the file is in memory and has no holes. There, to look for a hole is to look at every page, and each
/// thread would do it.
fn is_full(fd: &OwnedFd, len: u64) -> bool {
    const WORTH_ASKING: u64 = 4 << 20;
    let allocated = || fstat(fd).ok().and_then(|stat| u64::try_from(stat.st_blocks).ok()).unwrap_or(0) * 512;
    len >= WORTH_ASKING && is_memory(fd) && allocated() >= len
}

/// Opens an open file once more, for direct reads.
fn open_direct(fd: &OwnedFd, forced: bool) -> Option<Direct> {
    let align = match Alignment::of_file(fd) {
        Some(alignment) if !alignment.allows_pages() => return None,
        Some(alignment) => alignment.offset().max(DIRECT_ALIGN),
        None if forced => DIRECT_ALIGN,
        None => return None,
    };
    let fd = reopen(fd, OFlags::RDONLY | OFlags::DIRECT).ok()?;
    Some(Direct { fd: Rc::new(fd), align })
}
