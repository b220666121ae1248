//! A table of a session's channels that is drawn anew while it runs: what is wanted, what was sent, where the robot is.

use std::sync::Arc;

use sinew_core::{EpisodeEnd, EpisodeStart, Frame, FrameSink, OnFailure, RobotDescription, SinkError, Units};
use sinew_drivers::camera::CameraMonitor;
use sinew_runtime::Progress;

use crate::cameras;
use crate::live::LiveText;
use crate::text;

/// Draws on stderr, where that is a terminal; nothing waits for it.
pub struct LiveTable {
    names: Vec<String>,
    units: Units,
    /// Of each channel of action, the channel of state of the same name.
    state: Vec<Option<usize>>,
    progress: Arc<Progress>,
    cameras: Option<CameraMonitor>,
    text: LiveText,
}

impl LiveTable {
    pub fn new(robot: &RobotDescription, progress: Arc<Progress>, cameras: Option<CameraMonitor>) -> Self {
        let channels = robot.action_channels();
        let state = robot.state_channels();
        Self {
            names: channels.iter().map(|channel| channel.name.clone()).collect(),
            units: Units::of(&channels),
            state: channels.iter().map(|channel| state.iter().position(|other| other.name == channel.name)).collect(),
            progress,
            cameras,
            text: LiveText::new(),
        }
    }
}

fn table(names: &[String], units: &Units, state: &[Option<usize>], frame: &Frame) -> String {
    let column = |values: &[f64]| {
        let mut column = vec![0.0; names.len()];
        units.to_dataset(values, &mut column);
        column
    };
    let there: Vec<Option<f64>> = state.iter().map(|at| frame.observation.state.get((*at)?)).collect();
    let is = column(&there.iter().map(|value| value.unwrap_or_default()).collect::<Vec<_>>());
    let (wanted, sent) = (column(&frame.wanted), column(&frame.sent));
    let mut rows = vec![["channel", "wanted", "sent", "is"].map(str::to_owned).to_vec()];
    for (i, name) in names.iter().enumerate() {
        let is = there[i].map_or_else(|| "unknown".to_owned(), |_| format!("{:.1}", is[i]));
        rows.push(vec![name.clone(), format!("{:.1}", wanted[i]), format!("{:.1}", sent[i]), is]);
    }
    text::table_on_stderr(&rows)
}

impl FrameSink for LiveTable {
    fn name(&self) -> &str {
        "the live table"
    }

    fn on_failure(&self) -> OnFailure {
        OnFailure::Detach
    }

    fn begin(&mut self, _: &EpisodeStart) -> Result<(), SinkError> {
        Ok(())
    }

    fn frame(&mut self, frame: &Frame) -> Result<(), SinkError> {
        let Self { names, units, state, progress, cameras, text } = self;
        text.show(|| {
            let now = progress.snapshot();
            let cameras = cameras.as_ref().map_or_else(String::new, |cameras| format!("\n{}", cameras::ages(cameras)));
            format!(
                "{}\n{:.1} Hz  late {:.1} ms  missed {}  limited {}{cameras}",
                table(names, units, state, frame).trim_end(),
                now.rate_hz,
                now.lateness_ns as f64 * 1e-6,
                now.missed_ticks,
                now.interventions
            )
        });
        Ok(())
    }

    fn end(&mut self, _: &EpisodeEnd) -> Result<(), SinkError> {
        Ok(())
    }
}
