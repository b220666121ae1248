//! Packs the demonstration policy's weights for the binary. They are numbers of half precision, rounded to few
//! different values: all that is left of most of them is in their upper bytes, so upper and lower bytes are
//! compressed apart.
//!
//! Also has the linker fold functions that are the same byte by byte, where Rust brings the linker
//! (docs/decisions/one-profile.md).

use std::io::Write as _;
use std::path::Path;

use flate2::Compression;
use flate2::write::DeflateEncoder;

const WEIGHTS: &str = "../../policies/act_so101_pick_place/model.safetensors";

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed={WEIGHTS}");
    println!("cargo::rerun-if-changed=build.rs");
    if std::env::var("TARGET").is_ok_and(|target| target == "x86_64-unknown-linux-gnu") {
        println!("cargo::rustc-link-arg-bins=-Wl,--icf=all");
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
