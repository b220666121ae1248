//! Vectors of `f32` as each instruction set has them, behind one trait, so that a kernel is written
//! once and compiled once for each set.

use std::sync::OnceLock;

mod dots;
#[cfg(target_arch = "aarch64")]
mod neon;
#[cfg(target_arch = "aarch64")]
mod neon_dots;
mod portable;
#[cfg(target_arch = "x86_64")]
mod x86;
#[cfg(target_arch = "x86_64")]
mod x86_dots;

pub(crate) use dots::{DotKernel, Dots};

/// Vectors of one instruction set. A value of the type proves that the CPU has the set: only
/// [`Isa::run`] makes one. All methods must be inlined into a function that is compiled for the set.
pub(crate) trait Simd: Copy + Send + Sync + 'static {
    /// `LANES` values.
    type V: Copy;
    const LANES: usize;
    /// How many rows of two vectors a matrix product keeps in registers.
    const ROWS: usize;

    fn splat(self, x: f32) -> Self::V;
    /// # Safety
    /// `from` is readable for `LANES` values.
    unsafe fn load(self, from: *const f32) -> Self::V;
    /// # Safety
    /// `to` is writable for `LANES` values.
    unsafe fn store(self, to: *mut f32, v: Self::V);
    /// Asks for the cache line of a place that will be read later, if there is one, to be brought near, but not into the nearest cache.
    fn prefetch(self, _from: *const u8) {}
    /// The first `n < LANES` values, then zeros.
    ///
    /// # Safety
    /// `from` is readable for `n` values.
    unsafe fn load_part(self, from: *const f32, n: usize) -> Self::V;
    /// The first `n < LANES` values.
    ///
    /// # Safety
    /// `to` is writable for `n` values.
    unsafe fn store_part(self, to: *mut f32, n: usize, v: Self::V);
    /// The first `n <= LANES` values, then zeros.
    ///
    /// # Safety
    /// `from` is readable for `n` values.
    #[inline(always)]
    unsafe fn load_up_to(self, from: *const f32, n: usize) -> Self::V {
        // SAFETY: the caller's promise.
        unsafe { if n == Self::LANES { self.load(from) } else { self.load_part(from, n) } }
    }
    /// The first `n <= LANES` values.
    ///
    /// # Safety
    /// `to` is writable for `n` values.
    #[inline(always)]
    unsafe fn store_up_to(self, to: *mut f32, n: usize, v: Self::V) {
        // SAFETY: the caller's promise.
        unsafe { if n == Self::LANES { self.store(to, v) } else { self.store_part(to, n, v) } }
    }
    /// `LANES` whole numbers of 8 bits.
    ///
    /// # Safety
    /// `from` is readable for `LANES` bytes.
    unsafe fn load_codes(self, from: *const i8) -> Self::V;
    /// `LANES` whole numbers of 32 bits, rounded.
    ///
    /// # Safety
    /// `from` is readable for `LANES` numbers.
    unsafe fn load_integers(self, from: *const i32) -> Self::V;
    /// `LANES` values of `bf16`, none of which changes.
    ///
    /// # Safety
    /// `from` is readable for `LANES` values.
    unsafe fn load_bf16(self, from: *const u16) -> Self::V;
    /// `LANES` values of `f16`, none of which changes.
    ///
    /// # Safety
    /// `from` is readable for `LANES` values.
    unsafe fn load_f16(self, from: *const u16) -> Self::V;
    fn add(self, a: Self::V, b: Self::V) -> Self::V;
    fn sub(self, a: Self::V, b: Self::V) -> Self::V;
    fn mul(self, a: Self::V, b: Self::V) -> Self::V;
    fn div(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a b + c`, rounded once where the set can.
    fn fma(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// The larger; `b` where either is not a number.
    fn max(self, a: Self::V, b: Self::V) -> Self::V;
    /// The smaller; `b` where either is not a number.
    fn min(self, a: Self::V, b: Self::V) -> Self::V;
    /// To the nearest integer, for `|a| < 2^22`.
    fn round(self, a: Self::V) -> Self::V;
    /// `2^a` for integers `a` in -126..=127.
    fn pow2(self, a: Self::V) -> Self::V;
    /// `x` where `a < b`, else `y`.
    fn where_less(self, a: Self::V, b: Self::V, x: Self::V, y: Self::V) -> Self::V;
    /// The sum of all lanes, always in one order.
    fn sum(self, a: Self::V) -> f32;
    fn largest(self, a: Self::V) -> f32;
}

/// Work that [`Isa::run`] compiles for each instruction set. `run` must be `#[inline(always)]`.
pub(crate) trait Kernel {
    type Out;
    fn run<S: Simd>(self, s: S) -> Self::Out;
}

/// An instruction set that this CPU has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Isa {
    #[cfg(target_arch = "x86_64")]
    Avx512Vnni,
    #[cfg(target_arch = "x86_64")]
    Avx512,
    #[cfg(target_arch = "x86_64")]
    AvxVnni,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "aarch64")]
    NeonDot,
    #[cfg(target_arch = "aarch64")]
    Neon,
    Portable,
}

