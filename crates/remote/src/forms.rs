//! How a request is written: what stands under its keys, and each protocol's own form of numbers, images and texts.

use data_encoding::BASE64;
use image::ExtendedColorType;
use image::codecs::jpeg::JpegEncoder;
use sinew_core::Image;

use crate::codec::{Dtype, Packer};
use crate::keys::{FloatKind, Layout};
use crate::lerobot::pack_picture;
use crate::picture::{Fitter, channels_first, turn};

/// Of JPEGs, where the key map says nothing.
pub(crate) const QUALITY: u8 = 90;

/// What stands under a key.
#[derive(Debug)]
pub(crate) enum Node {
    Map(Vec<(String, Node)>),
    Image(Box<ImagePart>),
    State {
        channels: Vec<usize>,
        dtype: FloatKind,
    },
    Prompt,
    /// The request's number.
    Number,
}

/// What is written, each by observation step.
pub(crate) struct Seen<'a> {
    pub images: &'a [Vec<&'a Image>],
    pub states: &'a [Vec<f64>],
    pub task: &'a str,
    pub number: i64,
}

/// A protocol's way to write a request's parts, one behind the other.
pub(crate) trait Form {
    fn begin_map(&mut self, length: usize);
    /// The key of the next value, which is the `index`th of its map.
    fn key(&mut self, key: &str, index: usize);
    fn end_map(&mut self);
    fn prompt(&mut self, text: &str);
    fn number(&mut self, number: i64);
    /// `values` are those of all `steps`, each of `width`.
    fn state(&mut self, kind: FloatKind, steps: usize, width: usize, values: impl Iterator<Item = f64>);
    /// One image a step.
    ///
    /// # Errors
    /// Why it can't be written, in words.
    fn image(&mut self, part: &mut ImagePart, steps: &[&Image]) -> Result<(), String>;
}

/// Writes a map of `entries`.
///
/// # Errors
/// What can't be written, and why.
pub(crate) fn write_map<F: Form>(form: &mut F, entries: &mut [(String, Node)], seen: &Seen<'_>) -> Result<(), String> {
    form.begin_map(entries.len());
    for (index, (key, node)) in entries.iter_mut().enumerate() {
        form.key(key, index);
        match node {
            Node::Map(inner) => write_map(form, inner, seen)?,
            Node::Prompt => form.prompt(seen.task),
            Node::Number => form.number(seen.number),
            Node::State { channels, dtype } => {
                let values = seen.states.iter().flat_map(|state| channels.iter().map(|i| state.get(*i).copied().unwrap_or(0.0)));
                form.state(*dtype, seen.states.len(), channels.len(), values);
            }
            Node::Image(part) => {
                let steps = seen.images.get(part.camera).map(Vec::as_slice).unwrap_or_default();
                form.image(part, steps).map_err(|why| format!("{key}: {why}"))?;
            }
        }
    }
    form.end_map();
    Ok(())
}

/// An image as it is wanted.
#[derive(Debug)]
pub(crate) struct ImagePart {
    pub camera: usize,
    /// Height and width.
    pub size: [usize; 2],
    pub fitter: Fitter,
    pub layout: Layout,
    pub is_turned: bool,
    /// Of its JPEG at best, where the key map says one.
    pub quality: Option<u8>,
    /// The best quality for which there is time now; nothing where there is enough for all.
    pub most: Option<u8>,
    /// Scaled, and not yet in the form that is wanted.
    pub scaled: Vec<u8>,
}

impl ImagePart {
    /// Appends it as bytes in its layout.
    pub fn write(&mut self, image: &Image, out: &mut Vec<u8>) {
        let start = out.len();
        match self.layout {
            Layout::Hwc => {
                self.fitter.fit(&image.rgb, out);
                if self.is_turned {
                    turn(&mut out[start..]);
                }
            }
            Layout::Chw => {
                self.scale(image);
                channels_first(&self.scaled, out);
            }
        }
    }

