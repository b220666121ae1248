//! Whole numbers by the dot products that ARM has since 8.2, and by NEON's longer multiplications without them.

use std::arch::aarch64::*;
use std::arch::asm;

use super::dots::{DotKernel, Dots};

/// Made by [`run_dot`] alone.
#[derive(Clone, Copy)]
struct NeonDot(());

#[derive(Clone, Copy)]
struct Neon(());

/// # Safety
/// The CPU has `dotprod`.
#[target_feature(enable = "neon,dotprod")]
pub(super) unsafe fn run_dot<K: DotKernel>(kernel: K) -> K::Out {
    kernel.run(NeonDot(()))
}

/// NEON is part of the architecture's base.
pub(super) fn run<K: DotKernel>(kernel: K) -> K::Out {
    kernel.run(Neon(()))
}

macro_rules! dots {
    ($set:ident, |$sums:ident, $x:ident, $w:ident| $sum:block) => {
        impl Dots for $set {
            type Sums = int32x4_t;
            type Factors = int8x16_t;
            type Input = i8;
            const LANES: usize = 4;
            const ROWS: usize = 12;
            const STEPS: usize = 1;
            const ORDER: [usize; 4] = [0, 1, 2, 3];
            const OFFSET: i32 = 0;

            #[inline(always)]
            fn input(code: i32) -> i8 {
                code as i8
            }

            // SAFETY: what the trait asks of callers, here and below.
            #[inline(always)]
            unsafe fn load(self, from: *const i32) -> int32x4_t {
                // SAFETY: the caller's promise.
                unsafe { vld1q_s32(from) }
            }

            #[inline(always)]
            unsafe fn store(self, to: *mut i32, sums: int32x4_t) {
                // SAFETY: the caller's promise.
                unsafe { vst1q_s32(to, sums) }
            }

            #[inline(always)]
            unsafe fn weights(self, from: *const i8, _: usize) -> int8x16_t {
                // SAFETY: the caller's promise.
                unsafe { vld1q_s8(from) }
            }

            #[inline(always)]
            unsafe fn inputs(self, from: *const i8, _: usize) -> int8x16_t {
                // SAFETY: the caller's promise: four bytes.
                unsafe { vreinterpretq_s8_s32(vdupq_n_s32(from.cast::<i32>().read_unaligned())) }
            }

            #[inline(always)]
            fn add(self, $sums: int32x4_t, $x: int8x16_t, $w: int8x16_t) -> int32x4_t {
                $sum
            }
        }
    };
}

dots!(NeonDot, |sums, x, w| {
    let mut sums = sums;
    // SAFETY: the set is there, and the instruction changes nothing but `sums`.
    unsafe {
        asm!("sdot {0:v}.4s, {1:v}.16b, {2:v}.16b", inout(vreg) sums, in(vreg) x, in(vreg) w, options(pure, nomem, nostack, preserves_flags));
    }
    sums
});

dots!(Neon, |sums, x, w| {
    // SAFETY: NEON is part of the architecture's base. Sums of two products have room in 16 bits.
    unsafe {
        let low = vpaddlq_s16(vmull_s8(vget_low_s8(x), vget_low_s8(w)));
        let high = vpaddlq_s16(vmull_high_s8(x, w));
        vaddq_s32(sums, vpaddq_s32(low, high))
    }
});
