//! The outbox of an agent that is killed: a real file, of which only what was committed survives.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread;

use super::world::World;
use crate::mqtt::outbox_file::OutboxFile;
use crate::mqtt::session::{Kept, Note, Store};

pub struct Disk {
    path: PathBuf,
    /// Nothing once the agent is dead.
    file: Mutex<Option<OutboxFile>>,
    world: Arc<Mutex<World>>,
}

impl Disk {
    pub fn open(directory: &Path, life: usize, world: &Arc<Mutex<World>>) -> (Arc<Self>, Kept) {
        let path = directory.join(life.to_string()).join("outbox");
        let (file, kept) = OutboxFile::open(&path).unwrap();
        (Arc::new(Self { path, file: Mutex::new(Some(file)), world: world.clone() }), kept)
    }

    /// At this instant the agent dies: what is in the file and in SQLite's log is what the next one finds.
    pub fn freeze(&self, directory: &Path, next: usize) {
        let mut file = self.file.lock().unwrap();
        let to = directory.join(next.to_string());
        fs::create_dir_all(&to).unwrap();
        for name in ["outbox", "outbox-wal"] {
            let from = self.path.with_file_name(name);
            if from.exists() {
                fs::copy(from, to.join(name)).unwrap();
            }
        }
        *file = None;
    }

    pub fn close(&self) {
        *self.file.lock().unwrap() = None;
    }
}

/// The end of it that the client has.
pub struct Gate(pub Arc<Disk>);

impl Store for Gate {
    fn commit(&mut self, notes: &[Note]) -> Result<(), String> {
        let Disk { file, world, .. } = &*self.0;
        let (before, is_full, after) = world.lock().unwrap().transaction();
        thread::sleep(before);
        {
            let mut file = file.lock().unwrap();
            let Some(file) = file.as_mut() else { return Err("the agent is dead".into()) };
            if is_full {
                return Err("the disk is full".into());
            }
            file.commit(notes)?;
            world.lock().unwrap().committed(notes);
        }
        thread::sleep(after);
        Ok(())
    }
}
