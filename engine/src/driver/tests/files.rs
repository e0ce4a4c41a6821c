//! Files: what is written is read, and errors are told as they are.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;

use super::*;
use crate::storage::BufferPool;

impl Rig {
    fn write(&mut self, file: &Arc<OwnedFd>, offset: u64, data: &[u8]) -> io::Result<()> {
        self.push(Op::Write { file: Arc::clone(file), offset, data: data.to_vec().into() });
        match self.next() {
            Completion { outcome: Outcome::Written(written), last: true, .. } => written,
            other => panic!("{other:?}"),
        }
    }

    fn read(&mut self, file: &Arc<OwnedFd>, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        let buf = BufferPool::new(1 << 20).try_take_aligned(len.max(1)).expect("fits");
        self.read_into(file, offset, buf, len)
    }

    fn read_into(
        &mut self,
        file: &Arc<OwnedFd>,
        offset: u64,
        buf: AlignedBuf,
        len: usize,
    ) -> io::Result<Vec<u8>> {
        self.push(Op::Read { file: Arc::clone(file), offset, buf, len });
        match self.next() {
            Completion { outcome: Outcome::Read(buf, read), last: true, .. } => {
                let count = read?;
                assert_eq!(buf.len(), count);
                Ok(buf.as_slice().to_vec())
            }
            other => panic!("{other:?}"),
        }
    }

    fn sync(&mut self, file: &Arc<OwnedFd>) -> io::Result<()> {
        self.push(Op::Sync { file: Arc::clone(file) });
        match self.next() {
            Completion { outcome: Outcome::Synced(synced), last: true, .. } => synced,
            other => panic!("{other:?}"),
        }
    }
}

fn shared(file: File) -> Arc<OwnedFd> {
    Arc::new(file.into())
}

both! {
    fn what_is_written_is_read(kind: IoKind) {
        const LEN: usize = 300_000;
        let mut rig = Rig::new(kind);
        let file = shared(tempfile::tempfile().expect("a file"));
        let mut model = vec![0; LEN];
        let mut random = fastrand::Rng::with_seed(3);
        for _ in 0..60 {
            let (a, b) = (random.usize(0..LEN), random.usize(0..LEN));
            let (start, end) = (a.min(b), a.max(b));
            random.fill(&mut model[start..end]);
            rig.write(&file, start as u64, &model[start..end]).expect("writes");
        }
        rig.write(&file, LEN as u64 - 1, &model[LEN - 1..]).expect("writes");
        rig.sync(&file).expect("syncs");
        for _ in 0..60 {
            let (a, b) = (random.usize(0..LEN), random.usize(0..LEN));
            let (start, end) = (a.min(b), a.max(b));
            assert!(rig.read(&file, start as u64, end - start).expect("reads") == model[start..end]);
        }
        rig.finish();
    }

    fn a_read_ends_at_the_end_of_the_file(kind: IoKind) {
        let mut rig = Rig::new(kind);
        let file = shared(tempfile::tempfile().expect("a file"));
        rig.write(&file, 0, &[7; 10_000]).expect("writes");
        assert_eq!(rig.read(&file, 9_990, 4096).expect("reads"), [7; 10]);
        assert_eq!(rig.read(&file, 10_000, 4096).expect("reads"), b"");
        assert_eq!(rig.read(&file, 1 << 40, 4096).expect("reads"), b"");
        assert_eq!(rig.read(&file, 0, 0).expect("reads"), b"");
        rig.finish();
    }

    fn a_direct_read_ends_at_an_odd_end_too(kind: IoKind) {
        let mut rig = Rig::new(kind);
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("odd");
        std::fs::write(&path, vec![9; 10_001]).expect("writes");
        let file = OpenOptions::new().read(true).custom_flags(libc::O_DIRECT).open(&path).expect("opens");
        assert_eq!(rig.read(&shared(file), 4096, 16_384).expect("reads"), vec![9; 10_001 - 4096]);
        rig.finish();
    }

    fn errors_are_the_kernels(kind: IoKind) {
        let mut rig = Rig::new(kind);
        let full = shared(OpenOptions::new().write(true).open("/dev/full").expect("opens"));
        assert_eq!(errno(rig.write(&full, 0, b"x")), libc::ENOSPC);
        assert_eq!(errno(rig.read(&full, 0, 16)), libc::EBADF);
        let zero = shared(File::open("/dev/zero").expect("opens"));
        assert_eq!(errno(rig.write(&zero, 0, b"x")), libc::EBADF);
        assert_eq!(errno(rig.sync(&zero)), libc::EINVAL);
        let (reader, writer) = io::pipe().expect("a pipe");
        drop(reader);
        let written = errno(rig.write(&Arc::new(writer.into()), 0, b"x"));
        assert!(written == libc::EPIPE || written == libc::ESPIPE, "{written}");
        rig.finish();
    }

    fn a_read_longer_than_its_buffer_is_refused(kind: IoKind) {
        let mut rig = Rig::new(kind);
        let buf = BufferPool::new(8192).try_take_aligned(4096).expect("fits");
        let zero = shared(File::open("/dev/zero").expect("opens"));
        let error = rig.read_into(&zero, 0, buf, 8192).expect_err("refused");
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        rig.finish();
    }

    fn many_files_operations_at_once_all_end(kind: IoKind) {
        const COUNT: usize = 600;
        let mut rig = Rig::new(kind);
        let file = shared(tempfile::tempfile().expect("a file"));
        let pool = BufferPool::new(COUNT * 4096);
        let data = pattern(4096 * COUNT);
        for (index, block) in data.chunks(4096).enumerate() {
            let offset = index as u64 * 4096;
            rig.push(Op::Write { file: Arc::clone(&file), offset, data: block.to_vec().into() });
        }
        for _ in 0..COUNT {
            assert!(matches!(rig.next().outcome, Outcome::Written(Ok(()))));
        }
        let first = rig.tokens + 1;
        for index in 0..COUNT {
            let buf = pool.try_take_aligned(4096).expect("fits");
            rig.push(Op::Read { file: Arc::clone(&file), offset: index as u64 * 4096, buf, len: 4096 });
        }
        for _ in 0..COUNT {
            let completion = rig.next();
            let Outcome::Read(buf, read) = completion.outcome else { panic!("not a read") };
            let at = (completion.token.0 - first) as usize * 4096;
            assert_eq!(read.expect("reads"), 4096);
            assert!(buf.as_slice() == &data[at..at + 4096]);
        }
        rig.finish();
        assert_eq!(pool.used_bytes(), 0);
    }
}
