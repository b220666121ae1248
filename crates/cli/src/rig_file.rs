//! A rig: what hangs on a machine, written down once, and given to verbs as their options.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Command;
use serde::{Deserialize, Serialize};

use crate::args;
use crate::config::{self, Config};
use crate::text::note;

const SCHEMA: u32 = 1;
/// The largest file that is read.
const MOST_BYTES: u64 = 1 << 20;
/// Who leads is an option of `rollout` too, where another strategy has no use for him.
const LED_STRATEGIES: [&str; 2] = ["dagger", "episodic"];

/// One port, or one for each bus.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, expecting = "expected a port as \"PORT\", or for several buses each one's as { left = \"PORT\", right = \"PORT\" }")]
pub enum Ports {
    One(String),
    ByBus(BTreeMap<String, String>),
}

impl Ports {
    fn places(&self) -> impl Iterator<Item = &String> {
        let (one, several) = match self {
            Self::One(port) => (Some(port), None),
            Self::ByBus(ports) => (None, Some(ports.values())),
        };
        one.into_iter().chain(several.into_iter().flatten())
    }

    fn options(&self) -> Vec<String> {
        match self {
            Self::One(port) => vec![port.clone()],
            Self::ByBus(ports) => ports.iter().map(|(bus, port)| format!("{bus}={port}")).collect(),
        }
    }
}

/// What a rig file holds. Each entry is the option of its name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RigFile {
    schema: u32,
    /// The name of the machine that it was written on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    machine: Option<String>,
    robot: String,
    port: Ports,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    fps: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    latency_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    teleop: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    teleop_port: Option<Ports>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    teleop_id: Option<String>,
    /// Rigs of version 0.1 call it `task`.
    #[serde(default, alias = "task", skip_serializing_if = "Option::is_none")]
    instruction: Option<String>,
    /// Where the images of each camera come from, by its name; in the order of the file.
    #[serde(default, skip_serializing_if = "toml::Table::is_empty")]
    camera: toml::Table,
}

impl RigFile {
    /// A rig of `robot` at `port`, on this machine.
    pub fn new(robot: String, port: Ports) -> Self {
        Self {
            schema: SCHEMA,
            machine: this_machine(),
            robot,
            port,
            id: None,
            fps: None,
            latency_ms: None,
            teleop: None,
            teleop_port: None,
            teleop_id: None,
            instruction: None,
            camera: toml::Table::new(),
        }
    }

    #[must_use]
    pub fn called(self, id: Option<String>) -> Self {
        Self { id, ..self }
    }

    #[must_use]
    pub fn led_by(self, teleop: String, port: Ports, id: Option<String>) -> Self {
        Self { teleop: Some(teleop), teleop_port: Some(port), teleop_id: id, ..self }
    }

    #[must_use]
    pub fn told(self, instruction: Option<String>) -> Self {
        Self { instruction, ..self }
    }

    pub fn sees(&self, name: &str) -> bool {
        self.camera.contains_key(name)
    }

    /// Whether its robot is at one of these ports.
    pub fn is_at(&self, ports: &Ports) -> bool {
        ports.places().any(|place| self.port.places().any(|own| own == place))
    }

    /// The camera `name` at `source`.
    pub fn see(&mut self, name: String, source: String) {
        self.camera.insert(name, source.into());
    }

    /// Reads the rig that `given` names: a file's path, or a name below `rigs`.
    ///
    /// # Errors
    /// When there is none, or it holds something else.
    fn read(given: &str, rigs: &Path) -> anyhow::Result<(Self, PathBuf)> {
        let path = path_of(given, rigs);
        let doing = || format!("reading the rig {}", path.display());
        look(&path, rigs)?;
        let text = std::fs::read_to_string(&path).with_context(doing)?;
        let rig: Self = toml::from_str(&text).with_context(doing)?;
        anyhow::ensure!(rig.schema == SCHEMA, "{}: expected schema = {SCHEMA}, found {}", doing(), rig.schema);
        if let Some((name, source)) = rig.camera.iter().find(|(_, source)| !source.is_str()) {
            bail!("{}: camera.{name} is {source}, expected a text such as \"usb:200901010001,640x480@30\"", doing());
        }
        Ok((rig, path))
    }

