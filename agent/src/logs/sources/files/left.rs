//! What rotations left of a file: found, and put into its order among those that are read.

use std::io;
use std::path::Path;
use std::time::Instant;

use super::{Files, REMEMBERED, warn_once};
use crate::logs::sources::fingerprint::Print;
use crate::logs::sources::position::Place;
use crate::logs::sources::rotated::{self, Rotated};
use crate::logs::sources::tail::{self, Look, Tail};
use crate::net;

/// What a rotation left of a file.
#[derive(Default)]
struct Left {
    /// The file or a copy of it, behind what was read.
    itself: Option<Tail>,
    /// Those that came and went after it, whole, oldest first.
    others: Vec<Tail>,
    /// So many of them are older than what the file has now.
    before: usize,
    /// Nothing of it is missing.
    is_found: bool,
    /// Something newer was compressed.
    is_compressed: bool,
}

impl Files {
    /// A file is shorter than what was read of it, or has other text: a copy may have the rest of what it had.
    pub(super) fn was_cut(&mut self, index: usize) -> usize {
        let Some(tail) = self.tails.get(index) else { return index };
        let place = tail.place();
        let is_clean = tail.is_clean();
        let mut left = self.left_behind(&place);
        let later = left.others.split_off(left.before);
        let has_copy = left.is_found || (place.done == 0 && !left.others.is_empty());
        let found: Vec<_> = left.itself.into_iter().chain(left.others).collect();
        let Some(tail) = self.tails.get_mut(index) else { return index };
        if !has_copy {
            let (path, now, intake) = (place.path.clone(), net::utc_ms(), &mut self.intake);
            tail.flush_all(&self.rule, &mut |joined| intake.take(&path, joined, now));
            let rest = if is_clean { "" } else { ", also the end of its last line" };
            self.intake.say(format!(
                "{} was cut and is read from its start; lines that were written to it since {} and before that are lost{rest}, \
                 unless none were",
                place.path.display(),
                net::iso8601(place.modified / 1_000_000),
            ));
        }
        tail.restart();
        self.has_moved = true;
        self.is_behind = true;
        let count = found.len();
        self.tails.splice(index + 1..index + 1, later);
        // They are read first.
        self.tails.splice(index..index, found);
        index + count
    }

    /// Goes on with a file that was read before, the last of its path or not: what came and went since is behind the last.
    pub(super) fn resume(&mut self, place: Place, is_last: bool) {
        if place.is_over && !self.has_name(&place) {
            self.remember(place);
            return;
        }
        let is_named = self.settings.paths.contains(&place.path);
        let current = tail::open(&place.path, is_named).ok().flatten();
        if let Some((file, id, modified)) = current.filter(|(_, id, _)| *id == place.id) {
            let same = Rotated { path: place.path.clone(), file, id, modified };
            if place.done == 0 || same.is_copy(place.done, &place.head, &place.line) {
                match Tail::new(&place.path, same.file, id, place.modified).at(place.done, place.line) {
                    Ok(tail) => {
                        let tail = self.watched(tail);
                        self.tails.push(tail);
                    }
                    Err(error) => warn_once(&mut self.warned, &place.path, &format!("cannot be read: {error}")),
                }
                return;
            }
        }
        let left = self.left_behind(&place);
        if !left.is_found {
            let path = place.path.display();
            let why = match left.is_compressed {
                true => "was rotated and compressed (logrotate: delaycompress keeps the newest as it is)",
                false => "was cut or removed",
            };
            self.intake.say(format!(
                "{path} {why} while nobody read it; lines that were written to it since {} are lost, unless none were",
                net::iso8601(place.modified / 1_000_000)
            ));
        }
        self.tails.extend(left.itself);
        self.tails.extend(left.others.into_iter().filter(|tail| is_last || tail.id == place.id));
    }

    /// Whether the path is still that file's: then it was not rotated after all.
    fn has_name(&self, place: &Place) -> bool {
        let is_named = self.settings.paths.contains(&place.path);
        tail::open(&place.path, is_named).ok().flatten().is_some_and(|(file, id, modified)| {
            let file = Rotated { path: place.path.clone(), file, id, modified };
            id == place.id && file.is_copy(place.done, &place.head, &place.line)
        })
    }

