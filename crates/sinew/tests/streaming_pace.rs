//! How busy a slow link is kept: `cargo test --release -p sinew --features datasets --test streaming_pace -- --nocapture
//! --test-threads 1`.
#![cfg(feature = "datasets")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops at the first surprise")]
#![allow(clippy::print_stdout, reason = "its figures are to be seen")]
#![allow(clippy::disallowed_methods, reason = "it measures time")]

#[allow(dead_code, reason = "each test uses a part of it")]
mod streamed;

use std::time::{Duration, Instant};

use sinew::{Loader, Windows, episode_frames};
use sinew_testkit::hub::HubOptions as Serving;
use streamed::{place, record, serve, stream, thousand};

const LATENCY: Duration = Duration::from_millis(50);

#[test]
fn the_first_frame_comes_after_three_round_trips() {
    let (root, cache) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    thousand(root.path());
    let latency = Duration::from_millis(400);
    let server = serve(root.path(), Serving { latency, ..Serving::default() });
    let dataset = stream(&server, cache.path());
    server.forget_requests();
    let mut loader = Loader::new(&dataset, &Windows::default()).unwrap();
    let begun = Instant::now();
    loader.item(dataset.episode(517).unwrap().first_index).unwrap();
    let trips = begun.elapsed().as_secs_f64() / latency.as_secs_f64();
    println!("first frame after {trips:.2} round trips, {} requests, {} bytes", server.requests().len(), server.bytes_sent());
    // What is decoded, and what a busy machine takes, is within the fraction.
    assert!(trips < 3.8, "{trips:.2}: {:#?}", server.requests());
}

#[test]
fn a_link_of_50_ms_is_kept_busy() {
    let root = tempfile::tempdir().unwrap();
    record(&place(root.path()), 1, 1200);
    for bytes_per_s in [512 << 10, 1 << 20] {
        let cache = tempfile::tempdir().unwrap();
        let server = serve(root.path(), Serving { latency: LATENCY, bytes_per_s: Some(bytes_per_s), ..Serving::default() });
        let dataset = stream(&server, cache.path());
        server.forget_requests();
        let begun = Instant::now();
        let frames = episode_frames(&dataset, 0, &Windows::default()).unwrap().map(Result::unwrap).count();
        let (seconds, bytes) = (begun.elapsed().as_secs_f64(), server.bytes_sent());
        let share = bytes as f64 / bytes_per_s as f64 / seconds;
        println!(
            "{frames} frames, {bytes} bytes at {bytes_per_s} bytes/s: {seconds:.2} s, {share:.2} of the link's rate, {} requests",
            server.requests().len()
        );
        assert!(share >= 0.8, "{share:.2}: {:#?}", server.requests());
    }
}
