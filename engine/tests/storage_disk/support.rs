//! Content with known bytes, and filesystems to put it on.

use std::path::{Path, PathBuf};
use std::process::Command;

use ringtide_engine::storage::{
    BufferPool, CheckReport, Content, ContentFile, Mode, PieceCheck, Storage, StorageError, StorageOptions,
    Verified,
};
use ringtide_hasher::{Sha1Digest, sha1};
use ringtide_proto::layout::PieceIndex;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;

/// A torrent's description together with all of its bytes.
pub(crate) struct Sample {
    pub(crate) content: Content,
    pub(crate) bytes: Vec<u8>,
    pub(crate) hashes: Vec<Sha1Digest>,
    pool: BufferPool,
}

impl Sample {
    /// Bytes that look random and follow from `seed`; zeros where the content has padding.
    pub(crate) fn new(content: Content, seed: u64) -> Sample {
        let mut bytes = vec![0; usize::try_from(content.layout().total_len()).expect("fits in memory")];
        let mut state = seed | 1;
        for piece in content.layout().pieces() {
            let start = usize::try_from(content.layout().piece_offset(piece)).expect("fits in memory");
            for span in content.piece_spans(piece).filter(|span| !span.pad) {
                for byte in &mut bytes[start + span.range.start..start + span.range.end] {
                    state =
                        state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    *byte = state.to_be_bytes()[0];
                }
            }
        }
        let piece_len = content.layout().nominal_piece_len() as usize;
        let hashes = bytes.chunks(piece_len).map(sha1).collect();
        Sample { content, bytes, hashes, pool: BufferPool::new(64 << 20) }
    }

    pub(crate) fn single(len: u64, piece_len: u32) -> Sample {
        Sample::new(Content::single("image", len, piece_len).expect("a layout"), len)
    }

    /// Several files: empty ones, ones that end inside a block, padding, directories.
    pub(crate) fn several() -> Sample {
        let files = vec![
            ContentFile::new("a/first", 100_000),
            ContentFile::new("a/empty", 0),
            ContentFile::pad(31_072),
            ContentFile { executable: true, ..ContentFile::new("b/c/second", 300_001) },
            ContentFile::new("third", 1),
            ContentFile::new("a/fourth", 65_536),
        ];
        Sample::new(Content::directory("tree", files, 65_536).expect("a layout"), 7)
    }

    pub(crate) fn open(&self, path: &Path, mode: Mode) -> Result<Storage, StorageError> {
        self.open_with(path, mode, StorageOptions::default())
    }

    pub(crate) fn open_with(
        &self,
        path: &Path,
        mode: Mode,
        options: StorageOptions,
    ) -> Result<Storage, StorageError> {
        Storage::open(path, self.content.clone(), mode, options)
    }

    pub(crate) fn piece(&self, number: u32) -> PieceIndex {
        self.content.layout().piece(number).expect("a piece")
    }

    pub(crate) fn piece_bytes(&self, piece: PieceIndex) -> &[u8] {
        let start = usize::try_from(self.content.layout().piece_offset(piece)).expect("fits in memory");
        &self.bytes[start..start + self.content.layout().piece_len(piece) as usize]
    }

    pub(crate) fn verified(&self, piece: PieceIndex) -> Verified {
        let bytes = self.piece_bytes(piece);
        let mut buffer = self.pool.try_take(bytes.len()).expect("has room");
        buffer.write(0, bytes);
        Verified::check(piece, buffer.freeze(), &self.hashes[piece.index()]).expect("is right")
    }

    pub(crate) fn write_all(&self, storage: &Storage) {
        for piece in self.content.layout().pieces() {
            storage.write_blocking(&self.verified(piece)).expect("is written");
        }
    }

    /// The report, and what was said of each piece.
    pub(crate) fn check(&self, storage: &Storage, threads: usize) -> (CheckReport, Vec<Option<PieceCheck>>) {
        let found = Mutex::new(vec![None; self.hashes.len()]);
        let report = storage.check(
            &self.hashes,
            threads,
            |piece, result| {
                let before = found.lock().expect("no panic")[piece.index()].replace(result);
                assert_eq!(before, None, "{piece:?} is told once");
            },
            &AtomicBool::new(false),
        );
        (report, found.into_inner().expect("no panic"))
    }

    /// Compares every file beneath the directory that holds the content.
    pub(crate) fn assert_on_disk(&self, holder: &Path) {
        let root =
            if self.content.is_directory() { holder.join(self.content.name()) } else { holder.to_owned() };
        let mut expected = vec![Vec::new(); self.content.file_count()];
        for piece in self.content.layout().pieces() {
            for span in self.content.piece_spans(piece) {
                expected[span.file.index()].extend_from_slice(&self.piece_bytes(piece)[span.range]);
            }
        }
        for (id, file) in self.content.real_files() {
            let found = std::fs::read(root.join(&file.path)).expect("is there");
            assert!(found == expected[id.index()], "{:?} differs", file.path);
        }
    }
}

/// A directory in memory: tmpfs on every Linux.
pub(crate) fn in_memory() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").expect("a directory")
}

/// A directory on whatever holds the build's temporary files.
pub(crate) fn on_disk() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory")
}

/// Something mounted in a directory of its own, until dropped.
pub(crate) struct Mounted {
    directory: tempfile::TempDir,
    _device: Option<Loop>,
}

impl Mounted {
    /// A tmpfs with room for `bytes`.
    pub(crate) fn tmpfs(bytes: u64) -> Mounted {
        let directory = tempfile::tempdir().expect("a directory");
        run(Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={bytes}"), "tmpfs"])
            .arg(directory.path()));
        Mounted { directory, _device: None }
    }

    /// A fresh ext4 of `bytes` bytes on a loop device.
    pub(crate) fn ext4(bytes: u64) -> Mounted {
        let device = Loop::new(bytes);
        run(Command::new("mkfs.ext4").args(["-q", "-b", "4096"]).arg(device.path()));
        let directory = tempfile::tempdir().expect("a directory");
        run(Command::new("mount").arg(device.path()).arg(directory.path()));
        Mounted { directory, _device: Some(device) }
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) fn device(&self) -> &Path {
        self._device.as_ref().expect("has a device").path()
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        run(Command::new("umount").arg(self.directory.path()));
    }
}

/// A loop device over a sparse file.
pub(crate) struct Loop {
    path: PathBuf,
    _file: tempfile::NamedTempFile,
}

impl Loop {
    pub(crate) fn new(bytes: u64) -> Loop {
        let file = tempfile::NamedTempFile::new_in(env!("CARGO_TARGET_TMPDIR")).expect("a file");
        file.as_file().set_len(bytes).expect("gets its length");
        let output = run(Command::new("losetup").args(["--find", "--show"]).arg(file.path()));
        Loop { path: output.trim().into(), _file: file }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        run(Command::new("losetup").arg("--detach").arg(&self.path));
    }
}

fn run(command: &mut Command) -> String {
    let output = command.output().expect("the command is installed");
    assert!(
        output.status.success() || std::thread::panicking(),
        "{command:?} failed (these tests need root): {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}