/// The environment variable that names what to use instead of the best instruction set: `avx512vnni`, `avx512`,
/// `avxvnni`, `avx2`, `neondot`, `neon`, `portable`, or `candle` for no kernels of this crate.
const FORCE: &str = "SINEW_SIMD";
const CANDLE: &str = "candle";

impl Isa {
    /// All that this CPU has, the best first.
    pub(crate) fn available() -> Vec<Self> {
        let mut sets = Vec::new();
        #[cfg(target_arch = "x86_64")]
        {
            let has_avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("f16c");
            if has_avx2 && is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bw") {
                if is_x86_feature_detected!("avx512vnni") {
                    sets.push(Self::Avx512Vnni);
                }
                sets.push(Self::Avx512);
            }
            if has_avx2 {
                if is_x86_feature_detected!("avxvnni") {
                    sets.push(Self::AvxVnni);
                }
                sets.push(Self::Avx2);
            }
        }
        #[cfg(target_arch = "aarch64")]
        {
            if std::arch::is_aarch64_feature_detected!("dotprod") {
                sets.push(Self::NeonDot);
            }
            sets.push(Self::Neon);
        }
        sets.push(Self::Portable);
        sets
    }

    /// The one that every layer of this process uses: the best, or what `SINEW_SIMD` names if this
    /// CPU has it; `None` where that names candle's own operations.
    pub(crate) fn chosen() -> Option<Self> {
        static CHOSEN: OnceLock<Option<Isa>> = OnceLock::new();
        *CHOSEN.get_or_init(|| {
            let available = Self::available();
            let wanted = std::env::var(FORCE).ok();
            if wanted.as_deref() == Some(CANDLE) {
                return None;
            }
            let forced = wanted.as_ref().and_then(|wanted| available.iter().find(|isa| isa.name() == wanted));
            if let (Some(wanted), None) = (&wanted, forced) {
                tracing::warn!(wanted, using = available[0].name(), "{FORCE} names no instruction set of this CPU");
            }
            Some(*forced.unwrap_or(&available[0]))
        })
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512Vnni => "avx512vnni",
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => "avx512",
            #[cfg(target_arch = "x86_64")]
            Self::AvxVnni => "avxvnni",
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => "avx2",
            #[cfg(target_arch = "aarch64")]
            Self::NeonDot => "neondot",
            #[cfg(target_arch = "aarch64")]
            Self::Neon => "neon",
            Self::Portable => "portable",
        }
    }

    /// Runs `kernel` as compiled for this set.
    pub(crate) fn run<K: Kernel>(self, kernel: K) -> K::Out {
        match self {
            // SAFETY: values of x86's sets are made by `available` alone, where they were detected, and by tests that take
            // them from there.
            #[cfg(target_arch = "x86_64")]
            Self::Avx512Vnni | Self::Avx512 => unsafe { x86::run_avx512(kernel) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Self::AvxVnni | Self::Avx2 => unsafe { x86::run_avx2(kernel) },
            #[cfg(target_arch = "aarch64")]
            Self::NeonDot | Self::Neon => kernel.run(neon::Neon::baseline()),
            Self::Portable => kernel.run(portable::Portable),
        }
    }

    /// The same for whole numbers.
    pub(crate) fn run_dots<K: DotKernel>(self, kernel: K) -> K::Out {
        match self {
            // SAFETY: as in `run`, here and below.
            #[cfg(target_arch = "x86_64")]
            Self::Avx512Vnni => unsafe { x86_dots::run_avx512_vnni(kernel) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => unsafe { x86_dots::run_avx512(kernel) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Self::AvxVnni => unsafe { x86_dots::run_avx_vnni(kernel) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => unsafe { x86_dots::run_avx2(kernel) },
            // SAFETY: as above.
            #[cfg(target_arch = "aarch64")]
            Self::NeonDot => unsafe { neon_dots::run_dot(kernel) },
            #[cfg(target_arch = "aarch64")]
            Self::Neon => neon_dots::run(kernel),
            Self::Portable => kernel.run(portable::Portable),
        }
    }

    /// `LANES` of the set.
    pub(crate) fn lanes(self) -> usize {
        struct Lanes;
        impl Kernel for Lanes {
            type Out = usize;
            #[inline(always)]
            fn run<S: Simd>(self, _: S) -> usize {
                S::LANES
            }
        }
        self.run(Lanes)
    }
}

/// Methods of a [`Simd`] whose body is one or more intrinsics.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
macro_rules! intrinsics {
    ($($name:ident($($arg:ident: $ty:ty),*) -> $out:ty = $body:expr;)*) => {$(
        #[inline(always)]
        fn $name(self, $($arg: $ty),*) -> $out {
            // SAFETY: a value of this type exists only where the CPU has the instructions.
            unsafe { $body }
        }
    )*};
}
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
use intrinsics;
