//! Storage on real filesystems. Tests that mount or need a loop device are ignored by default: run them as
//! root with `--include-ignored`.

mod check;
mod device;
mod files;
mod layout;
mod room;
mod scan;
mod support;
