//! From what a user typed to a teleoperator, and to what makes goals of a robot of what it wants.

use std::io;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use sinew_core::{ActionSpace, Identity, Retarget, RobotDescription, Teleoperator};
use thiserror::Error;

use super::{
    BaseError, DriveKeys, KeySource, KeyboardBase, KeyboardJoints, KeyboardTool, PadOptions, Phone, PhoneInbox, PhoneOptions,
    SpaceMouseOptions, TeleopKey, Tell, ToolError, ToolOptions, ToolToJoints, TwistToBase,
};
#[cfg(target_os = "linux")]
use super::{InputFacts, LocalKeys, input_devices};

/// What moves the robot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TeleopKind {
    /// `gamepad[:DEVICE]`: a path below `/dev/input`, or a name; without it the first gamepad that there is.
    Gamepad(Option<String>),
    /// `keyboard`: joints, one by one.
    Keyboard,
    /// `keyboard_ee`: a tool.
    KeyboardTool,
    /// `keyboard_rover`: a base, with LeRobot's keys for a rover.
    KeyboardRover,
    /// `keyboard_lekiwi`: a base, with LeRobot's keys for LeKiwi.
    KeyboardLeKiwi,
    /// `spacemouse[:DEVICE]`: a path such as `/dev/hidraw0`; without it the first SpaceMouse that there is.
    SpaceMouse(Option<PathBuf>),
    /// `phone`.
    Phone,
}

/// The names of [`TeleopKind`].
const KINDS: &str = TeleopKind::KINDS;

impl TeleopKind {
    /// How they are written.
    pub const KINDS: &str = "gamepad[:DEVICE], keyboard, keyboard_ee, keyboard_rover, keyboard_lekiwi, spacemouse[:DEVICE] or phone";
}

impl TeleopKind {
    /// Whether it needs [`StartOptions::keys`].
    pub fn needs_keys(&self) -> bool {
        matches!(self, Self::Keyboard | Self::KeyboardTool | Self::KeyboardRover | Self::KeyboardLeKiwi)
    }

    /// What its keys do, in a few words.
    pub fn keys_in_words(&self) -> Option<&'static str> {
        Some(match self {
            Self::Keyboard => "q to p move the joints on, 1 to 0 back, tab goes to the next ten",
            Self::KeyboardTool => {
                "arrows move the tool, shift (or page up and down) lowers and lifts it, control (or [ and ]) closes and opens, s is success, r \
                 records again, q ends"
            }
            Self::KeyboardRover => "w and s drive, a and d turn on the way, q and e on the spot, x stops, + and - change the speed",
            Self::KeyboardLeKiwi => "w and s drive, a and d sideways, z and x turn, r and f are faster and slower, q ends",
            Self::Gamepad(_) | Self::SpaceMouse(_) | Self::Phone => return None,
        })
    }

    /// Whether `key` means something to it, and so can mean nothing else.
    pub fn uses(&self, key: TeleopKey) -> bool {
        use TeleopKey::{Char, Down, Escape, Left, PageDown, PageUp, Right, Tab, Up};
        match (self, key) {
            (Self::Gamepad(_) | Self::SpaceMouse(_) | Self::Phone, _) => false,
            (_, Escape | TeleopKey::LeftShift | TeleopKey::RightShift | TeleopKey::LeftControl | TeleopKey::RightControl) => true,
            (Self::Keyboard, Char(key)) => "1234567890qwertyuiop".contains(key),
            (Self::Keyboard, key) => key == Tab,
            (Self::KeyboardTool, Char(key)) => "srq[]".contains(key),
            (Self::KeyboardTool, key) => matches!(key, Up | Down | Left | Right | PageUp | PageDown),
            (Self::KeyboardRover, Char(key)) => "wasdqex+=-".contains(key),
            (Self::KeyboardLeKiwi, Char(key)) => "wasdzxrfq".contains(key),
            _ => false,
        }
    }
}

impl FromStr for TeleopKind {
    type Err = StartError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (kind, device) = text.split_once(':').map_or((text, None), |(kind, device)| (kind, Some(device)));
        let unknown = || StartError::Kind { found: text.to_owned() };
        Ok(match (kind, device) {
            (_, Some("")) => return Err(unknown()),
            ("gamepad", device) => Self::Gamepad(device.map(str::to_owned)),
            ("spacemouse", device) => Self::SpaceMouse(device.map(PathBuf::from)),
            ("keyboard", None) => Self::Keyboard,
            ("keyboard_ee", None) => Self::KeyboardTool,
            ("keyboard_rover", None) => Self::KeyboardRover,
            ("keyboard_lekiwi", None) => Self::KeyboardLeKiwi,
            ("phone", None) => Self::Phone,
            _ => return Err(unknown()),
        })
    }
}

