//! What is on the disk after the power was cut.
//!
//! The model is that of a journalling file system on a disk with sectors of 512 bytes. Names and lengths change in the order in
//! which the program changed them, and a sync of any file brings all earlier ones to the disk. Bytes are on the disk when their
//! file was synced; of others each sector may be there or not, whatever was written before or after it.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::Path;

use super::Record;

const SECTOR: usize = 512;

/// What becomes of bytes that were not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// All are lost.
    Lost,
    /// All are there, as after a kill.
    Kept,
    /// Each write is there or not.
    Writes,
    /// Each sector is there or not.
    Sectors,
}

impl Fate {
    /// One of them.
    pub fn any() -> Self {
        *fastrand::choice(&[Fate::Lost, Fate::Kept, Fate::Writes, Fate::Sectors]).expect("there are some")
    }
}

/// Makes the directory as it is after a cut behind these records.
pub fn image(records: &[Record], fate: Fate, directory: &Path) {
    let disk = Disk::after(records, fate);
    fs::create_dir_all(directory).expect("make the directory");
    for name in &disk.directories {
        fs::create_dir_all(directory.join(name)).expect("make a directory");
    }
    for (name, inode) in &disk.names {
        let path = directory.join(name);
        fs::create_dir_all(path.parent().expect("it is in a directory")).expect("make a directory");
        fs::write(path, disk.files.get(inode).map_or(&[][..], Vec::as_slice)).expect("write a file");
    }
}

#[derive(Default)]
struct Disk {
    directories: Vec<String>,
    names: BTreeMap<String, u64>,
    files: HashMap<u64, Vec<u8>>,
}

impl Disk {
    fn after(records: &[Record], fate: Fate) -> Self {
        let synced = last_syncs(records);
        let last = synced.values().copied().max().unwrap_or(0);
        let open = records[last..].iter().filter(|record| record.is_metadata()).count();
        // So many of the last changes of names and lengths reached the disk.
        let mut reached = match fate {
            Fate::Lost => 0,
            Fate::Kept => open,
            Fate::Writes | Fate::Sectors => fastrand::usize(0..=open),
        };
        let mut disk = Self::default();
        for (at, record) in records.iter().enumerate() {
            if let Record::Written { inode, place, bytes } = record {
                let is_synced = synced.get(inode).is_some_and(|&sync| at < sync);
                disk.write(*inode, *place as usize, bytes, if is_synced { Fate::Kept } else { fate });
            } else if record.is_metadata() {
                if at > last {
                    if reached == 0 {
                        continue;
                    }
                    reached -= 1;
                }
                disk.change(record);
            }
        }
        disk
    }

    fn change(&mut self, record: &Record) {
        match record {
            Record::Made(inode, name) => {
                self.files.insert(*inode, Vec::new());
                self.names.insert(name.clone(), *inode);
            }
            Record::Directory(name) => self.directories.push(name.clone()),
            Record::Truncated(inode, length) => {
                self.files.entry(*inode).or_default().resize(*length as usize, 0);
            }
            Record::Removed(name) => drop(self.names.remove(name)),
            Record::Renamed(inode, name) => {
                self.names.retain(|_, named| named != inode);
                self.names.insert(name.clone(), *inode);
            }
            Record::Written { .. } | Record::Synced(_) | Record::Note(_) => {}
        }
    }

    fn write(&mut self, inode: u64, place: usize, bytes: &[u8], fate: Fate) {
        let is_whole = match fate {
            Fate::Lost => return,
            Fate::Kept => true,
            Fate::Writes if fastrand::bool() => true,
            Fate::Writes => return,
            Fate::Sectors => false,
        };
        let file = self.files.entry(inode).or_default();
        let mut at = 0;
        while at < bytes.len() {
            // To the end of the sector of the disk.
            let end = if is_whole { bytes.len() } else { bytes.len().min(at + SECTOR - (place + at) % SECTOR) };
            if is_whole || fastrand::bool() {
                let length = file.len().max(place + end);
                file.resize(length, 0);
                file[place + at..place + end].copy_from_slice(&bytes[at..end]);
            }
            at = end;
        }
    }
}

/// Behind which record a file was last synced.
fn last_syncs(records: &[Record]) -> HashMap<u64, usize> {
    let mut syncs = HashMap::new();
    for (at, record) in records.iter().enumerate() {
        if let Record::Synced(inode) = record {
            syncs.insert(*inode, at);
        }
    }
    syncs
}
