//! What the format is: `info.json`, features, statistics, tables and where files lie, of each version.

pub(crate) mod arrays;
pub(crate) mod card;
pub(crate) mod cast;
pub(crate) mod columns;
pub(crate) mod feature;
pub(crate) mod info;
pub(crate) mod input;
pub(crate) mod json;
pub(crate) mod layout;
pub(crate) mod marks;
mod parquet_bounds;
pub(crate) mod parquet_read;
pub(crate) mod rate;
pub(crate) mod schema;
pub(crate) mod stats;
pub(crate) mod table;
pub(crate) mod tasks;
mod template;
