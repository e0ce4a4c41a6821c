//! The image: bytes that repeat nowhere and compress to nothing, made as fast as they are written, and compared.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

use super::stopped;
use crate::exit::{Exit, Failure};
use crate::stop::Stop;
use crate::text::quoted;

/// Bytes that are written or compared at a time.
const PART: usize = 1 << 20;

/// Writes an image of so many bytes. Always the same one.
pub(super) fn write(path: &Path, bytes: u64, stop: &Stop) -> Result<(), Failure> {
    let cannot = |error: &io::Error| Failure::io(format_args!("cannot write {}", quoted(path)), error);
    let mut file = File::create(path).map_err(|error| cannot(&error))?;
    let mut buf = vec![0; PART];
    let mut state = 0;
    let mut left = bytes;
    while left > 0 {
        check(stop)?;
        fill(&mut buf, &mut state);
        let part = usize::try_from(left).unwrap_or(PART).min(PART);
        file.write_all(&buf[..part]).map_err(|error| cannot(&error))?;
        left -= part as u64;
    }
    Ok(())
}

/// Compares two files byte for byte.
pub(super) fn compare(left: &Path, right: &Path, stop: &Stop) -> Result<(), Failure> {
    let open = |path: &Path| {
        File::open(path).map_err(|error| Failure::io(format_args!("cannot open {}", quoted(path)), &error))
    };
    let (mut a, mut b) = (open(left)?, open(right)?);
    let (mut a_buf, mut b_buf) = (Vec::with_capacity(PART), Vec::with_capacity(PART));
    let mut offset = 0;
    loop {
        check(stop)?;
        read_part(&mut a, &mut a_buf, left)?;
        read_part(&mut b, &mut b_buf, right)?;
        if a_buf != b_buf {
            let same = a_buf.iter().zip(&b_buf).take_while(|(a, b)| a == b).count();
            let message =
                format!("the copy differs from the image at byte {}: this is a bug", offset + same as u64);
            return Err(Failure::new(Exit::Other, message));
        }
        if a_buf.is_empty() {
            return Ok(());
        }
        offset += a_buf.len() as u64;
    }
}

fn read_part(file: &mut File, buf: &mut Vec<u8>, path: &Path) -> Result<(), Failure> {
    buf.clear();
    let read = file.take(PART as u64).read_to_end(buf);
    read.map_err(|error| Failure::io(format_args!("cannot read {}", quoted(path)), &error))?;
    Ok(())
}

fn check(stop: &Stop) -> Result<(), Failure> {
    stop.requested().map_or(Ok(()), |exit| Err(stopped(exit)))
}

/// SplitMix64 (Steele, Lea and Flood 2014): a few operations for eight bytes.
pub(super) fn fill(buf: &mut [u8], state: &mut u64) {
    for bytes in buf.as_chunks_mut::<8>().0 {
        *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = *state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        *bytes = (z ^ (z >> 31)).to_le_bytes();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_generator_is_the_published_one() {
        let mut buf = [0; 16];
        fill(&mut buf, &mut 0);
        assert_eq!(buf[..8], 0xe220_a839_7b1d_cdaf_u64.to_le_bytes());
        assert_eq!(buf[8..], 0x6e78_9e6a_a1b9_65f4_u64.to_le_bytes());
    }
}
