//! The demonstration policy: built into the binary, unpacked once into the user's cache, because
//! weights are memory-mapped from files.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::config::user_folder;

/// The task it was trained for.
pub const TASK: &str = "pick-place";

macro_rules! files {
    ($($name:literal),* $(,)?) => {
        &[$(($name, include_bytes!(concat!("../../../policies/act_so101_pick_place/", $name)).as_slice())),*]
    };
}

const NAME: &str = "act_so101_pick_place";
const WEIGHTS: &str = "model.safetensors";
/// What build.rs made of the weights: their even bytes, and their odd ones, each compressed.
static LOWER: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/weights.lower.deflate"));
static UPPER: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/weights.upper.deflate"));
const WEIGHTS_BYTES: usize = include_bytes!("../../../policies/act_so101_pick_place/model.safetensors").len();
/// All other files as they are.
static FILES: &[(&str, &[u8])] = files![
    "README.md",
    "config.json",
    "policy_preprocessor.json",
    "policy_preprocessor_step_3_normalizer_processor.safetensors",
    "policy_postprocessor.json",
    "policy_postprocessor_step_0_unnormalizer_processor.safetensors",
];

/// The folder with the checkpoint, unpacked when it is not there yet.
pub fn folder() -> anyhow::Result<PathBuf> {
    let cache = user_folder("XDG_CACHE_HOME", ".cache");
    let cache = cache.context("finding a place for the demonstration policy: neither XDG_CACHE_HOME nor HOME is set")?;
    unpack(&cache.join("sinew/policies"))
}

/// Each content has a folder of its own, so an unpacked policy is never changed; it appears whole,
/// by one rename, so that two processes may race for it.
fn unpack(root: &Path) -> anyhow::Result<PathBuf> {
    let folder = root.join(format!("{NAME}-{:016x}", digest()));
    if is_whole(&folder) {
        return Ok(folder);
    }
    let doing = || format!("unpacking the demonstration policy to {}", folder.display());
    let partial = root.join(format!(".{NAME}-{}", std::process::id()));
    let write = || -> std::io::Result<()> {
        std::fs::create_dir_all(&partial)?;
        std::fs::write(partial.join(WEIGHTS), weights()?)?;
        for (name, bytes) in FILES {
            std::fs::write(partial.join(name), bytes)?;
        }
        if folder.exists() {
            std::fs::remove_dir_all(&folder)?;
        }
        std::fs::rename(&partial, &folder)
    };
    let result = write();
    if result.is_err() {
        // Best effort: what is left here is ours alone and named after this process.
        let _ = std::fs::remove_dir_all(&partial);
        if is_whole(&folder) {
            return Ok(folder);
        }
    }
    result.with_context(doing)?;
    Ok(folder)
}

fn weights() -> std::io::Result<Vec<u8>> {
    let [lower, upper] = [LOWER, UPPER].map(|packed| {
        let mut plane = Vec::new();
        flate2::read::DeflateDecoder::new(packed).read_to_end(&mut plane).map(|_| plane)
    });
    Ok(lower?.iter().zip(&upper?).flat_map(|(lower, upper)| [*lower, *upper]).collect())
}

/// By size: who changes a byte in his own cache knows what he does, and a torn write shows here.
fn is_whole(folder: &Path) -> bool {
    let has = |name: &str, len: usize| std::fs::metadata(folder.join(name)).is_ok_and(|found| found.len() == len as u64);
    has(WEIGHTS, WEIGHTS_BYTES) && FILES.iter().all(|(name, bytes)| has(name, bytes.len()))
}

/// A quick digest of names and contents, eight bytes at a time: it names a folder, it guards nothing.
fn digest() -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut add = |word: u64| hash = (hash ^ word).wrapping_mul(0x0100_0000_01b3).rotate_left(23);
    for (name, bytes) in FILES.iter().chain(&[("lower", LOWER), ("upper", UPPER)]) {
        for part in [name.as_bytes(), bytes] {
            add(part.len() as u64);
            for word in part.chunks(8) {
                let mut padded = [0; 8];
                padded[..word.len()].copy_from_slice(word);
                add(u64::from_le_bytes(padded));
            }
        }
    }
    hash
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unpacks_once_and_mends_what_was_torn() {
        let root = tempfile::tempdir().unwrap();
        let folder = unpack(root.path()).unwrap();
        for (name, bytes) in FILES {
            assert_eq!(std::fs::read(folder.join(name)).unwrap(), *bytes, "{name}");
        }
        let weights = Path::new(&std::env::var("CARGO_MANIFEST_DIR").unwrap()).join("../../policies").join(NAME).join(WEIGHTS);
        assert!(std::fs::read(folder.join(WEIGHTS)).unwrap() == std::fs::read(weights).unwrap(), "the weights must come back as they were");
        let config = folder.join("config.json");
        let modified = |path: &Path| std::fs::metadata(path).unwrap().modified().unwrap();
        let before = modified(&config);
        assert_eq!(unpack(root.path()).unwrap(), folder);
        assert_eq!(modified(&config), before, "the second call must write nothing");
        std::fs::write(&config, b"{").unwrap();
        unpack(root.path()).unwrap();
        assert_eq!(std::fs::read(&config).unwrap(), FILES[1].1);
        assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 1, "no partial folder may stay");
    }
}
