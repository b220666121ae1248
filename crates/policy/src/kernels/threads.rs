//! How kernels share out their work.

use std::ops::Range;

use rayon::prelude::*;

/// Multiplications under which waking another thread costs more than it gains.
const WORTH_A_THREAD: usize = 1 << 20;

/// How many pieces of work to make of `multiplications`: a few for each thread of rayon's current
/// pool, so that a thread which is held up gets fewer of them.
pub(crate) fn pieces(multiplications: usize) -> usize {
    let threads = rayon::current_num_threads();
    if threads == 1 { 1 } else { (multiplications / WORTH_A_THREAD).clamp(1, 8 * threads) }
}

/// `wanted` parts, or a few more, so that each thread of rayon's current pool gets as many of them as the others.
pub(crate) fn balanced(wanted: usize) -> usize {
    let threads = rayon::current_num_threads();
    if wanted > threads { wanted.next_multiple_of(threads) } else { wanted.max(1) }
}

/// The one of that index of so many nearly equal parts of `0..n`.
pub(crate) fn part(n: usize, parts: usize, index: usize) -> Range<usize> {
    index * n / parts..(index + 1) * n / parts
}

/// Calls `work` for each of `0..count`, on the threads of rayon's current pool. What a piece
/// computes must not depend on how many pieces there are: answers are the same bytes on any number
/// of threads.
pub(crate) fn each(count: usize, work: impl Fn(usize) + Send + Sync) {
    if count == 1 || rayon::current_num_threads() == 1 {
        (0..count).for_each(work);
    } else {
        (0..count).into_par_iter().with_max_len(1).for_each(work);
    }
}

/// The same where all pieces together are so many multiplications (or as long as them): on this
/// thread alone if that is sooner.
pub(crate) fn each_worth(count: usize, multiplications: usize, work: impl Fn(usize) + Send + Sync) {
    if multiplications < 2 * WORTH_A_THREAD { (0..count).for_each(work) } else { each(count, work) }
}