/// A teleoperator that can't be started.
#[derive(Debug, Error)]
pub enum StartError {
    #[error("reading the name of a teleoperator: expected {KINDS}, found {found:?}")]
    Kind { found: String },
    #[error("opening {what}")]
    Device {
        what: String,
        #[source]
        source: io::Error,
    },
    #[error("looking for a gamepad: expected {expected}, found {found}")]
    NoGamepad { expected: String, found: String },
    #[error("looking for a keyboard: expected {device:?} to be one with letters, found {found}")]
    NoKeyboard { device: String, found: String },
    #[error("starting a keyboard: expected a terminal that keys can be read from, found none")]
    NoKeys,
    #[error("starting a phone: expected a service that hears it, found none")]
    NoInbox,
    #[error("moving {robot} by keys: expected joints that are commanded by position, found none")]
    NoJoints { robot: String },
    #[error("starting {what}: expected Linux, whose input devices are read, found another system")]
    System { what: &'static str },
    #[error(transparent)]
    Tool(#[from] ToolError),
    #[error(transparent)]
    Base(#[from] BaseError),
}

/// What a teleoperator is started with beside its kind.
pub struct StartOptions {
    pub tool: ToolOptions,
    pub pad: PadOptions,
    pub space_mouse: SpaceMouseOptions,
    pub phone: PhoneOptions,
    /// A device that is gone is looked for, and the robot rests meanwhile; otherwise the teleoperator is lost.
    pub reconnects: bool,
    /// How fast a key moves a tool, m/s.
    pub key_speed_m_per_s: f64,
    /// How fast a key moves a joint, as a share of its limit of velocity.
    pub key_share: f64,
    /// For keyboards: where keys come from.
    pub keys: Option<Box<dyn KeySource>>,
    /// For phones: where poses are put.
    pub inbox: Option<PhoneInbox>,
    /// Who is told what somebody wants of the session.
    pub tell: Tell,
}

impl Default for StartOptions {
    fn default() -> Self {
        Self {
            tool: ToolOptions::default(),
            pad: PadOptions::default(),
            space_mouse: SpaceMouseOptions::default(),
            phone: PhoneOptions::default(),
            reconnects: true,
            key_speed_m_per_s: 0.1,
            key_share: 0.2,
            keys: None,
            inbox: None,
            tell: Arc::new(|_| {}),
        }
    }
}

/// A teleoperator, and what makes goals of what it wants.
pub type Started = (Box<dyn Teleoperator>, Box<dyn Retarget>);

/// Starts a teleoperator for `robot`. That the robot fits is checked before any device is opened.
///
/// # Errors
/// When the robot has nothing that it could move, or there is no such device, or it may not be read.
pub fn start(kind: TeleopKind, robot: &RobotDescription, options: StartOptions) -> Result<Started, StartError> {
    let StartOptions { tool, pad, space_mouse, phone, reconnects, key_speed_m_per_s, key_share, keys, inbox, tell } = options;
    let way: Box<dyn Retarget> = match kind {
        TeleopKind::Gamepad(_) | TeleopKind::KeyboardTool | TeleopKind::SpaceMouse(_) => {
            Box::new(ToolToJoints::new(robot, ActionSpace::ToolTwist, &tool)?)
        }
        TeleopKind::Phone => Box::new(ToolToJoints::new(robot, ActionSpace::ToolOffset, &tool)?),
        TeleopKind::KeyboardRover | TeleopKind::KeyboardLeKiwi => Box::new(TwistToBase::new(robot)?),
        TeleopKind::Keyboard => Box::new(Identity { width: robot.action_channels().len() }),
    };
    let teleoperator: Box<dyn Teleoperator> = match kind {
        TeleopKind::Gamepad(device) => gamepad(device, pad, reconnects, tell)?,
        TeleopKind::SpaceMouse(device) => space_mouse_of(device, SpaceMouseOptions { reconnects, ..space_mouse })?,
        TeleopKind::Phone => Box::new(Phone::new(inbox.ok_or(StartError::NoInbox)?, phone)),
        TeleopKind::KeyboardTool => Box::new(KeyboardTool::new(keys.ok_or(StartError::NoKeys)?, key_speed_m_per_s, tell)),
        TeleopKind::KeyboardLeKiwi => Box::new(KeyboardBase::new(keys.ok_or(StartError::NoKeys)?, DriveKeys::LeKiwi, tell)),
        TeleopKind::KeyboardRover => {
            let base = robot.base.as_ref().ok_or_else(|| BaseError { robot: robot.name.clone() })?;
            let full = DriveKeys::Rover { m_per_s: base.linear.velocity, rad_per_s: base.angular.velocity };
            Box::new(KeyboardBase::new(keys.ok_or(StartError::NoKeys)?, full, tell))
        }
        TeleopKind::Keyboard => {
            let joints = KeyboardJoints::new(robot, keys.ok_or(StartError::NoKeys)?, key_share, tell);
            if joints.count() == 0 {
                return Err(StartError::NoJoints { robot: robot.name.clone() });
            }
            Box::new(joints)
        }
    };
    Ok((teleoperator, way))
}

/// Opens a keyboard of this computer: a path below `/dev/input`, or a name.
///
/// # Errors
/// When there is none that is called so, or it may not be read.
#[cfg(target_os = "linux")]
pub fn open_keyboard(device: &str, reconnects: bool) -> Result<LocalKeys, StartError> {
    const KEY_A: u16 = 30;
    let devices = all_devices()?;
    let is_wanted = |facts: &&InputFacts| (facts.name == device || facts.path.as_os_str() == device) && facts.has_key(KEY_A);
    let missing = || StartError::NoKeyboard { device: device.to_owned(), found: names(&devices) };
    let facts = devices.iter().find(is_wanted).ok_or_else(missing)?;
    let opened = facts.open(reconnects).map_err(|source| StartError::Device { what: facts.path.display().to_string(), source })?;
    Ok(LocalKeys(opened))
}

#[cfg(target_os = "linux")]
fn all_devices() -> Result<Vec<InputFacts>, StartError> {
    input_devices().map_err(|source| StartError::Device { what: "the list of input devices".into(), source })
}

#[cfg(target_os = "linux")]
fn names(devices: &[InputFacts]) -> String {
    let names = devices.iter().map(|facts| format!("{:?} ({})", facts.name, facts.path.display())).collect::<Vec<_>>();
    if names.is_empty() { "no input device".into() } else { names.join(", ") }
}

#[cfg(target_os = "linux")]
fn gamepad(device: Option<String>, pad: PadOptions, reconnects: bool, tell: Tell) -> Result<Box<dyn Teleoperator>, StartError> {
    use super::{Gamepad, PadLayout};
    let devices = all_devices()?;
    let layout = |facts: &InputFacts| PadLayout::of(facts.vendor, |code| facts.has_key(code), |code| facts.has_axis(code));
    let is_wanted = |facts: &&InputFacts| match &device {
        Some(device) => facts.name == *device || facts.path.as_os_str() == device.as_str(),
        None => layout(facts).is_some(),
    };
    let found = devices.iter().find(is_wanted).and_then(|facts| Some((facts, layout(facts)?)));
    let Some((facts, layout)) = found else {
        let expected =
            device.map_or_else(|| "a device with two axes and a gamepad's buttons".into(), |device| format!("{device:?} to be one"));
        return Err(StartError::NoGamepad { expected, found: names(&devices) });
    };
    let opened = facts.open(reconnects).map_err(|source| StartError::Device { what: facts.path.display().to_string(), source })?;
    Ok(Box::new(Gamepad::new(opened, layout, pad, tell)))
}

#[cfg(target_os = "linux")]
fn space_mouse_of(device: Option<PathBuf>, options: SpaceMouseOptions) -> Result<Box<dyn Teleoperator>, StartError> {
    let what = device.as_ref().map_or_else(|| "a SpaceMouse".to_owned(), |device| device.display().to_string());
    let opened = super::SpaceMouse::new(super::open_space_mouse(device), options);
    Ok(Box::new(opened.map_err(|source| StartError::Device { what, source })?))
}

#[cfg(not(target_os = "linux"))]
fn gamepad(_: Option<String>, _: PadOptions, _: bool, _: Tell) -> Result<Box<dyn Teleoperator>, StartError> {
    Err(StartError::System { what: "a gamepad" })
}

#[cfg(not(target_os = "linux"))]
fn space_mouse_of(_: Option<PathBuf>, _: SpaceMouseOptions) -> Result<Box<dyn Teleoperator>, StartError> {
    Err(StartError::System { what: "a SpaceMouse" })
}
