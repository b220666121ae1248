//! The power is cut while a dataset is recorded, on a disk that keeps what was written and what is durable apart.
//!
//! A recording notes everything that it does to its disk. The model disk does the same up to some step, and then loses
//! what nobody waited for: of the contents of a file any of the sectors written since it was last waited for, and of
//! names either all after some point, as a file system with a journal does, or any.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use super::crash::{child_process, references, visible};
use super::injected::{Noted, TRACE};
use super::{assert_whole, chain};
use crate::{DatasetInfo, DatasetReader, recover, unfinished};

const SECTOR: usize = 512;

/// A file: what a reader finds in it, and what is on the disk.
#[derive(Clone, Default)]
struct Inode {
    contents: Vec<u8>,
    durable: Vec<u8>,
    /// Sectors that were written since the last wait.
    unsure: BTreeSet<usize>,
}

/// A change of names.
#[derive(Clone, Debug)]
enum Naming {
    Name(String, Entry),
    Unname(String),
    Rename(String, String),
    Exchange(String, String),
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Entry {
    File(u64),
    Folder,
}

type Names = BTreeMap<String, Entry>;

impl Naming {
    fn apply(&self, names: &mut Names) {
        match self {
            Self::Name(path, entry) => drop(names.insert(path.clone(), *entry)),
            Self::Unname(path) => drop(names.remove(path)),
            Self::Rename(from, to) => {
                if let Some(entry) = names.remove(from) {
                    names.insert(to.clone(), entry);
                }
            }
            Self::Exchange(one, other) => {
                let (first, second) = (names.remove(one), names.remove(other));
                first.and_then(|entry| names.insert(other.clone(), entry));
                second.and_then(|entry| names.insert(one.clone(), entry));
            }
        }
    }

    /// The folders whose names change.
    fn folders(&self) -> Vec<&str> {
        fn folder(path: &str) -> &str {
            path.rsplit_once('/').map_or("", |(folder, _)| folder)
        }
        match self {
            Self::Name(path, _) | Self::Unname(path) => vec![folder(path)],
            Self::Rename(one, other) | Self::Exchange(one, other) => vec![folder(one), folder(other)],
        }
    }
}

#[derive(Clone, Default)]
struct Disk {
    files: BTreeMap<u64, Inode>,
    durable: Names,
    /// Changes of names since, in their order, and of which folders it was not waited for.
    unsure: Vec<(Naming, BTreeSet<String>)>,
    known: u64,
}

impl Disk {
    fn names(&mut self, naming: Naming) {
        let folders = naming.folders().into_iter().map(str::to_owned).collect();
        self.unsure.push((naming, folders));
    }

    fn does(&mut self, noted: &Noted) {
        match noted {
            Noted::Create { .. } => {}
            Noted::Is { path, file } => {
                self.files.insert(*file, Inode::default());
                self.names(Naming::Name(path.clone(), Entry::File(*file)));
            }
            Noted::Write { file, at, bytes } => {
                let Some(inode) = self.files.get_mut(file) else { return };
                let (at, end) = (*at as usize, *at as usize + bytes.len());
                inode.contents.resize(inode.contents.len().max(end), 0);
                inode.contents[at..end].copy_from_slice(bytes);
                inode.unsure.extend(at / SECTOR..end.div_ceil(SECTOR));
            }
            Noted::Truncate { file, length } => {
                let Some(inode) = self.files.get_mut(file) else { return };
                let (old, new) = (inode.contents.len(), *length as usize);
                inode.contents.resize(new, 0);
                inode.unsure.extend(old.min(new) / SECTOR..old.max(new).div_ceil(SECTOR));
            }
            Noted::Sync { file } => {
                let Some(inode) = self.files.get_mut(file) else { return };
                inode.durable = inode.contents.clone();
                inode.unsure.clear();
            }
            Noted::CreateFolder { path } => self.names(Naming::Name(path.clone(), Entry::Folder)),
            Noted::SyncFolder { path } => {
                for (_, folders) in &mut self.unsure {
                    folders.remove(path);
                }
                // What is waited for in all its folders is durable, once nothing before it touches the same names.
                let mut waiting: BTreeSet<String> = BTreeSet::new();
                let mut left = Vec::new();
                for (naming, folders) in std::mem::take(&mut self.unsure) {
                    let paths: Vec<String> = match &naming {
                        Naming::Name(path, _) | Naming::Unname(path) => vec![path.clone()],
                        Naming::Rename(one, other) | Naming::Exchange(one, other) => vec![one.clone(), other.clone()],
                    };
                    // A rename is one step: waiting for the folder that it leads to is enough.
                    let is_durable = match &naming {
                        Naming::Rename(_, to) | Naming::Exchange(_, to) => {
                            !folders.contains(to.rsplit_once('/').map_or("", |(folder, _)| folder))
                        }
                        _ => folders.is_empty(),
                    };
                    if is_durable && !paths.iter().any(|path| waiting.contains(path)) {
                        naming.apply(&mut self.durable);
                    } else {
                        waiting.extend(paths);
                        left.push((naming, folders));
                    }
                }
                self.unsure = left;
            }
            Noted::Rename { from, to } => self.names(Naming::Rename(from.clone(), to.clone())),
            Noted::Exchange { one, other } => self.names(Naming::Exchange(one.clone(), other.clone())),
            Noted::Remove { path } => self.names(Naming::Unname(path.clone())),
            Noted::Known { episodes } => self.known = *episodes,
        }
    }

