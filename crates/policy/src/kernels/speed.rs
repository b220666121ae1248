//! How fast the kernels are beside what the processor can do, layer by layer, at the sizes of ACT and SmolVLA:
//!
//! ```text
//! SINEW_SIMD=avx2 cargo test --release -p sinew-policy --lib speed -- --ignored --nocapture
//! ```
//!
//! `SINEW_SPEED=Winograd` measures those lines alone that have the word. A time is the best of many short runs, which other work on the machine disturbs least; the peak is measured in turn
//! with them.

#![allow(clippy::print_stdout, reason = "printing is what it is for")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use super::conv::ConvMethod;
use super::simd::{Kernel, Simd};
use super::*;

/// For how long each kernel is run.
const LONG_ENOUGH: Duration = Duration::from_millis(400);

/// What large products and direct convolutions must reach of the peak.
const LEAST: f64 = 0.75;

/// Multiply-adds that wait for nothing but each other.
struct MultiplyAdds {
    count: usize,
}

/// As many sums as hide the latency of a multiply-add.
const SUMS: usize = 10;

impl Kernel for MultiplyAdds {
    type Out = f32;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> f32 {
        let (x, y) = (s.splat(black_box(0.5)), s.splat(black_box(0.25)));
        let mut sums = [s.splat(black_box(0.0)); SUMS];
        for _ in 0..self.count {
            for sum in &mut sums {
                *sum = s.fma(*sum, x, y);
            }
        }
        sums.into_iter().map(|sum| s.sum(sum)).sum()
    }
}

/// The seconds of the fastest of many calls.
fn fastest(mut work: impl FnMut()) -> f64 {
    work();
    let (start, mut best) = (Instant::now(), f64::INFINITY);
    while start.elapsed() < LONG_ENOUGH {
        let start = Instant::now();
        work();
        best = best.min(start.elapsed().as_secs_f64());
    }
    best
}

/// Billions of operations a second of all threads.
fn peak(isa: Isa) -> f64 {
    let threads = rayon::current_num_threads();
    let count = 1 << 14;
    let seconds = fastest(|| {
        rayon::broadcast(|_| black_box(isa.run(MultiplyAdds { count })));
    });
    (2 * threads * count * SUMS * isa.lanes()) as f64 / seconds / 1e9
}

/// Prints a line and answers which part of the `peak` was reached.
fn line(what: &str, operations: usize, peak: f64, work: impl FnMut()) -> f64 {
    if std::env::var("SINEW_SPEED").is_ok_and(|word| !what.contains(&word)) {
        return f64::INFINITY;
    }
    let seconds = fastest(work);
    let rate = operations as f64 / seconds / 1e9;
    println!("{what:44} {:8.3} ms {rate:7.1} GFLOP/s {:4.0} %", seconds * 1e3, rate / peak * 100.0);
    rate / peak
}