    fn scale(&mut self, image: &Image) {
        self.scaled.clear();
        self.fitter.fit(&image.rgb, &mut self.scaled);
        if self.is_turned {
            turn(&mut self.scaled);
        }
    }

    /// The quality of its JPEG now, where it is to be one: `best` is what it has where there is time.
    pub fn quality_now(&self, best: Option<u8>) -> Option<u8> {
        match (best, self.most) {
            (Some(best), Some(most)) => Some(best.min(most)),
            (best, _) => best,
        }
    }

    pub fn jpeg(&mut self, image: &Image, quality: u8) -> Result<Vec<u8>, String> {
        self.scale(image);
        let [height, width] = self.size.map(|side| u32::try_from(side).unwrap_or(u32::MAX));
        let mut jpeg = Vec::new();
        let encoded = JpegEncoder::new_with_quality(&mut jpeg, quality).encode(&self.scaled, width, height, ExtendedColorType::Rgb8);
        encoded.map_err(|error| format!("a JPEG of {width}x{height}: {error}"))?;
        Ok(jpeg)
    }
}

/// openpi's: msgpack with arrays, in front of which the steps stand where there are several.
impl Form for Packer {
    fn begin_map(&mut self, length: usize) {
        self.map(length);
    }

    fn key(&mut self, key: &str, _index: usize) {
        self.str(key);
    }

    fn end_map(&mut self) {}

    fn prompt(&mut self, text: &str) {
        self.str(text);
    }

    fn number(&mut self, number: i64) {
        self.int(number);
    }

    fn state(&mut self, kind: FloatKind, steps: usize, width: usize, values: impl Iterator<Item = f64>) {
        let shape = if steps > 1 { vec![steps, width] } else { vec![width] };
        match kind {
            FloatKind::F32 => self.tensor(Dtype::F32, &shape, |out| values.for_each(|value| out.extend((value as f32).to_le_bytes()))),
            FloatKind::F64 => self.tensor(Dtype::F64, &shape, |out| values.for_each(|value| out.extend(value.to_le_bytes()))),
        }
    }

    fn image(&mut self, part: &mut ImagePart, steps: &[&Image]) -> Result<(), String> {
        let [height, width] = part.size;
        // Of who takes them, and of one image.
        if let (Some(quality), [image]) = (part.most, steps) {
            let jpeg = part.jpeg(image, quality)?;
            pack_picture(self, [height, width], "jpeg", jpeg.len(), |out| out.extend(jpeg));
            return Ok(());
        }
        let mut shape = match part.layout {
            Layout::Hwc => vec![height, width, 3],
            Layout::Chw => vec![3, height, width],
        };
        if steps.len() > 1 {
            shape.insert(0, steps.len());
        }
        self.tensor(Dtype::U8, &shape, |out| steps.iter().for_each(|image| part.write(image, out)));
        Ok(())
    }
}

/// GR00T's service: msgpack with files of numpy's, whose steps always stand in front, and a batch of one where it wants one.
#[derive(Debug)]
pub(crate) struct GrootForm {
    packer: Packer,
    is_batched: bool,
}

impl GrootForm {
    /// Goes on behind `bytes`, with what a request for an action begins with.
    pub fn begin(bytes: Vec<u8>, is_batched: bool, has_token: bool) -> Self {
        let mut packer = Packer::after(bytes);
        packer.map(2 + usize::from(has_token));
        packer.str("endpoint");
        packer.str("get_action");
        packer.str("data");
        if is_batched {
            packer.map(2);
            packer.str("observation");
        }
        Self { packer, is_batched }
    }

    pub fn end(mut self, token: Option<&str>) -> Vec<u8> {
        if self.is_batched {
            self.packer.str("options");
            self.packer.nil();
        }
        if let Some(token) = token {
            self.packer.str("api_token");
            self.packer.str(token);
        }
        self.packer.into_bytes()
    }

    fn shape(&self, sides: &[usize]) -> Vec<usize> {
        self.is_batched.then_some(1).into_iter().chain(sides.iter().copied()).collect()
    }
}

