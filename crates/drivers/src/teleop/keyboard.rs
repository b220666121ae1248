//! Keys that move a tool, joints or a base.

use sinew_core::{
    ActionSpace, Brief, Channel, ChannelSource, CommandMode, Observation, RobotDescription, TeleopStatus, Teleoperator, TeleoperatorError,
    Tick, Timestamp,
};

use super::keys::{HeldKeys, KeySource, TeleopKey};
use super::{TeleopEvent, Tell};

/// Keys with what is held of them.
struct Board {
    keys: Box<dyn KeySource>,
    held: HeldKeys,
}

impl Board {
    fn new(keys: Box<dyn KeySource>) -> Self {
        Self { keys, held: HeldKeys::default() }
    }

    /// Takes in what happened; each new press goes to `pressed`.
    fn listen(&mut self, now: Timestamp, mut pressed: impl FnMut(TeleopKey)) -> Result<(), TeleoperatorError> {
        let Self { keys, held } = self;
        let tells = keys.tells_releases();
        let mut heard = |event| {
            if held.take(event, tells) {
                pressed(event.key);
            }
        };
        let result = keys.read(now, &mut heard);
        if !matches!(result, Ok(false)) {
            held.forget();
        }
        held.expire(keys.silent_after(), now);
        result.map(drop)
    }

    /// Somebody takes over: what was pressed before is no wish. Keys that are still down count, as far as it is known.
    fn reset(&mut self, now: Timestamp) -> Result<(), TeleoperatorError> {
        if self.keys.tells_releases() {
            return self.listen(now, |_| {});
        }
        self.keys.read(now, &mut |_| {}).map(drop)
    }

    /// 1 for `more`, −1 for `less`, 0 for both or none.
    fn axis(&self, now: Timestamp, more: &[TeleopKey], less: &[TeleopKey]) -> f64 {
        let any = |keys: &[TeleopKey]| f64::from(keys.iter().any(|key| self.held.is_held(*key, now)));
        any(more) - any(less)
    }
}

/// LeRobot's `keyboard_ee`: arrows move the tool in the plane, the shift keys down and up, the control keys close and open
/// the gripper; `s` is success, `r` records again, `q` (and escape) ends.
///
/// As LeRobot has it: up is −y, down +y, left +x, right −x. A terminal that can't tell shift and control by themselves has
/// page up and page down, and `[` and `]`, which do the same.
pub struct KeyboardTool {
    board: Board,
    speed_m_per_s: f64,
    tell: Tell,
    intervenes: bool,
}

impl KeyboardTool {
    /// A key that is held moves the tool at `speed_m_per_s`.
    pub fn new(keys: Box<dyn KeySource>, speed_m_per_s: f64, tell: Tell) -> Self {
        Self { board: Board::new(keys), speed_m_per_s, tell, intervenes: false }
    }

    fn listen(&mut self, now: Timestamp) -> Result<[f64; 4], TeleoperatorError> {
        use TeleopKey::{Char, Down, Left, LeftControl, LeftShift, PageDown, PageUp, Right, RightControl, RightShift, Up};
        let tell = &self.tell;
        let result = self.board.listen(now, |key| match key {
            Char('s') => tell(TeleopEvent::Success),
            Char('r') => tell(TeleopEvent::Rerecord),
            Char('q') | TeleopKey::Escape => tell(TeleopEvent::Quit),
            _ => {}
        });
        let axis = |more: &[TeleopKey], less: &[TeleopKey]| self.board.axis(now, more, less);
        let wish = [
            axis(&[Left], &[Right]),
            axis(&[Down], &[Up]),
            axis(&[RightShift, PageUp], &[LeftShift, PageDown]),
            axis(&[RightControl, Char(']')], &[LeftControl, Char('[')]),
        ];
        // As LeRobot has it: whoever moves it intervenes.
        let intervenes = wish != [0.0; 4];
        if std::mem::replace(&mut self.intervenes, intervenes) != intervenes {
            (self.tell)(TeleopEvent::Intervene(intervenes));
        }
        result.map(|()| wish)
    }
}

impl Teleoperator for KeyboardTool {
    fn action_space(&self) -> ActionSpace {
        ActionSpace::ToolTwist
    }

    fn reset(&mut self, observation: &Observation) -> Result<(), TeleoperatorError> {
        self.board.reset(observation.time)
    }

    fn action(&mut self, tick: &Tick, _: &Observation, action: &mut [f64]) -> Result<TeleopStatus, TeleoperatorError> {
        let [x, y, z, gripper] = self.listen(tick.due)?;
        let speed = self.speed_m_per_s;
        for (value, wish) in action.iter_mut().zip([x * speed, y * speed, z * speed, 0.0, 0.0, 0.0, gripper]) {
            *value = wish;
        }
        Ok(TeleopStatus::Active)
    }

