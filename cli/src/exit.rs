//! `Exit`: what the exit code of the process says, and `Failure`, the message that goes with it.
//!
//! Owns the codes and their meaning. Which failure is which is decided where it happens.

use std::fmt;

use ringtide_engine::storage::{ErrorKind, StorageError};

/// Why the process ends. The numbers are a promise to scripts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Exit {
    /// Everything was done.
    Done = 0,
    /// A failure that no other code describes: a bug, or output that cannot be written.
    Other = 1,
    /// The command line makes no sense.
    Usage = 2,
    /// A torrent, magnet link or path that was given cannot be used.
    BadInput = 3,
    /// `verify` found bad or missing data.
    BadData = 4,
    /// No peers, or no network.
    NoPeers = 5,
    /// The deadline passed.
    Deadline = 6,
    /// The disk is full, too small or failing.
    Disk = 7,
    /// The kernel or the permissions refuse what is needed.
    Refused = 8,
    /// Stopped by SIGINT; the same command continues.
    Interrupted = 130,
    /// Stopped by SIGTERM; the same command continues.
    Terminated = 143,
}

impl Exit {
    /// The number a shell sees.
    pub(crate) fn code(self) -> u8 {
        self as u8
    }
}

impl From<ErrorKind> for Exit {
    fn from(kind: ErrorKind) -> Self {
        match kind {
            ErrorKind::Disk => Exit::Disk,
            ErrorKind::Path => Exit::BadInput,
            ErrorKind::Permission => Exit::Refused,
        }
    }
}

/// What a command ended with.
pub(crate) type Outcome = Result<Exit, Failure>;

/// A command that could not do what it was asked to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    /// What was wrong, with which input, and what to do. Empty when there is nobody to tell.
    pub(crate) message: String,
}

impl Failure {
    pub(crate) fn new(exit: Exit, message: impl fmt::Display) -> Self {
        Self { exit, message: message.to_string() }
    }

    pub(crate) fn usage(message: impl fmt::Display) -> Self {
        Self::new(Exit::Usage, message)
    }

    pub(crate) fn bad_input(message: impl fmt::Display) -> Self {
        Self::new(Exit::BadInput, message)
    }

    /// `what` could not be done because of the kernel's answer, which decides the code.
    pub(crate) fn io(what: impl fmt::Display, error: &std::io::Error) -> Self {
        use std::io::ErrorKind as Kind;
        let (exit, advice) = match error.kind() {
            Kind::NotFound => (Exit::BadInput, "; check the path"),
            Kind::IsADirectory | Kind::NotADirectory | Kind::InvalidInput => (Exit::BadInput, ""),
            Kind::PermissionDenied => (Exit::Refused, "; check who owns it and who you are"),
            Kind::ReadOnlyFilesystem => (Exit::Refused, "; the filesystem is mounted read-only"),
            Kind::StorageFull | Kind::QuotaExceeded => (Exit::Disk, "; make room and try again"),
            _ => (Exit::Disk, ""),
        };
        Self::new(exit, format_args!("{what}: {error}{advice}"))
    }
}

impl From<StorageError> for Failure {
    fn from(error: StorageError) -> Self {
        Self::new(error.kind().into(), error)
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn the_kernels_answer_decides_the_code() {
        let exit = |kind: io::ErrorKind| Failure::io("cannot read \"x\"", &kind.into()).exit;
        assert_eq!(exit(io::ErrorKind::NotFound), Exit::BadInput);
        assert_eq!(exit(io::ErrorKind::PermissionDenied), Exit::Refused);
        assert_eq!(exit(io::ErrorKind::StorageFull), Exit::Disk);
        assert_eq!(exit(io::ErrorKind::Other), Exit::Disk);
    }

    #[test]
    fn codes_are_what_scripts_expect() {
        assert_eq!([Exit::Done, Exit::Usage, Exit::BadData, Exit::Refused].map(Exit::code), [0, 2, 4, 8]);
        assert_eq!([Exit::Interrupted, Exit::Terminated].map(Exit::code), [130, 143]);
    }
}
