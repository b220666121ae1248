//! Sources of pictures that are no devices.

mod pattern;

pub use pattern::Pattern;