    /// Its entries as options: name and values.
    fn options(&self) -> Vec<(&'static str, Vec<String>)> {
        let text = |value: &Option<String>| value.iter().cloned().collect::<Vec<_>>();
        let ports = |ports: &Option<Ports>| ports.as_ref().map(Ports::options).unwrap_or_default();
        let cameras = self.camera.iter().map(|(name, source)| format!("{name}={}", source.as_str().unwrap_or_default()));
        vec![
            ("robot", vec![self.robot.clone()]),
            ("port", self.port.options()),
            ("id", text(&self.id)),
            ("fps", self.fps.iter().map(ToString::to_string).collect()),
            ("latency-ms", self.latency_ms.iter().map(ToString::to_string).collect()),
            ("teleop", text(&self.teleop)),
            ("teleop-port", ports(&self.teleop_port)),
            ("teleop-id", text(&self.teleop_id)),
            ("instruction", text(&self.instruction)),
            ("camera", cameras.collect()),
        ]
    }

    pub fn to_toml(&self) -> anyhow::Result<String> {
        toml::to_string(self).context("writing a rig")
    }
}

/// What this machine is called, where the system says so.
fn this_machine() -> Option<String> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").ok()?;
    Some(name.trim().to_owned()).filter(|name| !name.is_empty())
}

/// The folder of this user's rigs.
///
/// # Errors
/// When nothing says where his files are.
pub fn folder() -> anyhow::Result<PathBuf> {
    Ok(config::folder()?.join("rigs"))
}

/// Where the rig is that `given` names: what has a slash or an ending is a path.
pub fn path_of(given: &str, rigs: &Path) -> PathBuf {
    if given.contains('/') || given.ends_with(".toml") { PathBuf::from(given) } else { rigs.join(format!("{given}.toml")) }
}

/// That there is a rig at `path`, as a file of a size that is read.
///
/// # Errors
/// When there is none; the error names those there are.
pub fn look(path: &Path, rigs: &Path) -> anyhow::Result<()> {
    let doing = || format!("reading the rig {}", path.display());
    let size = match std::fs::metadata(path) {
        Ok(size) => size,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => match names_in(rigs) {
            names if names.is_empty() => bail!("{}: there is no such file; `sinew rig init NAME` writes one", doing()),
            names => bail!("{}: there is no such file; there are {}", doing(), names.join(", ")),
        },
        Err(error) => return Err(error).with_context(doing),
    };
    let what = if size.is_dir() { "a folder" } else { "something else" };
    anyhow::ensure!(size.is_file(), "{}: expected a file, found {what}", doing());
    anyhow::ensure!(size.len() <= MOST_BYTES, "{}: expected at most {MOST_BYTES} bytes, found {}", doing(), size.len());
    Ok(())
}

/// The rigs that there are.
pub fn names_in(rigs: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(rigs).into_iter().flatten().flatten();
    let mut names: Vec<String> =
        entries.filter_map(|entry| entry.file_name().to_str().and_then(|name| name.strip_suffix(".toml")).map(str::to_owned)).collect();
    names.retain(|name| sinew_core::check_name(name).is_ok());
    names.sort();
    names
}

/// A command line with what files say of it.
pub struct Expanded {
    pub line: Vec<OsString>,
    /// The words that were added, and what said so.
    pub added: Vec<(OsString, String)>,
}

