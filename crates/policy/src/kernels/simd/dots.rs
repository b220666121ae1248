//! Sums of products of whole numbers of 8 bits, as each instruction set has them. They are exact, so
//! all sets answer the same.

use super::portable::Portable;

/// How one instruction set multiplies whole numbers in -127..=127, four inputs at a time. As with
/// [`Simd`](super::Simd), a value of the type proves that the CPU has the set.
pub(crate) trait Dots: Copy + Send + Sync + 'static {
    /// `LANES` sums.
    type Sums: Copy;
    /// What is multiplied, for each of the sums.
    type Factors: Copy;
    /// How an input is kept: in 8 or 16 bits.
    type Input: Copy;
    const LANES: usize;
    /// How many rows of two vectors of sums stay in registers.
    const ROWS: usize;
    /// In how many steps four inputs are multiplied.
    const STEPS: usize;
    /// In which order a lane has the weights of four inputs; also the other way round.
    const ORDER: [usize; 4];
    /// What is added to each input, so that its sums are too large by as many times those of the weights.
    const OFFSET: i32;

    fn input(code: i32) -> Self::Input;
    /// # Safety
    /// `from` is readable for `LANES` values.
    unsafe fn load(self, from: *const i32) -> Self::Sums;
    /// # Safety
    /// `to` is writable for `LANES` values.
    unsafe fn store(self, to: *mut i32, sums: Self::Sums);
    /// What a step takes of each lane's four weights.
    ///
    /// # Safety
    /// `from` is readable for four times `LANES` weights.
    unsafe fn weights(self, from: *const i8, step: usize) -> Self::Factors;
    /// What a step takes of four inputs, the same for each lane.
    ///
    /// # Safety
    /// `from` is readable for four inputs.
    unsafe fn inputs(self, from: *const Self::Input, step: usize) -> Self::Factors;
    /// The sums and the products of a step.
    fn add(self, sums: Self::Sums, x: Self::Factors, w: Self::Factors) -> Self::Sums;
}

/// Work that [`Isa::run_dots`](super::Isa::run_dots) compiles for each instruction set. `run` must be
/// `#[inline(always)]`.
pub(crate) trait DotKernel {
    type Out;
    fn run<D: Dots>(self, d: D) -> Self::Out;
}

impl Dots for Portable {
    type Sums = [i32; 4];
    type Factors = [[i8; 4]; 4];
    type Input = i8;
    const LANES: usize = 4;
    const ROWS: usize = 6;
    const STEPS: usize = 1;
    const ORDER: [usize; 4] = [0, 1, 2, 3];
    const OFFSET: i32 = 0;

    #[inline(always)]
    fn input(code: i32) -> i8 {
        code as i8
    }

    // SAFETY: what the trait asks of callers, here and below.
    #[inline(always)]
    unsafe fn load(self, from: *const i32) -> [i32; 4] {
        // SAFETY: the caller's promise.
        unsafe { from.cast::<[i32; 4]>().read_unaligned() }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut i32, sums: [i32; 4]) {
        // SAFETY: the caller's promise.
        unsafe { to.cast::<[i32; 4]>().write_unaligned(sums) }
    }

    #[inline(always)]
    unsafe fn weights(self, from: *const i8, _: usize) -> [[i8; 4]; 4] {
        // SAFETY: the caller's promise; arrays of bytes are never unaligned.
        unsafe { from.cast::<[[i8; 4]; 4]>().read() }
    }

    #[inline(always)]
    unsafe fn inputs(self, from: *const i8, _: usize) -> [[i8; 4]; 4] {
        // SAFETY: as above.
        [unsafe { from.cast::<[i8; 4]>().read() }; 4]
    }

    #[inline(always)]
    fn add(self, sums: [i32; 4], x: [[i8; 4]; 4], w: [[i8; 4]; 4]) -> [i32; 4] {
        let products = |lane: usize| (0..4).map(|i| i32::from(x[lane][i]) * i32::from(w[lane][i])).sum::<i32>();
        std::array::from_fn(|lane| sums[lane] + products(lane))
    }
}