    /// What a rotation left of a file: the file itself or a copy of it, and those that came and went after it.
    fn left_behind(&mut self, place: &Place) -> Left {
        let mut left = Left::default();
        let found = match rotated::find(&place.path, place.modified) {
            Ok((found, is_compressed)) => {
                left.is_compressed = is_compressed;
                found
            }
            Err(_) => return left,
        };
        let mut before = None;
        for one in found {
            if one.id == place.id {
                before = Some(left.others.len());
            }
            // Of empty ones, nothing need be remembered.
            let is_empty = one.file.metadata().is_ok_and(|known| known.len() == 0);
            if is_empty || self.is_read(&one, place) {
                continue;
            }
            let is_same = left.itself.is_none() && one.is_copy(place.done, &place.head, &place.line);
            let is_start = place.done == 0 && one.id == place.id;
            if !is_same && !is_start && one.modified < place.modified {
                continue;
            }
            let mut tail = Tail::new(&place.path, one.file, one.id, one.modified);
            tail.rotated = Some(Instant::now());
            let (done, line) = if is_same { (place.done, place.line) } else { (0, Print::default()) };
            let tail = match tail.at(done, line) {
                Ok(tail) => self.watched(tail),
                Err(error) => {
                    warn_once(&mut self.warned, &one.path, &format!("cannot be read: {error}"));
                    continue;
                }
            };
            left.is_found |= is_same || is_start;
            match is_same {
                true => left.itself = Some(tail),
                false => left.others.push(tail),
            }
        }
        left.before = before.unwrap_or(left.others.len());
        left
    }

    /// Whether a rotated file is one, other than `sought`, that is read or was.
    fn is_read(&self, one: &Rotated, sought: &Place) -> bool {
        // The inode of one that was empty may be another file's by now.
        let is_empty = || one.file.metadata().is_ok_and(|known| known.len() == 0);
        let was_read = |place: &Place| {
            place.id == one.id
                && place.head.is_of(&one.file)
                && place.line.is_of(&one.file)
                && (place.done > 0 || !place.is_over || is_empty())
        };
        self.tails.iter().any(|tail| tail.id == one.id)
            || self.read.iter().any(was_read)
            || self.left.iter().flatten().any(|place| place != sought && was_read(place))
    }

    /// Marks those whose name another file has now, or none; what came and went meanwhile is put behind them.
    pub(super) fn mark_rotated(&mut self) {
        let mut index = 0;
        while let Some(tail) = self.tails.get_mut(index) {
            index += 1;
            let is_named = self.settings.paths.contains(&tail.path);
            let current = tail::open(&tail.path, is_named).map(|opened| opened.map(|(_, id, _)| id));
            let is_gone = match current {
                Ok(id) => id != Some(tail.id),
                Err(error) => error.kind() == io::ErrorKind::NotFound,
            };
            if tail.rotated.is_some() || !is_gone {
                continue;
            }
            let was_cut = matches!(tail.look(), Ok(Look::Other));
            if was_cut {
                index = self.was_cut(index - 1) + 1;
            }
            let Some(tail) = self.tails.get_mut(index - 1) else { return };
            tail.rotated = Some(Instant::now());
            // Until it was read to the end that it has now.
            tail.is_at_end = false;
            let place = tail.place();
            let Left { itself: copy, mut others, before, .. } = self.left_behind(&place);
            // A copy of what is read to its end anyway is not read.
            if let Some(copy) = copy {
                self.remember(Place { is_over: true, ..copy.place() });
            }
            // One of which nothing was read may have been cut before it was renamed: those copies come before it.
            let later = others.split_off(before);
            let (earlier, after) = (others.len(), later.len());
            self.tails.splice(index..index, later);
            self.tails.splice(index - 1..index - 1, others);
            index += earlier + after;
        }
    }

    /// A file of which nothing was read yet can be cut without a trace in itself.
    pub(super) fn find_copies(&mut self) {
        let mut index = 0;
        while let Some(tail) = self.tails.get(index) {
            let place = tail.place();
            if tail.rotated.is_none() && tail.is_unread() && !self.is_new {
                let others = self.left_behind(&place).others;
                let count = others.len();
                self.tails.splice(index..index, others);
                index += count;
            }
            index += 1;
        }
    }

    /// What came and went between the last file of a path and the one that is found there now, when there was none at a look.
    pub(super) fn find_between(&mut self, path: &Path) {
        let is_of = |other: &Path| other == path;
        let last = self.tails.iter().rfind(|tail| is_of(&tail.path)).map(Tail::place);
        let last = last.or_else(|| self.read.iter().rfind(|place| is_of(&place.path)).cloned());
        if let Some(last) = last {
            let others = self.left_behind(&last).others;
            self.tails.extend(others);
        }
    }

    /// What was rotated before the first look is not read.
    pub(super) fn forgo_rotated(&mut self, path: &Path) {
        let Ok((found, _)) = rotated::find(path, i64::MAX) else { return };
        let newest = found.len().saturating_sub(REMEMBERED);
        for one in found.into_iter().skip(newest) {
            let tail = Tail::new(path, one.file, one.id, one.modified);
            if let Ok(tail) = tail.at_end(self.intake.max_size) {
                self.remember(Place { is_over: true, ..tail.place() });
            }
        }
    }
}
