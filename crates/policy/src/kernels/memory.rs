//! Memory that kernels share: aligned buffers, per-thread scratch, and results that threads write
//! disjoint parts of.

use std::cell::{Cell, RefCell};
use std::marker::PhantomData;

use memmap2::MmapMut;

/// Bytes of a cache line.
const LINE: usize = 64;

/// Bytes from which on memory is asked of the kernel itself: it comes zeroed when it is first touched, by
/// the threads that touch it.
const LARGE: usize = 2 << 20;

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
    Pages(MmapMut),
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
        let memory = match (bytes >= LARGE).then(|| MmapMut::map_anon(bytes)) {
            Some(Ok(pages)) => Memory::Pages(pages),
            Some(Err(_)) | None => Memory::Values(vec![0.0; len + LINE / size_of::<f32>()]),
        };
        Self { memory, len }
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
            // SAFETY: a map is as aligned as a page, the kernel zeroed it, and `zeros` made room for `len`.
            Memory::Pages(pages) => unsafe { std::slice::from_raw_parts(pages.as_ptr().cast(), self.len) },
        }
    }

    pub(crate) fn values_mut(&mut self) -> &mut [f32] {
        match &mut self.memory {
            Memory::Values(values) => {
                let start = values.as_ptr().align_offset(LINE);
                &mut values[start..][..self.len]
            }
            // SAFETY: as in `values`, and the borrow is exclusive.
            Memory::Pages(pages) => unsafe { std::slice::from_raw_parts_mut(pages.as_mut_ptr().cast(), self.len) },
        }
    }
}

/// Calls `work` with two buffers of this thread that live as long as the thread does. Not to be
/// nested.
pub(crate) fn with_scratch<R>(work: impl FnOnce(&mut [Aligned; 2]) -> R) -> R {
    thread_local! {
        static SCRATCH: RefCell<[Aligned; 2]> = RefCell::default();
    }
    SCRATCH.with_borrow_mut(work)
}

/// Calls `work` with a buffer of this thread that lives as long as the thread does, for what this thread shares out to
/// others. While it waits for them it may take on work that asks for the same, which gets another.
pub(crate) fn with_shared<R>(work: impl FnOnce(&mut Aligned) -> R) -> R {
    thread_local! {
        static SHARED: Cell<Option<Aligned>> = const { Cell::new(None) };
    }
    let mut buffer = SHARED.take().unwrap_or_default();
    let answer = work(&mut buffer);
    SHARED.set(Some(buffer));
    answer
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
