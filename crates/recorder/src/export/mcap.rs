//! A dataset as MCAP (<https://mcap.dev/spec>), which Foxglove, ROS 2 and Rerun read.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Map, Value, json};

use super::mcap_file::McapFile;
use super::walk::{Target, is_own, walk};
use super::{create_parent, names_of, remove_partial};
use crate::format::schema::is_camera;
use crate::progress::Progress;
use crate::{DatasetReader, Episode, Rate, ToolError};

/// The definition of ROS 2's message of an image, in the form that readers of MCAP expect
/// (<https://mcap.dev/spec/registry#ros2msg>).
const COMPRESSED_IMAGE: &str = "std_msgs/Header header\nstring format\nuint8[] data\n\
    ================================================================================\nMSG: std_msgs/Header\n\
    builtin_interfaces/Time stamp\nstring frame_id\n\
    ================================================================================\nMSG: builtin_interfaces/Time\n\
    int32 sec\nuint32 nanosec\n";

/// Writes episodes of the dataset, one after another from time 0 on, to the new file `path`, an `.mcap`:
/// each camera as ROS 2's `sensor_msgs/CompressedImage`, each feature of numbers as JSON by the names of
/// its values, and a message where an episode begins. Topics are the features' names.
///
/// # Errors
/// When the dataset can't be read, has no such episode, the file can't be written, or `progress` says
/// stop; a file that was begun is then removed.
pub fn write_mcap(reader: &DatasetReader, episodes: &[u64], path: &Path, progress: &mut Progress<'_>) -> Result<(), ToolError> {
    if path.exists() {
        return Err(ToolError::Exists { path: path.to_owned(), found: "a file" });
    }
    create_parent(path)?;
    let mut recording = Recording::begin(path, reader)?;
    let written = walk(reader, episodes, "writing frames as MCAP", &mut recording, progress);
    written.and_then(|()| Ok(recording.file.finish()?)).inspect_err(|_| remove_partial(path))
}

struct Recording {
    file: McapFile,
    fps: Rate,
    channels: BTreeMap<String, Channel>,
    row: u64,
}

struct Channel {
    id: u16,
    /// Of the values, where it has numbers.
    names: Vec<String>,
}

/// The topic that says where an episode begins.
const EPISODES: &str = "episode";

impl Recording {
    fn begin(path: &Path, reader: &DatasetReader) -> Result<Self, ToolError> {
        let mut file = McapFile::create(path)?;
        let mut channels = BTreeMap::new();
        for (key, feature) in reader.features().iter().filter(|(key, _)| is_own(key)) {
            let channel = if is_camera(feature) {
                let schema = ("sensor_msgs/msg/CompressedImage", "ros2msg", COMPRESSED_IMAGE.as_bytes());
                Channel { id: file.channel(key, "cdr", schema), names: Vec::new() }
            } else {
                let names = names_of(key, feature)?;
                let schema = numbers_schema(&names);
                Channel { id: file.channel(key, "json", (key, "jsonschema", &schema)), names }
            };
            channels.insert(key.clone(), channel);
        }
        let properties = json!({"type": "object", "properties": {"episode_index": {"type": "integer"}, "task": {"type": "string"}}});
        let id = file.channel(EPISODES, "json", (EPISODES, "jsonschema", properties.to_string().as_bytes()));
        channels.insert(EPISODES.to_owned(), Channel { id, names: Vec::new() });
        Ok(Self { file, fps: reader.fps(), channels, row: 0 })
    }

    /// When the row is, in whole seconds and nanoseconds.
    fn time(&self) -> (u64, u64) {
        let (rows, seconds) = self.fps.fraction();
        // Exact, and rounded down only at the end.
        let nanoseconds = u128::from(self.row) * u128::from(seconds) * 1_000_000_000 / u128::from(rows);
        ((nanoseconds / 1_000_000_000) as u64, (nanoseconds % 1_000_000_000) as u64)
    }

    fn send(&mut self, topic: &str, message: &[u8]) -> Result<(), ToolError> {
        let Some(channel) = self.channels.get(topic) else { return Ok(()) };
        let (seconds, nanoseconds) = self.time();
        Ok(self.file.message(channel.id, seconds * 1_000_000_000 + nanoseconds, message)?)
    }
}

impl Target for Recording {
    fn row(&mut self, row: u64, begins: Option<&Episode>) -> Result<(), ToolError> {
        self.row = row;
        let Some(episode) = begins else { return Ok(()) };
        let message = json!({"episode_index": episode.episode_index, "task": episode.tasks.join("; ")});
        self.send(EPISODES, message.to_string().as_bytes())
    }

    fn numbers(&mut self, key: &str, values: &[f64]) -> Result<(), ToolError> {
        let Some(channel) = self.channels.get(key) else { return Ok(()) };
        let message: Map<String, Value> = channel.names.iter().cloned().zip(values.iter().map(|value| json!(value))).collect();
        self.send(key, Value::Object(message).to_string().as_bytes())
    }

    fn image(&mut self, key: &str, jpeg: Vec<u8>) -> Result<(), ToolError> {
        let (seconds, nanoseconds) = self.time();
        let message = compressed_image(seconds as i32, nanoseconds as u32, key, &jpeg);
        self.send(key, &message)
    }
}

fn numbers_schema(names: &[String]) -> Vec<u8> {
    let properties: Map<String, Value> = names.iter().map(|name| (name.clone(), json!({"type": "number"}))).collect();
    json!({"type": "object", "properties": properties}).to_string().into_bytes()
}

/// `sensor_msgs/CompressedImage` in CDR, little endian: each number begins at a multiple of its size, a
/// string has its length with the zero at its end before it.
fn compressed_image(seconds: i32, nanoseconds: u32, frame_id: &str, jpeg: &[u8]) -> Vec<u8> {
    let mut message = vec![0, 1, 0, 0];
    let number = |message: &mut Vec<u8>, value: u32| {
        // What precedes the message itself has four bytes.
        message.resize(message.len().next_multiple_of(4), 0);
        message.extend_from_slice(&value.to_le_bytes());
    };
    number(&mut message, seconds as u32);
    number(&mut message, nanoseconds);
    for text in [frame_id, "jpeg"] {
        number(&mut message, text.len() as u32 + 1);
        message.extend_from_slice(text.as_bytes());
        message.push(0);
    }
    number(&mut message, jpeg.len() as u32);
    message.extend_from_slice(jpeg);
    message
}
