//! `ringtide bench`: measurements that need nothing but this program. Each is a file; what they share is `machine` and
//! `image`.

mod child;
mod hash;
mod image;
mod loopback;
mod machine;
mod place;
mod report;
mod table;

use crate::exit::{Exit, Failure};
pub(crate) use child::follow;
pub(crate) use hash::Hash;
pub(crate) use loopback::Loopback;

fn stopped(exit: Exit) -> Failure {
    Failure::new(exit, "stopped; the files are removed")
}
