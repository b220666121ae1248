//! Whole numbers by VNNI, and by the multiplications of 16 bits where there is no VNNI.

use std::arch::x86_64::*;

use super::dots::{DotKernel, Dots};

/// Made by [`run_avx512_vnni`] alone.
#[derive(Clone, Copy)]
struct Avx512Vnni(());

/// Made by [`run_avx512`] alone.
#[derive(Clone, Copy)]
struct Avx512(());

/// Made by [`run_avx_vnni`] alone.
#[derive(Clone, Copy)]
struct AvxVnni(());

/// Made by [`run_avx2`] alone.
#[derive(Clone, Copy)]
struct Avx2(());

/// # Safety
/// The CPU has AVX-512 F, BW and VNNI, and AVX2.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni,avx2")]
pub(super) unsafe fn run_avx512_vnni<K: DotKernel>(kernel: K) -> K::Out {
    kernel.run(Avx512Vnni(()))
}

/// # Safety
/// The CPU has AVX-512 F and BW, and AVX2.
#[target_feature(enable = "avx512f,avx512bw,avx2")]
pub(super) unsafe fn run_avx512<K: DotKernel>(kernel: K) -> K::Out {
    kernel.run(Avx512(()))
}

/// # Safety
/// The CPU has AVX2 and AVX-VNNI.
#[target_feature(enable = "avx2,avxvnni")]
pub(super) unsafe fn run_avx_vnni<K: DotKernel>(kernel: K) -> K::Out {
    kernel.run(AvxVnni(()))
}

/// # Safety
/// The CPU has AVX2.
#[target_feature(enable = "avx2")]
pub(super) unsafe fn run_avx2<K: DotKernel>(kernel: K) -> K::Out {
    kernel.run(Avx2(()))
}

/// What is the same with and without VNNI.
macro_rules! sums {
    ($vector:ty, $lanes:literal, $rows:literal, $load:ident, $store:ident) => {
        type Sums = $vector;
        type Factors = $vector;
        const LANES: usize = $lanes;
        const ROWS: usize = $rows;

        // SAFETY: what the trait asks of callers, here and below.
        #[inline(always)]
        unsafe fn load(self, from: *const i32) -> $vector {
            // SAFETY: the caller's promise; the set is there.
            unsafe { $load(from.cast()) }
        }

        #[inline(always)]
        unsafe fn store(self, to: *mut i32, sums: $vector) {
            // SAFETY: the caller's promise; the set is there.
            unsafe { $store(to.cast(), sums) }
        }
    };
}

/// Four unsigned inputs at once by four signed weights.
macro_rules! vnni {
    ($set:ident, $vector:ty, $lanes:literal, $rows:literal, $load:ident, $store:ident, $splat:ident, $dot:ident) => {
        impl Dots for $set {
            type Input = u8;
            const STEPS: usize = 1;
            const ORDER: [usize; 4] = [0, 1, 2, 3];
            const OFFSET: i32 = 128;
            sums!($vector, $lanes, $rows, $load, $store);

            #[inline(always)]
            fn input(code: i32) -> u8 {
                (code + Self::OFFSET) as u8
            }

            // SAFETY: what the trait asks of callers, here and below.
            #[inline(always)]
            unsafe fn weights(self, from: *const i8, _: usize) -> $vector {
                // SAFETY: the caller's promise; the set is there.
                unsafe { $load(from.cast()) }
            }

            #[inline(always)]
            unsafe fn inputs(self, from: *const u8, _: usize) -> $vector {
                // SAFETY: the caller's promise; the set is there.
                unsafe { $splat(from.cast::<i32>().read_unaligned()) }
            }

            #[inline(always)]
            fn add(self, sums: $vector, x: $vector, w: $vector) -> $vector {
                // SAFETY: the set is there.
                unsafe { $dot(sums, x, w) }
            }
        }
    };
}

/// Two inputs at once, as numbers of 16 bits. Products of unsigned by signed bytes (`maddubs`) would be more at once,
/// but their sums of two have no room in 16 bits.
macro_rules! pairs {
    (
        $set:ident, $vector:ty, $lanes:literal, $rows:literal, $load:ident, $store:ident, $splat:ident,
        $left:ident, $right:ident, $multiply:ident, $add:ident
    ) => {
        impl Dots for $set {
            type Input = i16;
            const STEPS: usize = 2;
            // The even bytes of a lane are those of the first step.
            const ORDER: [usize; 4] = [0, 2, 1, 3];
            const OFFSET: i32 = 0;
            sums!($vector, $lanes, $rows, $load, $store);

            #[inline(always)]
            fn input(code: i32) -> i16 {
                code as i16
            }

            // SAFETY: what the trait asks of callers, here and below.
            #[inline(always)]
            unsafe fn weights(self, from: *const i8, step: usize) -> $vector {
                // SAFETY: the caller's promise; the set is there.
                unsafe {
                    let bytes = $load(from.cast());
                    $right::<8>(if step == 0 { $left::<8>(bytes) } else { bytes })
                }
            }

            #[inline(always)]
            unsafe fn inputs(self, from: *const i16, step: usize) -> $vector {
                // SAFETY: the caller's promise: four inputs are two pairs; the set is there.
                unsafe { $splat(from.cast::<i32>().add(step).read_unaligned()) }
            }

            #[inline(always)]
            fn add(self, sums: $vector, x: $vector, w: $vector) -> $vector {
                // SAFETY: the set is there.
                unsafe { $add(sums, $multiply(x, w)) }
            }
        }
    };
}

vnni!(Avx512Vnni, __m512i, 16, 12, _mm512_loadu_si512, _mm512_storeu_si512, _mm512_set1_epi32, _mm512_dpbusd_epi32);
vnni!(AvxVnni, __m256i, 8, 6, _mm256_loadu_si256, _mm256_storeu_si256, _mm256_set1_epi32, _mm256_dpbusd_avx_epi32);
pairs!(
    Avx512,
    __m512i,
    16,
    12,
    _mm512_loadu_si512,
    _mm512_storeu_si512,
    _mm512_set1_epi32,
    _mm512_slli_epi16,
    _mm512_srai_epi16,
    _mm512_madd_epi16,
    _mm512_add_epi32
);
pairs!(
    Avx2,
    __m256i,
    8,
    6,
    _mm256_loadu_si256,
    _mm256_storeu_si256,
    _mm256_set1_epi32,
    _mm256_slli_epi16,
    _mm256_srai_epi16,
    _mm256_madd_epi16,
    _mm256_add_epi32
);
