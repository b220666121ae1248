//! Requests: what a robot sees, under the keys that a server wants.

use sinew_core::{Channel, Image, Observation, RobotDescription, Units};

use crate::answer::{REQUEST, Told};
use crate::codec::Packer;
use crate::fit::Fit;
use crate::forms::{GrootForm, ImagePart, JsonForm, Node, QUALITY, Seen, write_map};
use crate::keys::{ImageKey, Key, KeyMap, Size, StateKey, WireUnits};
use crate::lerobot::LerobotForm;
use crate::link::Protocol;
use crate::picture::Fitter;

const IMAGES: &str = "observation.images.";

/// How requests are made of observations of one robot.
#[derive(Debug)]
pub(crate) struct Requests {
    tree: Vec<(String, Node)>,
    units: Option<Units>,
    /// With a batch in front of each array, for GR00T's service.
    is_batched: bool,
    /// The state as it is sent, in the robot's order.
    state: Vec<f64>,
    in_lerobots: Vec<f32>,
}

impl Requests {
    /// Finds for everything that `keys` names what `robot` has; `renames` say by camera and key which is which. What was found is in
    /// `fit`.
    pub fn new(keys: &KeyMap, renames: &[(String, String)], told: &Told, robot: &RobotDescription, fit: &mut Fit) -> Self {
        let channels = robot.state_channels();
        let mut tree = Vec::new();
        let mut is_taken = vec![false; robot.cameras.len()];
        let mut images = Vec::new();
        for image in &keys.images {
            if image.camera.all().iter().any(|name| name == "*") {
                continue;
            }
            images.push((image.clone(), named(image, renames, robot)));
        }
        images.iter().for_each(|(_, cameras)| cameras.iter().for_each(|camera| is_taken[*camera] = true));
        for every in keys.images.iter().filter(|image| image.camera.all().iter().any(|name| name == "*")) {
            images.extend(each(every, renames, told, robot, &is_taken));
        }
        for (image, cameras) in &images {
            let size = image.size.or_else(|| told_size(told, &image.key));
            let wanted = match size {
                Some(Size { width, height }) => format!("a {width}x{height} image"),
                None => "an image".into(),
            };
            match cameras[..] {
                [] if image.optional => fit.row(image.key.to_string(), wanted, "no such camera, it may stay away", true),
                [] => {
                    let names = image.camera.all().join(" or ");
                    fit.row(
                        image.key.to_string(),
                        wanted,
                        format!("no camera {names}; --rename CAMERA={} says which", short(&image.key)),
                        false,
                    );
                }
                [camera] => {
                    let found = &robot.cameras[camera];
                    is_taken[camera] = true;
                    let kind = if found.depth { "depth image" } else { "image" };
                    let turned = if image.rotate == 180 { ", turned" } else { "" };
                    let have = format!("camera {}, a {}x{} {kind}{turned}", found.name, found.width, found.height);
                    fit.row(image.key.to_string(), wanted, have, !found.depth);
                    let from = [found.height as usize, found.width as usize];
                    let to = size.map_or(from, |size| [size.height, size.width]);
                    let part = ImagePart {
                        camera,
                        size: to,
                        fitter: Fitter::new(from, to),
                        layout: image.layout,
                        is_turned: image.rotate == 180,
                        quality: image.quality,
                        most: None,
                        scaled: Vec::new(),
                    };
                    insert(&mut tree, image.key.path(), Node::Image(Box::new(part)));
                }
                [a, b, ..] => {
                    let names = format!("two cameras for it: {}, {}", robot.cameras[a].name, robot.cameras[b].name);
                    fit.row(image.key.to_string(), wanted, names, false);
                }
            }
        }
        for state in &keys.states {
            let found = channels_of(state, &channels);
            let wanted = match (&state.range, told.inputs.iter().find(|(name, _)| *name == state.key.to_string())) {
                (Some([first, end]), _) => format!("values {first} to {}", end - 1),
                (None, Some((_, shape))) => format!("{} values{}", shape.iter().product::<usize>(), listed(told.state_names.as_deref())),
                (None, None) if state.channels.is_empty() => "the state".into(),
                (None, None) => state.channels.join(", "),
            };
            let names = found.as_ref().map(|found| found.iter().map(|i| channels[*i].name.clone()).collect::<Vec<_>>());
            let (have, fits) = match (&names, &found) {
                (Some(names), Some(_)) => {
                    let width =
                        told.inputs.iter().find(|(name, _)| *name == state.key.to_string()).map(|(_, shape)| shape.iter().product());
                    let fits = width.is_none_or(|width: usize| width == names.len())
                        && told
                            .state_names
                            .as_ref()
                            .is_none_or(|told| state.range.is_some() || !state.channels.is_empty() || told == names);
                    (format!("{} values{}", names.len(), listed(Some(names))), fits)
                }
                _ => (format!("{} values{}", channels.len(), listed(Some(&robot.state_names()))), false),
            };
            fit.row(state.key.to_string(), wanted, have, fits);
            if let Some(channels) = found {
                insert(&mut tree, state.key.path(), Node::State { channels, dtype: state.dtype });
            }
        }
        if let Some(prompt) = &keys.prompt {
            insert(&mut tree, prompt.path(), Node::Prompt);
        }
        if told.numbers_answers {
            tree.push((REQUEST.to_owned(), Node::Number));
        }
        for (camera, found) in robot.cameras.iter().enumerate().filter(|(i, _)| !is_taken[*i]) {
            fit.row(robot.cameras[camera].name.clone(), "not used", format!("a {}x{} image", found.width, found.height), true);
        }
        let units = (keys.units == WireUnits::Lerobot).then(|| Units::of(&channels));
        let is_batched = told.modalities.as_ref().is_some_and(|modalities| modalities.is_batched);
        Self { tree, units, is_batched, state: vec![0.0; channels.len()], in_lerobots: vec![0.0; channels.len()] }
    }

