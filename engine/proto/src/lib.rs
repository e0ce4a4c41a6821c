//! BitTorrent as state machines: no I/O, no clock, no threads.
#![forbid(unsafe_code)]

mod banned;
pub mod bencode;
pub mod bitfield;
pub mod choker;
pub mod id;
pub mod layout;
pub mod limiter;
pub mod limits;
pub mod metainfo;
pub mod peer;
pub mod peer_list;
pub mod picker;
pub mod rng;
pub mod text;
pub mod time;
pub mod torrent;
pub mod tracker;
pub mod wire;
mod work;
