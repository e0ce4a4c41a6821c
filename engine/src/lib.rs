//! The thread-per-core io_uring engine: drivers, storage, hash pool, shards and session.

pub mod storage;
