//! `Source`: where a torrent comes from, as it was typed, and reading it. Fetching over HTTP is the engine's.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use ringtide_proto::bencode::Limits;
use ringtide_proto::limits::MAX_PIECE_LEN;
use ringtide_proto::metainfo::{Magnet, Metainfo};

use crate::exit::Failure;
use crate::text::quoted;
use crate::units::BinaryBytes;

/// Where a torrent comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// A torrent file.
    File(PathBuf),
    /// A torrent file on standard input (`-`).
    Stdin,
    /// A torrent file on a web server.
    Url(String),
    /// A magnet link.
    Magnet(String),
}

impl Source {
    /// What was typed. Links are told by how they begin.
    pub(crate) fn new(typed: &OsStr) -> Self {
        let begins = |text: &str, prefix: &str| {
            text.get(..prefix.len()).is_some_and(|head| head.eq_ignore_ascii_case(prefix))
        };
        match typed.to_str() {
            Some("-") => Self::Stdin,
            Some(text) if begins(text, "magnet:") => Self::Magnet(text.to_owned()),
            Some(text) if begins(text, "http://") || begins(text, "https://") => Self::Url(text.to_owned()),
            _ => Self::File(typed.into()),
        }
    }

    /// How a message names it.
    pub(crate) fn shown(&self) -> String {
        match self {
            Self::File(path) => quoted(path),
            Self::Stdin => "standard input".to_owned(),
            Self::Url(text) | Self::Magnet(text) => quoted(text),
        }
    }

    /// Parses what came from there.
    pub(crate) fn parse(&self, bytes: &[u8]) -> Result<Metainfo, Failure> {
        Metainfo::parse(bytes)
            .map_err(|error| Failure::bad_input(format_args!("cannot use {}: {error}", self.shown())))
    }

    /// Whether what came from there can be downloaded, given and verified: v1 or hybrid, with pieces that fit in memory.
    pub(crate) fn check_usable(&self, torrent: &Metainfo) -> Result<(), Failure> {
        let cannot = |why| Err(Failure::bad_input(format_args!("cannot use {}: {why}", self.shown())));
        if torrent.info_hash_v1().is_none() {
            return cannot(
                "it is a v2-only torrent (BEP 52), which can be shown but not used yet; ask for a v1 or hybrid torrent"
                    .to_owned(),
            );
        }
        if torrent.piece_length() > MAX_PIECE_LEN {
            return cannot(format!(
                "its pieces have {}, and more than {} cannot be assembled in memory; ask for a torrent with shorter pieces",
                BinaryBytes(torrent.piece_length().into()),
                BinaryBytes(MAX_PIECE_LEN.into()),
            ));
        }
        Ok(())
    }
}

/// A torrent file, read and parsed.
pub(crate) fn read_torrent(source: &Source) -> Result<Metainfo, Failure> {
    source.parse(&read_bytes(source)?)
}

/// A magnet link, parsed.
pub(crate) fn parse_magnet(link: &str) -> Result<Magnet, Failure> {
    Magnet::parse(link)
        .map_err(|error| Failure::bad_input(format_args!("cannot use {}: {error}", quoted(link))))
}

/// As [`read_torrent`], of what can be downloaded, given and verified.
pub(crate) fn read_usable(source: &Source) -> Result<Metainfo, Failure> {
    let torrent = read_torrent(source)?;
    source.check_usable(&torrent)?;
    Ok(torrent)
}

fn read_bytes(source: &Source) -> Result<Vec<u8>, Failure> {
    match source {
        Source::File(path) => {
            let open = || open_regular(path);
            let file =
                open().map_err(|error| Failure::io(format_args!("cannot open {}", quoted(path)), &error))?;
            read_bounded(file, source)
        }
        Source::Stdin => read_bounded(io::stdin().lock(), source),
        Source::Url(url) => Err(Failure::bad_input(format_args!(
            "only get fetches torrents from the web; download {} first",
            quoted(url)
        ))),
        Source::Magnet(link) => Err(Failure::bad_input(format_args!(
            "a magnet link has no piece hashes; use the .torrent file instead of {}",
            quoted(link)
        ))),
    }
}

fn open_regular(path: &Path) -> io::Result<File> {
    // Reading a directory fails with a message that does not say so.
    match std::fs::metadata(path)?.is_dir() {
        true => Err(io::Error::new(io::ErrorKind::IsADirectory, "it is a directory, not a torrent file")),
        false => File::open(path),
    }
}

fn read_bounded(mut input: impl Read, source: &Source) -> Result<Vec<u8>, Failure> {
    let limit = Limits::FILE.bytes;
    let mut bytes = Vec::new();
    let read = input.by_ref().take(limit as u64 + 1).read_to_end(&mut bytes);
    read.map_err(|error| Failure::io(format_args!("cannot read {}", source.shown()), &error))?;
    if bytes.len() > limit {
        let limit = BinaryBytes(limit as u64);
        let message = format!("{} is longer than {limit}: it is no torrent file", source.shown());
        return Err(Failure::bad_input(message));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_told_from_paths() {
        let source = |text: &str| Source::new(OsStr::new(text));
        assert_eq!(source("Magnet:?xt=x"), Source::Magnet("Magnet:?xt=x".into()));
        assert_eq!(source("HTTPS://h/x"), Source::Url("HTTPS://h/x".into()));
        assert_eq!(source("./http://x"), Source::File("./http://x".into()));
        assert_eq!(source("-"), Source::Stdin);
        assert_eq!(source("é"), Source::File("é".into()));
    }
}
