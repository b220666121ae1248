//! Actions that were recorded, once more.

use sinew_core::{
    Brief, ChannelSource, CommandMode, Observation, RobotDescription, TeleopStatus, Teleoperator, TeleoperatorError, Tick, Timestamp, Units,
};
use thiserror::Error;

/// How far a robot may be from where the first action has it, where its description says nothing, radians or metres.
const NEAR: f64 = 0.35;

/// Actions that can't be replayed.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum ReplayError {
    #[error("replaying actions on {robot}: expected at least one row of {width} values, found {found} values")]
    Shape { robot: String, width: usize, found: usize },
    #[error("replaying actions on {robot}: expected a rate above 0 and at most 1000 Hz, found {found}")]
    Rate { robot: String, found: f64 },
    #[error("replaying actions on {robot}: expected finite values, found {value} for {channel} in row {row}")]
    Value { robot: String, row: usize, channel: String, value: f32 },
}

/// A channel with a place.
struct Placed {
    name: String,
    action: usize,
    state: Option<usize>,
    /// How far the robot may be from it at the beginning.
    near: f64,
    /// dataset = scale · SI + offset; a difference has the scale alone.
    scale: f64,
}

/// Recorded actions at the rate that they were recorded at, whatever the loop's is; the last one holds. It begins only where
/// the robot is near the first one: no farther than the description lets a goal be from the robot.
pub struct Replay {
    rows: Vec<f64>,
    width: usize,
    fps: f64,
    placed: Vec<Placed>,
    began: Option<Timestamp>,
}

impl Replay {
    /// `rows` has a value a channel of `robot`'s action, in the dataset's units, row by row, `[rows, width]`.
    ///
    /// # Errors
    /// When there is no row, or half of one, or a value that is not finite, or the rate makes no sense.
    pub fn new(robot: &RobotDescription, rows: &[f32], fps: f64) -> Result<Self, ReplayError> {
        let (actions, states) = (robot.action_channels(), robot.state_channels());
        let (name, width) = (|| robot.name.clone(), actions.len());
        if width == 0 || rows.is_empty() || !rows.len().is_multiple_of(width) {
            return Err(ReplayError::Shape { robot: name(), width, found: rows.len() });
        }
        if !(fps > 0.0 && fps <= 1000.0) {
            return Err(ReplayError::Rate { robot: name(), found: fps });
        }
        if let Some((i, value)) = rows.iter().enumerate().find(|(_, value)| !value.is_finite()) {
            return Err(ReplayError::Value { robot: name(), row: i / width, channel: actions[i % width].name.clone(), value: *value });
        }
        let units = Units::of(&actions);
        let mut si = vec![0.0; rows.len()];
        for (row, out) in rows.chunks_exact(width).zip(si.chunks_exact_mut(width)) {
            units.to_si(row, out);
        }
        let placed =
            actions.iter().enumerate().filter(|(_, channel)| matches!(channel.mode, Some(CommandMode::Position | CommandMode::Impedance)));
        let placed = placed.map(|(action, channel)| {
            let step = match channel.source {
                ChannelSource::Part(part) => robot.parts[part].limits.step,
                _ => None,
            };
            let state = states.iter().position(|state| state.source == channel.source);
            Placed { name: channel.name.clone(), action, state, near: step.unwrap_or(NEAR), scale: channel.scale_offset.0 }
        });
        Ok(Self { rows: si, width, fps, placed: placed.collect(), began: None })
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.rows.len() / self.width
    }

    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
}

impl Teleoperator for Replay {
    fn reset(&mut self, observation: &Observation) -> Result<(), TeleoperatorError> {
        self.began = None;
        let doing = "beginning to replay actions";
        let mut farthest: Option<(f64, &Placed, f64)> = None;
        for placed in &self.placed {
            let Some(present) = placed.state.and_then(|state| observation.state.get(state)) else {
                return Err(TeleoperatorError::Transient { doing, what: Brief::of(format_args!("where {} is is not known", placed.name)) });
            };
            let off = self.rows[placed.action] - present;
            let share = off.abs() / placed.near;
            if share > 1.0 && farthest.is_none_or(|(most, ..)| share > most) {
                farthest = Some((share, placed, off));
            }
        }
        if let Some((_, Placed { name, near, scale, .. }, off)) = farthest {
            let (off, near) = (off * scale, (near * scale).abs());
            let what = Brief::of(format_args!("expected {name} within {near:.1} of the first action, found it {off:.1} away"));
            return Err(TeleoperatorError::Lost { doing, what });
        }
        Ok(())
    }