/// The command line with the options of the rig that it names, or that is meant where it names none, and those of the
/// configuration, where it does not give them itself.
///
/// # Errors
/// When the rig or the configuration can't be read.
pub fn expand(line: Vec<OsString>) -> anyhow::Result<Expanded> {
    let cli = args::command();
    let mut expanded = Expanded { line, added: Vec::new() };
    let Some((verb, name)) = verb_of(&cli, &expanded.line) else { return Ok(expanded) };
    // Who asks for help gets it, whatever the files say.
    if expanded.before_end().iter().any(|word| word == "--help" || word == "-h") {
        return Ok(expanded);
    }
    // Without a home there is no configuration; whoever names a rig hears so below. A configuration that is broken keeps nobody
    // from seeing and mending it.
    let config = match (config::folder(), name.split(' ').next()) {
        (Err(_), _) | (Ok(_), Some("config" | "completions" | "man-pages" | "watchdog")) => Config::default(),
        (Ok(folder), Some("doctor")) => Config::read(&folder, &cli).unwrap_or_default(),
        (Ok(folder), _) => Config::read(&folder, &cli)?,
    };
    let is_told = |option: &str| has_option(expanded.before_end(), option);
    let takes_rig = verb.get_arguments().any(|arg| arg.get_long() == Some("rig"));
    let meant = config.rig().filter(|_| takes_rig && !["port", "sim", "robot"].into_iter().any(is_told));
    let named = value_of(&expanded.line, "rig");
    if let Some(given) = named.clone().or_else(|| meant.map(str::to_owned)) {
        let (rig, path) = RigFile::read(&given, &folder()?)?;
        if let (Some(machine), Some(here)) = (&rig.machine, this_machine())
            && *machine != here
        {
            note!("{}: written on the machine {machine}, and this is {here}: its ports and cameras may be others here", path.display());
        }
        if named.is_none() {
            note!("using the rig {given}, as {} says", config.path().display());
        }
        let words = words_of_rig(&cli, expanded.before_end(), &rig);
        expanded.add(words, &format!("the rig {given}"));
    }
    let words = config.words(verb, &name, |option| has_option(expanded.before_end(), option));
    expanded.add(words, &config.path().display().to_string());
    Ok(expanded)
}

impl Expanded {
    /// Words before `--`: what stands behind it is no option.
    fn before_end(&self) -> &[OsString] {
        let end = self.line.iter().position(|word| word == "--").unwrap_or(self.line.len());
        &self.line[..end]
    }

    /// What added the option `name` ("--seconds"), and how; nothing where it was typed.
    pub fn source_of(&self, name: &str) -> Option<&(OsString, String)> {
        self.added.iter().find(|(word, _)| word.to_str().is_some_and(|word| word.split('=').next() == Some(name)))
    }

    fn add(&mut self, words: Vec<OsString>, from: &str) {
        let end = self.before_end().len();
        self.added.extend(words.iter().map(|word| (word.clone(), from.to_owned())));
        self.line.splice(end..end, words);
    }
}

/// What `rig` adds to `line`.
fn words_of_rig(cli: &Command, line: &[OsString], rig: &RigFile) -> Vec<OsString> {
    let Some((verb, _)) = verb_of(cli, line) else { return Vec::new() };
    let has_taken = |option: &str| has_option(line, option);
    let is_led = match verb.get_name() {
        "rollout" => value_of(line, "strategy").is_some_and(|strategy| LED_STRATEGIES.contains(&&*strategy)),
        // It looks at one of both.
        "monitor" => false,
        _ => true,
    };
    // Another leader has another port, and another calibration.
    let is_led = is_led && value_of(line, "teleop").is_none_or(|teleop| Some(&teleop) == rig.teleop.as_ref());
    // Who follows a leader needs no eyes, unless somebody is to look through them.
    let looks = verb.get_name() != "teleop" || has_taken("rerun-connect");
    let gives_robot = has_taken("robot") && value_of(line, "robot").as_deref() != Some(&rig.robot);
    if gives_robot {
        note!("the rig is of {}, and its entries are left out for another robot", rig.robot);
    }
    let mut added: Vec<OsString> = Vec::new();
    for (option, values) in rig.options() {
        let is_known = verb.get_arguments().any(|arg| arg.get_long() == Some(option));
        // Of another robot nothing here is true.
        let is_wanted = is_known && !gives_robot && (is_led || !option.starts_with("teleop"));
        let is_given = has_taken(option) || option == "instruction" && has_taken("task");
        if !is_wanted || (option != "camera" && is_given) || (option == "camera" && !looks) || has_taken("sim") {
            continue;
        }
        let given = values_of(line, option);
        let has = |value: &str| {
            let name = |text: &str| text.split_once('=').map(|(name, _)| name.to_owned());
            option == "camera" && given.iter().any(|given| name(given) == name(value))
        };
        added.extend(values.iter().filter(|value| !has(value)).map(|value| OsString::from(format!("--{option}={value}"))));
    }
    // A recording that was begun goes on.
    let goes_on = verb.get_name() == "record" && !has_taken("resume");
    if goes_on && value_of(line, "out").is_some_and(|out| Path::new(&out).join("meta/info.json").exists()) {
        note!("going on with the dataset that is there");
        added.push("--resume".into());
    }
    added
}

