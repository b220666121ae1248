//! Tools that make a dataset out of others.

mod error;

pub use error::ToolError;