#[test]
#[ignore = "it measures, on a machine that does nothing else"]
fn speed() {
    let isa = Isa::chosen().expect("kernels");
    let peak = peak(isa);
    println!("{isa:?}, {} threads, at most {peak:.0} GFLOP/s\n", rayon::current_num_threads());
    let mut slow = Vec::new();
    let mut must = |what: &str, reached: f64| {
        if reached < LEAST {
            slow.push(format!("{what}: {:.0} %", reached * 100.0));
        }
    };
    for [m, n, depth] in [
        [302, 512, 512],
        [302, 3200, 512],
        [302, 512, 3200],
        [602, 512, 512],
        [602, 3200, 512],
        [602, 512, 3200],
        [100, 3200, 512],
        [1024, 768, 768],
        [1024, 3072, 768],
        [1024, 768, 3072],
        [113, 2560, 960],
        [113, 960, 2560],
        [50, 2048, 720],
        [50, 720, 2048],
        [64, 960, 12288],
    ] {
        let (x, w) = (vec![0.5; m * depth], vec![0.25; n * depth]);
        let packed = Packed::new(isa, Matrix::dense(&w, depth), None);
        let what = format!("{m} x {n} x {depth}");
        let x = Matrix::dense(&x, depth);
        must(&what, line(&what, 2 * m * n * depth, peak, || drop(black_box(linear(x, &packed, None, Activation::Relu)))));
        let Ok(packed) = Packed::read(isa, &[Matrix::dense(&w, depth)], None, Form::Integers);
        line("  in whole numbers of 8 bits", 2 * m * n * depth, peak, || drop(black_box(linear(x, &packed, None, Activation::Relu))));
    }
    for (count, channels, n_out, size, stride, height, width) in [
        (1, 3, 64, 7, 2, 480, 640),
        (1, 64, 64, 3, 1, 120, 160),
        (2, 64, 64, 3, 1, 120, 160),
        (1, 64, 128, 3, 2, 120, 160),
        (1, 64, 128, 1, 2, 120, 160),
        (1, 128, 128, 3, 1, 60, 80),
        (2, 128, 128, 3, 1, 60, 80),
        (1, 128, 256, 3, 2, 60, 80),
        (1, 128, 256, 1, 2, 60, 80),
        (1, 256, 256, 3, 1, 30, 40),
        (2, 256, 256, 3, 1, 30, 40),
        (1, 256, 512, 3, 2, 30, 40),
        (1, 256, 512, 1, 2, 30, 40),
        (1, 512, 512, 3, 1, 15, 20),
        (2, 512, 512, 3, 1, 15, 20),
    ] {
        let axes = [Window::new(size, stride, 1); 2];
        let (x, w) = (vec![0.5; count * height * width * channels], vec![0.25; n_out * size * size * channels]);
        let conv = Conv::new(isa, &w, None, &vec![0.0; n_out], channels, axes);
        let images = Images { values: &x, count, height, width, channels };
        let [h, w] = conv.size(height, width);
        let operations = 2 * count * h * w * n_out * size * size * channels;
        let what = format!("{size}x{size}/{stride}, {channels} to {n_out}, {count} x {height}x{width}");
        let method = conv.plain_method();
        let reached = line(&what, operations, peak, || drop(black_box(conv.run_by(method, images, None, Activation::Relu))));
        if size > 1 {
            must(&what, reached);
        }
        if size == 3 && stride == 1 {
            // A quarter of the multiplications of the others.
            let work = || drop(black_box(conv.run_by(ConvMethod::Winograd, images, None, Activation::Relu)));
            line("  by Winograd", operations / 4, peak, work);
        }
    }
    for [n, m, heads, dim] in [[302, 302, 8, 64], [602, 602, 8, 64], [100, 302, 8, 64], [1024, 1024, 12, 64], [50, 291, 15, 64]] {
        let (query, key) = (values(n * heads * dim), values(m * heads * dim));
        let [query, key] = [&query, &key].map(|x| Matrix::dense(x, heads * dim));
        let what = format!("attention, {n} to {m}, {heads} of {dim}");
        line(&what, 4 * n * m * heads * dim, peak, || {
            drop(black_box(KeyValues::new(isa, [key, key], heads, 0).attend(query, heads, None, 0.125)))
        });
    }
    for (rows, width) in [(302, 512), (1024, 768)] {
        let (x, scale) = (vec![0.5; rows * width], vec![1.0; width]);
        let x = Matrix::dense(&x, width);
        let norm = RowNorm::Layer { scale: &scale, shift: &scale };
        line(&format!("norm of {rows} x {width}"), 8 * rows * width, peak, || drop(black_box(normalize(isa, x, norm, 1e-5))));
        line(&format!("sum of {rows} x {width}"), rows * width, peak, || drop(black_box(combined(isa, x, x, Combine::Sum))));
    }
    let (x, w) = (vec![0.5; 480 * 640 * 3], vec![0.25; 64 * 49 * 3]);
    let conv = Conv::new(isa, &w, None, &[0.0; 64], 3, [Window::new(7, 2, 1); 2]);
    let images = Images { values: &x, count: 1, height: 480, width: 640, channels: 3 };
    let work = || drop(black_box(conv.run_pooled(images, Activation::Relu, [Window::new(3, 2, 1); 2])));
    line("7x7/2, 3 to 64, 1 x 480x640, pooled", 2 * 240 * 320 * 64 * 147, peak, work);
    let x = vec![0.5; 240 * 320 * 64];
    let images = Images { values: &x, count: 1, height: 240, width: 320, channels: 64 };
    line("pool of 240x320x64", 9 * 120 * 160 * 64, peak, || drop(black_box(max_pool(isa, images, [Window::new(3, 2, 1); 2]))));
    assert!(slow.is_empty(), "less than {LEAST} of the peak of {peak:.0} GFLOP/s: {slow:?}");
}

fn values(n: usize) -> Vec<f32> {
    (0..n).map(|i| (i as f32 * 0.37).sin()).collect()
}
