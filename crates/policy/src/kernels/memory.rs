//! Memory that kernels share: aligned buffers, per-thread scratch, and results that threads write
//! disjoint parts of.

use std::cell::RefCell;
use std::marker::PhantomData;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use memmap2::{MmapMut, MmapRaw};

/// Bytes of a cache line.
const LINE: usize = 64;

/// Bytes from which on memory is asked of the kernel itself, in pages as large as it has: it comes
/// zeroed when it is first touched, by the threads that touch it, 2 MB at a time in place of 4 kB.
const LARGE: usize = 2 << 20;

/// Bytes of a map of which several kept values take pieces.
const SHARED: usize = 32 << 20;

/// Values at a multiple of 64 bytes, so that no vector of them crosses a cache line.
#[derive(Debug)]
pub(crate) struct Aligned {
    memory: Memory,
    len: usize,
}

#[derive(Debug)]
enum Memory {
    /// With room to begin at a multiple of 64 bytes.
    Values(Vec<f32>),
    Pages(Piece),
}

/// A part of a map that nobody else has.
#[derive(Debug)]
struct Piece {
    map: Arc<MmapRaw>,
    offset: usize,
    bytes: usize,
}

impl Drop for Piece {
    /// Gives the memory back, which the rest of a shared map would keep.
    fn drop(&mut self) {
        const PAGE: usize = 1 << 16;
        let (start, end) = (self.offset.next_multiple_of(PAGE), (self.offset + self.bytes) / PAGE * PAGE);
        if Arc::strong_count(&self.map) > 1 && start < end {
            // SAFETY: whole pages inside a piece that nobody uses any more.
            #[cfg(unix)]
            let advised = unsafe { self.map.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, start, end - start) };
            #[cfg(unix)]
            if let Err(error) = advised {
                tracing::debug!(%error, "memory of weights stays in use");
            }
        }
    }
}

impl Default for Aligned {
    fn default() -> Self {
        Self::zeros(0)
    }
}

impl Aligned {
    pub(crate) fn zeros(len: usize) -> Self {
        let bytes = len * size_of::<f32>();
        // Where the kernel gives no pages, the allocator says what it says about that.
        let memory = match (bytes >= LARGE).then(|| pages(bytes)).flatten() {
            Some(map) => Memory::Pages(Piece { map: Arc::new(map), offset: 0, bytes }),
            None => Memory::Values(vec![0.0; len + LINE / size_of::<f32>()]),
        };
        Self { memory, len }
    }

    /// The same for values that are kept, such as weights: one behind the other in large maps, so that
    /// they fill the largest pages there are, which begin at multiples of their size alone.
    pub(crate) fn kept(len: usize) -> Self {
        static LAST: Mutex<(Weak<MmapRaw>, usize)> = Mutex::new((Weak::new(), 0));
        let bytes = (len * size_of::<f32>()).next_multiple_of(LINE);
        let mut last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
        let room = last.0.upgrade().filter(|map| map.len() - last.1 >= bytes).map(|map| (map, last.1));
        let begun = || pages(bytes.max(SHARED).next_multiple_of(LARGE)).map(|map| (Arc::new(map), 0));
        let Some((map, offset)) = room.or_else(begun) else { return Self::zeros(len) };
        *last = (Arc::downgrade(&map), offset + bytes);
        Self { memory: Memory::Pages(Piece { map, offset, bytes }), len }
    }

    /// Makes it at least `len` long; what it held is of no interest.
    pub(crate) fn at_least(&mut self, len: usize) -> &mut [f32] {
        if self.len < len {
            *self = Self::zeros(len);
        }
        &mut self.values_mut()[..len]
    }

    pub(crate) fn values(&self) -> &[f32] {
        match &self.memory {
            Memory::Values(values) => &values[values.as_ptr().align_offset(LINE)..][..self.len],
            // SAFETY: a map is as aligned as a page and places in it as a cache line, the kernel zeroed it,
            // and room was made for `len` values, which are this value's alone.
            Memory::Pages(Piece { map, offset, .. }) => unsafe { std::slice::from_raw_parts(map.as_ptr().add(*offset).cast(), self.len) },
        }
    }

    pub(crate) fn values_mut(&mut self) -> &mut [f32] {
        match &mut self.memory {
            Memory::Values(values) => {
                let start = values.as_ptr().align_offset(LINE);
                &mut values[start..][..self.len]
            }
            // SAFETY: as in `values`, and the borrow is exclusive.
            Memory::Pages(Piece { map, offset, .. }) => unsafe {
                std::slice::from_raw_parts_mut(map.as_mut_ptr().add(*offset).cast(), self.len)
            },
        }
    }
}

