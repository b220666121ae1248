//! How a robot is reached, from what its description says and the form of the port that was typed.

use std::sync::Arc;

use anyhow::bail;
use sinew_core::{Clock, RobotDescription};
use sinew_drivers::camera::{CameraAddress, SourceAddress};
#[cfg(feature = "can")]
use sinew_drivers::can::{CanAddress, CanArm, CanArmOptions};
use sinew_drivers::{DecodeJpeg, LeKiwiCameras, LeKiwiClient, LeKiwiClientOptions, LeKiwiError, PortAddress, ReachyMini};

use crate::args::{HardwareArgs, Misuse, PortArg, misuse, places_of, refuse_given};
use crate::buses::Connected;
use crate::hardware::TOKEN;

/// What a LeKiwi's host is called by.
const HOST: &str = "zmq://";
const HOST_FORM: &str = "zmq://HOST[:COMMANDS:OBSERVATIONS]";
const SERIAL_FORM: &str = "PATH or usb:SERIAL (`sinew find-port` lists ports)";
const CAN_FORM: &str = "an interface such as can0, or slcan:PATH";
const DAEMON_FORM: &str = "HOST[:8000]";
/// LeRobot's name of the robot whose host this is.
const LEKIWI: &str = "lekiwi";

/// Where a robot is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Way {
    /// Its motors hang on serial ports of this machine, by the bus's name.
    Serial(Vec<(String, PortAddress)>),
    /// A host beside it has them, `sinew lekiwi-host` or LeRobot's.
    LeKiwi { host: String, command_port: u16, observation_port: u16 },
    /// Reachy Mini's daemon has them.
    ReachyMini(String),
    /// They hang on CAN buses of this machine.
    #[cfg(feature = "can")]
    Can(Vec<(String, CanAddress)>),
}

/// What speaks on a bus.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wire {
    /// Motors on a serial port: which of their protocols are known is the driver's business.
    Serial,
    Can,
    Daemon,
}

impl Wire {
    fn of(protocol: &str) -> Self {
        match protocol {
            "damiao" | "robstride" => Self::Can,
            "daemon" => Self::Daemon,
            _ => Self::Serial,
        }
    }
}

impl Way {
    /// The way that `robot` and the ports that were `given` say; `option` is how these are called.
    ///
    /// # Errors
    /// When a port has not the form that this robot's have, a bus has none, or this build can't go that way.
    pub fn of(robot: &RobotDescription, given: &[PortArg], option: &str) -> anyhow::Result<Self> {
        let name = &robot.name;
        let is_lekiwi = robot.lerobot.class == LEKIWI;
        let mut wires = robot.buses.iter().map(|bus| Wire::of(&bus.protocol));
        let wire = wires.next().unwrap_or(Wire::Serial);
        anyhow::ensure!(wires.all(|other| other == wire), "{option}: the buses of {name} are of several kinds, expected one");
        let (example, form, what) = match wire {
            Wire::Serial if is_lekiwi => {
                ("PATH", format!("{SERIAL_FORM} on the robot itself, or {HOST_FORM} where its host is"), "motors on a serial port")
            }
            Wire::Serial => ("PATH", SERIAL_FORM.to_owned(), "motors on serial ports"),
            Wire::Can => ("can0", CAN_FORM.to_owned(), "motors on CAN buses"),
            Wire::Daemon => ("HOST", DAEMON_FORM.to_owned(), "a daemon that has its motors"),
        };
        let refuse = |place: &str| anyhow::Error::from(Misuse(format!("{option} {place}: {name} has {what}, expected {option} {form}")));
        if let [PortArg { bus: None, place }] = given
            && let (true, Some(rest)) = (is_lekiwi, place.strip_prefix(HOST))
        {
            return lekiwi(rest).ok_or_else(|| refuse(place));
        }
        let places = places_of(robot, given, option, (example, &form))?;
        let each = |ok: fn(&str) -> bool| match places.iter().find(|(_, place)| !ok(place)) {
            Some((_, place)) => Err(refuse(place)),
            None => Ok(()),
        };
        match wire {
            Wire::Serial => {
                each(|place| !place.contains("://") && !place.starts_with("slcan:"))?;
                Ok(Self::Serial(places.into_iter().map(|(bus, place)| (bus, serial(&place))).collect()))
            }
            Wire::Daemon => {
                each(|place| !place.contains('/') && !place.starts_with("usb:") && !place.starts_with("slcan:"))?;
                match <[_; 1]>::try_from(places) {
                    Ok([(_, place)]) => Ok(Self::ReachyMini(place)),
                    Err(_) => misuse!("{option}: expected one bus of {name}, which its daemon stands for"),
                }
            }
            Wire::Can => {
                each(is_can)?;
                can(name, places)
            }
        }
    }

