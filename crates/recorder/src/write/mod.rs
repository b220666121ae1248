//! Writing: from rows and pictures to committed episodes.

pub(crate) mod closed;
pub(crate) mod dataset;
pub(crate) mod growing_table;
pub(crate) mod growing_video;
pub(crate) mod journal;
pub(crate) mod lane;
pub(crate) mod options;
pub(crate) mod recorder;
pub(crate) mod syncer;
pub(crate) mod unfinished;
pub(crate) mod writer;
