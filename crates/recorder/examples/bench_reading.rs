//! Times the loader: frames a second, in order and at random.
//!
//! ```text
//! cargo run --release -p sinew-recorder --example bench_reading -- DIR [NAME=VALUE...]
//! ```
//!
//! `order=random` (or `sequential`), `items=200`, `seed=1`, `window=1`: so many rows of each camera an item,
//! up to its own. `convert=FOLDER` writes the dataset in version 2.1 there instead, and reads nothing. Prints,
//! as one JSON line, how long opening took, images a second and the most memory that the process had.

#![allow(clippy::print_stdout, reason = "it is a command")]

mod options;

use std::collections::BTreeMap;
use std::error::Error;
use std::ops::ControlFlow;
use std::time::Instant;

use options::{Options, peak_mb};
use serde_json::json;
use sinew_recorder::{Conversion, DatasetReader, Loader, Output, Version, Windows, plan_convert};

fn main() -> Result<(), Box<dyn Error>> {
    let given = Options::read()?;
    if let Some(to) = given.get("convert") {
        let conversion = Conversion { version: Some(Version::V21), cameras: None };
        plan_convert(&given.folder, &conversion)?.run(&Output::Folder(to.into()), &mut |_| ControlFlow::Continue(()))?;
        return Ok(());
    }
    let begun = Instant::now();
    let reader = DatasetReader::open(&given.folder)?;
    let window = given.number("window", "1")?.max(1);
    let deltas_s: Vec<f64> = (0..window).rev().map(|back| -f64::from(back) / f64::from(reader.fps())).collect();
    let cameras = reader.cameras().map(|key| (key.to_owned(), deltas_s.clone()));
    let windows = Windows { deltas_s: if window > 1 { cameras.collect() } else { BTreeMap::new() }, cameras: None };
    let mut loader = Loader::new(&reader, &windows)?;
    let open_ms = begun.elapsed().as_secs_f64() * 1e3;

    let (rows, items) = (reader.total_frames(), u64::from(given.number("items", "200")?));
    let mut random = fastrand::Rng::with_seed(u64::from(given.number("seed", "1")?));
    let is_random = given.text("order", "random") == "random";
    let mut images = 0;
    let begun = Instant::now();
    for number in 0..items {
        let item = loader.item(if is_random { random.u64(0..rows) } else { number % rows })?;
        images += item.images.values().map(Vec::len).sum::<usize>();
    }
    let seconds = begun.elapsed().as_secs_f64();
    let report = json!({
        "open_ms": open_ms,
        "items": items,
        "images": images,
        "seconds": seconds,
        "images_a_second": images as f64 / seconds,
        "peak_mb": peak_mb(),
    });
    println!("{report}");
    Ok(())
}
