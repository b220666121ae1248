//! `sinew hub publish-space`: a page that others open in a browser, without installing anything.

use std::fs;
use std::io::{ErrorKind, Read as _};
use std::path::{Path, PathBuf};

use anyhow::Context;
use sinew_hub::{Hub, HubError, HubRepo, RepoKind, UploadOptions};
use sinew_recorder::{DatasetReader, PageOptions, write_html};

use super::upload::tell;
use crate::args::{SpaceArgs, refuse_given};
use crate::commands::dataset::units;
use crate::config::user_folder;
use crate::watch::Watch;
use crate::{Done, source, text, transfer};

/// Where Rerun keeps its viewer for browsers; it reads a recording from any address.
const VIEWER: &str = "https://app.rerun.io/version";
/// The version of the recordings that Sinew writes.
const RERUN: &str = "0.36.3";
/// What the card of every page that is made here has.
const TAG: &str = "sinew";
/// The files of a page.
const PAGE: &str = "index.html";
const CARD: &str = "README.md";
const RECORDING: &str = "recording.rrd";
const PICTURE: &str = "evaluation.png";

pub fn run(args: &SpaceArgs) -> anyhow::Result<Done> {
    let hub = transfer::hub(None);
    let space = source::hub_repo(RepoKind::Space, &args.space)?;
    let ends_with = |end: &str| args.source.extension().is_some_and(|found| found == end);
    let (is_recording, is_picture) = (ends_with("rrd"), ends_with("png"));
    refuse_given(&[("--results", args.results.is_some() && !is_picture)], "is for the picture of an evaluation (.png)")?;
    check_content(&args.source)?;
    let folder = Desk::new(&hub, &space)?;
    if args.parent.is_none() {
        check_before(&hub, &space)?;
    }
    let title = args.title.clone().unwrap_or_else(|| space.name().to_owned());
    let body = if is_recording {
        copy(&args.source, &folder.path().join(RECORDING))?;
        let recording = format!("{}/resolve/main/{RECORDING}", space.page(&hub.options().endpoint));
        let address = format!("{VIEWER}/{RERUN}/?url={recording}");
        Some(page(&title, &format!("<iframe src=\"{}\" allow=\"fullscreen\"></iframe>", escaped(&address))))
    } else if is_picture {
        copy(&args.source, &folder.path().join(PICTURE))?;
        let results = args.results.as_deref().map(fs::read_to_string).transpose().context("reading the results")?;
        let text = results.as_deref().map(|text| format!("<pre>{}</pre>", escaped(text))).unwrap_or_default();
        Some(page(&title, &format!("<img src=\"{PICTURE}\" alt=\"the last image of each episode\">{text}")))
    } else {
        None
    };
    match body {
        Some(body) => fs::write(folder.path().join(PAGE), body).context("writing the page")?,
        None => {
            let reader = source::open_dataset(&args.source)?;
            let Some(()) = write_dataset(args, &reader, &folder.path().join(PAGE))? else { return Ok(Done::Interrupted) };
        }
    }
    fs::write(folder.path().join(CARD), card(&title)).context("writing the Space's card")?;
    let options = UploadOptions {
        private: args.private,
        message: Some(commit_title(&args.source)),
        parent: args.parent.clone(),
        // What the page before this one showed is not left for others to see.
        delete: [RECORDING, PICTURE].map(str::to_owned).into(),
        ..UploadOptions::default()
    };
    let listener = if args.json { transfer::silent() } else { transfer::shown() };
    let uploaded = hub.upload(folder.path(), &space, &options, &*listener)?;
    tell(&hub, &uploaded, args.json)?;
    Ok(Done::Ok)
}