    /// What is left after the power is cut, below `root`, which was `recorded` then. Says whether names were lost
    /// in their order.
    fn cut(&self, recorded: &str, root: &Path, random: &mut fastrand::Rng) -> bool {
        let mut names = self.durable.clone();
        let in_order = random.bool();
        if in_order {
            let kept = random.usize(..=self.unsure.len());
            self.unsure[..kept].iter().for_each(|(naming, _)| naming.apply(&mut names));
        } else {
            self.unsure.iter().filter(|_| random.bool()).for_each(|(naming, _)| naming.apply(&mut names));
        }
        let below = |path: &str| Some(root.join(path.strip_prefix(recorded)?.trim_start_matches('/')));
        fs::create_dir_all(root).unwrap();
        for (path, entry) in &names {
            let Some(path) = below(path) else { continue };
            match entry {
                Entry::Folder => fs::create_dir_all(path).unwrap(),
                Entry::File(file) => {
                    fs::create_dir_all(path.parent().unwrap()).unwrap();
                    fs::write(path, self.files[file].after_a_cut(random)).unwrap();
                }
            }
        }
        in_order
    }
}

impl Inode {
    fn after_a_cut(&self, random: &mut fastrand::Rng) -> Vec<u8> {
        let mut bytes = self.durable.clone();
        // The length may be that of any moment since.
        let longest = self.contents.len().max(self.durable.len());
        let length = match random.u8(..4) {
            0 => self.durable.len(),
            1 => longest,
            _ => self.contents.len(),
        };
        bytes.resize(longest, 0);
        for sector in &self.unsure {
            let (from, to) = (sector * SECTOR, ((sector + 1) * SECTOR).min(self.contents.len()));
            if from < to && random.bool() {
                bytes[from..to].copy_from_slice(&self.contents[from..to]);
            }
        }
        bytes.truncate(length);
        bytes
    }
}

/// Looks at what a cut left at `root`, of which `known` episodes were known to be committed.
fn check(references: &[BTreeMap<PathBuf, Vec<u8>>], root: &Path, (known, in_order): (u64, bool), point: &str) {
    if !root.join("meta/info.json").exists() && !root.join(".sinew/commit").exists() {
        assert_eq!(known, 0, "{point}: the dataset is gone");
        return;
    }
    if in_order && root.join("meta/info.json").exists() {
        // Where names keep their order, a reader finds a dataset even before anything is completed.
        let reader = DatasetReader::open(root).unwrap_or_else(|error| panic!("{point}: before it is recovered: {}", chain(&error)));
        for episode in reader.episodes() {
            let rows = reader.rows(episode.episode_index, 0..episode.length);
            rows.unwrap_or_else(|error| panic!("{point}: before it is recovered: {}", chain(&error)));
        }
    }
    recover(root).unwrap_or_else(|error| panic!("{point}: {}", chain(&error)));
    assert_whole(root);
    let found = DatasetInfo::open(root).unwrap().total_episodes;
    assert!(found >= known, "{point}: {known} episodes were committed, {found} are there");
    unfinished(root).unwrap_or_else(|error| panic!("{point}: {}", chain(&error)));
    let files = visible(root);
    for (path, bytes) in &references[found as usize] {
        let found = files.get(path).map_or(&[][..], Vec::as_slice);
        let differs = bytes.iter().zip(found).position(|(one, other)| one != other);
        let sizes = (found.len(), bytes.len());
        assert!(found == bytes, "{point}: {} is another: sizes {sizes:?}, first other byte {differs:?}", path.display());
    }
}

/// Cuts at `cuts` moments of the recording, in as many ways, by the seed.
fn cut_many(cuts: u64, seed: u64) -> (u64, u64) {
    let folder = tempfile::tempdir().unwrap();
    let (root, trace) = (folder.path().join("dataset"), folder.path().join("trace"));
    assert!(child_process(&root, "once", super::crash::PLAIN).env(TRACE, &trace).status().unwrap().success());
    let noted: Vec<Noted> = fs::read_to_string(&trace).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let references = references();
    let mut random = fastrand::Rng::with_seed(seed);
    let mut moments: Vec<usize> = (0..cuts).map(|_| random.usize(..=noted.len())).collect();
    moments.sort_unstable();
    let (mut disk, mut done, mut lost) = (Disk::default(), 0, 0);
    for (number, moment) in moments.into_iter().enumerate() {
        noted[done..moment].iter().for_each(|noted| disk.does(noted));
        done = moment;
        let place = folder.path().join(format!("cut-{number}"));
        let in_order = disk.cut(root.to_str().unwrap(), &place, &mut random);
        let unsure = disk.unsure.len() + disk.files.values().filter(|file| !file.unsure.is_empty()).count();
        lost += u64::from(unsure > 0);
        check(&references, &place, (disk.known, in_order), &format!("seed {seed}, cut {number} before step {moment} of {}", noted.len()));
        fs::remove_dir_all(&place).unwrap();
    }
    (noted.len() as u64, lost)
}

/// `SINEW_POWER_CUTS` asks for more of them.
#[test]
fn a_power_cut_at_any_step_loses_no_committed_episode() {
    let cuts = std::env::var("SINEW_POWER_CUTS").ok().and_then(|cuts| cuts.parse().ok()).unwrap_or(3000u64);
    let seed = std::env::var("SINEW_POWER_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    let (steps, lost) = std::thread::scope(|scope| {
        let other = scope.spawn(move || cut_many(cuts / 2, seed + 1));
        let (steps, lost) = cut_many(cuts - cuts / 2, seed);
        (steps, lost + other.join().unwrap().1)
    });
    #[allow(clippy::print_stdout, reason = "what a long run reports")]
    {
        println!("{cuts} cuts in a recording of {steps} steps; {lost} of them with something that was not yet on the disk");
    }
    assert!(steps > 300 && lost > cuts / 4, "{lost} of {cuts} cuts could lose something");
}
