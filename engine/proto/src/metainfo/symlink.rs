//! Where the links of a torrent lead (BEP 47): resolved as text, so that none leaves the torrent and none leads through
//! another. Creates nothing on disk.

use std::collections::{BTreeMap, BTreeSet};

use super::FileEntry;
use super::files::MAX_PATH_COMPONENTS;

/// Most links followed on the way to a target, as in Linux (MAXSYMLINKS): more is a circle.
const MAX_HOPS: usize = 40;

/// Most hops for all links of a torrent together, so that a crafted one cannot keep us busy for minutes. Honest
/// links take one or two each.
const MAX_TOTAL_HOPS: usize = 100_000;

/// Replaces each link's target by the file or directory it leads to. A link that leads nowhere becomes an empty
/// file: its name is not lost, and nothing is created that points outside.
pub(super) fn resolve(files: &mut [FileEntry]) {
    if files.iter().all(|file| file.symlink.is_none()) {
        return;
    }
    let mut known = Known::of(files);
    let targets: Vec<_> = files.iter().map(|file| known.target_of(file)).collect();
    for (file, target) in files.iter_mut().zip(targets) {
        file.symlink = target;
    }
}

/// Everything that a target can name.
struct Known {
    files_and_directories: BTreeSet<Vec<String>>,
    links: BTreeMap<Vec<String>, Vec<String>>,
    /// What is left of [`MAX_TOTAL_HOPS`].
    hops_left: usize,
}

impl Known {
    fn of(files: &[FileEntry]) -> Self {
        let (files_and_directories, links) = (BTreeSet::new(), BTreeMap::new());
        let mut known = Self { files_and_directories, links, hops_left: MAX_TOTAL_HOPS };
        for file in files {
            match &file.symlink {
                Some(target) => {
                    known.links.insert(file.path.clone(), target.clone());
                }
                None => {
                    known.files_and_directories.insert(file.path.clone());
                }
            }
            for depth in 1..file.path.len() {
                known.files_and_directories.insert(file.path[..depth].to_vec());
            }
        }
        known
    }

    /// BEP 47 makes targets relative to the top of the torrent; real torrents have them relative to the link too.
    fn target_of(&mut self, link: &FileEntry) -> Option<Vec<String>> {
        let stated = link.symlink.as_ref()?;
        let below_parent = [&link.path[..link.path.len() - 1], &stated[1..]].concat();
        self.follow(stated.clone()).or_else(|| self.follow(below_parent))
    }

    fn follow(&mut self, mut path: Vec<String>) -> Option<Vec<String>> {
        for _ in 0..MAX_HOPS {
            if self.files_and_directories.contains(&path) {
                return Some(path);
            }
            if path.len() > MAX_PATH_COMPONENTS {
                return None;
            }
            self.hops_left = self.hops_left.checked_sub(1)?;
            path = self.one_hop(&path)?;
        }
        None
    }

    /// Replaces the shortest start of `path` that is a link by what the link states.
    fn one_hop(&self, path: &[String]) -> Option<Vec<String>> {
        let (depth, stated) =
            (1..=path.len()).find_map(|depth| Some((depth, self.links.get(&path[..depth])?)))?;
        let relative = [&path[..depth - 1], &stated[1..]].concat();
        let is_known =
            |path: &Vec<String>| self.files_and_directories.contains(path) || self.links.contains_key(path);
        let start = if !is_known(stated) && is_known(&relative) { relative } else { stated.clone() };
        Some([&start[..], &path[depth..]].concat())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> Vec<String> {
        text.split('/').map(String::from).collect()
    }

    /// `name` or `name -> target` with everything below `t`.
    fn targets(lines: &[&str]) -> Vec<Option<String>> {
        let entry = |line: &&str| {
            let (name, target) = line.split_once(" -> ").map_or((*line, None), |(n, t)| (n, Some(t)));
            let symlink = target.map(|target| path(&format!("t/{target}")));
            FileEntry { path: path(&format!("t/{name}")), symlink, ..FileEntry::default() }
        };
        let mut files: Vec<_> = lines.iter().map(entry).collect();
        resolve(&mut files);
        files.into_iter().map(|file| file.symlink.map(|target| target.join("/"))).collect()
    }

    #[test]
    fn to_a_file_or_a_directory() {
        assert_eq!(targets(&["a/b", "l -> a/b", "d -> a"]), [None, Some("t/a/b".into()), Some("t/a".into())]);
    }

    #[test]
    fn through_another_link() {
        let resolved = targets(&["V/A/SDL2", "V/Current -> V/A", "SDL2 -> V/Current/SDL2"]);
        assert_eq!(resolved[2].as_deref(), Some("t/V/A/SDL2"));
    }

    #[test]
    fn relative_to_the_link() {
        let resolved = targets(&["V/A/SDL2", "V/Current -> A", "SDL2 -> V/Current/SDL2"]);
        assert_eq!(resolved[1].as_deref(), Some("t/V/A"));
        assert_eq!(resolved[2].as_deref(), Some("t/V/A/SDL2"));
    }

    #[test]
    fn circles_and_nowhere_become_files() {
        assert_eq!(targets(&["a -> b", "b -> a", "c -> c", "d -> missing", "e -> e/e"]), [const { None }; 5]);
    }
}
