//! One daemon for one robot.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use crate::args::DaemonArgs;

/// Held while a daemon runs; the system lets go of it when the process ends, however that comes.
pub struct Lock {
    file: File,
    path: PathBuf,
}

/// Who holds it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Holder {
    pub pid: u32,
    pub robot: String,
    /// Where it listens; empty until it does.
    pub address: String,
}

/// What tells this robot from others: its ports, or that it is simulated.
fn key(args: &DaemonArgs) -> String {
    let device = |place: &str| std::fs::canonicalize(place).map_or_else(|_| place.to_owned(), |path| path.display().to_string());
    let mut places: Vec<String> = args.hardware.port.iter().map(|port| device(&port.place)).collect();
    places.sort();
    // Simulated robots are as many as one likes, each with an address of its own.
    if places.is_empty() {
        return format!("sim-{}-{}", args.rig.robot.replace(|c: char| !c.is_ascii_alphanumeric(), "-"), args.listen.port());
    }
    places.join("+").replace(|c: char| !c.is_ascii_alphanumeric(), "-")
}

impl Lock {
    /// # Errors
    /// When another daemon has this robot.
    pub fn take(state: &Path, args: &DaemonArgs) -> anyhow::Result<Self> {
        let path = state.join(format!("daemon-{}.lock", key(args).trim_matches('-')));
        let doing = || format!("locking {}", path.display());
        let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path).with_context(doing)?;
        if let Err(error) = flock(&file, FlockOperation::NonBlockingLockExclusive) {
            if error != rustix::io::Errno::WOULDBLOCK {
                return Err(error).with_context(doing);
            }
            let mut text = String::new();
            // It may be about to write it.
            drop(file.read_to_string(&mut text));
            match serde_json::from_str::<Holder>(&text) {
                Ok(Holder { pid, robot, address }) => {
                    bail!("owning {}: another daemon owns {robot} (process {pid}, {address}); one robot has one daemon", args.rig.robot)
                }
                Err(_) => bail!("owning {}: another daemon owns it; one robot has one daemon", args.rig.robot),
            }
        }
        let mut lock = Self { file, path: path.clone() };
        lock.write(&Holder { pid: std::process::id(), robot: args.rig.robot.clone(), address: String::new() }).with_context(doing)?;
        Ok(lock)
    }

    /// A file of this robot's in the same folder, which stays.
    pub fn beside(&self, what: &str) -> PathBuf {
        let name = self.path.file_stem().unwrap_or_default().to_string_lossy();
        self.path.with_file_name(format!("{}.json", name.replacen("daemon", what, 1)))
    }

    /// Says who has it.
    pub fn write(&mut self, holder: &Holder) -> std::io::Result<()> {
        self.file.set_len(0)?;
        self.file.rewind()?;
        self.file.write_all(serde_json::to_string(holder)?.as_bytes())
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Nobody finds a daemon that has gone. Who waits for the old file has it in vain and makes another.
        drop(std::fs::remove_file(&self.path));
    }
}

/// The daemons that run, by what they wrote.
pub fn holders(state: &Path) -> Vec<Holder> {
    let entries = std::fs::read_dir(state).into_iter().flatten().flatten().map(|entry| entry.path());
    let files = entries.filter(|path| path.extension().is_some_and(|ending| ending == "lock"));
    let held = files.filter(|path| {
        File::open(path).is_ok_and(|file| flock(&file, FlockOperation::NonBlockingLockShared) == Err(rustix::io::Errno::WOULDBLOCK))
    });
    held.filter_map(|path| serde_json::from_str(&std::fs::read_to_string(path).ok()?).ok()).collect()
}