    /// The outermost keys of what is written.
    pub fn names(&self) -> Vec<String> {
        self.tree.iter().map(|(name, _)| name.clone()).collect()
    }

    /// From here on JPEGs have at most this quality, and so have images that were sent as they are, where the server takes JPEGs; `None` as
    /// the key map says.
    pub fn set_most(&mut self, most: Option<u8>) {
        fn set(nodes: &mut [(String, Node)], most: Option<u8>) {
            for (_, node) in nodes {
                match node {
                    Node::Map(inner) => set(inner, most),
                    Node::Image(part) => part.most = most,
                    _ => {}
                }
            }
        }
        set(&mut self.tree, most);
    }

    /// The best quality of the JPEGs that are sent; `None` where images are sent as they are, or none are.
    pub fn best_quality(&self, protocol: Protocol) -> Option<u8> {
        fn best(nodes: &[(String, Node)], otherwise: Option<u8>) -> Option<u8> {
            let of = |node: &Node| match node {
                Node::Map(inner) => best(inner, otherwise),
                Node::Image(part) => part.quality.or(otherwise),
                _ => None,
            };
            nodes.iter().filter_map(|(_, node)| of(node)).max()
        }
        best(&self.tree, (protocol == Protocol::Endpoint).then_some(QUALITY))
    }

    /// Writes a request behind `bytes`, in the form of `protocol`: of the newest of `observations`, or with all of them where the server
    /// wants several.
    ///
    /// # Errors
    /// What can't be written, and why.
    pub fn write(
        &mut self,
        bytes: Vec<u8>,
        protocol: Protocol,
        observations: &[Observation],
        (task, number, token): (&str, i64, Option<&str>),
    ) -> Result<Vec<u8>, String> {
        let mut states = Vec::with_capacity(observations.len());
        for observation in observations {
            self.state.clear();
            match &self.units {
                Some(units) => {
                    units.to_dataset(observation.state.values(), &mut self.in_lerobots);
                    self.state.extend(self.in_lerobots.iter().map(|value| f64::from(*value)));
                }
                None => self.state.extend_from_slice(observation.state.values()),
            }
            states.push(self.state.clone());
        }
        let cameras = observations.last().map_or(0, |now| now.images.len());
        let images: Vec<Vec<&Image>> =
            (0..cameras).map(|camera| observations.iter().filter_map(|observation| observation.images.get(camera)).collect()).collect();
        let seen = Seen { images: &images, states: &states, task, number };
        match protocol {
            Protocol::Openpi => {
                let mut packer = Packer::after(bytes);
                write_map(&mut packer, &mut self.tree, &seen).map(|()| packer.into_bytes())
            }
            Protocol::Lerobot => {
                let mut form = LerobotForm(Packer::after(bytes));
                write_map(&mut form, &mut self.tree, &seen).map(|()| form.0.into_bytes())
            }
            Protocol::Endpoint => {
                let mut form = JsonForm::begin(bytes);
                write_map(&mut form, &mut self.tree, &seen).map(|()| form.end())
            }
            Protocol::Groot => {
                let mut form = GrootForm::begin(bytes, self.is_batched, token.is_some());
                write_map(&mut form, &mut self.tree, &seen).map(|()| form.end(token))
            }
        }
    }
}

