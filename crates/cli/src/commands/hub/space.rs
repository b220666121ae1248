//! `sinew hub publish-space`: a page that others open in a browser, without installing anything.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use sinew_hub::{Hub, HubError, HubRepo, RepoKind, UploadOptions};
use sinew_recorder::{DatasetReader, PageOptions, write_html};

use super::upload::tell;
use crate::args::SpaceArgs;
use crate::commands::dataset::units;
use crate::watch::Watch;
use crate::{Done, source, text, transfer};

/// Where Rerun keeps its viewer for browsers; it reads a recording from any address.
const VIEWER: &str = "https://app.rerun.io/version";
/// The version of the recordings that Sinew writes.
const RERUN: &str = "0.36.3";
/// What the card of every page that is made here has.
const TAG: &str = "sinew";

pub fn run(args: &SpaceArgs) -> anyhow::Result<Done> {
    let hub = Hub::from_env();
    let space = source::hub_repo(RepoKind::Space, &args.space)?;
    let parent = page_before(&hub, &space)?;
    let folder = Folder::new(&std::env::temp_dir())?;
    let title = args.title.clone().unwrap_or_else(|| space.name().to_owned());
    let is_recording = args.source.extension().is_some_and(|end| end == "rrd");
    let is_picture = args.source.extension().is_some_and(|end| end == "png");
    let body = if is_recording {
        copy(&args.source, &folder.path().join("recording.rrd"))?;
        let recording = format!("{}/resolve/main/recording.rrd", space.page(&hub.options().endpoint));
        let address = format!("{VIEWER}/{RERUN}/?url={recording}");
        Some(page(&title, &format!("<iframe src=\"{}\" allow=\"fullscreen\"></iframe>", escaped(&address))))
    } else if is_picture {
        copy(&args.source, &folder.path().join("evaluation.png"))?;
        let results = args.results.as_deref().map(fs::read_to_string).transpose().context("reading the results")?;
        let text = results.as_deref().map(|text| format!("<pre>{}</pre>", escaped(text))).unwrap_or_default();
        Some(page(&title, &format!("<img src=\"evaluation.png\" alt=\"the last image of each episode\">{text}")))
    } else {
        None
    };
    match body {
        Some(body) => fs::write(folder.path().join("index.html"), body).context("writing the page")?,
        None => {
            let reader = source::open_dataset(&args.source)?;
            let Some(()) = write_dataset(args, &reader, &folder.path().join("index.html"))? else { return Ok(Done::Interrupted) };
        }
    }
    fs::write(folder.path().join("README.md"), card(&title)).context("writing the Space's card")?;
    let message = Some(format!("Show {}", text::in_line(&args.source.to_string_lossy())));
    let options = UploadOptions { private: args.private, message, parent, ..UploadOptions::default() };
    let listener = if args.json { transfer::silent() } else { transfer::shown() };
    let uploaded = hub.upload(folder.path(), &space, &options, &*listener)?;
    tell(&hub, &uploaded, args.json)?;
    Ok(Done::Ok)
}

/// The commit of the page that this one takes the place of, which must be one of the same making.
fn page_before(hub: &Hub, space: &HubRepo) -> anyhow::Result<Option<String>> {
    match hub.info(space) {
        Ok(info) if info.tags.iter().any(|tag| tag == TAG) => Ok(info.sha),
        Ok(_) => anyhow::bail!(
            "publishing a page as the Space {space}: there is one that `sinew hub publish-space` did not make, as its card lacks the tag \
             {TAG}; choose another name, or give it that tag if it may be written over"
        ),
        Err(HubError::NoRepo { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn write_dataset(args: &SpaceArgs, reader: &DatasetReader, path: &Path) -> anyhow::Result<Option<()>> {
    let all = reader.episodes().len() as u64;
    let shown = args.episodes.as_ref().map_or_else(|| (0..all.min(50)).collect(), |episodes| episodes.0.clone());
    let options = PageOptions { units: units(reader), ..PageOptions::default() };
    Watch::start()?.run(|progress| write_html(reader, &shown, &options, path, progress))
}

fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    fs::copy(from, to).map(drop).with_context(|| format!("reading {}", from.display()))
}

fn card(title: &str) -> String {
    let title = serde_json::Value::from(title);
    format!("---\ntitle: {title}\nemoji: 🦾\ncolorFrom: gray\ncolorTo: blue\nsdk: static\npinned: false\ntags:\n- robotics\n- {TAG}\n---\n")
}

fn page(title: &str, body: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\"><title>{}</title>\n\
         <style>body{{margin:0;font-family:sans-serif}}iframe{{border:0;width:100vw;height:100vh}}img{{max-width:100%}}pre{{padding:1em;white-space:pre-wrap}}</style>\
         </head><body>{body}</body></html>\n",
        escaped(title)
    )
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// A folder that is gone when this is; one that a killed process left goes after a day.
struct Folder(PathBuf);

impl Folder {
    fn new(root: &Path) -> anyhow::Result<Self> {
        const NAME: &str = "sinew-space-";
        let is_old = |entry: &fs::DirEntry| {
            let found = entry.metadata().ok().filter(fs::Metadata::is_dir);
            let age = found.and_then(|found| found.modified().ok()?.elapsed().ok()).unwrap_or_default();
            entry.file_name().to_string_lossy().starts_with(NAME) && age > Duration::from_secs(86_400)
        };
        for entry in fs::read_dir(root).into_iter().flatten().flatten().filter(is_old) {
            // Another user's stays.
            let _gone = fs::remove_dir_all(entry.path());
        }
        let mut number = 0;
        loop {
            let path = root.join(format!("{NAME}{}-{number}", std::process::id()));
            match fs::create_dir(&path) {
                Ok(()) => return Ok(Self(path)),
                Err(error) if error.kind() == ErrorKind::AlreadyExists && number < 1000 => number += 1,
                Err(error) => return Err(error).with_context(|| format!("making the folder {}", path.display())),
            }
        }
    }

    fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap_or_else(|error| tracing::warn!(path = %self.0.display(), %error, "a temporary folder stays"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_killed_process_left_is_in_nobodys_way() {
        let root = tempfile::tempdir().unwrap();
        let (mine, old) = (root.path().join(format!("sinew-space-{}-0", std::process::id())), root.path().join("sinew-space-1-0"));
        fs::create_dir(&mine).unwrap();
        fs::create_dir(&old).unwrap();
        fs::File::open(&old).unwrap().set_modified(std::time::SystemTime::now() - Duration::from_secs(100_000)).unwrap();
        let folder = Folder::new(root.path()).unwrap();
        assert!(folder.path() != mine && folder.path().is_dir() && mine.is_dir() && !old.exists());
        let path = folder.path().to_owned();
        drop(folder);
        assert!(!path.exists());
    }

    #[test]
    fn what_users_give_stays_text_on_the_page() {
        let page = page("<script>alert(1)</script>", &format!("<pre>{}</pre>", escaped("a & b\"")));
        assert!(!page.contains("<script>") && page.contains("&lt;script&gt;") && page.contains("a &amp; b&quot;"));
        assert!(card("a: \"b\"").contains("title: \"a: \\\"b\\\"\"\n"));
    }
}
