//! No kernel reads before the first or behind the last byte of a message: the pages there cannot be read.

#![cfg(not(miri))]

use std::ffi::c_void;

use ringtide_hasher::{Dispatcher, Kernel, scalar};
use rustix::mm::{MapFlags, MprotectFlags, ProtFlags, mmap_anonymous, mprotect, munmap};
use rustix::param::page_size;

/// A page between two that nobody may touch.
struct Guarded {
    all: *mut c_void,
    page: usize,
}

impl Guarded {
    fn new() -> Self {
        let page = page_size();
        // SAFETY: new memory, of which only the outer pages lose their permissions.
        unsafe {
            let all = mmap_anonymous(
                std::ptr::null_mut(),
                3 * page,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::PRIVATE,
            )
            .expect("three pages");
            mprotect(all, page, MprotectFlags::empty()).expect("can be protected");
            mprotect(all.byte_add(2 * page), page, MprotectFlags::empty()).expect("can be protected");
            Self { all, page }
        }
    }

    fn bytes(&mut self) -> &mut [u8] {
        // SAFETY: the middle page is readable, writable and ours until `drop`.
        unsafe { std::slice::from_raw_parts_mut(self.all.byte_add(self.page).cast(), self.page) }
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        // SAFETY: what `new` mapped, which nobody borrows any more.
        unsafe { munmap(self.all, 3 * self.page).expect("was mapped") };
    }
}

#[test]
fn messages_at_both_ends_of_a_page_are_hashed_and_nothing_beyond() {
    let mut page = Guarded::new();
    page.bytes().iter_mut().enumerate().for_each(|(i, byte)| *byte = (i * 131 % 251) as u8);
    let bytes = &*page.bytes();
    for kernel in Kernel::available() {
        let dispatcher = Dispatcher::only(kernel).expect("runs here");
        for len in [0, 1, 63, 64, 65, 127, 128, 640, bytes.len() - 1, bytes.len()] {
            let ends = [&bytes[..len], &bytes[bytes.len() - len..]];
            // With all lanes in use, and with one.
            for count in [1, kernel.lanes(), kernel.lanes() + 1] {
                let messages: Vec<_> = ends.into_iter().cycle().take(count).collect();
                let (mut sha1, mut sha256) = (vec![[0; 20]; count], vec![[0; 32]; count]);
                dispatcher.sha1_many(&messages, &mut sha1);
                dispatcher.sha256_many(&messages, &mut sha256);
                for (i, message) in messages.iter().enumerate() {
                    let expected = (scalar::sha1(message), scalar::sha256(message));
                    assert_eq!((sha1[i], sha256[i]), expected, "{kernel}, {len} bytes");
                }
            }
        }
    }
}
