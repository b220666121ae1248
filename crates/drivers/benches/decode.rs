//! What decoding costs: `cargo bench -p sinew-drivers --bench decode`. Four cameras of 640 by 480 at 30 Hz, in cores.
//!
//! `scripts/bench_jpeg_with_opencv.py` says what libjpeg-turbo takes for the same picture. The picture was made by
//! `scripts/make_jpeg_golden.py`.

#![allow(clippy::print_stdout, reason = "printing is what it is for")]

use std::time::Instant;

use sinew_core::Timestamp;
use sinew_drivers::camera::{DecodeOptions, Decoder, Picture, PixelFormat};
use zune_jpeg::JpegDecoder;
use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::options::DecoderOptions;

const JPEG: &[u8] = include_bytes!("640x480.jpg");
const PICTURES_A_SECOND: f64 = 4.0 * 30.0;
const ROUNDS: usize = 40;
const PICTURES: usize = 10;

/// Prints the least time of a picture, and what four cameras need.
fn measure(what: &str, mut decode: impl FnMut() -> usize) {
    let (mut fastest_s, mut bytes) = (f64::MAX, 0);
    for _ in 0..ROUNDS {
        let start = Instant::now();
        for _ in 0..PICTURES {
            bytes = decode();
        }
        fastest_s = fastest_s.min(start.elapsed().as_secs_f64() / PICTURES as f64);
    }
    println!("{what:48} {:6.3} ms, four at 30 Hz: {:.3} cores ({bytes} bytes)", fastest_s * 1e3, fastest_s * PICTURES_A_SECOND);
}

fn ours(what: &str, format: PixelFormat, stride: usize, bytes: &[u8]) {
    let mut decoder = Decoder::new(DecodeOptions::default());
    let picture = Picture { format, width: 640, height: 480, stride, bytes, captured_at: Timestamp::ZERO, sequence: 0 };
    let mut rgb = vec![0; 640 * 480 * 3];
    measure(what, || decoder.decode(&picture, &mut rgb).map_or(0, |()| rgb.len()));
}

fn zune(what: &str) {
    let mut rgb = vec![0; 640 * 480 * 3];
    measure(what, || {
        let mut decoder = JpegDecoder::new_with_options(ZCursor::new(JPEG), DecoderOptions::new_fast());
        decoder.decode_into(&mut rgb).map_or(0, |()| rgb.len())
    });
}

fn main() {
    println!("a picture of {} bytes; the processor: {}", JPEG.len(), processor());
    ours("MJPEG as cameras are read (checked for wholeness)", PixelFormat::Mjpeg, 0, JPEG);
    // It takes AVX2 where the processor has it, nothing wider, and can't be told not to.
    zune("zune-jpeg alone");
    measure("the crate image", || image::load_from_memory(JPEG).map_or(0, |image| image.to_rgb8().len()));
    let bytes: Vec<u8> = (0..640 * 480 * 2).map(|i| (i * 7 % 251) as u8).collect();
    ours("YUYV", PixelFormat::Yuyv, 1280, &bytes);
    ours("NV12", PixelFormat::Nv12, 640, &bytes);
    ours("grey", PixelFormat::Grey, 640, &bytes);
}

/// As Linux calls it.
fn processor() -> String {
    let cpus = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let field =
        |name: &str| cpus.lines().find_map(|line| line.strip_prefix(name)?.split_once(':').map(|(_, value)| value.trim().to_owned()));
    let flags = field("flags").unwrap_or_default();
    let has = |flag: &str| flags.split_whitespace().any(|it| it == flag);
    let sets: Vec<&str> = ["sse4_1", "avx2", "avx512f", "avx512_vbmi"].into_iter().filter(|flag| has(flag)).collect();
    format!("{} ({})", field("model name").unwrap_or_else(|| "unknown".into()), sets.join(", "))
}