/// The verb that `line` is for, and its name: `hub upload`.
fn verb_of<'a>(cli: &'a Command, line: &[OsString]) -> Option<(&'a Command, String)> {
    let mut words = line.iter().skip(1).filter_map(|word| word.to_str());
    let mut verb = cli.find_subcommand(words.find(|word| !word.starts_with('-'))?)?;
    let mut name = verb.get_name().to_owned();
    while let Some(deeper) = words.next().and_then(|word| verb.find_subcommand(word)) {
        verb = deeper;
        name += &format!(" {}", verb.get_name());
    }
    Some((verb, name))
}

/// All values that `line` gives to `--option`.
fn values_of(line: &[OsString], option: &str) -> Vec<String> {
    let long = format!("--{option}");
    let mut values = Vec::new();
    let mut words = line.iter().map(|word| word.to_string_lossy()).take_while(|word| word != "--");
    while let Some(word) = words.next() {
        if *word == long {
            values.extend(words.next().map(std::borrow::Cow::into_owned));
        } else if let Some(value) = word.strip_prefix(&long).and_then(|rest| rest.strip_prefix('=')) {
            values.push(value.to_owned());
        }
    }
    values
}

fn value_of(line: &[OsString], option: &str) -> Option<String> {
    values_of(line, option).pop()
}

