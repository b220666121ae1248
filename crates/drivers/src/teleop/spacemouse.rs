//! A SpaceMouse that moves a tool in all six directions.

use std::io;

use sinew_core::{ActionSpace, Brief, Observation, TeleopStatus, Teleoperator, TeleoperatorError, Tick, Timestamp};

/// What an axis says when the cap is all the way out.
const FULL: f64 = 350.0;
/// Deflections below this share are none.
const DEAD_ZONE: f64 = 0.05;
/// A cap that is out is told of all the time; one that is said to be out and says nothing more for so long is not.
const STALE_NS: i64 = 500_000_000;
const LOOK_NS: i64 = 500_000_000;

/// Reports of a SpaceMouse: `/dev/hidrawN`, or a recording.
pub trait Reports: Send {
    /// The next report with its number in front, without waiting: 0 when there is none.
    ///
    /// # Errors
    /// When the device is gone.
    fn read(&mut self, report: &mut [u8]) -> io::Result<usize>;
}

/// Opens a device, also one that was gone.
pub type OpenReports = Box<dyn FnMut() -> io::Result<Box<dyn Reports>> + Send>;

/// How fast a SpaceMouse moves a tool when its cap is all the way out.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SpaceMouseOptions {
    pub m_per_s: f64,
    pub rad_per_s: f64,
    /// One that is gone is looked for, instead of being lost.
    pub reconnects: bool,
}

impl Default for SpaceMouseOptions {
    fn default() -> Self {
        Self { m_per_s: 0.2, rad_per_s: 0.8, reconnects: true }
    }
}

/// A SpaceMouse of 3Dconnexion. Away from whoever sits behind it is the robot's forward; the left button closes the gripper,
/// the right one opens it. As with other devices, one that nobody touches is not silent, and after taking over it counts from
/// when the cap was let go of.
pub struct SpaceMouse {
    open: OpenReports,
    reports: Option<Box<dyn Reports>>,
    options: SpaceMouseOptions,
    /// To the right, towards the user, down; then about these.
    axes: [i16; 6],
    buttons: u8,
    heard_at: Timestamp,
    is_centred: bool,
    look_at: Option<Timestamp>,
}

impl SpaceMouse {
    /// # Errors
    /// When it can't be opened.
    pub fn new(mut open: OpenReports, options: SpaceMouseOptions) -> io::Result<Self> {
        let reports = Some(open()?);
        Ok(Self { open, reports, options, axes: [0; 6], buttons: 0, heard_at: Timestamp::ZERO, is_centred: false, look_at: None })
    }

    fn listen(&mut self, now: Timestamp) -> Result<(), TeleoperatorError> {
        if self.reports.is_none() {
            if self.look_at.is_some_and(|at| now < at) {
                return Err(self.gone(&"it is looked for"));
            }
            match (self.open)() {
                Ok(reports) => (self.reports, self.look_at) = (Some(reports), None),
                Err(error) => {
                    self.look_at = Some(Timestamp::from_nanos(now.as_nanos() + LOOK_NS));
                    return Err(self.gone(&error));
                }
            }
        }
        let mut report = [0; 64];
        loop {
            match self.reports.as_mut().map_or(Ok(0), |reports| reports.read(&mut report)) {
                Ok(0) => break,
                Ok(count) => {
                    self.heard_at = now;
                    self.take(&report[..count]);
                }
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => break,
                Err(error) => {
                    self.reports = None;
                    (self.axes, self.buttons, self.is_centred) = ([0; 6], 0, false);
                    return Err(self.gone(&error));
                }
            }
        }
        if now.nanos_since(self.heard_at) > STALE_NS {
            self.axes = [0; 6];
        }
        Ok(())
    }

    /// Report 1 is where the cap was moved, and in newer devices also how it was turned, which otherwise is report 2; report
    /// 3 is the buttons, a bit each.
    fn take(&mut self, report: &[u8]) {
        let Some((number, values)) = report.split_first() else { return };
        let first = match number {
            1 => 0,
            2 => 3,
            3 => {
                self.buttons = values.first().copied().unwrap_or(0);
                return;
            }
            _ => return,
        };
        for (axis, value) in self.axes[first..].iter_mut().zip(values.chunks_exact(2)) {
            if let [low, high] = value {
                *axis = i16::from_le_bytes([*low, *high]);
            }
        }
    }

    /// Shares of the robot's x, y, z and about them.
    fn wish(&self) -> [f64; 6] {
        let [right, back, down, pitch, roll, yaw] = self.axes.map(|axis| {
            let share = (f64::from(axis) / FULL).clamp(-1.0, 1.0);
            if share.abs() < DEAD_ZONE { 0.0 } else { share }
        });
        // What a rotation does to directions it does to turns, too.
        [-back, -right, -down, -roll, -pitch, -yaw].map(|share| share + 0.0)
    }

    fn gone(&self, why: &dyn std::fmt::Display) -> TeleoperatorError {
        let doing = "reading the SpaceMouse";
        if self.options.reconnects {
            return TeleoperatorError::Transient { doing, what: Brief::of(format_args!("{why}; it is looked for")) };
        }
        TeleoperatorError::Lost { doing, what: Brief::of(why) }
    }
}

impl Teleoperator for SpaceMouse {
    fn action_space(&self) -> ActionSpace {
        ActionSpace::ToolTwist
    }

    fn reset(&mut self, observation: &Observation) -> Result<(), TeleoperatorError> {
        self.is_centred = false;
        self.listen(observation.time)
    }

    fn action(&mut self, tick: &Tick, _: &Observation, action: &mut [f64]) -> Result<TeleopStatus, TeleoperatorError> {
        self.listen(tick.due)?;
        let wish = self.wish();
        self.is_centred |= wish == [0.0; 6];
        action.fill(0.0);
        if self.is_centred {
            let SpaceMouseOptions { m_per_s, rad_per_s, .. } = self.options;
            let speeds = [m_per_s, m_per_s, m_per_s, rad_per_s, rad_per_s, rad_per_s];
            for (value, (wish, speed)) in action.iter_mut().zip(wish.into_iter().zip(speeds)) {
                *value = wish * speed;
            }
            if let Some(gripper) = action.get_mut(6) {
                *gripper = f64::from(self.buttons & 2 != 0) - f64::from(self.buttons & 1 != 0);
            }
        }
        Ok(TeleopStatus::Active)
    }

    fn follow(&mut self, tick: &Tick, _: &Observation, _: &[f64]) {
        if let Err(error) = self.listen(tick.due) {
            tracing::debug!("{error}");
        }
    }
}
