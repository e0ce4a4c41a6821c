//! No kernel reads before the first or behind the last byte of a message: the pages there cannot be read.

#![cfg(not(miri))]

use std::ffi::c_void;

use ringtide_hasher::{Dispatcher, Kernel, scalar};
use rustix::mm::{MapFlags, MprotectFlags, ProtFlags, mmap_anonymous, mprotect, munmap};

const PAGE: usize = 4096;

/// A page between two that nobody may touch.
struct Guarded(*mut c_void);

impl Guarded {
    fn new() -> Self {
        // SAFETY: new memory, of which only the outer pages lose their permissions.
        unsafe {
            let all = mmap_anonymous(
                std::ptr::null_mut(),
                3 * PAGE,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::PRIVATE,
            )
            .expect("three pages");
            mprotect(all, PAGE, MprotectFlags::empty()).expect("can be protected");
            mprotect(all.byte_add(2 * PAGE), PAGE, MprotectFlags::empty()).expect("can be protected");
            Self(all)
        }
    }

    fn bytes(&mut self) -> &mut [u8] {
        // SAFETY: the middle page is readable, writable and ours until `drop`.
        unsafe { std::slice::from_raw_parts_mut(self.0.byte_add(PAGE).cast(), PAGE) }
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        // SAFETY: what `new` mapped, which nobody borrows any more.
        unsafe { munmap(self.0, 3 * PAGE).expect("was mapped") };
    }
}

#[test]
fn messages_at_both_ends_of_a_page_are_hashed_and_nothing_beyond() {
    let mut page = Guarded::new();
    page.bytes().iter_mut().enumerate().for_each(|(i, byte)| *byte = (i * 131 % 251) as u8);
    let bytes = &*page.bytes();
    for kernel in Kernel::available() {
        let dispatcher = Dispatcher::only(kernel).expect("runs here");
        for len in [0, 1, 63, 64, 65, 127, 128, 640, PAGE - 1, PAGE] {
            for message in [&bytes[..len], &bytes[PAGE - len..]] {
                let messages = vec![message; kernel.lanes()];
                let (mut sha1, mut sha256) = (vec![[0; 20]; messages.len()], vec![[0; 32]; messages.len()]);
                dispatcher.sha1_many(&messages, &mut sha1);
                dispatcher.sha256_many(&messages, &mut sha256);
                assert!(sha1.iter().all(|digest| *digest == scalar::sha1(message)), "{kernel}, {len} bytes");
                assert!(
                    sha256.iter().all(|digest| *digest == scalar::sha256(message)),
                    "{kernel}, {len} bytes"
                );
            }
        }
    }
}