impl Form for GrootForm {
    fn begin_map(&mut self, length: usize) {
        self.packer.map(length);
    }

    fn key(&mut self, key: &str, _index: usize) {
        self.packer.str(key);
    }

    fn end_map(&mut self) {}

    fn prompt(&mut self, text: &str) {
        if self.is_batched {
            self.packer.list(1);
        }
        self.packer.list(1);
        self.packer.str(text);
    }

    fn number(&mut self, number: i64) {
        self.packer.int(number);
    }

    fn state(&mut self, _kind: FloatKind, steps: usize, width: usize, values: impl Iterator<Item = f64>) {
        let shape = self.shape(&[steps, width]);
        self.packer.npy(Dtype::F32, &shape, |out| values.for_each(|value| out.extend((value as f32).to_le_bytes())));
    }

    fn image(&mut self, part: &mut ImagePart, steps: &[&Image]) -> Result<(), String> {
        let [height, width] = part.size;
        let shape = self.shape(&[steps.len(), height, width, 3]);
        self.packer.npy(Dtype::U8, &shape, |out| steps.iter().for_each(|image| part.write(image, out)));
        Ok(())
    }
}

/// JSON with lists of numbers, and images as JPEGs in base64.
#[derive(Debug)]
pub(crate) struct JsonForm {
    out: Vec<u8>,
}

impl JsonForm {
    /// Goes on behind `bytes`, with what the body of a request to a hosted endpoint begins with.
    pub fn begin(mut bytes: Vec<u8>) -> Self {
        bytes.extend(b"{\"inputs\":");
        Self { out: bytes }
    }

    pub fn end(mut self) -> Vec<u8> {
        self.out.push(b'}');
        self.out
    }

    fn value(&mut self, value: impl serde::Serialize) {
        // Into memory, and of values that are JSON: it can't fail.
        drop(serde_json::to_writer(&mut self.out, &value));
    }

    /// A list of what `write` writes of each of `items`.
    fn list<T>(&mut self, items: impl Iterator<Item = T>, mut write: impl FnMut(&mut Self, T)) {
        self.out.push(b'[');
        for (i, item) in items.enumerate() {
            if i > 0 {
                self.out.push(b',');
            }
            write(self, item);
        }
        self.out.push(b']');
    }
}

impl Form for JsonForm {
    fn begin_map(&mut self, _length: usize) {
        self.out.push(b'{');
    }

    fn key(&mut self, key: &str, index: usize) {
        if index > 0 {
            self.out.push(b',');
        }
        self.value(key);
        self.out.push(b':');
    }

    fn end_map(&mut self) {
        self.out.push(b'}');
    }

    fn prompt(&mut self, text: &str) {
        self.value(text);
    }

    fn number(&mut self, number: i64) {
        self.value(number);
    }

    fn state(&mut self, kind: FloatKind, steps: usize, width: usize, mut values: impl Iterator<Item = f64>) {
        let number = |form: &mut Self, value: f64| match kind {
            FloatKind::F32 => form.value(value as f32),
            FloatKind::F64 => form.value(value),
        };
        if steps == 1 {
            return self.list(values, number);
        }
        self.list(0..steps, |form, _| form.list(values.by_ref().take(width), number));
    }

    fn image(&mut self, part: &mut ImagePart, steps: &[&Image]) -> Result<(), String> {
        let quality = part.quality_now(Some(part.quality.unwrap_or(QUALITY))).unwrap_or(QUALITY);
        let jpegs = steps.iter().map(|image| part.jpeg(image, quality)).collect::<Result<Vec<_>, _>>()?;
        let base64 = |form: &mut Self, jpeg: &Vec<u8>| {
            let start = form.out.len() + 1;
            let length = BASE64.encode_len(jpeg.len());
            form.out.resize(start + length + 1, b'"');
            form.out[start - 1] = b'"';
            BASE64.encode_mut(jpeg, &mut form.out[start..start + length]);
        };
        match &jpegs[..] {
            [one] => base64(self, one),
            several => self.list(several.iter(), base64),
        }
        Ok(())
    }
}
