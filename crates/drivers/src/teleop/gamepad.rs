//! A gamepad that moves a tool.

use sinew_core::{ActionSpace, Observation, TeleopStatus, Teleoperator, TeleoperatorError, Tick, Timestamp};

use super::evdev::{AxisState, DeviceState, EV_KEY, InputDevice, InputEvent};
use super::{TeleopEvent, Tell};

/// Deflections below this share are none: LeRobot's `deadzone`.
const DEAD_ZONE: f64 = 0.1;
/// A trigger that is an axis is pressed beyond its middle.
const PULLED: f64 = 0.0;

const ABS_X: u16 = 0;
const ABS_Y: u16 = 1;
const ABS_Z: u16 = 2;
const ABS_RY: u16 = 4;
const ABS_RZ: u16 = 5;
/// The first button of a joystick, and of a gamepad (`BTN_SOUTH`).
const BTN_TRIGGER: u16 = 0x120;
const BTN_SOUTH: u16 = 0x130;
const SONY: u16 = 0x054c;

/// A button, or a trigger that is an axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Press {
    Button(u16),
    Axis(u16),
}

/// Which of a pad's buttons and axes do what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PadLayout {
    up: u16,
    intervene: u16,
    close: Press,
    open: Press,
    success: u16,
    failure: u16,
    rerecord: u16,
}

impl PadLayout {
    /// LeRobot's own numbers (pygame's buttons 5, 6, 7, 3, 1, 0 and axis 3), which are those of a joystick with its buttons
    /// in a row, as a Logitech pad in its mode D is: X, A, B, Y, then the left and right shoulders and triggers.
    pub const JOYSTICK: Self = Self {
        up: ABS_RZ,
        intervene: BTN_TRIGGER + 5,
        close: Press::Button(BTN_TRIGGER + 6),
        open: Press::Button(BTN_TRIGGER + 7),
        success: BTN_TRIGGER + 3,
        failure: BTN_TRIGGER + 1,
        rerecord: BTN_TRIGGER,
    };

    /// The same places on a pad as Linux' Xbox driver shows it: `BTN_X` is what stands X, and the triggers are axes.
    pub const XBOX: Self = Self {
        up: ABS_RY,
        intervene: BTN_SOUTH + 7,
        close: Press::Axis(ABS_Z),
        open: Press::Axis(ABS_RZ),
        success: BTN_SOUTH + 4,
        failure: BTN_SOUTH,
        rerecord: BTN_SOUTH + 3,
    };

    /// The same places on Sony's: the triangle is `BTN_NORTH`, the square `BTN_WEST`, and the triggers are buttons, too.
    pub const PLAYSTATION: Self = Self {
        up: ABS_RY,
        intervene: BTN_SOUTH + 7,
        close: Press::Button(BTN_SOUTH + 8),
        open: Press::Button(BTN_SOUTH + 9),
        success: BTN_SOUTH + 3,
        failure: BTN_SOUTH,
        rerecord: BTN_SOUTH + 4,
    };

    /// The layout of a device of which `has_key` and `has_axis` say what it has; `None` of one that is no gamepad.
    pub fn of(vendor: u16, has_key: impl Fn(u16) -> bool, has_axis: impl Fn(u16) -> bool) -> Option<Self> {
        if !(has_axis(ABS_X) && has_axis(ABS_Y)) {
            return None;
        }
        let (is_pad, is_joystick) = (has_key(BTN_SOUTH), has_key(BTN_TRIGGER));
        let layout = match (is_pad, is_joystick) {
            (true, _) if vendor == SONY => Self::PLAYSTATION,
            (true, _) => Self::XBOX,
            (false, true) => Self::JOYSTICK,
            (false, false) => return None,
        };
        // Where there is no second RY the right stick is Z and RZ, and the triggers are buttons.
        Some(if has_axis(ABS_RY) {
            layout
        } else if is_pad {
            Self { up: ABS_RZ, close: Press::Button(BTN_SOUTH + 8), open: Press::Button(BTN_SOUTH + 9), ..layout }
        } else {
            layout
        })
    }
}

/// How a gamepad moves a tool.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PadOptions {
    /// Of a stick that is all the way out, m/s. LeRobot leaves it to its `end_effector_step_sizes`, a tick.
    pub speed_m_per_s: f64,
    /// Nothing moves unless the button `intervene` is held.
    pub dead_man: bool,
}