    /// Whether motors hang on serial ports: such a robot has a calibration, and settings in its motors.
    pub fn is_serial(&self) -> bool {
        matches!(self, Self::Serial(_))
    }

    /// Refuses options that mean nothing on this way, and cameras that are not on it.
    pub fn check(&self, robot: &RobotDescription, args: &HardwareArgs, cameras: &[CameraAddress]) -> anyhow::Result<()> {
        let name = &robot.name;
        if !self.is_serial() {
            let why = match self {
                Self::LeKiwi { .. } => "its host has the motors, and their calibration",
                Self::ReachyMini(_) => "its daemon has the motors, and their zero",
                _ => "its motors keep their zero themselves",
            };
            let given = [
                ("--id", args.id.is_some()),
                ("--write-calibration", args.write_calibration),
                ("--may-go-limp", args.may_go_limp),
                ("--latency-ms", args.latency_ms.is_some()),
                ("--reconnect", args.reconnect.is_some()),
            ];
            refuse_given(&given, &format!("is for motors on a serial port of this machine, and this is {name}: {why}"))?;
        }
        let is_host = matches!(self, Self::LeKiwi { .. });
        if !is_host {
            refuse_given(&[("--token", args.token.is_some())], &format!("is for a LeKiwi's host, expected --port {HOST_FORM} with it"))?;
        }
        for camera in cameras {
            match (&camera.source, is_host) {
                (SourceAddress::LeKiwi, false) => {
                    let name = &camera.name;
                    bail!(Misuse(format!("--camera {name}=zmq is for a LeKiwi's host, expected --port {HOST_FORM} with it")))
                }
                (source, true) if *source != SourceAddress::LeKiwi => {
                    let camera = &camera.name;
                    let why =
                        format!("--camera {camera}={source}: {name} is behind its host, which has its cameras; expected {camera}=zmq");
                    bail!(Misuse(why))
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Connects a robot that is not on a serial port. Nothing moves. Pictures are handed to `decode`.
    pub fn connect(
        self,
        robot: Arc<RobotDescription>,
        token: Option<String>,
        decode: Option<DecodeJpeg>,
        clock: Arc<dyn Clock>,
    ) -> anyhow::Result<(Box<dyn Connected>, Option<LeKiwiCameras>)> {
        match self {
            Self::Serial(_) => bail!("connecting {}: expected a robot that is not on a serial port", robot.name),
            Self::LeKiwi { host, command_port, observation_port } => {
                let is_told = token.is_some();
                let options = LeKiwiClientOptions { command_port, observation_port, token, ..LeKiwiClientOptions::default() };
                let connected = LeKiwiClient::connect(robot, &host, &options, decode, clock);
                let (robot, cameras) = connected.map_err(|error| match error {
                    LeKiwiError::Silent { is_there: true, .. } if !is_told => {
                        anyhow::anyhow!("{error}; no token was given, and `sinew lekiwi-host` wants one (--token, or {TOKEN})")
                    }
                    error => error.into(),
                })?;
                Ok((Box::new(robot), cameras))
            }
            Self::ReachyMini(address) => Ok((Box::new(ReachyMini::connect(robot, &address, clock)?), None)),
            #[cfg(feature = "can")]
            Self::Can(ports) => Ok((Box::new(CanArm::connect(robot, &CanArmOptions::new(ports), clock)?), None)),
        }
    }
}

fn serial(place: &str) -> PortAddress {
    match place.strip_prefix("usb:") {
        Some(serial) => PortAddress::Usb { serial: serial.to_owned() },
        None => PortAddress::Path(place.to_owned()),
    }
}

/// What follows `zmq://`: a host, and perhaps both ports.
fn lekiwi(rest: &str) -> Option<Way> {
    let LeKiwiClientOptions { command_port, observation_port, .. } = LeKiwiClientOptions::default();
    let name_ends = rest.rfind(']').map_or(0, |at| at + 1);
    let (name, ports) = rest.split_at(rest.get(name_ends..)?.find(':').map_or(rest.len(), |at| name_ends + at));
    let is_name = !name.is_empty() && !name.contains(['/', ' ']) && name.starts_with('[') == name.ends_with(']');
    let port = |text: &str| text.parse().ok().filter(|port| *port != 0);
    let (command_port, observation_port) = match ports.strip_prefix(':') {
        None => (command_port, observation_port),
        Some(ports) => {
            let (command, observation) = ports.split_once(':')?;
            (port(command)?, port(observation)?)
        }
    };
    is_name.then(|| Way::LeKiwi { host: name.to_owned(), command_port, observation_port })
}

/// Whether it is a serial adapter (as with LeRobot, whatever begins with `/` is one) or the name of an interface of Linux.
fn is_can(place: &str) -> bool {
    let is_interface = place.len() < 16 && !place.contains(['/', ':']) && !place.contains(char::is_whitespace);
    is_interface || place.starts_with('/') || place.strip_prefix("slcan:").is_some_and(|port| !port.is_empty() && !port.contains("://"))
}

#[cfg(feature = "can")]
#[expect(clippy::unnecessary_wraps, reason = "without the feature it fails")]
fn can(_: &str, places: Vec<(String, String)>) -> anyhow::Result<Way> {
    let address = |place: &str| match place.strip_prefix("slcan:") {
        Some(port) => CanAddress::Serial(serial(port)),
        None => CanAddress::parse(place),
    };
    Ok(Way::Can(places.into_iter().map(|(bus, place)| (bus, address(&place))).collect()))
}

#[cfg(not(feature = "can"))]
fn can(name: &str, _: Vec<(String, String)>) -> anyhow::Result<Way> {
    bail!(
        "connecting {name}: its motors hang on CAN buses, which this build of sinew leaves out; \
         `cargo build --release -p sinew-cli --features can` makes one with them"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn way(robot: &str, given: &[&str]) -> Result<Way, String> {
        let robot = sinew_sim::robots::get(robot).unwrap().description;
        let given: Vec<PortArg> = given.iter().map(|text| text.parse()).collect::<Result<_, _>>()?;
        Way::of(&robot, &given, "--port").map_err(|error| format!("{error:#}"))
    }

    fn host(host: &str, command_port: u16, observation_port: u16) -> Result<Way, String> {
        Ok(Way::LeKiwi { host: host.to_owned(), command_port, observation_port })
    }

    #[test]
    fn every_serial_bus_has_one_port() {
        let path = |path: &str| PortAddress::Path(path.to_owned());
        let is = |ports: &[(&str, PortAddress)]| {
            Ok(Way::Serial(ports.iter().map(|(bus, address)| ((*bus).to_owned(), address.clone())).collect()))
        };
        assert_eq!(way("so101", &["/dev/ttyACM0"]), is(&[("arm", path("/dev/ttyACM0"))]));
        assert_eq!(way("so101", &["/dev/a=b"]), is(&[("arm", path("/dev/a=b"))]));
        assert_eq!(way("so101", &["arm=usb:58FA"]), is(&[("arm", PortAddress::Usb { serial: "58FA".to_owned() })]));
        assert_eq!(way("bi_so", &["right=/dev/b", "left=/dev/a"]), is(&[("right", path("/dev/b")), ("left", path("/dev/a"))]));
        for (robot, given, says) in [
            ("so101", vec![], "needs a port for its bus arm: --port PATH or usb:SERIAL"),
            ("so101", vec!["a", "b"], "bus arm of so101 has two ports"),
            ("so101", vec!["leg=/dev/a"], "has no bus leg, expected one of arm"),
            ("bi_so", vec!["/dev/a"], "has 2 buses, expected --port left=PATH --port right=PATH"),
            ("bi_so", vec!["left=/dev/a"], "needs a port for its bus right"),
            (
                "bi_so",
                vec!["left=/dev/a", "right=/dev/a"],
                "the buses left and right of bi_so have the same port, /dev/a; expected one for each",
            ),
            ("bi_so", vec!["left=/dev/null", "right=/dev/../dev/null"], "have the same port"),
            ("so101", vec!["usb:"], "expected PATH, usb:SERIAL"),
        ] {
            let error = way(robot, &given).unwrap_err();
            assert!(error.contains(says), "{given:?}: {error}");
        }
    }

    #[test]
    fn a_robot_without_motors_has_nothing_behind_a_port() {
        let mut robot = sinew_sim::robots::get("so101").unwrap().description;
        robot.parts.iter_mut().for_each(|part| part.motor = None);
        let error = Way::of(&robot, &["/dev/a".parse().unwrap()], "--port").unwrap_err().to_string();
        assert_eq!(error, "--port: so101 has no motors that hang on a bus, so that a port leads to nothing");
    }

    #[test]
    fn the_form_of_a_port_says_where_a_lekiwi_is() {
        assert_eq!(way("lekiwi", &["zmq://kiwi.local"]), host("kiwi.local", 5555, 5556));
        assert_eq!(way("lekiwi", &["zmq://10.0.0.7:6001:6002"]), host("10.0.0.7", 6001, 6002));
        assert_eq!(way("lekiwi", &["zmq://[fe80::1]:6001:6002"]), host("[fe80::1]", 6001, 6002));
        assert!(way("lekiwi", &["/dev/ttyACM0"]).is_ok_and(|way| way.is_serial()));
        for bad in
            ["zmq://", "zmq://a:1", "zmq://a:1:0", "zmq://a:1:2:3", "zmq://a/b", "zmq://fe80::1", "zmq://a]", "tcp://a", "slcan:/dev/a"]
        {
            let error = way("lekiwi", &[bad]).unwrap_err();
            assert!(error.contains("or zmq://HOST[:COMMANDS:OBSERVATIONS] where its host is"), "{bad}: {error}");
        }
        let error = way("so101", &["zmq://kiwi.local"]).unwrap_err();
        assert!(error.contains("so101 has motors on serial ports, expected --port PATH"), "{error}");
    }

    #[test]
    fn a_daemon_has_an_address() {
        assert_eq!(way("reachy_mini", &["reachy-mini.local"]), Ok(Way::ReachyMini("reachy-mini.local".to_owned())));
        assert_eq!(way("reachy_mini", &["127.0.0.1:81"]), Ok(Way::ReachyMini("127.0.0.1:81".to_owned())));
        for bad in ["/dev/ttyACM0", "usb:58", "zmq://a", "ws://a:8000", "slcan:/dev/a"] {
            let error = way("reachy_mini", &[bad]).unwrap_err();
            assert!(error.contains("a daemon that has its motors, expected --port HOST[:8000]"), "{bad}: {error}");
        }
    }

    #[cfg(feature = "can")]
    #[test]
    fn can_buses_are_interfaces_or_adapters() {
        let path = |path: &str| CanAddress::Serial(PortAddress::Path(path.to_owned()));
        let is =
            |ports: &[(&str, CanAddress)]| Ok(Way::Can(ports.iter().map(|(bus, address)| ((*bus).to_owned(), address.clone())).collect()));
        assert_eq!(way("openarm", &["can0"]), is(&[("can", CanAddress::Socket("can0".to_owned()))]));
        assert_eq!(way("openarm", &["slcan:/dev/ttyACM0"]), is(&[("can", path("/dev/ttyACM0"))]));
        assert_eq!(way("openarm", &["/dev/ttyACM0"]), is(&[("can", path("/dev/ttyACM0"))]));
        assert_eq!(
            way("bi_openarm", &["left=can0", "right=slcan:usb:58FA"]),
            is(&[
                ("left", CanAddress::Socket("can0".to_owned())),
                ("right", CanAddress::Serial(PortAddress::Usb { serial: "58FA".to_owned() }))
            ])
        );
    }

    #[test]
    fn what_is_no_can_bus_is_refused() {
        for bad in ["zmq://a", "usb:58", "slcan:", "an_interface_of_too_many_letters"] {
            let error = way("openarm", &[bad]).unwrap_err();
            assert!(error.contains("motors on CAN buses, expected --port an interface such as can0, or slcan:PATH"), "{bad}: {error}");
        }
    }

    #[cfg(not(feature = "can"))]
    #[test]
    fn without_the_feature_a_build_with_it_is_named() {
        let error = way("openarm", &["can0"]).unwrap_err();
        assert!(error.contains("cargo build --release -p sinew-cli --features can"), "{error}");
    }
}