fn has_option(line: &[OsString], option: &str) -> bool {
    let long = format!("--{option}");
    line.iter()
        .any(|word| word.to_str().is_some_and(|word| word == long || word.strip_prefix(&long).is_some_and(|rest| rest.starts_with('='))))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KITCHEN: &str = "schema = 1\nrobot = \"so101\"\nport = \"usb:58FA\"\nid = \"blue\"\nteleop = \"so101_leader\"\n\
        teleop_port = \"/dev/ttyACM1\"\ninstruction = \"Put it.\"\n[camera]\nfront = \"pattern,640x480@30\"\nwrist = \"usb:2009\"\n";

    fn expanded(words: &str) -> String {
        let mut line: Vec<OsString> = std::iter::once("sinew").chain(words.split(' ')).map(OsString::from).collect();
        let added = words_of_rig(&args::command(), &line, &toml::from_str(KITCHEN).unwrap());
        line.extend(added);
        line.iter().skip(1).map(|word| word.to_string_lossy().replace(' ', "_")).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn what_a_verb_knows_and_is_not_given_comes_from_the_rig() {
        assert_eq!(
            expanded("record --rig kitchen --out d"),
            "record --rig kitchen --out d --robot=so101 --port=usb:58FA --id=blue --teleop=so101_leader --teleop-port=/dev/ttyACM1 \
             --instruction=Put_it. --camera=front=pattern,640x480@30 --camera=wrist=usb:2009"
        );
        assert_eq!(
            expanded("record --rig kitchen --task=Else --camera wrist=/dev/video7 --id red"),
            "record --rig kitchen --task=Else --camera wrist=/dev/video7 --id red --robot=so101 --port=usb:58FA --teleop=so101_leader \
             --teleop-port=/dev/ttyACM1 --camera=front=pattern,640x480@30"
        );
        assert!(!expanded("rollout --rig kitchen --policy p").contains("teleop"));
        assert!(expanded("rollout --rig kitchen --policy p --strategy dagger").contains("--teleop-port=/dev/ttyACM1"));
        assert_eq!(expanded("robots monitor --rig kitchen"), "robots monitor --rig kitchen --robot=so101 --port=usb:58FA --id=blue");
        assert_eq!(expanded("dataset info --rig kitchen"), "dataset info --rig kitchen");
        assert!(!expanded("teleop --rig kitchen").contains("--camera"));
        assert!(!expanded("teleop --rig kitchen --teleop keyboard").contains("--teleop-port"));
        assert!(expanded("teleop --rig kitchen --teleop so101_leader").contains("--teleop-port"));
        assert!(expanded("teleop --rig kitchen --rerun-connect 127.0.0.1:9876").contains("--camera=front"));
        assert_eq!(expanded("teleop --rig kitchen --robot koch"), "teleop --rig kitchen --robot koch");
    }

    #[test]
    fn each_bus_has_its_port_and_unknown_entries_are_refused() {
        let rig: RigFile = toml::from_str("schema = 1\nrobot = \"bi_so\"\nport = { right = \"b\", left = \"a\" }\n").unwrap();
        assert_eq!(rig.options()[1].1, ["left=a", "right=b"]);
        let again: RigFile = toml::from_str(&rig.to_toml().unwrap()).unwrap();
        assert_eq!(again, rig);
        let error = toml::from_str::<RigFile>("schema = 1\nrobot = \"so101\"\nport = \"a\"\ncolour = 3\n").unwrap_err().to_string();
        assert!(error.contains("unknown field `colour`"), "{error}");
        let error = toml::from_str::<RigFile>("schema = 1\nrobot = \"so101\"\nport = [\"a\", \"b\"]\n").unwrap_err().to_string();
        assert!(error.contains("expected a port as \"PORT\", or for several buses"), "{error}");
        let before = "schema = 1\nrobot = \"so101\"\nport = \"a\"\ntask = \"Put it.\"\n";
        let before: RigFile = toml::from_str(before).unwrap();
        assert_eq!(before.options().last_chunk::<2>().unwrap()[0], ("instruction", vec!["Put it.".to_owned()]));
        let at = |port: &str| toml::from_str::<RigFile>(&format!("schema = 1\nrobot = \"so101\"\nport = {port}\n")).unwrap();
        assert!(at("\"a\"").is_at(&at("{ left = \"b\", right = \"a\" }").port) && !at("\"a\"").is_at(&Ports::One("b".to_owned())));
    }

    #[test]
    fn a_rig_that_is_none_is_refused_with_what_is_there() {
        let folder = tempfile::tempdir().unwrap();
        let says = |text: &str| {
            std::fs::write(folder.path().join("kitchen.toml"), text).unwrap();
            format!("{:#}", RigFile::read("kitchen", folder.path()).unwrap_err())
        };
        assert!(says("schema = 2\nrobot = \"so101\"\nport = \"a\"\n").contains("expected schema = 1, found 2"));
        assert!(says("schema = 1\nrobot = \"so101\"\nport = \"a\"\n[camera]\nfront = 3\n").contains("camera.front is 3, expected a text"));
        let error = format!("{:#}", RigFile::read("garage", folder.path()).unwrap_err());
        assert!(error.contains("garage.toml: there is no such file; there are kitchen"), "{error}");
        std::fs::create_dir(folder.path().join("hall.toml")).unwrap();
        let error = format!("{:#}", RigFile::read("hall", folder.path()).unwrap_err());
        assert!(error.contains("expected a file, found a folder"), "{error}");
    }
}