/// Puts `node` where `path` leads; the key map was checked for keys in each other's way.
fn insert(tree: &mut Vec<(String, Node)>, path: &[String], node: Node) {
    match path {
        [] => {}
        [key] => tree.push((key.clone(), node)),
        [key, rest @ ..] => {
            if let Some((_, Node::Map(inner))) = tree.iter_mut().find(|(name, _)| name == key) {
                return insert(inner, rest, node);
            }
            let mut inner = Vec::new();
            insert(&mut inner, rest, node);
            tree.push((key.clone(), Node::Map(inner)));
        }
    }
}

/// The robot's cameras for a key: the one that the user says, else those by name.
fn named(image: &ImageKey, renames: &[(String, String)], robot: &RobotDescription) -> Vec<usize> {
    let said: Vec<usize> = renames
        .iter()
        .filter(|(_, key)| image.key.is_meant_by(key))
        .filter_map(|(camera, _)| robot.cameras.iter().position(|known| known.name == camera.strip_prefix(IMAGES).unwrap_or(camera)))
        .collect();
    if !said.is_empty() {
        return said;
    }
    let by_name = |(_, camera): &(usize, &sinew_core::CameraDescription)| image.camera.all().contains(&camera.name);
    robot.cameras.iter().enumerate().filter(by_name).map(|(i, _)| i).collect()
}

/// A key for every camera that has none: of those that the server names, where it does.
fn each(
    every: &ImageKey,
    renames: &[(String, String)],
    told: &Told,
    robot: &RobotDescription,
    is_taken: &[bool],
) -> Vec<(ImageKey, Vec<usize>)> {
    let with = |name: &str| {
        let path: Vec<String> = every.key.path().iter().map(|key| key.replace('*', name)).collect();
        let key = if path.len() == 1 { Key::Flat(path.concat()) } else { Key::Nested(path) };
        ImageKey { key, camera: crate::keys::Names::One(name.to_owned()), ..every.clone() }
    };
    let wanted: Vec<&str> = told.inputs.iter().filter_map(|(name, _)| name.strip_prefix(IMAGES)).collect();
    if told.is_ours {
        return wanted.iter().map(|name| (with(name), renamed(name, renames, robot))).collect();
    }
    let free = robot.cameras.iter().enumerate().filter(|(i, camera)| !is_taken[*i] && !camera.depth);
    free.map(|(i, camera)| {
        let said = renames.iter().find(|(from, _)| from.strip_prefix(IMAGES).unwrap_or(from) == camera.name);
        (with(said.map_or(&*camera.name, |(_, key)| key.strip_prefix(IMAGES).unwrap_or(key))), vec![i])
    })
    .collect()
}

/// The robot's cameras for one that the server calls `name`.
fn renamed(name: &str, renames: &[(String, String)], robot: &RobotDescription) -> Vec<usize> {
    let said = renames.iter().filter(|(_, key)| key.strip_prefix(IMAGES).unwrap_or(key) == name);
    let said: Vec<&str> = said.map(|(camera, _)| camera.strip_prefix(IMAGES).unwrap_or(camera)).collect();
    let is_it = |camera: &str| if said.is_empty() { camera == name } else { said.contains(&camera) };
    robot.cameras.iter().enumerate().filter(|(_, camera)| is_it(&camera.name)).map(|(i, _)| i).collect()
}

fn told_size(told: &Told, key: &Key) -> Option<Size> {
    match told.inputs.iter().find(|(name, _)| *name == key.to_string())?.1[..] {
        [3, height, width] if height > 0 && width > 0 => Some(Size { width, height }),
        _ => None,
    }
}

/// The channels that a part of the state is made of; `None` where the robot has not all of them.
fn channels_of(state: &StateKey, channels: &[Channel]) -> Option<Vec<usize>> {
    match (state.range, &state.channels[..]) {
        (Some([first, end]), _) => (end <= channels.len()).then(|| (first..end).collect()),
        (None, []) => Some((0..channels.len()).collect()),
        (None, names) => names.iter().map(|name| channels.iter().position(|channel| channel.name == *name)).collect(),
    }
}

pub(crate) fn listed(names: Option<&[String]>) -> String {
    names.map_or(String::new(), |names| format!(": {}", names.join(", ")))
}

/// The last part of a key, by which a user can name it.
fn short(key: &Key) -> String {
    key.to_string().rsplit('/').next().unwrap_or_default().to_owned()
}