impl Default for PadOptions {
    fn default() -> Self {
        Self { speed_m_per_s: 0.2, dead_man: false }
    }
}

/// A gamepad, with LeRobot's axes and buttons: the left stick moves the tool forward and sideways, the right one up and down;
/// the triggers close and open the gripper.
///
/// - A pad that nobody touches is not silent: the robot stays where it is. One that is gone has no action.
/// - After taking over, and after it was gone, the sticks count from when they were let go of.
pub struct Gamepad {
    device: InputDevice,
    layout: PadLayout,
    options: PadOptions,
    tell: Tell,
    /// The sticks have been let go of since it took over.
    is_centred: bool,
    intervenes: bool,
}

impl Gamepad {
    pub fn new(device: InputDevice, layout: PadLayout, options: PadOptions, tell: Tell) -> Self {
        Self { device, layout, options, tell, is_centred: false, intervenes: false }
    }

    /// Takes in what happened; what was pressed is told, where `tells`.
    fn listen(&mut self, now: Timestamp, tells: bool) -> Result<(), TeleoperatorError> {
        let Self { layout, tell, intervenes, .. } = self;
        let heard = |event: InputEvent| {
            if event.kind != EV_KEY || event.value > 1 {
                return;
            }
            let is_down = event.value == 1;
            if event.code == layout.intervene {
                *intervenes = is_down;
                tell(TeleopEvent::Intervene(is_down));
            } else if is_down && tells {
                let what = [
                    (layout.success, TeleopEvent::Success),
                    (layout.failure, TeleopEvent::Failure),
                    (layout.rerecord, TeleopEvent::Rerecord),
                ];
                what.into_iter().filter(|(code, _)| *code == event.code).for_each(|(_, what)| tell(what));
            }
        };
        let is_new = self.device.read(now, heard)?;
        if is_new {
            self.is_centred = false;
            self.hear_intervention();
        }
        Ok(())
    }

    /// The button may have been let go of while nobody could say so.
    fn hear_intervention(&mut self) {
        let is_down = self.device.state().is_down(self.layout.intervene);
        if std::mem::replace(&mut self.intervenes, is_down) != is_down {
            (self.tell)(TeleopEvent::Intervene(is_down));
        }
    }

    /// Forward, left and up, as shares.
    fn deltas(&self) -> [f64; 3] {
        let state = self.device.state();
        [ABS_Y, ABS_X, self.layout.up].map(|code| {
            let share = state.axis(code).map_or(0.0, |axis| axis.share());
            if share.abs() < DEAD_ZONE { 0.0 } else { -share }
        })
    }

    /// 1 opens, −1 closes; both or none is rest.
    fn gripper(&self) -> f64 {
        let state = self.device.state();
        f64::from(is_pressed(state, self.layout.open)) - f64::from(is_pressed(state, self.layout.close))
    }
}

fn is_pressed(state: &DeviceState, press: Press) -> bool {
    match press {
        Press::Button(code) => state.is_down(code),
        Press::Axis(code) => state.axis(code).as_ref().map(AxisState::share).is_some_and(|share| share > PULLED),
    }
}

impl Teleoperator for Gamepad {
    fn action_space(&self) -> ActionSpace {
        ActionSpace::ToolTwist
    }

    fn reset(&mut self, observation: &Observation) -> Result<(), TeleoperatorError> {
        self.is_centred = false;
        // What was pressed before it took over is no wish.
        self.listen(observation.time, false)
    }

    fn action(&mut self, tick: &Tick, _: &Observation, action: &mut [f64]) -> Result<TeleopStatus, TeleoperatorError> {
        self.listen(tick.due, true)?;
        let deltas = self.deltas();
        self.is_centred |= deltas == [0.0; 3];
        action.fill(0.0);
        if self.is_centred && (self.intervenes || !self.options.dead_man) {
            for (value, delta) in action.iter_mut().zip(deltas) {
                *value = delta * self.options.speed_m_per_s;
            }
            if let Some(gripper) = action.get_mut(6) {
                *gripper = self.gripper();
            }
        }
        Ok(TeleopStatus::Active)
    }

    fn follow(&mut self, tick: &Tick, _: &Observation, _: &[f64]) {
        // A pad that is gone is missed by whoever wants to act with it.
        if let Err(error) = self.listen(tick.due, true) {
            tracing::debug!("{error}");
        }
    }
}
