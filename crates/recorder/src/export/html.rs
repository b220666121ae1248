//! A dataset as one page that needs nothing else: an episode list, and of each episode a strip of images
//! and a plot of every number.

use std::fmt::Write;
use std::path::Path;

use sinew_core::Image;

use super::walk::is_own;
use super::{base64, create_parent, names_of, to_jpeg};
use crate::commit::write_synced;
use crate::format::arrays::numbers;
use crate::format::schema::is_depth;
use crate::progress::{Progress, step};
use crate::{DatasetReader, ReadError, ToolError};

/// How much of an episode is on the page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageOptions {
    /// Images of each camera in an episode, evenly spread.
    pub images: u64,
    /// Images are made smaller by a whole factor until they are no wider.
    pub image_width: u32,
}

impl Default for PageOptions {
    fn default() -> Self {
        Self { images: 12, image_width: 240 }
    }
}

/// Points of a line at most.
const POINTS: usize = 400;
const JPEG_QUALITY: u8 = 75;
const COLORS: [&str; 8] = ["#3b6fd4", "#d9822b", "#2f9e62", "#c2416b", "#7a5bc7", "#0f8f9c", "#9a7b1c", "#6b7280"];

const HEAD: &str = r#"<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<style>
:root{color-scheme:light dark;--fg:#1d2430;--dim:#677085;--line:#d9dee8;--bg:#f7f8fa;--card:#fff;--on:#e4ecfb}
@media(prefers-color-scheme:dark){:root{--fg:#e6e9ef;--dim:#97a0b3;--line:#333b49;--bg:#14181f;--card:#1b212b;--on:#24344f}}
*{box-sizing:border-box}body{margin:0;font:14px/1.45 system-ui,sans-serif;color:var(--fg);background:var(--bg)}
header{padding:14px 20px;border-bottom:1px solid var(--line)}h1{font-size:18px;margin:0}header p{margin:2px 0 0;color:var(--dim)}
main{display:flex;align-items:flex-start}nav{width:260px;flex:none;max-height:calc(100vh - 75px);overflow:auto;position:sticky;top:0;border-right:1px solid var(--line);padding:8px}
nav button{display:block;width:100%;text-align:left;border:0;border-radius:6px;padding:6px 10px;background:none;color:inherit;font:inherit;cursor:pointer}
nav button small{display:block;color:var(--dim);overflow:hidden;text-overflow:ellipsis;white-space:nowrap}nav button.on{background:var(--on)}
section{display:none;flex:1;min-width:0;padding:16px 20px}section.on{display:block}h2{font-size:16px;margin:0 0 2px}h3{font-size:13px;margin:18px 0 6px;color:var(--dim);font-weight:600}
.strip{display:flex;gap:4px;overflow-x:auto}.strip figure{margin:0;flex:none}.strip img{display:block;height:110px;border-radius:4px}.strip figcaption{font-size:11px;color:var(--dim);text-align:center}
.plots{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(330px,100%),1fr));gap:10px}.plot{background:var(--card);border:1px solid var(--line);border-radius:8px;padding:8px 10px}
.plot b{font-weight:600}.plot span{font-size:11px;color:var(--dim);margin-right:8px;white-space:nowrap}.plot i{display:inline-block;width:9px;height:9px;border-radius:2px;margin-right:3px}
svg{display:block;width:100%;height:120px;margin-top:4px}polyline{fill:none;stroke-width:1.4;vector-effect:non-scaling-stroke}
@media(max-width:700px){main{display:block}nav{width:auto;max-height:220px;position:static;border-right:0;border-bottom:1px solid var(--line)}}
</style>"#;

const SCRIPT: &str = r#"<script>
const show=n=>{document.querySelectorAll('section,nav button').forEach(e=>e.classList.toggle('on',e.dataset.n==n));location.hash=n};
document.querySelectorAll('nav button').forEach(b=>b.onclick=()=>show(b.dataset.n));
addEventListener('keydown',e=>{const d={ArrowDown:1,ArrowUp:-1}[e.key];if(!d)return;const all=[...document.querySelectorAll('nav button')];
const at=all.findIndex(b=>b.classList.contains('on'))+d;if(all[at]){e.preventDefault();all[at].click();all[at].scrollIntoView({block:'nearest'})}});
const first=document.querySelector(`nav button[data-n="${CSS.escape(location.hash.slice(1))}"]`)||document.querySelector('nav button');if(first)show(first.dataset.n);
</script></body></html>"#;

/// Writes a page with these episodes of the dataset to the new file `path`.
///
/// # Errors
/// When the dataset can't be read, has no such episode, the disk refuses, or `progress` says stop.
pub fn write_html(
    reader: &DatasetReader,
    episodes: &[u64],
    options: &PageOptions,
    path: &Path,
    progress: &mut Progress<'_>,
) -> Result<(), ToolError> {
    if path.exists() {
        return Err(ToolError::NotEmpty { root: path.to_owned(), found: "a file".to_owned() });
    }
    let name = reader.root().file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let shown = episodes.len();
    let mut page = HEAD.to_owned();
    let (all, frames, fps, version) = (reader.episodes().len(), reader.total_frames(), reader.fps(), reader.version());
    let robot = reader.robot_type().unwrap_or("unknown robot");
    // Writing to a string cannot fail.
    let _ = write!(page, "<title>{0}</title></head><body><header><h1>{0}</h1>", escape(&name));
    let _ = write!(page, "<p>{} · {all} episodes · {frames} frames · {fps} frames a second · format {version}", escape(robot));
    if shown < all {
        let _ = write!(page, " · {shown} of them are shown");
    }
    page.push_str("</p></header><main><nav>");
    for number in episodes {
        let episode = reader.episode(*number)?;
        let seconds = fps.seconds(episode.length);
        let tasks = escape(&episode.tasks.join("; "));
        let _ = write!(page, "<button data-n=\"{number}\">Episode {number} · {seconds:.1} s<small>{tasks}</small></button>");
    }
    page.push_str("</nav>");
    for (done, number) in episodes.iter().enumerate() {
        step(progress, "drawing episodes", done as u64, shown as u64)?;
        section(reader, *number, options, &mut page)?;
    }
    step(progress, "drawing episodes", shown as u64, shown as u64)?;
    page.push_str("</main>");
    page.push_str(SCRIPT);
    create_parent(path)?;
    Ok(write_synced(path, page.as_bytes())?)
}

fn section(reader: &DatasetReader, number: u64, options: &PageOptions, page: &mut String) -> Result<(), ToolError> {
    let episode = reader.episode(number)?;
    let tasks = escape(&episode.tasks.join("; "));
    let _ = write!(page, "<section data-n=\"{number}\"><h2>Episode {number}</h2>{tasks}");
    let count = options.images.clamp(1, episode.length.max(1));
    for key in reader.cameras().filter(|key| !is_depth(&reader.features()[*key])) {
        let _ = write!(page, "<h3>{}</h3><div class=\"strip\">", escape(key));
        for at in 0..count {
            let frame = if count == 1 { 0 } else { at * (episode.length - 1) / (count - 1) };
            let image = thinned(&reader.image(number, key, frame)?, options.image_width);
            let failed = |error: image::ImageError| ReadError::Decode { path: reader.root().to_owned(), what: error.to_string() };
            let data = base64(&to_jpeg(&image, JPEG_QUALITY).map_err(failed)?);
            let seconds = reader.fps().seconds(frame);
            let _ = write!(
                page,
                "<figure><img alt=\"frame {frame}\" src=\"data:image/jpeg;base64,{data}\"><figcaption>{seconds:.2} s</figcaption></figure>"
            );
        }
        page.push_str("</div>");
    }
    page.push_str("<h3>Numbers over time</h3><div class=\"plots\">");
    let rows = reader.rows(number, 0..episode.length)?;
    for (key, feature) in reader.features() {
        let Some((values, width)) = rows.column_by_name(key).filter(|_| is_own(key)).and_then(numbers) else { continue };
        if width > 0 && width <= 64 {
            plot(key, &names_of(feature), &values, width, page);
        }
    }
    page.push_str("</div></section>");
    Ok(())
}

/// All dimensions of a feature in one picture.
fn plot(key: &str, names: &[String], values: &[f64], width: usize, page: &mut String) {
    let finite = || values.iter().copied().filter(|value| value.is_finite());
    let (low, high) = (finite().fold(f64::INFINITY, f64::min), finite().fold(f64::NEG_INFINITY, f64::max));
    let span = if high > low { high - low } else { 1.0 };
    let rows = values.len() / width;
    let stride = rows.div_ceil(POINTS).max(1);
    let _ = write!(page, "<div class=\"plot\"><b>{}</b> <span>{low:.3} to {high:.3}</span>", escape(key));
    page.push_str("<svg viewBox=\"0 0 100 100\" preserveAspectRatio=\"none\">");
    for d in 0..width {
        let _ = write!(page, "<polyline stroke=\"{}\" points=\"", COLORS[d % COLORS.len()]);
        for row in (0..rows).step_by(stride) {
            let (x, y) = (100.0 * row as f64 / (rows.max(2) - 1) as f64, 97.0 - 94.0 * (values[row * width + d] - low) / span);
            let _ = write!(page, "{x:.1},{y:.1} ");
        }
        page.push_str("\"/>");
    }
    page.push_str("</svg>");
    for (d, name) in names.iter().enumerate() {
        let _ = write!(page, "<span><i style=\"background:{}\"></i>{}</span>", COLORS[d % COLORS.len()], escape(name));
    }
    page.push_str("</div>");
}

/// Every so many pixels in each direction.
fn thinned(image: &Image, width: u32) -> Image {
    let stride = image.width.div_ceil(width.max(1)).max(1) as usize;
    if stride == 1 {
        return image.clone();
    }
    let rows = image.rgb.chunks_exact(image.width as usize * 3).step_by(stride);
    let rgb: Vec<u8> = rows.flat_map(|row| row.chunks_exact(3).step_by(stride).flatten().copied()).collect();
    let (width, height) = (image.width.div_ceil(stride as u32), image.height.div_ceil(stride as u32));
    Image { width, height, rgb: rgb.into(), ..Image::default() }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
