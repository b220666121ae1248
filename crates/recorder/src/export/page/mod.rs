//! A dataset as a web page that plays it: cameras, plots of every number under one time cursor, and a list of
//! episodes. Nothing is fetched from elsewhere, and a page that is opened as a file works like one that is served.
//!
//! Text of the dataset reaches the page as JSON only, which its script shows as text, and names no file.

mod episode;
mod ticks;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use self::episode::{Episodes, Pictures, Shown};
use super::{base64, create_parent, remove_partial};
use crate::commit::{create_folder, io_error, write_synced};
use crate::format::json::read_json;
use crate::format::schema::RIG;
use crate::progress::{Progress, step};
use crate::{DatasetReader, RecordError, ToolError};

/// How much of an episode is on the page, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageOptions {
    /// Images of a camera in an episode where browsers can't play its video, evenly spread.
    pub images: u64,
    /// Those images are made smaller by a whole factor until they are no wider.
    pub image_width: u32,
    /// Units of channels by name.
    pub units: BTreeMap<String, String>,
    /// A page that would be larger is a small one with a folder of files beside it.
    pub most_bytes: u64,
}

impl Default for PageOptions {
    fn default() -> Self {
        Self { images: 300, image_width: 320, units: BTreeMap::new(), most_bytes: 24 << 20 }
    }
}

const HEAD: &str = include_str!("head.html");
const STYLE: &str = include_str!("page.css");
const SCRIPTS: [&str; 4] = [include_str!("plots.js"), include_str!("pictures.js"), include_str!("list.js"), include_str!("page.js")];

/// The robot that Sinew recorded the dataset with, by the name of its description; LeRobot's datasets have none.
pub fn recorded_robot(reader: &DatasetReader) -> Option<String> {
    let rig = read_json(&reader.file(RIG).ok()?).ok()?;
    Some(rig["rig"]["robot"].as_str()?.to_owned())
}

/// Writes a page with these episodes of the dataset to the new file `path`. What is too large for one file is put into
/// the folder beside it that has its name and `_files`.
///
/// # Errors
/// When the dataset can't be read, has no such episode, the disk refuses, or `progress` says stop; what was begun is
/// then removed.
pub fn write_html(
    reader: &DatasetReader,
    episodes: &[u64],
    options: &PageOptions,
    path: &Path,
    progress: &mut Progress<'_>,
) -> Result<(), ToolError> {
    let mut store = Store::new(path, options.most_bytes)?;
    let written = write(reader, episodes, options, &mut store, progress);
    written.inspect_err(|_| store.remove())
}

fn write(
    reader: &DatasetReader,
    episodes: &[u64],
    options: &PageOptions,
    store: &mut Store,
    progress: &mut Progress<'_>,
) -> Result<(), ToolError> {
    let mut source = Episodes::open(reader, options)?;
    let (mut seen, mut rows, mut texts) = (BTreeSet::new(), Vec::new(), Texts::default());
    for (done, number) in episodes.iter().enumerate().filter(|(_, number)| seen.insert(**number)) {
        step(progress, "writing episodes", done as u64, episodes.len() as u64)?;
        let shown = source.episode(*number, progress)?;
        rows.push(json!([number, shown.length, texts.index(&shown.task), shown.outcome, texts.index(&shown.reason)]));
        store.add(*number, shown)?;
    }
    let index = json!({
        "title": reader.root().file_name().map(|name| name.to_string_lossy()).unwrap_or_default(),
        "robot": reader.robot_type(),
        "version": reader.version(),
        "fps": reader.fps(),
        "of": reader.episodes().len(),
        "frames": reader.total_frames(),
        "texts": texts.list,
        "cameras": source.cameras(),
        "tables": source.tables(),
        "episodes": rows,
        "folder": store.folder_name()?,
    });
    store.finish(&index)?;
    Ok(step(progress, "writing episodes", episodes.len() as u64, episodes.len() as u64)?)
}

/// Sentences that many episodes share.
#[derive(Default)]
struct Texts {
    list: Vec<String>,
    known: BTreeMap<String, usize>,
}

impl Texts {
    fn index(&mut self, text: &str) -> usize {
        if let Some(index) = self.known.get(text) {
            return *index;
        }
        self.list.push(text.to_owned());
        self.known.insert(text.to_owned(), self.list.len() - 1);
        self.list.len() - 1
    }
}

/// The page and, from when it would be too large, the folder beside it.
struct Store {
    path: PathBuf,
    folder: PathBuf,
    most_bytes: u64,
    held: Vec<(u64, Shown)>,
    held_bytes: u64,
    is_beside: bool,
}

