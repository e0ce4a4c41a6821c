//! Names of operations: what kind, of which connection or piece, and which part.

use crate::driver::Token;

/// What an operation is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Accepting on that listener.
    Accept,
    /// Connecting.
    Connect,
    /// Receiving the handshake.
    Greet,
    /// Receiving all that follows.
    Receive,
    /// Sending.
    Send,
    /// Reading a part of what a connection uploads.
    Read,
    /// Writing a part of a piece.
    Write,
}

const PURPOSES: [Purpose; 7] = [
    Purpose::Accept,
    Purpose::Connect,
    Purpose::Greet,
    Purpose::Receive,
    Purpose::Send,
    Purpose::Read,
    Purpose::Write,
];

/// Kind in the high byte, part in the next three, index in the low four.
pub(super) fn token(purpose: Purpose, index: usize, part: usize) -> Token {
    debug_assert!(part < 1 << 24);
    Token((purpose as u64) << 56 | (part as u64) << 32 | index as u64)
}

/// What the token names.
pub(super) fn parse(token: Token) -> (Purpose, usize, usize) {
    let purpose = PURPOSES[(token.0 >> 56) as usize];
    (purpose, (token.0 & 0xffff_ffff) as usize, (token.0 >> 32 & 0xff_ffff) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_say_what_they_name() {
        for purpose in PURPOSES {
            assert_eq!(parse(token(purpose, 123_456, 7)), (purpose, 123_456, 7));
        }
    }
}
