//! `Files`: which files of a torrent to download, and which of them first, as the user named them.
//!
//! Owns what a name means: a number as `show` prints it, a range of them, or a pattern. What follows from the priority of a
//! file is the engine's business.

use ringtide_proto::metainfo::Metainfo;
use ringtide_proto::picker::Priority;

use crate::exit::Failure;
use crate::show::{file_path, numbered_files};
use crate::text::{escape, quoted};
use crate::units::count;

/// How files are named, for messages.
const SYNTAX: &str = "files are written 3, 1,3-5 or 7- (numbers as ringtide show prints them), or as a pattern like 'docs/*.txt'; a name made of digits as ./2024";

/// Files of a torrent, as they were typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum FileSpec {
    /// From one number to another, both included, or to the last.
    Numbers(Vec<(usize, Option<usize>)>),
    /// Paths of files, or of directories with all in them. `*` stands for any characters, `?` for one.
    Pattern(String),
}

/// What the options of `get` say about files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Files {
    /// To be downloaded; all where none are named.
    pub(crate) only: Vec<FileSpec>,
    /// Not to be downloaded.
    pub(crate) skip: Vec<FileSpec>,
    /// To be downloaded before others.
    pub(crate) first: Vec<FileSpec>,
}

impl FileSpec {
    /// `1,3-5`, `7-` or a pattern.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let numbers: Option<Vec<_>> = text.split(',').map(|part| range(part.trim())).collect();
        let looks_like_numbers = text.chars().all(|c| c.is_ascii_digit() || "-, ".contains(c));
        match numbers {
            Some(numbers) => Ok(Self::Numbers(numbers)),
            None if looks_like_numbers => Err(SYNTAX.to_owned()),
            None => Ok(Self::Pattern(text.strip_prefix("./").unwrap_or(text).to_owned())),
        }
    }
}

/// `3`, `3-5` or `3-`.
fn range(text: &str) -> Option<(usize, Option<usize>)> {
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let number = |text: &str| text.parse::<usize>().ok().filter(|&number| digits(text) && number > 0);
    match text.split_once('-') {
        None => number(text).map(|only| (only, Some(only))),
        Some((from, "")) => number(from).map(|from| (from, None)),
        Some((from, to)) => {
            let (from, to) = (number(from)?, number(to)?);
            (from <= to).then_some((from, Some(to)))
        }
    }
}

impl Files {
    /// Whether files were named at all.
    pub(crate) fn is_everything(&self) -> bool {
        *self == Self::default()
    }

    /// How much each file of the torrent is wanted, padding included; nothing where all are wanted alike.
    ///
    /// # Errors
    /// What names no file, or leaves none to be downloaded.
    pub(super) fn priorities(&self, torrent: &Metainfo) -> Result<Vec<Priority>, Failure> {
        if self.is_everything() {
            return Ok(Vec::new());
        }
        let named = |specs: &[FileSpec]| -> Result<Vec<bool>, Failure> {
            let mut all = vec![false; torrent.files().len()];
            for spec in specs {
                mark(spec, torrent, &mut all)?;
            }
            Ok(all)
        };
        let (only, skip, first) = (named(&self.only)?, named(&self.skip)?, named(&self.first)?);
        let mut priorities = Vec::new();
        for (index, file) in torrent.files().iter().enumerate() {
            let wanted = (self.only.is_empty() || only[index]) && !skip[index] && !file.pad;
            if first[index] && !wanted {
                return Err(Failure::bad_input(format_args!(
                    "{} is to come first and is not to be downloaded; name it in --first or leave it out, not both",
                    escape(&file_path(file))
                )));
            }
            priorities.push(match (wanted, first[index]) {
                (false, _) => Priority::Skip,
                (true, false) => Priority::Normal,
                (true, true) => Priority::High,
            });
        }
        if priorities.iter().all(|&priority| priority == Priority::Skip) {
            return Err(Failure::bad_input(format_args!(
                "no file of {} is left to download; see --files and --skip",
                escape(torrent.name())
            )));
        }
        Ok(priorities)
    }
}

/// Marks the files that are meant.
fn mark(spec: &FileSpec, torrent: &Metainfo, all: &mut [bool]) -> Result<(), Failure> {
    match spec {
        FileSpec::Numbers(ranges) => ranges.iter().try_for_each(|&range| mark_range(range, torrent, all)),
        FileSpec::Pattern(pattern) => mark_pattern(pattern, torrent, all),
    }
}

fn mark_range(range: (usize, Option<usize>), torrent: &Metainfo, all: &mut [bool]) -> Result<(), Failure> {
    let last = numbered_files(torrent).count();
    let (from, to) = (range.0, range.1.unwrap_or(last));
    let beyond = if from > last { Some(from) } else { Some(to).filter(|&to| to > last) };
    if let Some(number) = beyond {
        return Err(Failure::bad_input(format_args!(
            "there is no file {number} in {}, which has {}; ringtide show prints their numbers",
            escape(torrent.name()),
            count(last as u64, "file")
        )));
    }
    let meant = numbered_files(torrent).filter(|(number, ..)| (from..=to).contains(number));
    meant.for_each(|(_, index, _)| all[index] = true);
    Ok(())
}

fn mark_pattern(pattern: &str, torrent: &Metainfo, all: &mut [bool]) -> Result<(), Failure> {
    let pattern: Vec<char> = pattern.trim_end_matches('/').chars().collect();
    let mut found = false;
    for (_, index, file) in numbered_files(torrent) {
        // The torrent's own directory may be left out.
        let outer = usize::from(torrent.is_multi_file());
        let is_meant = |from: usize| {
            let path = &file.path[from.min(file.path.len())..];
            (1..=path.len()).any(|parts| matches(&pattern, &path[..parts].join("/")))
        };
        if is_meant(0) || is_meant(outer) {
            (all[index], found) = (true, true);
        }
    }
    if found {
        return Ok(());
    }
    Err(Failure::bad_input(format_args!(
        "no file of {} is called {}; ringtide show prints them, * stands for any characters and ? for one",
        escape(torrent.name()),
        quoted(pattern.into_iter().collect::<String>())
    )))
}