    fn action(&mut self, tick: &Tick, _: &Observation, action: &mut [f64]) -> Result<TeleopStatus, TeleoperatorError> {
        let began = *self.began.get_or_insert(tick.due);
        let passed_s = tick.due.nanos_since(began).max(0) as f64 * 1e-9;
        // Half a row's time early, so that rounding moves no row to the next tick.
        #[expect(clippy::as_conversions, clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a float becomes the nearest")]
        let row = (passed_s * self.fps + 0.5) as usize;
        let last = self.len() - 1;
        action.copy_from_slice(&self.rows[row.min(last) * self.width..][..self.width]);
        Ok(if row > last { TeleopStatus::Done } else { TeleopStatus::Active })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn so101() -> RobotDescription {
        RobotDescription::from_toml("so101", include_str!("../../../../robots/so101/robot.toml")).unwrap()
    }

    fn seen(robot: &RobotDescription, first: f64) -> Observation {
        let mut seen = Observation::for_robot(robot);
        (0..6).for_each(|i| seen.state.set(i, if i == 0 { first } else { 0.0 }, Timestamp::ZERO));
        seen
    }

    #[test]
    fn rows_come_at_their_rate_and_the_last_one_holds() {
        let robot = so101();
        let rows: Vec<f32> = (0..3u8).flat_map(|row| [f32::from(row) * 10.0, 0.0, 0.0, 0.0, 0.0, 10.0]).collect();
        let mut replay = Replay::new(&robot, &rows, 30.0).unwrap();
        let seen = seen(&robot, 0.1);
        replay.reset(&seen).unwrap();
        let mut told = Vec::new();
        // A loop of 60 Hz.
        for turn in 0..8u64 {
            let due = Timestamp::from_nanos(1_000_000_000 + turn as i64 * 16_666_667);
            let tick = Tick { turn, due, period: Duration::from_millis(16), wants_images: false };
            let mut action = [f64::NAN; 6];
            let status = replay.action(&tick, &seen, &mut action).unwrap();
            told.push((action[0].to_degrees().round() as i64, status == TeleopStatus::Done));
            assert!((action[5] - (-0.174533 + 0.1 * (1.7453292 + 0.174533))).abs() < 1e-6);
        }
        let rows: Vec<i64> = told.iter().map(|(row, _)| *row).collect();
        assert_eq!(rows, [0, 10, 10, 20, 20, 20, 20, 20]);
        assert_eq!(told.iter().position(|(_, done)| *done), Some(5));
    }

    #[test]
    fn it_begins_only_near_its_first_row_and_says_how_far_that_is() {
        let robot = so101();
        let mut replay = Replay::new(&robot, &[10.0, 0.0, 0.0, 0.0, 0.0, 10.0], 30.0).unwrap();
        let error = replay.reset(&seen(&robot, 1.0)).unwrap_err();
        assert_eq!(
            error.to_string(),
            "beginning to replay actions: the teleoperator is lost: expected shoulder_pan.pos within 20.1 of the first action, found it -47.3 away"
        );
        assert!(replay.reset(&Observation::for_robot(&robot)).unwrap_err().to_string().ends_with("where shoulder_pan.pos is is not known"));
        let refused = |rows: &[f32], fps| Replay::new(&robot, rows, fps).err().unwrap().to_string();
        assert!(refused(&[], 30.0).ends_with("expected at least one row of 6 values, found 0 values"));
        assert!(refused(&[0.0; 7], 30.0).ends_with("found 7 values"));
        assert!(refused(&[0.0; 6], 0.0).ends_with("at most 1000 Hz, found 0"));
        assert!(refused(&[0.0, 0.0, f32::NAN, 0.0, 0.0, 0.0], 30.0).ends_with("found NaN for elbow_flex.pos in row 0"));
    }
}
