//! `IoKind` and `IoChoice`: what a driver runs on, what the user asked for, and what the kernel allows.

use std::fmt;
use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::str::FromStr;
use std::time::Duration;

use super::{Driver, DriverConfig, DriverError, Op, Outcome, Token, setup};

/// What a driver runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IoKind {
    /// io_uring.
    Uring,
    /// epoll and ordinary system calls.
    Epoll,
}

impl fmt::Display for IoKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            IoKind::Uring => "uring",
            IoKind::Epoll => "epoll",
        })
    }
}

/// What the user asked for (`--io`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum IoChoice {
    /// io_uring where the kernel allows it.
    #[default]
    Auto,
    /// io_uring or nothing.
    Uring,
    /// epoll.
    Epoll,
}

impl fmt::Display for IoChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            IoChoice::Auto => "auto",
            IoChoice::Uring => "uring",
            IoChoice::Epoll => "epoll",
        })
    }
}

/// The word is none of `auto`, `uring` and `epoll`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParseIoChoiceError(String);

impl fmt::Display for ParseIoChoiceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no I/O driver is called {:?}; choose auto, uring or epoll", self.0)
    }
}

impl std::error::Error for ParseIoChoiceError {}

impl FromStr for IoChoice {
    type Err = ParseIoChoiceError;

    fn from_str(word: &str) -> Result<IoChoice, ParseIoChoiceError> {
        match word {
            "auto" => Ok(IoChoice::Auto),
            "uring" => Ok(IoChoice::Uring),
            "epoll" => Ok(IoChoice::Epoll),
            _ => Err(ParseIoChoiceError(word.to_owned())),
        }
    }
}

/// Turns what was asked for into what will be used, with one line that says why io_uring is not when it was
/// wanted. Tries io_uring for real, with a small ring on this thread.
///
/// # Errors
/// When io_uring was insisted on and does not work.
pub fn probe(choice: IoChoice) -> Result<(IoKind, Option<String>), DriverError> {
    if choice == IoChoice::Epoll {
        return Ok((IoKind::Epoll, None));
    }
    decide(choice, try_ring())
}

fn decide(choice: IoChoice, tried: Result<(), DriverError>) -> Result<(IoKind, Option<String>), DriverError> {
    let Err(error) = tried else { return Ok((IoKind::Uring, None)) };
    let reason = match error {
        DriverError::Setup { what, error } => refusal(what, &error, sysctl().as_deref()),
        DriverError::UringRefused { reason } => reason,
    };
    match choice {
        IoChoice::Uring => Err(DriverError::UringRefused { reason }),
        IoChoice::Auto | IoChoice::Epoll => {
            Ok((IoKind::Epoll, Some(format!("using epoll, not io_uring: {reason}"))))
        }
    }
}

/// Receives two messages through one multishot receive: the newest thing that is needed (Linux 6.0), and one
/// that a filter which merely lets a ring be made would still refuse.
fn try_ring() -> Result<(), DriverError> {
    let config = DriverConfig {
        recv_buffers: 2,
        recv_buffer_bytes: 4096,
        entries: 8,
        completions: 32,
        ..DriverConfig::default()
    };
    let mut driver = Driver::new(IoKind::Uring, &config)?;
    let works = || -> io::Result<()> {
        let (mut near, far) = UnixStream::pair()?;
        let socket = driver.adopt(far.into())?;
        driver.push(Token(0), Op::Recv { socket });
        for _ in 0..2 {
            near.write_all(b"x")?;
            driver.wait(Some(Duration::from_secs(5)))?;
            match driver.poll().map(|completion| completion.outcome) {
                Some(Outcome::Received(_)) => {}
                Some(Outcome::RecvEnded(Err(error))) => return Err(error),
                _ => return Err(io::ErrorKind::TimedOut.into()),
            }
        }
        Ok(())
    };
    let mut works = works;
    works().map_err(setup("a multishot receive"))
}

