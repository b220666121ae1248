//! Shows a session in the Rerun viewer.

use std::path::Path;

use sinew_core::{EpisodeEnd, EpisodeStart, Frame, FrameSink, RobotDescription, SinkError};
use thiserror::Error;

#[derive(Debug, Error)]
pub enum ViewError {
    #[error("{doing}")]
    Rerun {
        doing: String,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// Logs each tick to a Rerun recording.
pub struct RerunView {}

impl RerunView {
    /// Records to an .rrd file, which must not exist.
    pub fn to_file(path: &Path, robot: &RobotDescription) -> Result<Self, ViewError> {
        let _ = (path, robot);
        Ok(Self {})
    }

    /// Streams to a viewer, such as `127.0.0.1:9876`.
    pub fn connect(address: &str, robot: &RobotDescription) -> Result<Self, ViewError> {
        let _ = (address, robot);
        Ok(Self {})
    }
}

impl FrameSink for RerunView {
    fn begin(&mut self, _: &EpisodeStart) -> Result<(), SinkError> {
        Ok(())
    }
    fn frame(&mut self, _: &Frame) -> Result<(), SinkError> {
        Ok(())
    }
    fn end(&mut self, _: &EpisodeEnd) -> Result<(), SinkError> {
        Ok(())
    }
}