/// That a Space of that name, if there is one, is of the same making. What others changed in it is found before it is written over.
fn check_before(hub: &Hub, space: &HubRepo) -> anyhow::Result<()> {
    match hub.info(space) {
        Ok(info) if info.tags.iter().any(|tag| tag == TAG) => Ok(()),
        Ok(info) => anyhow::bail!(
            "publishing a page as the Space {space}: there is one that `sinew hub publish-space` did not make, as its card lacks the tag \
             {TAG}; choose another name or, to write over it all the same, give --parent {}",
            info.sha.unwrap_or_default()
        ),
        Err(HubError::NoRepo { .. }) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn write_dataset(args: &SpaceArgs, reader: &DatasetReader, path: &Path) -> anyhow::Result<Option<()>> {
    let all = reader.episodes().len() as u64;
    let shown = args.episodes.as_ref().map_or_else(|| (0..all.min(50)).collect(), |episodes| episodes.0.clone());
    let options = PageOptions { units: units(reader), ..PageOptions::default() };
    Watch::start()?.run(|progress| write_html(reader, &shown, &options, path, progress))
}

/// That a file is what the end of its name says: a page that shows nothing helps nobody.
fn check_content(source: &Path) -> anyhow::Result<()> {
    let (what, begin): (_, &[u8]) = match source.extension().and_then(|end| end.to_str()) {
        Some("png") => ("a PNG picture", b"\x89PNG\r\n\x1a\n"),
        Some("rrd") => ("a Rerun recording", b"RRF2"),
        _ => return Ok(()),
    };
    let doing = || format!("reading {}", source.display());
    // Opening a pipe would wait for whoever writes to it.
    anyhow::ensure!(fs::metadata(source).with_context(doing)?.is_file(), "{}: expected a file", doing());
    let mut found = Vec::new();
    fs::File::open(source).and_then(|file| file.take(begin.len() as u64).read_to_end(&mut found)).with_context(doing)?;
    anyhow::ensure!(found == begin, "{}: it is not {what}, as its content begins otherwise", doing());
    Ok(())
}

fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    fs::copy(from, to).map(drop).with_context(|| format!("reading {}", from.display()))
}

/// Others read it, so it names no folder of this machine.
fn commit_title(source: &Path) -> String {
    let shown = source.file_name().unwrap_or(source.as_os_str());
    format!("Show {}", text::in_line(&shown.to_string_lossy()))
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

/// Where the page of this Space is put together: a folder that stays, as the notes of what was published last are in it. So the next
/// time nobody else's work is written over. Only one process works there at a time.
struct Desk {
    folder: PathBuf,
    _lock: fs::File,
}

impl Desk {
    fn new(hub: &Hub, space: &HubRepo) -> anyhow::Result<Self> {
        let cache = user_folder("XDG_CACHE_HOME", ".cache");
        let cache = cache.context("finding a place for the page: neither XDG_CACHE_HOME nor HOME is set")?;
        let endpoint: String = hub.options().endpoint.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
        let spaces = cache.join("sinew/spaces").join(endpoint);
        let name = format!("{}--{}", space.owner(), space.name());
        let folder = spaces.join(&name);
        fs::create_dir_all(&folder).with_context(|| format!("making the folder {}", folder.display()))?;
        let path = spaces.join(format!("{name}.lock"));
        let doing = || format!("locking {}", path.display());
        // By its handle, so that a killed process holds nothing.
        let lock = fs::File::options().create(true).truncate(false).write(true).open(&path).with_context(doing)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => {
                anyhow::bail!(
                    "publishing a page as the Space {space}: another `sinew hub publish-space` does so at this moment; wait for it"
                )
            }
            Err(fs::TryLockError::Error(error)) => return Err(error).with_context(doing),
        }
        let desk = Self { folder, _lock: lock };
        // What a killed process left.
        desk.clear();
        Ok(desk)
    }

    fn path(&self) -> &Path {
        &self.folder
    }

    fn clear(&self) {
        for name in [PAGE, CARD, RECORDING, PICTURE] {
            match fs::remove_file(self.folder.join(name)) {
                Err(error) if error.kind() != ErrorKind::NotFound => tracing::debug!(%error, name, "a file of the page stays"),
                _ => {}
            }
        }
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        self.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_folder_of_this_machine_is_named_to_others() {
        assert_eq!(commit_title(Path::new("secret/demos/")), "Show demos");
        assert_eq!(commit_title(Path::new("owner/demos")), "Show demos");
    }

    #[test]
    fn what_users_give_stays_text_on_the_page() {
        let page = page("<script>alert(1)</script>", &format!("<pre>{}</pre>", escaped("a & b\"")));
        assert!(!page.contains("<script>") && page.contains("&lt;script&gt;") && page.contains("a &amp; b&quot;"));
        assert!(card("a: \"b\"").contains("title: \"a: \\\"b\\\"\"\n"));
    }
}