/// Zeroed memory from the kernel, in huge pages where it has some.
fn pages(bytes: usize) -> Option<MmapRaw> {
    let map = MmapMut::map_anon(bytes).ok()?;
    #[cfg(target_os = "linux")]
    if let Err(error) = map.advise(memmap2::Advice::HugePage) {
        tracing::debug!(%error, bytes, "no huge pages");
    }
    Some(map.into())
}

/// Calls `work` with two buffers of this thread that live as long as the thread does. Not to be
/// nested.
pub(crate) fn with_scratch<R>(work: impl FnOnce(&mut [Aligned; 2]) -> R) -> R {
    thread_local! {
        static SCRATCH: RefCell<[Aligned; 2]> = RefCell::default();
    }
    SCRATCH.with_borrow_mut(work)
}

/// Rows of a result, of which each value is written by one thread before anyone reads it.
#[derive(Clone, Copy)]
pub(crate) struct Target<'a> {
    start: *mut f32,
    len: usize,
    /// From one row to the next.
    pub(crate) stride: usize,
    borrow: PhantomData<&'a mut f32>,
}

// SAFETY: it is a pointer that outlives `'a`; what is written through it is up to the unsafe `at`.
unsafe impl Send for Target<'_> {}
// SAFETY: as above.
unsafe impl Sync for Target<'_> {}

impl<'a> Target<'a> {
    pub(crate) fn new(values: &'a mut [f32], stride: usize) -> Self {
        Self { start: values.as_mut_ptr(), len: values.len(), stride, borrow: PhantomData }
    }

    /// The same values from `offset` on, as rows of another stride.
    pub(crate) fn part(self, offset: usize, stride: usize) -> Self {
        assert!(offset <= self.len, "a part that starts {offset} into {} values", self.len);
        Self { start: self.start.wrapping_add(offset), len: self.len - offset, stride, ..self }
    }

    /// Where `len` values from `column` of `row` on are.
    ///
    /// # Safety
    /// No other thread touches these values meanwhile, and they are written before they are read.
    pub(crate) unsafe fn at(self, row: usize, column: usize, len: usize) -> *mut f32 {
        let from = row * self.stride + column;
        debug_assert!(from + len <= self.len, "{len} values at {row}, {column} of {} with stride {}", self.len, self.stride);
        self.start.wrapping_add(from)
    }

    /// Panics unless `rows` rows of `width` are inside.
    pub(crate) fn assert_holds(self, rows: usize, width: usize) {
        let needed = if rows == 0 { 0 } else { (rows - 1) * self.stride + width };
        assert!(needed <= self.len, "{rows} rows of {width} with stride {} in {} values", self.stride, self.len);
    }
}

/// A vector of `len` values that `write` writes, every one of them, without zeroing them first.
///
/// # Safety
/// `write` must write each value through the target.
pub(crate) unsafe fn written(len: usize, stride: usize, write: impl FnOnce(Target<'_>)) -> Vec<f32> {
    let mut values: Vec<f32> = Vec::with_capacity(len);
    write(Target { start: values.as_mut_ptr(), len, stride, borrow: PhantomData });
    // SAFETY: the capacity is there, and the caller's promise.
    unsafe { values.set_len(len) };
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kept_values_share_a_map_and_nothing_else() {
        let sizes = [5, 300_000, 16, 1_000_000, 9_000_000, 70_000];
        let mut all: Vec<Aligned> = sizes.map(Aligned::kept).into();
        for (value, kept) in (1u8..).zip(&mut all) {
            assert!(kept.values().iter().all(|x| *x == 0.0));
            assert_eq!(kept.values().as_ptr().align_offset(LINE), 0);
            kept.values_mut().fill(f32::from(value));
        }
        // What goes takes nothing of its neighbours along.
        drop(all.remove(1));
        drop(all.remove(2));
        for (value, kept) in [1.0, 3.0, 5.0, 6.0].into_iter().zip(&all) {
            assert!(kept.values().iter().all(|x| *x == value), "{value}");
        }
        assert_eq!(all.iter().map(|kept| kept.values().len()).collect::<Vec<_>>(), [5, 16, 9_000_000, 70_000]);
    }
}
