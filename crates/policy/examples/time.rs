//! Times a checkpoint, and compares it with `expected.safetensors` where the folder holds one:
//!
//! ```text
//! RAYON_NUM_THREADS=1 cargo run --release -p sinew-policy --example time -- CHECKPOINT [RUNS [q8]]
//! ```
#![allow(clippy::print_stdout, reason = "printing is what it is for")]

use std::error::Error;
use std::path::PathBuf;
use std::time::Instant;

use safetensors::SafeTensors;
use sinew_policy::{Inputs, OpenOptions};

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let dir = PathBuf::from(args.next().ok_or("usage: time CHECKPOINT [RUNS [q8]]")?);
    let runs: usize = args.next().map_or(Ok(20), |runs| runs.parse())?;

    let quantization = args.next().map(|name| name.parse()).transpose()?;

    let start = Instant::now();
    let checkpoint = OpenOptions::new().quantize(quantization).open(&dir)?;
    let opened = start.elapsed();
    checkpoint.load()?;
    println!("open {:.1} ms, load {:.1} ms", opened.as_secs_f64() * 1e3, (start.elapsed() - opened).as_secs_f64() * 1e3);

    let given = dir.join("inputs.safetensors");
    let inputs = if given.exists() { Inputs::read(&given)? } else { checkpoint.blank_inputs() };
    let mut milliseconds = Vec::new();
    let mut actions = checkpoint.infer(&inputs)?;
    for _ in 0..runs {
        let start = Instant::now();
        actions = checkpoint.infer(&inputs)?;
        milliseconds.push(start.elapsed().as_secs_f64() * 1e3);
    }
    milliseconds.sort_by(f64::total_cmp);
    if let [fastest, .., slowest] = milliseconds[..] {
        println!("chunk: fastest {fastest:.1} ms, median {:.1} ms, slowest {slowest:.1} ms", milliseconds[runs / 2]);
    }
    let expected = dir.join("expected.safetensors");
    if expected.exists() {
        let bytes = std::fs::read(expected)?;
        let file = SafeTensors::deserialize(&bytes)?;
        let (theirs, _) = file.tensor("action")?.data().as_chunks();
        let delta = theirs.iter().zip(&actions.values).map(|(b, ours)| (f32::from_le_bytes(*b) - ours).abs()).fold(0.0, f32::max);
        println!("max |delta| {delta:.2e} over {} rows", actions.rows);
    }
    Ok(())
}