/// Whether the pattern describes all of the text. Takes at most as many steps as one has characters times the other.
fn matches(pattern: &[char], text: &str) -> bool {
    let text: Vec<char> = text.chars().collect();
    let (mut at, mut in_pattern) = (0, 0);
    // Where the last star stands, and how much of the text it has taken so far.
    let mut star: Option<(usize, usize)> = None;
    while at < text.len() {
        match pattern.get(in_pattern) {
            Some('*') => {
                star = Some((in_pattern, at));
                in_pattern += 1;
            }
            Some(&c) if c == '?' || c == text[at] => (at, in_pattern) = (at + 1, in_pattern + 1),
            _ => match &mut star {
                Some((place, taken)) => {
                    *taken += 1;
                    (at, in_pattern) = (*taken, *place + 1);
                }
                None => return false,
            },
        }
    }
    pattern[in_pattern..].iter().all(|&c| c == '*')
}

#[cfg(test)]
mod tests {
    use ringtide_proto::metainfo::TorrentBuilder;

    use super::*;
    use crate::exit::Exit;

    fn torrent() -> Metainfo {
        let file = |path: &str| (path.split('/').map(str::to_owned).collect(), 10);
        let files = ["a.iso", "docs/a.txt", "docs/b.txt", "docs/more/c.txt", "x,y", "3"].map(file);
        let torrent = TorrentBuilder::directory("image", files.to_vec(), 16_384).build(&[[0; 20]]);
        Metainfo::parse(&torrent.expect("a torrent")).expect("is valid")
    }

    fn specs(texts: &[&str]) -> Vec<FileSpec> {
        texts.iter().map(|text| FileSpec::parse(text).expect("makes sense")).collect()
    }

    /// Of each file, in order: `-` skipped, `w` wanted, `f` first.
    fn letters(only: &[&str], skip: &[&str], first: &[&str]) -> Result<String, Failure> {
        let files = Files { only: specs(only), skip: specs(skip), first: specs(first) };
        let letter = |priority| match priority {
            Priority::Skip => '-',
            Priority::Normal => 'w',
            Priority::High => 'f',
        };
        files.priorities(&torrent()).map(|all| all.into_iter().map(letter).collect())
    }

    #[test]
    fn files_are_named_by_number_or_pattern() {
        let only = |spec: &str| letters(&[spec], &[], &[]).expect("names something");
        for (spec, expected) in [
            ("1", "w-----"),
            ("1,3-4", "w-ww--"),
            ("5-", "----ww"),
            ("1, 6", "w----w"),
            ("a.iso", "w-----"),
            ("image/a.iso", "w-----"),
            ("docs", "-www--"),
            ("docs/", "-www--"),
            ("docs/more", "---w--"),
            ("*.txt", "-www--"),
            ("docs/?.txt", "-ww---"),
            ("image", "wwwwww"),
            ("x,y", "----w-"),
            ("./3", "-----w"),
            ("*", "wwwwww"),
        ] {
            assert_eq!(only(spec), expected, "{spec}");
        }
    }

    #[test]
    fn options_add_up() {
        assert_eq!(letters(&["1", "docs/a*"], &[], &["1"]), Ok("fw----".to_owned()));
        assert_eq!(letters(&[], &["docs"], &[]), Ok("w---ww".to_owned()));
        assert_eq!(letters(&["docs"], &["*/b.txt", "4"], &["2"]), Ok("-f----".to_owned()));
        assert_eq!(letters(&[], &[], &["4"]), Ok("wwwfww".to_owned()));
        assert_eq!(letters(&[], &[], &[]), Ok(String::new()), "all alike");
    }

    #[test]
    fn what_names_nothing_is_named() {
        let refused = |only: &[&str], skip: &[&str], first: &[&str]| {
            let failure = letters(only, skip, first).expect_err("is refused");
            assert_eq!(failure.exit, Exit::BadInput);
            failure.message
        };
        assert!(refused(&["2-7"], &[], &[]).contains("no file 7 in image, which has 6 files"));
        assert!(refused(&[], &["9-"], &[]).contains("no file 9"));
        assert!(refused(&[], &[], &["*.bin"]).contains("is called \"*.bin\""));
        assert!(refused(&["a.txt"], &[], &[]).contains("ringtide show"), "not where it is");
        assert!(refused(&["docs"], &["2-4"], &[]).contains("no file of image is left"));
        assert!(refused(&["1"], &[], &["2"]).contains("image/docs/a.txt is to come first"));
    }

    #[test]
    fn numbers_that_make_no_sense_are_refused() {
        for text in ["", "0", "5-3", "1,,2", "-3", "1-2-3", "99999999999999999999999", "1,"] {
            assert!(FileSpec::parse(text).is_err(), "{text:?}");
        }
        assert_eq!(FileSpec::parse("1x"), Ok(FileSpec::Pattern("1x".to_owned())));
    }

    #[test]
    fn stars_take_what_they_must() {
        let is = |pattern: &str, text: &str| matches(&pattern.chars().collect::<Vec<_>>(), text);
        assert!(is("a*b*c", "axxbyybzc") && is("*", "") && is("**a", "a") && is("é?", "éü"));
        assert!(!is("a*b", "axxbx") && !is("?", "") && !is("", "a") && !is("a*a", "a"));
        assert!(!is(&"*a".repeat(500), &"ab".repeat(400)), "and does not take for ever");
    }
}
