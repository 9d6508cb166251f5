//! The files that the patterns are for.

use std::path::{Path, PathBuf};

use super::{Files, MOST_ENTRIES, warn_once};
use crate::logs::sources::filter::matches;
use crate::logs::sources::rotated;

impl Files {
    /// Whether the patterns still are for this file.
    pub(super) fn is_wanted(&self, path: &Path) -> bool {
        let name = |path: &Path| path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let is_like = |pattern: &PathBuf| pattern.parent() == path.parent() && matches(&name(pattern), &name(path));
        self.settings.paths.iter().any(|pattern| pattern == path || is_like(pattern))
    }

    pub(super) fn watch_directories(&mut self) {
        let Some(watch) = &self.watch else { return };
        for path in &self.settings.paths {
            let real = std::fs::canonicalize(path).ok();
            for directory in [Some(path.as_path()), real.as_deref()].into_iter().flatten().filter_map(Path::parent) {
                // Again and again: it may not be there yet, or be another one by now.
                if watch.directory(directory).is_ok() {
                    self.watched.insert(directory.to_owned());
                } else if self.watched.remove(directory) {
                    log::debug!("the directory {} is gone", directory.display());
                }
            }
        }
    }

    /// The files of the patterns, and whether the configuration names them.
    pub(super) fn paths(&mut self) -> Vec<(PathBuf, bool)> {
        let mut all = Vec::new();
        for pattern in &self.settings.paths {
            let name = pattern.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if !name.contains(['*', '?']) {
                all.push((pattern.clone(), true));
                continue;
            }
            let Some(directory) = pattern.parent() else { continue };
            let entries = match std::fs::read_dir(directory) {
                Ok(entries) => entries,
                Err(error) => {
                    warn_once(&mut self.warned, directory, &format!("cannot be listed: {error}"));
                    continue;
                }
            };
            let names = entries.take(MOST_ENTRIES).flatten().filter_map(|entry| entry.file_name().into_string().ok());
            let mut names: Vec<_> = names.filter(|found| matches(name, found)).collect();
            names.sort_unstable();
            for found in &names {
                let is_excluded = self.settings.exclude.iter().any(|pattern| matches(pattern, found));
                // What a rotation left behind is read as part of the file that it was.
                let is_left = rotated::bases(found).0.iter().any(|base| {
                    let path = directory.join(base);
                    names.binary_search(base).is_ok()
                        || self.tails.iter().any(|tail| tail.path == path)
                        || self.read.iter().any(|place| place.path == path)
                });
                if !is_excluded && !is_left {
                    all.push((directory.join(found), false));
                }
            }
        }
        all.sort();
        all.dedup_by(|one, other| one.0 == other.0);
        all
    }
}
