//! A shard, or a few, with the test playing all that is around them.

mod blocks;
mod bounds;
mod framed;
mod liars;
mod pacing;
mod rack;
mod reveal;
mod rig;
mod scale;
mod selection;
mod shards;
mod suggest;
mod takeover;
mod talk;
mod whole;