impl Store {
    fn new(path: &Path, most_bytes: u64) -> Result<Self, ToolError> {
        let mut folder = path.file_stem().unwrap_or_default().to_owned();
        folder.push("_files");
        let folder = path.with_file_name(folder);
        for (place, found) in [(path, "a file"), (&folder, "a folder")] {
            if place.exists() {
                return Err(ToolError::Exists { path: place.to_owned(), found });
            }
        }
        create_parent(path)?;
        Ok(Self { path: path.to_owned(), folder, most_bytes, held: Vec::new(), held_bytes: 0, is_beside: false })
    }

    fn add(&mut self, number: u64, shown: Shown) -> Result<(), ToolError> {
        self.held_bytes += shown.bytes();
        self.held.push((number, shown));
        if !self.is_beside && self.held_bytes * 4 / 3 > self.most_bytes {
            self.folder_name_of_text()?;
            create_folder(&self.folder)?;
            self.is_beside = true;
        }
        if self.is_beside {
            for (number, shown) in self.held.drain(..) {
                write_beside(&self.folder.join(format!("{number:06}")), number, shown)?;
            }
        }
        Ok(())
    }

    fn folder_name_of_text(&self) -> Result<&str, RecordError> {
        let name = self.folder.file_name().and_then(|name| name.to_str());
        name.ok_or_else(|| RecordError::Setup { what: format!("the name of {} is no text that a page can point to", self.path.display()) })
    }

    /// Of the folder beside the page, if there is one.
    fn folder_name(&self) -> Result<Option<&str>, RecordError> {
        self.is_beside.then(|| self.folder_name_of_text()).transpose()
    }

    fn finish(&self, index: &Value) -> Result<(), ToolError> {
        let mut page = HEAD.replacen("STYLE", STYLE, 1);
        page.push_str(&block("index", index));
        for (number, shown) in &self.held {
            let cameras: Vec<Value> = shown.cameras.iter().map(within).collect();
            page.push_str(&block(&format!("episode-{number}"), &shown.with_cameras(cameras)));
        }
        page.push_str("<script nonce=\"sinew\">\"use strict\";\n");
        SCRIPTS.iter().for_each(|script| page.push_str(script));
        page.push_str("</script></body></html>\n");
        Ok(write_synced(&self.path, page.as_bytes())?)
    }

    fn remove(&self) {
        if self.path.exists() {
            remove_partial(&self.path);
        }
        if self.is_beside {
            let removed = fs::remove_dir_all(&self.folder);
            removed.unwrap_or_else(|error| tracing::warn!(path = %self.folder.display(), %error, "an unfinished folder stays"));
        }
    }
}

/// JSON in the page. Within it `<` can stand in strings only, where it has another form; so nothing in it ends the block.
fn block(id: &str, value: &Value) -> String {
    format!("<script type=\"application/json\" id=\"{id}\">{}</script>\n", value.to_string().replace('<', "\\u003c"))
}

fn list(images: &[Vec<u8>]) -> Vec<String> {
    images.iter().map(|image| base64(image)).collect()
}

/// A camera's pictures as part of the page.
fn within(pictures: &Pictures) -> Value {
    match pictures {
        Pictures::Video(bytes) => json!({"mp4": base64(bytes)}),
        Pictures::Images { every, images } => json!({"every": every, "jpegs": list(images)}),
        Pictures::None(why) => json!({"why": why}),
    }
}

/// Writes the files of an episode. What is loaded as a script calls a function of the page: a page that is opened as a
/// file can read other files in no other way.
fn write_beside(folder: &Path, number: u64, shown: Shown) -> Result<(), ToolError> {
    create_folder(folder)?;
    let save = |name: &str, bytes: &[u8]| {
        let path = folder.join(name);
        fs::write(&path, bytes).map_err(io_error("writing", &path))
    };
    let mut cameras = Vec::new();
    for (at, pictures) in shown.cameras.iter().enumerate() {
        cameras.push(match pictures {
            Pictures::Video(bytes) => {
                save(&format!("{at}.mp4"), bytes)?;
                json!({"mp4": null})
            }
            Pictures::Images { every, images } => {
                save(&format!("{at}.js"), format!("sinew.images({number},{at},{})", json!(list(images))).as_bytes())?;
                json!({"every": every})
            }
            Pictures::None(why) => json!({"why": why}),
        });
    }
    save("data.js", format!("sinew.data({number},{})", shown.with_cameras(cameras)).as_bytes())?;
    Ok(())
}
