//! Packs the demonstration policy's weights for the binary. Of half-precision numbers the upper bytes
//! (sign, exponent, first bits of the mantissa) are much alike and compress by a quarter; the lower
//! bytes are noise, on which time would be wasted.
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
    let plane = |first: usize| weights.iter().skip(first).step_by(2).copied().collect::<Vec<u8>>();
    std::fs::write(Path::new(&out).join("weights.lower"), plane(0))?;
    let mut upper = DeflateEncoder::new(std::fs::File::create(Path::new(&out).join("weights.upper.deflate"))?, Compression::fast());
    upper.write_all(&plane(1))?;
    upper.finish()?;
    Ok(())
}
