//! Packs the demonstration policy's weights for the binary. They are numbers of half precision, rounded to few
//! different values: all that is left of most of them is in their upper bytes, so upper and lower bytes are
//! compressed apart.
//!
//! Also has the linker fold functions that are the same byte by byte, where Rust brings the linker, and pack the
//! addresses that the loader has to adjust, where the loader understands that (docs/decisions/one-profile.md). Another linker,
//! such as that of `scripts/package.sh`, knows other options, and builds for other machines than this one.

use std::io::Write as _;
use std::path::Path;

use flate2::Compression;
use flate2::write::DeflateEncoder;

const WEIGHTS: &str = "../../policies/act_so101_pick_place/model.safetensors";

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed={WEIGHTS}");
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_LINKER");
    let is_rusts_linker = std::env::var_os("RUSTC_LINKER").is_none();
    if is_rusts_linker && std::env::var("TARGET").is_ok_and(|target| target == "x86_64-unknown-linux-gnu") {
        println!("cargo::rustc-link-arg-bins=-Wl,--icf=all");
        if std::env::var("HOST") == std::env::var("TARGET") && glibc().is_some_and(|version| version >= (2, 36)) {
            println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
        }
    }
    let weights = std::fs::read(WEIGHTS).map_err(|error| format!("reading {WEIGHTS}: {error}"))?;
    let out = std::env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?;
    for (name, first) in [("lower", 0), ("upper", 1)] {
        let plane: Vec<u8> = weights.iter().skip(first).step_by(2).copied().collect();
        let file = std::fs::File::create(Path::new(&out).join(format!("weights.{name}.deflate")))?;
        let mut packed = DeflateEncoder::new(file, Compression::best());
        packed.write_all(&plane)?;
        packed.finish()?;
    }
    Ok(())
}

/// The version of this machine's glibc; `None` where it can't be found out.
fn glibc() -> Option<(u32, u32)> {
    let said = std::process::Command::new("getconf").arg("GNU_LIBC_VERSION").output().ok()?;
    let text = String::from_utf8(said.stdout).ok()?;
    let (major, minor) = text.trim().strip_prefix("glibc ")?.split_once('.')?;
    Some((major.parse().ok()?, minor.split('.').next()?.parse().ok()?))
}