/// `kernel.io_uring_disabled`, where there is such a thing (Linux 6.6).
fn sysctl() -> Option<String> {
    Some(std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled").ok()?.trim().to_owned())
}

/// Why io_uring was refused, in words for the person who runs this host.
fn refusal(what: &str, error: &io::Error, sysctl: Option<&str>) -> String {
    match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => match sysctl {
            Some(level @ ("1" | "2")) => {
                format!("the administrator switched it off (sysctl kernel.io_uring_disabled={level})")
            }
            _ => "a security policy forbids it (often the container's seccomp profile)".to_owned(),
        },
        Some(libc::ENOSYS) => "this kernel has none, or a container's seccomp profile hides it".to_owned(),
        Some(libc::EINVAL) => format!("this kernel is too old for {what} (Linux 6.1 is needed)"),
        Some(libc::ENOMEM) => {
            format!("no memory may be locked for {what} (raise the limit with ulimit -l)")
        }
        _ => format!("{what} failed: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(errno: i32) -> Result<(), DriverError> {
        Err(DriverError::Setup { what: "a ring", error: io::Error::from_raw_os_error(errno) })
    }

    #[test]
    fn auto_takes_what_works_and_says_why_in_one_line() {
        assert_eq!(decide(IoChoice::Auto, Ok(())).expect("works"), (IoKind::Uring, None));
        for errno in [libc::EPERM, libc::ENOSYS, libc::EINVAL, libc::ENOMEM, libc::EIO] {
            let (kind, why) = decide(IoChoice::Auto, failed(errno)).expect("falls back");
            assert_eq!(kind, IoKind::Epoll);
            let why = why.expect("says why");
            assert!(why.starts_with("using epoll, not io_uring: ") && !why.contains('\n'), "{why}");
        }
    }

    #[test]
    fn insisting_on_io_uring_fails_and_says_what_to_do() {
        let error = decide(IoChoice::Uring, failed(libc::EPERM)).expect_err("refused");
        assert!(error.to_string().contains("--io epoll"), "{error}");
    }

    #[test]
    fn the_sysctl_is_named_when_it_is_to_blame() {
        let error = io::Error::from_raw_os_error(libc::EPERM);
        assert!(refusal("a ring", &error, Some("2")).contains("kernel.io_uring_disabled=2"));
        assert!(refusal("a ring", &error, Some("0")).contains("seccomp"));
        assert!(refusal("a ring", &error, None).contains("seccomp"));
    }

    /// Has io_uring_setup refused on this thread, as a container's seccomp profile does.
    fn forbid_io_uring() {
        let statement = |code: u32, k: u32| libc::sock_filter { code: code as u16, jt: 0, jf: 0, k };
        let mut program = [
            // The system call's number, at the start of what the filter is shown.
            statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0),
            libc::sock_filter {
                code: (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16,
                jt: 0,
                jf: 1,
                k: libc::SYS_io_uring_setup as u32,
            },
            statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ERRNO | libc::EPERM as u32),
            statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW),
        ];
        let filter = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
        // SAFETY: plain flags, and a program that lives through the calls, which copy it.
        unsafe {
            assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
            let mode = libc::c_ulong::from(libc::SECCOMP_MODE_FILTER);
            assert_eq!(libc::prctl(libc::PR_SET_SECCOMP, mode, &raw const filter), 0);
        }
    }

    #[test]
    fn a_container_that_forbids_io_uring_gets_epoll() {
        let probed = std::thread::spawn(|| {
            forbid_io_uring();
            (probe(IoChoice::Auto), probe(IoChoice::Uring))
        });
        let (auto, uring) = probed.join().expect("probes");
        let (kind, why) = auto.expect("falls back");
        assert!(kind == IoKind::Epoll && why.expect("says why").contains("seccomp"));
        assert!(uring.expect_err("refused").to_string().contains("--io epoll"));
    }

    #[test]
    fn epoll_is_not_probed_for() {
        assert_eq!(probe(IoChoice::Epoll).expect("always there"), (IoKind::Epoll, None));
    }

    #[test]
    fn choices_are_written_as_they_are_read() {
        for choice in [IoChoice::Auto, IoChoice::Uring, IoChoice::Epoll] {
            assert_eq!(choice.to_string().parse(), Ok(choice));
        }
        let error = "iouring".parse::<IoChoice>().expect_err("no such choice");
        assert!(error.to_string().contains("\"iouring\""));
    }
}
