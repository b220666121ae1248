//! How far something is that takes long.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How far a transfer is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TaskProgress {
    pub step: TransferStep,
    /// One of those that are under way; empty where none is known yet.
    pub file: String,
    /// Of all files. What an earlier try had done is in neither.
    pub done_bytes: u64,
    pub total_bytes: u64,
    /// For so long nothing has moved, in seconds; 0 while something does.
    pub silent_s: u64,
}

/// What is done with the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TransferStep {
    /// Files of this machine are read, to know what they hold.
    Read,
    /// The other side was asked, and has not answered yet: no bytes are known of.
    Ask,
    /// They come or go.
    Transfer,
}
