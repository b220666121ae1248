//! Plain arrays of four, for CPUs without any of the other sets; compilers make vectors of them.

use std::array::from_fn;

use super::Simd;

#[derive(Clone, Copy)]
pub(super) struct Portable;

type V = [f32; 4];

impl Simd for Portable {
    type V = V;
    const LANES: usize = 4;
    const ROWS: usize = 6;

    #[inline(always)]
    fn splat(self, x: f32) -> V {
        [x; 4]
    }

    // SAFETY: what the trait asks of callers, here and below.
    #[inline(always)]
    unsafe fn load(self, from: *const f32) -> V {
        // SAFETY: the caller's promise; an array of floats may be unaligned here.
        unsafe { from.cast::<V>().read_unaligned() }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32, v: V) {
        // SAFETY: the caller's promise; an array of floats may be unaligned here.
        unsafe { to.cast::<V>().write_unaligned(v) }
    }

    #[inline(always)]
    unsafe fn load_part(self, from: *const f32, n: usize) -> V {
        let mut lanes = [0.0; 4];
        // SAFETY: the caller's promise for `from`, and `n < 4`.
        unsafe { std::ptr::copy_nonoverlapping(from, lanes.as_mut_ptr(), n) };
        lanes
    }

    #[inline(always)]
    unsafe fn store_part(self, to: *mut f32, n: usize, v: V) {
        // SAFETY: the caller's promise for `to`, and `n < 4`.
        unsafe { std::ptr::copy_nonoverlapping(v.as_ptr(), to, n) };
    }

    #[inline(always)]
    unsafe fn load_codes(self, from: *const i8) -> V {
        // SAFETY: the caller's promise.
        unsafe { from.cast::<[i8; 4]>().read() }.map(f32::from)
    }

    #[inline(always)]
    unsafe fn load_integers(self, from: *const i32) -> V {
        // SAFETY: the caller's promise; an array of numbers may be unaligned here.
        unsafe { from.cast::<[i32; 4]>().read_unaligned() }.map(|x| x as f32)
    }

    #[inline(always)]
    unsafe fn load_bf16(self, from: *const u16) -> V {
        // SAFETY: the caller's promise.
        unsafe { from.cast::<[u16; 4]>().read_unaligned() }.map(|bits| f32::from_bits(u32::from(bits) << 16))
    }

    #[inline(always)]
    unsafe fn load_f16(self, from: *const u16) -> V {
        // SAFETY: the caller's promise.
        unsafe { from.cast::<[u16; 4]>().read_unaligned() }.map(|bits| {
            // Moved to the place of an f32's, the exponent is 112 too small, unless it stands for infinity.
            let magnitude = u32::from(bits & 0x7fff) << 13;
            let scaled = (f32::from_bits(magnitude) * f32::from_bits((127 + 112) << 23)).to_bits();
            let value = if bits & 0x7c00 == 0x7c00 { magnitude | 0x7f80_0000 } else { scaled };
            f32::from_bits(value | u32::from(bits & 0x8000) << 16)
        })
    }

    #[inline(always)]
    fn add(self, a: V, b: V) -> V {
        from_fn(|i| a[i] + b[i])
    }

    #[inline(always)]
    fn sub(self, a: V, b: V) -> V {
        from_fn(|i| a[i] - b[i])
    }

    #[inline(always)]
    fn mul(self, a: V, b: V) -> V {
        from_fn(|i| a[i] * b[i])
    }

    #[inline(always)]
    fn div(self, a: V, b: V) -> V {
        from_fn(|i| a[i] / b[i])
    }

    /// Rounded twice: `f32::mul_add` is a slow library call on a CPU that can't.
    #[inline(always)]
    fn fma(self, a: V, b: V, c: V) -> V {
        from_fn(|i| a[i] * b[i] + c[i])
    }

    #[inline(always)]
    fn max(self, a: V, b: V) -> V {
        from_fn(|i| if a[i] > b[i] { a[i] } else { b[i] })
    }

    #[inline(always)]
    fn min(self, a: V, b: V) -> V {
        from_fn(|i| if a[i] < b[i] { a[i] } else { b[i] })
    }

    /// Adding 1.5 · 2^23 leaves no bits for a fraction.
    #[inline(always)]
    fn round(self, a: V) -> V {
        const BIG: f32 = 12_582_912.0;
        a.map(|x| (x + BIG) - BIG)
    }

    #[inline(always)]
    fn pow2(self, a: V) -> V {
        a.map(|x| f32::from_bits((x as i32).wrapping_add(127).cast_unsigned() << 23))
    }

    #[inline(always)]
    fn where_less(self, a: V, b: V, x: V, y: V) -> V {
        from_fn(|i| if a[i] < b[i] { x[i] } else { y[i] })
    }

    #[inline(always)]
    fn sum(self, a: V) -> f32 {
        (a[0] + a[2]) + (a[1] + a[3])
    }

    #[inline(always)]
    fn largest(self, a: V) -> f32 {
        a[0].max(a[1]).max(a[2].max(a[3]))
    }
}