    fn follow(&mut self, tick: &Tick, _: &Observation, _: &[f64]) {
        if let Err(error) = self.listen(tick.due) {
            tracing::debug!("{error}");
        }
    }
}

/// The keys that move joints: below a number, which moves one back, stands the letter that moves it on.
const BACK: [char; 10] = ['1', '2', '3', '4', '5', '6', '7', '8', '9', '0'];
const ON: [char; 10] = ['q', 'w', 'e', 'r', 't', 'y', 'u', 'i', 'o', 'p'];
/// How far a goal may be from where its joint is, as far as the description says nothing, radians or metres.
const AHEAD: f64 = 0.35;

/// A joint that keys move.
struct Jogged {
    action: usize,
    state: Option<usize>,
    limits: [f64; 2],
    velocity: f64,
    /// How far its goal may be from it.
    step: f64,
}

/// Keys that move joints one by one: `q` to `p` on, `1` to `0` back, and tab goes on to the next ten. LeRobot's `keyboard`
/// says which keys are held and leaves the rest to the robot; this is what is done with them here.
pub struct KeyboardJoints {
    board: Board,
    joints: Vec<Jogged>,
    /// The first of the ten that keys move.
    first: usize,
    /// Of a joint's own limit of velocity.
    share: f64,
    goals: Option<Vec<f64>>,
    time: Timestamp,
    tell: Tell,
}

impl KeyboardJoints {
    /// A key that is held moves its joint at `share` of its limit of velocity.
    pub fn new(robot: &RobotDescription, keys: Box<dyn KeySource>, share: f64, tell: Tell) -> Self {
        let states = robot.state_channels();
        let joint = |(action, channel): (usize, &Channel)| {
            let ChannelSource::Part(part) = channel.source else { return None };
            let (part, state) = (&robot.parts[part], states.iter().position(|state| state.source == channel.source));
            let is_place = matches!(channel.mode, Some(CommandMode::Position | CommandMode::Impedance));
            is_place.then(|| Jogged {
                action,
                state,
                limits: part.position_limits(),
                velocity: part.limits.velocity.unwrap_or(0.0),
                step: part.limits.step.unwrap_or(AHEAD),
            })
        };
        let joints = robot.action_channels().iter().enumerate().filter_map(joint).collect();
        Self { board: Board::new(keys), joints, first: 0, share, goals: None, time: Timestamp::ZERO, tell }
    }

    /// How many joints keys can move.
    pub fn count(&self) -> usize {
        self.joints.len()
    }

    fn listen(&mut self, now: Timestamp) -> Result<(), TeleoperatorError> {
        let Self { board, joints, first, tell, .. } = self;
        board.listen(now, |key| match key {
            TeleopKey::Tab => *first = if *first + BACK.len() < joints.len() { *first + BACK.len() } else { 0 },
            TeleopKey::Escape => tell(TeleopEvent::Quit),
            _ => {}
        })
    }
}

impl Teleoperator for KeyboardJoints {
    fn reset(&mut self, observation: &Observation) -> Result<(), TeleoperatorError> {
        self.goals = None;
        self.board.reset(observation.time)
    }

