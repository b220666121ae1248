//! glibc's allocator gives threads heaps of their own, and each keeps the most that was ever in it.

/// An encoder takes 13 MB and a policy more, and each episode's run on new threads, so that a long recording would fill as many
/// heaps as there may be, by default eight a processor.
pub fn keep_few() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        const HEAPS: libc::c_int = 8;
        // SAFETY: it sets a number of the allocator's, before there are threads.
        #[allow(unsafe_code, reason = "the allocator takes the number from nowhere else but the environment")]
        unsafe {
            // One that it does not know stays as it is.
            libc::mallopt(libc::M_ARENA_MAX, HEAPS);
        }
    }
}

/// What was freed goes back to the system. It takes some milliseconds, in which other threads may wait for memory: for a robot at rest.
pub fn give_back() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        // SAFETY: it may be called at any time by any thread, and takes only what nobody holds.
        #[allow(unsafe_code, reason = "the allocator gives heaps but the first one back only when it is told")]
        unsafe {
            libc::malloc_trim(0);
        }
    }
}
