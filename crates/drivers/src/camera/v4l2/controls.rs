//! What of a camera is locked, so that pictures of one session look like those of another: exposure, white balance, focus,
//! gain, and the lamps' frequency.
//!
//! Cameras keep these settings when a program ends. What an option leaves out stays as it is.

use std::io;

use super::sys::{CONTROL_DISABLED, Control, ControlOffer, Device, G_CTRL, NEXT_CONTROL, Numbers, QUERYCTRL, S_CTRL};

/// Chosen by the camera again and again, or held at a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Setting {
    Auto,
    Value(i32),
}

/// What lamps flicker with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PowerLine {
    Off,
    Hz50,
    Hz60,
    Auto,
}

/// What is to be set before the first picture; each is read back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Controls {
    /// In 100 microseconds. Either way, the camera may no longer be slower than it was asked to be when it is dark.
    pub exposure: Option<Setting>,
    /// In kelvin.
    pub white_balance: Option<Setting>,
    /// In the camera's own unit; UVC cameras count from far to near.
    pub focus: Option<Setting>,
    /// In the camera's own unit.
    pub gain: Option<Setting>,
    pub power_line: Option<PowerLine>,
}

// `linux/v4l2-controls.h`
const USER: u32 = 0x0098_0900;
const CAMERA: u32 = 0x009a_0900;
const AUTO_WHITE_BALANCE: u32 = USER + 12;
const AUTO_GAIN: u32 = USER + 18;
const GAIN: u32 = USER + 19;
const POWER_LINE_FREQUENCY: u32 = USER + 24;
const WHITE_BALANCE_TEMPERATURE: u32 = USER + 26;
const AUTO_EXPOSURE: u32 = CAMERA + 1;
const EXPOSURE_TIME_ABSOLUTE: u32 = CAMERA + 2;
const EXPOSURE_DYNAMIC_FRAMERATE: u32 = CAMERA + 3;
const FOCUS_ABSOLUTE: u32 = CAMERA + 10;
const FOCUS_AUTOMATIC_CONTINUOUS: u32 = CAMERA + 12;
/// Values of `AUTO_EXPOSURE`: all by the camera, all by hand, and the time alone by the camera, which is what webcams have.
const EXPOSURE_AUTO: i32 = 0;
const EXPOSURE_MANUAL: i32 = 1;
const EXPOSURE_TIME_AUTO: i32 = 3;

/// Sets them, and reads each back; what a camera does not take is an error in words.
pub(super) fn apply(device: &Device, controls: &Controls) -> io::Result<Vec<Control>> {
    let mut set = Setter { device, done: Vec::new() };
    if let Some(exposure) = controls.exposure {
        match exposure {
            Setting::Auto => {
                set.set("exposure", AUTO_EXPOSURE, EXPOSURE_TIME_AUTO).or_else(|_| set.set("exposure", AUTO_EXPOSURE, EXPOSURE_AUTO))?
            }
            Setting::Value(value) => {
                set.set("exposure", AUTO_EXPOSURE, EXPOSURE_MANUAL)?;
                set.set("exposure", EXPOSURE_TIME_ABSOLUTE, value)?;
            }
        }
        if set.has(EXPOSURE_DYNAMIC_FRAMERATE)? {
            set.set("a rate that darkness does not change", EXPOSURE_DYNAMIC_FRAMERATE, 0)?;
        }
    }
    let pairs = [
        ("white balance", controls.white_balance, AUTO_WHITE_BALANCE, WHITE_BALANCE_TEMPERATURE),
        ("focus", controls.focus, FOCUS_AUTOMATIC_CONTINUOUS, FOCUS_ABSOLUTE),
        ("gain", controls.gain, AUTO_GAIN, GAIN),
    ];
    for (what, setting, automatic, absolute) in pairs {
        match setting {
            None => {}
            Some(Setting::Auto) => set.set(what, automatic, 1)?,
            Some(Setting::Value(value)) => {
                // Some have only the value, such as most webcams' gain.
                if set.has(automatic)? {
                    set.set(what, automatic, 0)?;
                }
                set.set(what, absolute, value)?;
            }
        }
    }
    if let Some(power_line) = controls.power_line {
        let value = match power_line {
            PowerLine::Off => 0,
            PowerLine::Hz50 => 1,
            PowerLine::Hz60 => 2,
            PowerLine::Auto => 3,
        };
        set.set("power line frequency", POWER_LINE_FREQUENCY, value)?;
    }
    Ok(set.done)
}

/// Whether what was set still holds: some cameras forget it when they begin to stream.
pub(super) fn check(device: &Device, set: &[Control]) -> io::Result<()> {
    for control in set {
        let found = read(device, control.id)?;
        if found != control.value {
            let name = offer(device, control.id)?.map_or_else(|| control.id.to_string(), |offer| name(&offer));
            return Err(io::Error::other(format!("it was given {name} = {} and has {found} now that it streams", control.value)));
        }
    }
    Ok(())
}

struct Setter<'a> {
    device: &'a Device,
    done: Vec<Control>,
}

impl Setter<'_> {
    fn has(&self, id: u32) -> io::Result<bool> {
        Ok(offer(self.device, id)?.is_some())
    }

    fn set(&mut self, what: &str, id: u32, value: i32) -> io::Result<()> {
        let Some(offer) = offer(self.device, id)? else {
            return Err(io::Error::other(format!("it has no control for {what}; it has {}", all(self.device))));
        };
        let name = name(&offer);
        if !(offer.minimum..=offer.maximum).contains(&value) {
            let (least, most) = (offer.minimum, offer.maximum);
            return Err(io::Error::other(format!("{what}: expected {name} from {least} to {most}, found {value}")));
        }
        let mut control = Control { id, value };
        self.device
            .call(&S_CTRL, &mut control)
            .map_err(|error| io::Error::new(error.kind(), format!("{what}: setting {name} = {value}: {error}")))?;
        let found = read(self.device, id)?;
        if found != value {
            return Err(io::Error::other(format!("{what}: it was given {name} = {value} and has {found}, steps are {}", offer.step)));
        }
        self.done.push(Control { id, value });
        Ok(())
    }
}

fn read(device: &Device, id: u32) -> io::Result<i32> {
    let mut control = Control { id, value: 0 };
    device.call(&G_CTRL, &mut control)?;
    Ok(control.value)
}

fn offer(device: &Device, id: u32) -> io::Result<Option<ControlOffer>> {
    let mut offer = ControlOffer { id, ..ControlOffer::zeros() };
    match device.call(&QUERYCTRL, &mut offer) {
        Ok(()) => Ok((offer.flags & CONTROL_DISABLED == 0).then_some(offer)),
        Err(error) if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::ENOTTY)) => Ok(None),
        Err(error) => Err(error),
    }
}

fn name(offer: &ControlOffer) -> String {
    super::text(&offer.name)
}

/// What it has, by name and range.
fn all(device: &Device) -> String {
    let mut found = Vec::new();
    let mut id = 0;
    while found.len() < 100 {
        let mut offer = ControlOffer { id: id | NEXT_CONTROL, ..ControlOffer::zeros() };
        // The next one has a greater number, or there would be no end.
        if device.call(&QUERYCTRL, &mut offer).is_err() || offer.id <= id {
            break;
        }
        id = offer.id;
        if offer.flags & CONTROL_DISABLED == 0 {
            found.push(format!("{} ({}..{})", name(&offer), offer.minimum, offer.maximum));
        }
    }
    if found.is_empty() { "none".to_owned() } else { found.join(", ") }
}