    fn action(&mut self, tick: &Tick, observation: &Observation, action: &mut [f64]) -> Result<TeleopStatus, TeleoperatorError> {
        let now = tick.due;
        self.listen(now)?;
        let present = |joint: &Jogged| {
            let what = || Brief::of(format_args!("where channel {} of the action is is not known", joint.action));
            let place = joint.state.and_then(|state| observation.state.get(state));
            place.ok_or_else(|| TeleoperatorError::Transient { doing: "moving joints by keys", what: what() })
        };
        if self.goals.is_none() {
            self.goals = Some(self.joints.iter().map(present).collect::<Result<_, _>>()?);
            self.time = now;
        }
        let dt_s = (now.nanos_since(self.time) as f64 * 1e-9).clamp(0.0, 0.1);
        self.time = now;
        action.fill(0.0);
        let Some(goals) = &mut self.goals else { return Ok(TeleopStatus::Active) };
        for (i, (joint, goal)) in self.joints.iter().zip(goals).enumerate() {
            let keys = i.checked_sub(self.first).and_then(|i| Some((*ON.get(i)?, *BACK.get(i)?)));
            let wish = keys.map_or(0.0, |(on, back)| self.board.axis(now, &[TeleopKey::Char(on)], &[TeleopKey::Char(back)]));
            if wish != 0.0 {
                let present = present(joint)?;
                let moved = *goal + wish * self.share * joint.velocity * dt_s;
                *goal = moved.clamp(present - joint.step, present + joint.step).clamp(joint.limits[0], joint.limits[1]);
            }
            if let Some(value) = action.get_mut(joint.action) {
                *value = *goal;
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

/// Which keys drive a base, and how fast.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum DriveKeys {
    /// LeRobot's `keyboard_rover`: `w`/`s`, turning with `a`/`d` (with a little forward) and in place with `q`/`e`, `x` stops,
    /// `+`/`-` change the speed. A speed of 1 is `m_per_s` and `rad_per_s`.
    Rover { m_per_s: f64, rad_per_s: f64 },
    /// LeRobot's keys of `lekiwi_client`: `w`/`s`, `a`/`d` sideways, turning with `z`/`x`, `r`/`f` faster and slower, `q` ends.
    LeKiwi,
}

/// LeRobot's `turn_assist_ratio`, `speed_increment`, `angular_speed_ratio` and the least speeds of `keyboard_rover`.
const TURN_ASSIST: f64 = 0.3;
const SPEED_STEP: f64 = 0.1;
const ANGULAR_STEP: f64 = 0.6 * SPEED_STEP;
const LEAST_SPEED: f64 = 0.1;
const LEAST_ANGULAR: f64 = 0.05;
/// LeRobot's `speed_levels` of `lekiwi_client.py`: m/s, and degrees a second. (Its remarks say 0.25 and 0.4; its numbers are these.)
const LEVELS: [(f64, f64); 3] = [(0.1, 30.0), (0.2, 60.0), (0.3, 90.0)];

/// Keys that drive a base. A speed changes once a press, not once a tick as in LeRobot.
pub struct KeyboardBase {
    board: Board,
    keys: DriveKeys,
    /// Of a rover: shares.
    speed: f64,
    angular: f64,
    /// Of LeKiwi.
    level: usize,
    tell: Tell,
}

impl KeyboardBase {
    pub fn new(source: Box<dyn KeySource>, keys: DriveKeys, tell: Tell) -> Self {
        Self { board: Board::new(source), keys, speed: 1.0, angular: 1.0, level: 0, tell }
    }

    fn listen(&mut self, now: Timestamp) -> Result<(), TeleoperatorError> {
        let Self { board, keys, speed, angular, level, tell } = self;
        board.listen(now, |key| match (&keys, key) {
            (_, TeleopKey::Escape) | (DriveKeys::LeKiwi, TeleopKey::Char('q')) => tell(TeleopEvent::Quit),
            (DriveKeys::Rover { .. }, TeleopKey::Char('+' | '=')) => {
                (*speed, *angular) = (*speed + SPEED_STEP, *angular + ANGULAR_STEP);
            }
            (DriveKeys::Rover { .. }, TeleopKey::Char('-')) => {
                (*speed, *angular) = ((*speed - SPEED_STEP).max(LEAST_SPEED), (*angular - ANGULAR_STEP).max(LEAST_ANGULAR));
            }
            (DriveKeys::LeKiwi, TeleopKey::Char('r')) => *level = (*level + 1).min(LEVELS.len() - 1),
            (DriveKeys::LeKiwi, TeleopKey::Char('f')) => *level = level.saturating_sub(1),
            _ => {}
        })
    }

    fn twist(&self, now: Timestamp) -> [f64; 3] {
        let is_held = |key: char| self.board.held.is_held(TeleopKey::Char(key), now);
        let axis = |more: char, less: char| self.board.axis(now, &[TeleopKey::Char(more)], &[TeleopKey::Char(less)]);
        match self.keys {
            DriveKeys::LeKiwi => {
                let (linear, degrees) = LEVELS[self.level];
                [linear * axis('w', 's'), linear * axis('a', 'd'), degrees.to_radians() * axis('z', 'x')]
            }
            DriveKeys::Rover { m_per_s, rad_per_s } => {
                let mut linear = if is_held('w') {
                    self.speed
                } else if is_held('s') {
                    -self.speed
                } else {
                    0.0
                };
                let mut angular = 0.0;
                if is_held('d') || is_held('a') {
                    angular = if is_held('d') { -self.angular } else { self.angular };
                    if linear == 0.0 {
                        linear = self.speed * TURN_ASSIST;
                    }
                } else if is_held('q') || is_held('e') {
                    (linear, angular) = (0.0, if is_held('q') { self.angular } else { -self.angular });
                }
                if is_held('x') {
                    (linear, angular) = (0.0, 0.0);
                }
                [linear * m_per_s, 0.0, angular * rad_per_s]
            }
        }
    }
}

impl Teleoperator for KeyboardBase {
    fn action_space(&self) -> ActionSpace {
        ActionSpace::BaseTwist
    }

    fn reset(&mut self, observation: &Observation) -> Result<(), TeleoperatorError> {
        self.board.reset(observation.time)
    }

    fn action(&mut self, tick: &Tick, _: &Observation, action: &mut [f64]) -> Result<TeleopStatus, TeleoperatorError> {
        self.listen(tick.due)?;
        action.iter_mut().zip(self.twist(tick.due)).for_each(|(value, wish)| *value = wish);
        Ok(TeleopStatus::Active)
    }

    fn follow(&mut self, tick: &Tick, _: &Observation, _: &[f64]) {
        if let Err(error) = self.listen(tick.due) {
            tracing::debug!("{error}");
        }
    }
}
