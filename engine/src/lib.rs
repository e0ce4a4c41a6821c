//! The thread-per-core io_uring engine: drivers, storage, hash pool, shards and session.

// Under cfg(loom) only what loom checks is compiled: the runtimes beneath the rest do not support it.
#[cfg(not(loom))]
mod clock;
#[cfg(not(loom))]
mod config;
#[cfg(not(loom))]
pub mod driver;
#[cfg(not(loom))]
mod engine;
#[cfg(not(loom))]
mod event;
#[cfg(not(loom))]
pub mod hash_pool;
#[cfg(not(loom))]
pub mod mailbox;
#[cfg(loom)]
#[path = "mailbox/sleep_flag.rs"]
mod mailbox;
#[cfg(not(loom))]
pub mod metrics;
#[cfg(not(loom))]
mod session;
#[cfg(not(loom))]
mod shard;
#[cfg(not(loom))]
pub mod storage;
#[cfg(not(loom))]
mod timers;

#[cfg(not(loom))]
pub use config::{AddTorrent, Config, DEFAULT_MEMORY, Purpose, Rates};
#[cfg(not(loom))]
pub use engine::{Engine, EngineError};
#[cfg(not(loom))]
pub use event::{Event, ShardStats, TorrentId, TorrentStats};
