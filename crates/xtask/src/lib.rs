//! For developers only: the checks of the repository's own structure, in `tests/`, which run with
//! `cargo test` like every other test. Nothing that is shipped depends on this crate.
