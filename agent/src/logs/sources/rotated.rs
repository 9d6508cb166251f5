//! Rotated files: what they are called, and which of them is the one that was read before.

use std::cmp::Reverse;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use super::fingerprint::Print;
use super::position::Id;
use super::tail;

/// Entries of a directory that are looked at.
const MOST_ENTRIES: usize = 10_000;
/// Rotated files of one file that are looked at, the newest.
const MOST_ROTATED: usize = 32;
const COMPRESSED: [&str; 6] = ["gz", "xz", "bz2", "zst", "lz4", "Z"];

/// A file that a rotation left behind.
pub(super) struct Rotated {
    pub path: PathBuf,
    pub file: File,
    pub id: Id,
    pub modified: i64,
}

impl Rotated {
    /// Whether it begins as the file that was read to `done`: that file itself, or a copy of it.
    pub fn is_copy(&self, done: u64, head: &Print, line: &Print) -> bool {
        done > 0
            && (head.length > 0 || line.length > 0)
            && self.file.metadata().is_ok_and(|known| known.len() >= done)
            && head.is_of(&self.file)
            && line.is_of(&self.file)
    }
}

/// What a rotated file of this name may have been called, and whether the name has the ending of a compressor. `logrotate` and
/// others make of `log`: `log.1`, `log-20261122`; of `app.log` also `app-20261122.log` and `app.1.log`. What they put in is of
/// digits and signs, with one digit at least.
pub(super) fn bases(name: &str) -> (Vec<String>, bool) {
    let (name, is_compressed) = match name.rsplit_once('.') {
        Some((front, ending)) if COMPRESSED.contains(&ending) => (front, true),
        _ => (name, false),
    };
    let mut found: Vec<_> = fronts(name).map(str::to_owned).collect();
    if let Some((front, ending)) = name.rsplit_once('.') {
        found.extend(fronts(front).map(|stem| format!("{stem}.{ending}")));
    }
    (found, is_compressed)
}

/// What is before a mark of a rotation, at each place where one can begin.
fn fronts(name: &str) -> impl Iterator<Item = &str> {
    let is_of_mark = |byte: &u8| byte.is_ascii_digit() || b".-_:T+Z".contains(byte);
    let marks = name.len() - name.bytes().rev().take_while(|byte| is_of_mark(byte)).count();
    let places = (marks.max(1)..name.len()).filter(|at| matches!(name.as_bytes().get(*at), Some(b'.' | b'-' | b'_')));
    let splits = places.filter_map(|at| name.split_at_checked(at));
    splits.filter(|(_, mark)| mark.bytes().any(|byte| byte.is_ascii_digit())).map(|(front, _)| front)
}

/// The rotated files of `path`, oldest first, and whether there are compressed ones that were written since `since`.
pub(super) fn find(path: &Path, since: i64) -> io::Result<(Vec<Rotated>, bool)> {
    // Where a link leads, its target is rotated.
    let real = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let (Some(directory), Some(base)) = (real.parent(), real.file_name().and_then(|name| name.to_str())) else {
        return Ok((Vec::new(), false));
    };
    let (mut names, mut is_compressed) = (Vec::new(), false);
    for entry in std::fs::read_dir(directory)?.take(MOST_ENTRIES).flatten() {
        let name = entry.file_name();
        let Some((bases, compressed)) = name.to_str().map(bases) else { continue };
        let Ok(known) = entry.metadata() else { continue };
        if bases.iter().any(|found| found == base) && known.is_file() {
            let modified = tail::modified(&known);
            match compressed {
                true => is_compressed |= modified >= since,
                false => names.push((modified, entry.path())),
            }
        }
    }
    names.sort();
    let newest = names.split_off(names.len().saturating_sub(MOST_ROTATED));
    let open = |(_, path): (i64, PathBuf)| {
        let (file, id, modified) = tail::open(&path, false).ok()??;
        Some(Rotated { path, file, id, modified })
    };
    let mut found: Vec<_> = newest.into_iter().filter_map(open).collect();
    // At one time, a higher number is older.
    let number = |path: &Path| path.extension()?.to_str()?.parse::<u32>().ok().filter(|number| *number < 10_000);
    found.sort_by_cached_key(|one| (one.modified, Reverse(number(&one.path)), one.path.clone()));
    // One that was renamed while the names were listed was seen twice.
    let mut seen = Vec::new();
    found.retain(|one| !seen.contains(&one.id) && (seen.push(one.id), true).1);
    Ok((found, is_compressed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rotated_files_are_known_by_their_names() {
        for (base, name) in [
            ("messages", "messages.1"),
            ("messages", "messages-20261122"),
            ("app.log", "app.log.12"),
            ("app.log", "app-20261122.log"),
            ("app.log", "app.1.log"),
            ("app.log", "app.log-2026-11-22T10:11:12"),
        ] {
            let (found, is_compressed) = bases(name);
            assert!(found.contains(&base.to_owned()) && !is_compressed, "{name}");
            let (found, is_compressed) = bases(&format!("{name}.gz"));
            assert!(found.contains(&base.to_owned()) && is_compressed, "{name}.gz");
        }
        for (base, name) in [
            ("messages", "messages"),
            ("messages", "messages.old"),
            ("app.log", "app2.log"),
            ("app.log", "apple.log"),
            ("app.log", "app.log."),
            ("app", "app.log"),
            ("app.log", "app.log.gz"),
        ] {
            assert!(!bases(name).0.contains(&base.to_owned()), "{name}");
        }
    }
}
