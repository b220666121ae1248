//! The page's files, which are part of the binary.

/// A file by its path, its content's type, and its bytes.
pub(super) struct File {
    path: &'static str,
    pub kind: &'static str,
    pub bytes: &'static [u8],
}

macro_rules! files {
    ($($path:literal as $kind:literal),* $(,)?) => {
        &[$(File { path: concat!("/", $path), kind: $kind, bytes: include_bytes!(concat!("../../page/", $path)) }),*]
    };
}

/// Each file of `crates/remote/page`.
const FILES: &[File] = files![
    "api.js" as "text/javascript; charset=utf-8",
    "arm.js" as "text/javascript; charset=utf-8",
    "base.css" as "text/css; charset=utf-8",
    "calibration.js" as "text/javascript; charset=utf-8",
    "camera-line.js" as "text/javascript; charset=utf-8",
    "cameras.js" as "text/javascript; charset=utf-8",
    "certificate.js" as "text/javascript; charset=utf-8",
    "dom.js" as "text/javascript; charset=utf-8",
    "door.js" as "text/javascript; charset=utf-8",
    "driver.js" as "text/javascript; charset=utf-8",
    "episodes.js" as "text/javascript; charset=utf-8",
    "frame.css" as "text/css; charset=utf-8",
    "hand.js" as "text/javascript; charset=utf-8",
    "history.js" as "text/javascript; charset=utf-8",
    "icon.svg" as "image/svg+xml",
    "index.html" as "text/html; charset=utf-8",
    "last.js" as "text/javascript; charset=utf-8",
    "main.js" as "text/javascript; charset=utf-8",
    "model.js" as "text/javascript; charset=utf-8",
    "notes.js" as "text/javascript; charset=utf-8",
    "operator-line.js" as "text/javascript; charset=utf-8",
    "operator.js" as "text/javascript; charset=utf-8",
    "plot.js" as "text/javascript; charset=utf-8",
    "plots.js" as "text/javascript; charset=utf-8",
    "publish.js" as "text/javascript; charset=utf-8",
    "render.js" as "text/javascript; charset=utf-8",
    "results.js" as "text/javascript; charset=utf-8",
    "sliders.js" as "text/javascript; charset=utf-8",
    "socket.js" as "text/javascript; charset=utf-8",
    "solids.js" as "text/javascript; charset=utf-8",
    "space.js" as "text/javascript; charset=utf-8",
    "sticks.js" as "text/javascript; charset=utf-8",
    "stop.js" as "text/javascript; charset=utf-8",
    "store.js" as "text/javascript; charset=utf-8",
    "tasks.js" as "text/javascript; charset=utf-8",
    "tilt.js" as "text/javascript; charset=utf-8",
    "tool.js" as "text/javascript; charset=utf-8",
    "view-datasets.js" as "text/javascript; charset=utf-8",
    "view-drive.js" as "text/javascript; charset=utf-8",
    "view-log.js" as "text/javascript; charset=utf-8",
    "view-policies.js" as "text/javascript; charset=utf-8",
    "view-record.js" as "text/javascript; charset=utf-8",
    "view-setup.js" as "text/javascript; charset=utf-8",
    "views.css" as "text/css; charset=utf-8",
    "work.js" as "text/javascript; charset=utf-8",
    "xr.js" as "text/javascript; charset=utf-8",
];

/// What the page's files are sent with. Nothing comes from other hosts, and nobody puts the page into a frame.
pub(super) const HEADERS: &str = "Content-Security-Policy: default-src 'self'; connect-src 'self'; object-src 'none'; \
     base-uri 'none'; form-action 'none'; frame-ancestors 'none'\r\nReferrer-Policy: no-referrer\r\nX-Frame-Options: \
     DENY\r\nCross-Origin-Opener-Policy: same-origin\r\nCross-Origin-Resource-Policy: same-origin\r\nCache-Control: no-cache\r\n";

/// The file at `path`; `/` is the page.
pub(super) fn file(path: &str) -> Option<&'static File> {
    let path = if path == "/" { "/index.html" } else { path };
    FILES.iter().find(|file| file.path == path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_file_of_the_folder_is_served() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("page");
        let mut found: Vec<String> =
            std::fs::read_dir(folder).unwrap().map(|entry| format!("/{}", entry.unwrap().file_name().to_string_lossy())).collect();
        let mut served: Vec<&str> = FILES.iter().map(|file| file.path).collect();
        found.sort();
        served.sort_unstable();
        assert_eq!(found, served);
        assert_eq!(file("/").unwrap().path, "/index.html");
        assert!(file("/../Cargo.toml").is_none() && file("//").is_none());
    }

    /// The policy in [`HEADERS`] forbids what stands within a page.
    #[test]
    fn the_page_has_no_script_or_style_of_its_own() {
        let text = std::str::from_utf8(file("/").unwrap().bytes).unwrap().to_lowercase();
        for part in text.split("<script").skip(1) {
            assert!(part.split('>').next().unwrap().contains("src="), "a script within the page");
        }
        for word in ["<style", "style=", " onclick=", " onload=", "http://", "https://"] {
            assert!(!text.contains(word), "{word}");
        }
    }
}
