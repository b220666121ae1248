//! NEON, which every 64-bit ARM has.

use std::arch::aarch64::*;

use super::{Simd, intrinsics};

/// 4 lanes and 32 registers.
#[derive(Clone, Copy)]
pub(super) struct Neon(());

impl Neon {
    /// NEON is part of the architecture's base.
    pub(super) fn baseline() -> Self {
        Self(())
    }
}

impl Simd for Neon {
    type V = float32x4_t;
    const LANES: usize = 4;
    const ROWS: usize = 12;

    intrinsics! {
        splat(x: f32) -> float32x4_t = vdupq_n_f32(x);
        add(a: float32x4_t, b: float32x4_t) -> float32x4_t = vaddq_f32(a, b);
        sub(a: float32x4_t, b: float32x4_t) -> float32x4_t = vsubq_f32(a, b);
        mul(a: float32x4_t, b: float32x4_t) -> float32x4_t = vmulq_f32(a, b);
        div(a: float32x4_t, b: float32x4_t) -> float32x4_t = vdivq_f32(a, b);
        fma(a: float32x4_t, b: float32x4_t, c: float32x4_t) -> float32x4_t = vfmaq_f32(c, a, b);
        max(a: float32x4_t, b: float32x4_t) -> float32x4_t = vbslq_f32(vcgtq_f32(a, b), a, b);
        min(a: float32x4_t, b: float32x4_t) -> float32x4_t = vbslq_f32(vcltq_f32(a, b), a, b);
        round(a: float32x4_t) -> float32x4_t = vrndnq_f32(a);
        pow2(a: float32x4_t) -> float32x4_t = {
            vreinterpretq_f32_s32(vshlq_n_s32::<23>(vaddq_s32(vcvtnq_s32_f32(a), vdupq_n_s32(127))))
        };
        where_less(a: float32x4_t, b: float32x4_t, x: float32x4_t, y: float32x4_t) -> float32x4_t = vbslq_f32(vcltq_f32(a, b), x, y);
        sum(a: float32x4_t) -> f32 = vaddvq_f32(a);
        largest(a: float32x4_t) -> f32 = vmaxvq_f32(a);
    }

    // SAFETY: what the trait asks of callers, here and below.
    #[inline(always)]
    unsafe fn load(self, from: *const f32) -> float32x4_t {
        // SAFETY: the caller's promise.
        unsafe { vld1q_f32(from) }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32, v: float32x4_t) {
        // SAFETY: the caller's promise.
        unsafe { vst1q_f32(to, v) }
    }

    #[inline(always)]
    unsafe fn load_part(self, from: *const f32, n: usize) -> float32x4_t {
        let mut lanes = [0.0; 4];
        // SAFETY: the caller's promise for `from`, and `n < 4`.
        unsafe {
            std::ptr::copy_nonoverlapping(from, lanes.as_mut_ptr(), n);
            vld1q_f32(lanes.as_ptr())
        }
    }

    #[inline(always)]
    unsafe fn store_part(self, to: *mut f32, n: usize, v: float32x4_t) {
        let mut lanes = [0.0; 4];
        // SAFETY: the caller's promise for `to`, and `n < 4`.
        unsafe {
            vst1q_f32(lanes.as_mut_ptr(), v);
            std::ptr::copy_nonoverlapping(lanes.as_ptr(), to, n);
        }
    }

    #[inline(always)]
    unsafe fn load_codes(self, from: *const i8) -> float32x4_t {
        // SAFETY: the caller's promise: four bytes, which are the low ones of a vector's eight.
        unsafe {
            let codes = vcreate_s8(u64::from(from.cast::<u32>().read_unaligned()));
            vcvtq_f32_s32(vmovl_s16(vget_low_s16(vmovl_s8(codes))))
        }
    }

    #[inline(always)]
    unsafe fn load_integers(self, from: *const i32) -> float32x4_t {
        // SAFETY: the caller's promise.
        unsafe { vcvtq_f32_s32(vld1q_s32(from)) }
    }

    #[inline(always)]
    unsafe fn load_bf16(self, from: *const u16) -> float32x4_t {
        // SAFETY: the caller's promise.
        unsafe { vreinterpretq_f32_u32(vshll_n_u16::<16>(vld1_u16(from))) }
    }

    #[inline(always)]
    unsafe fn load_f16(self, from: *const u16) -> float32x4_t {
        // SAFETY: the caller's promise.
        unsafe {
            let bits = vmovl_u16(vld1_u16(from));
            // Moved to the place of an f32's, the exponent is 112 too small, unless it stands for infinity.
            let magnitude = vshlq_n_u32::<13>(vandq_u32(bits, vdupq_n_u32(0x7fff)));
            let scaled = vmulq_n_f32(vreinterpretq_f32_u32(magnitude), f32::from_bits((127 + 112) << 23));
            let is_infinite = vcgeq_u32(magnitude, vdupq_n_u32(0x7c00 << 13));
            let infinite = vorrq_u32(magnitude, vdupq_n_u32(0x7f80_0000));
            let value = vbslq_u32(is_infinite, infinite, vreinterpretq_u32_f32(scaled));
            vreinterpretq_f32_u32(vorrq_u32(value, vshlq_n_u32::<16>(vandq_u32(bits, vdupq_n_u32(0x8000)))))
        }
    }
}
