//! The repository's own rules: who may depend on whom, where `unsafe` and clocks may stand, how long
//! a file may be, what a decision page holds, which licences may come in.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a check stops at the first surprise")]

mod spdx;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

const MAX_LINES: usize = 700;

/// Source files that may hold `unsafe`, each time with a `SAFETY:` comment right above it, or a `# Safety`
/// section above a function.
const UNSAFE_FILES: &[(&str, &str)] = &[
    ("crates/cli/src/heaps.rs", "tells the allocator how many heaps to keep, and when to give them back"),
    ("crates/cli/tests/common/pty.rs", "opens a pseudo-terminal: the standard library can't"),
    ("crates/drivers/src/camera/v4l2/sys.rs", "ioctl, mmap and poll: the standard library has none"),
    ("crates/drivers/tests/stand_in/mod.rs", "the kernel's clock as it is: the standard library hides its epoch"),
    ("crates/drivers/src/teleop/evdev_sys.rs", "ioctls of input devices: ranges of axes and what is pressed are told by nothing else"),
    ("crates/drivers/tests/uinput.rs", "makes an input device by ioctl"),
    ("crates/policy/src/kernels/attention.rs", "loads and stores vectors inside rows"),
    ("crates/policy/src/kernels/codes.rs", "loads and stores vectors inside panels"),
    ("crates/policy/src/kernels/conv.rs", "threads write their own rows of an answer that was not zeroed"),
    ("crates/policy/src/kernels/direct.rs", "reads rows of pixels and writes the sums of tiles, inside lines that were checked"),
    ("crates/policy/src/kernels/gemm.rs", "loads and stores vectors inside panels, rows and tiles"),
    ("crates/policy/src/kernels/halves.rs", "loads and stores vectors inside panels"),
    (
        "crates/policy/src/kernels/integers.rs",
        "inputs of 8 or 16 bits in one buffer, and loads and stores of vectors inside panels, rows and tiles",
    ),
    ("crates/policy/src/kernels/memory.rs", "cache lines as values, and answers that threads write parts of"),
    ("crates/policy/src/kernels/rows.rs", "loads and stores vectors inside rows"),
    ("crates/policy/src/kernels/simd/dots.rs", "loads and stores of whole numbers as for the other sets"),
    ("crates/policy/src/kernels/simd/mod.rs", "vectors of an instruction set that was detected"),
    ("crates/policy/src/kernels/simd/neon.rs", "the instruction set's intrinsics"),
    ("crates/policy/src/kernels/simd/neon_dots.rs", "the instruction set's intrinsics, and one instruction that they lack"),
    ("crates/policy/src/kernels/simd/portable.rs", "loads and stores of vectors as for the other sets"),
    ("crates/policy/src/kernels/simd/x86.rs", "the instruction sets' intrinsics"),
    ("crates/policy/src/kernels/simd/x86_dots.rs", "the instruction sets' intrinsics"),
    ("crates/policy/src/kernels/tests.rs", "loads and stores vectors inside slices"),
    ("crates/policy/src/kernels/winograd.rs", "loads and stores vectors inside images, points and answers"),
    ("crates/python/src/arrays.rs", "numpy arrays over memory that Rust keeps: the safe interface copies"),
    ("crates/recorder/src/media/dav1d.rs", "dav1d's C interface, of a library that is loaded while the program runs"),
    ("crates/recorder/src/media/h264_settings.rs", "openh264's options that its safe interface leaves out"),
    ("crates/runtime/src/clock.rs", "clock_nanosleep: the standard library can't sleep until an absolute time"),
    ("crates/runtime/src/realtime.rs", "scheduling, memory locks and processor affinity: the standard library has none"),
    ("crates/runtime/src/stop.rs", "signals that are ignored: the standard library can't"),
    ("crates/testkit/src/lib.rs", "an allocator that counts, to prove that a tick allocates nothing"),
];

/// Source files that may read the system's clocks; everything else gets its time from a `Clock`.
const CLOCK_FILES: &[(&str, &str)] = &[
    ("crates/recorder/src/tests/hostile.rs", "a test that may be told for how long to try, and that nothing takes too long"),
    ("crates/cli/src/commands/eval.rs", "says how long an evaluation took; nothing depends on it"),
    ("crates/cli/src/commands/doctor/recording.rs", "measures how fast a disk is"),
    ("crates/recorder/src/media/encoder_rate.rs", "measures how fast an encoder is"),
    ("crates/cli/src/daemon/store.rs", "says when a line was said, for people"),
    ("crates/cli/src/live.rs", "redraws the live line now and then"),
    ("crates/cli/src/outlet.rs", "a reader who reads nothing is given up at the end of the process"),
    ("crates/recorder/src/tests/overload.rs", "a slow encoder is slow by the real clock"),
    ("crates/policy/src/kernels/speed.rs", "measures how fast the kernels are"),
    ("crates/policy/src/infer.rs", "reports how long an inference took; nothing depends on it"),
    ("crates/emulator/src/emulator.rs", "plays motors in real time for programs of any kind, also such as know no clock of ours"),
    ("crates/emulator/src/motor/tests.rs", "a test counts from some instant on"),
    ("crates/runtime/src/clock.rs", "the real clock itself"),
    ("crates/runtime/src/at_work.rs", "looks now and then for the loops of other processes"),
    ("crates/hub/src/account.rs", "a login in a browser is waited for until its code is over"),
    ("crates/hub/src/down/blob.rs", "what comes too slowly for a minute is asked for anew"),
    ("crates/hub/src/http.rs", "an answer that never ends is given up; a pause may be until a date"),
    ("crates/hub/src/pace.rs", "bytes a second that an upload may send"),
    ("crates/hub/src/up/commit.rs", "a Hub that stands still is given up"),
    ("crates/hub/src/up/mod.rs", "says for how long nothing has moved"),
    ("crates/hub/src/stock.rs", "says how old files of the cache are"),
    ("crates/remote/src/time.rs", "deadlines of a network and how long its ways took; nothing of it is a time stamp"),
    ("crates/testkit/src/hub/clock.rs", "a Hub that programs of any kind speak to: its addresses expire, its jobs go on"),
    ("crates/runtime/src/watchdog/tests.rs", "a test measures how soon the watchdog acts"),
];

fn root() -> PathBuf {
    Path::new(&std::env::var("CARGO_MANIFEST_DIR").unwrap()).ancestors().nth(2).unwrap().to_owned()
}

/// Every file of the repository by its path from the root, without build outputs.
fn files() -> Vec<PathBuf> {
    fn walk(root: &Path, folder: &Path, files: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
            let path = entry.path();
            let name = entry.file_name().into_string().unwrap();
            let kind = entry.file_type().unwrap();
            let is_hidden = name.starts_with('.') && name != ".ci";
            if kind.is_dir() && !is_hidden && !["target", "outputs", "dist", "venv", "__pycache__"].contains(&name.as_str()) {
                walk(root, &path, files);
            } else if kind.is_file() && name != ".git" {
                files.push(path.strip_prefix(root).unwrap().to_owned());
            }
        }
    }
    let root = root();
    let mut files = Vec::new();
    walk(&root, &root, &mut files);
    files.sort();
    assert!(files.contains(&PathBuf::from("Cargo.toml")));
    files
}

/// Every text file with its content.
fn texts() -> Vec<(PathBuf, String)> {
    let root = root();
    files().into_iter().filter_map(|path| fs::read_to_string(root.join(&path)).ok().map(|text| (path, text))).collect()
}

/// Every Rust file of the crates with its content.
fn sources() -> Vec<(PathBuf, String)> {
    let sources: Vec<_> =
        texts().into_iter().filter(|(path, _)| path.starts_with("crates") && path.extension().is_some_and(|ext| ext == "rs")).collect();
    assert!(sources.len() > 20);
    sources
}

/// The lines of `text` without comments and string contents, with their numbers from 1. Knows just
/// enough of Rust for the checks here: a string that spans lines counts as code.
fn code_lines(text: &str) -> impl Iterator<Item = (usize, String)> {
    text.lines().enumerate().map(|(index, line)| {
        let mut code = String::new();
        let mut chars = line.chars().peekable();
        let mut is_string = false;
        while let Some(c) = chars.next() {
            match c {
                '\\' if is_string => drop(chars.next()),
                '\'' if !is_string && chars.peek() == Some(&'"') => drop(chars.next()),
                '"' => is_string = !is_string,
                '/' if !is_string && chars.peek() == Some(&'/') => break,
                c if !is_string => code.push(c),
                _ => {}
            }
        }
        (index + 1, code)
    })
}

fn has_word(code: &str, word: &str) -> bool {
    code.split(|c: char| !c.is_alphanumeric() && c != '_').any(|part| part == word)
}

/// The part of a file before its unit tests.
fn before_tests(text: &str) -> &str {
    text.split("#[cfg(test)]").next().unwrap_or(text)
}

fn is_under(path: &Path, folder: &str) -> bool {
    path.components().any(|part| part.as_os_str() == folder)
}

fn fail_on(faults: Vec<String>, rule: &str) {
    assert!(faults.is_empty(), "{rule}\n  {}", faults.join("\n  "));
}

fn cargo_metadata(args: &[&str]) -> Value {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--offline", "--locked"])
        .args(args)
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn list<'a>(value: &'a Value, key: &str) -> &'a Vec<Value> {
    value[key].as_array().unwrap_or_else(|| panic!("{key} is {}, expected a list", value[key]))
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_else(|| panic!("{key} is {}, expected a text", value[key]))
}

#[test]
fn crates_form_a_star_around_core() {
    /// The library for other programs, and the command line.
    const JOINING: [&str; 2] = ["sinew", "sinew-cli"];
    let metadata = cargo_metadata(&["--no-deps"]);
    let mut faults = Vec::new();
    let mut names = BTreeSet::new();
    for package in list(&metadata, "packages") {
        let name = text(package, "name");
        names.insert(name);
        for dependency in list(package, "dependencies") {
            let on = text(dependency, "name");
            // Developer-only crates may be used in tests by anyone.
            let is_testkit = on == "sinew-testkit" && dependency["kind"] == "dev";
            let is_test_help = is_testkit || on == "sinew-emulator" && dependency["kind"] == "dev";
            // It plays what the drivers speak to, in the same packets.
            let is_counterpart = name == "sinew-emulator" && on == "sinew-drivers";
            if on.starts_with("sinew-") && on != "sinew-core" && !JOINING.contains(&name) && !is_test_help && !is_counterpart {
                faults.push(format!("{name} depends on {on}"));
            }
            if name == "sinew-core" && on.starts_with("sinew-") && !is_testkit {
                faults.push(format!("sinew-core depends on {on}"));
            }
        }
    }
    assert!(["sinew-core", "sinew-cli", "sinew-runtime", "sinew-hub"].iter().all(|name| names.contains(name)), "{names:?}");
    fail_on(faults, "a crate depends on core only; the library sinew and sinew-cli alone may join the others");
}

#[test]
fn cargo_run_starts_sinew() {
    let metadata = cargo_metadata(&["--no-deps"]);
    let runs: Vec<&Value> = list(&metadata, "packages").iter().map(|package| &package["default_run"]).filter(|it| !it.is_null()).collect();
    assert_eq!(runs, ["sinew"], "default-run of all manifests: `cargo run` refuses to choose between several programs");
}

/// What cargo would compile for `args`: every package with the features it gets.
fn packages_with_features(args: &[&str]) -> BTreeSet<String> {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--offline", "--locked", "--prefix", "none", "--format", "{p} [{f}]"])
        .args(args)
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "cargo tree: {}", String::from_utf8_lossy(&output.stderr));
    let lines = String::from_utf8(output.stdout).unwrap();
    lines.lines().map(|line| line.trim_end_matches(" (*)").to_owned()).filter(|line| !line.is_empty()).collect()
}

#[test]
fn testing_compiles_no_dependency_a_second_time() {
    let run = packages_with_features(&["--package", "sinew-cli", "--edges", "normal,build"]);
    let test = packages_with_features(&["--edges", "normal,build,dev"]);
    assert!(run.len() > 100, "only {} packages", run.len());
    let faults = run.difference(&test).map(|package| format!("{package} is built for running, but not so for testing")).collect();
    fail_on(faults, "a dev-dependency must not switch on features of a dependency: `cargo test` would build it again after `cargo run`");
}

#[test]
fn every_crate_takes_the_workspace_lints() {
    let faults = files().into_iter().filter(|path| path.starts_with("crates") && path.ends_with("Cargo.toml")).filter_map(|path| {
        let manifest: toml::Table = fs::read_to_string(root().join(&path)).unwrap().parse().unwrap();
        let takes = manifest.get("lints").and_then(|lints| lints.get("workspace")) == Some(&toml::Value::Boolean(true));
        (!takes).then(|| format!("{}: add [lints] workspace = true", path.display()))
    });
    fail_on(faults.collect(), "lints are the workspace's");
}

#[test]
fn core_does_no_io_and_knows_no_threads_or_wall_clock() {
    const BANNED: &[&str] = &["std::fs", "std::io", "std::net", "std::process", "std::thread", "std::env", "async fn", "println!", "Mutex"];
    let mut faults = Vec::new();
    for (path, text) in sources().into_iter().filter(|(path, _)| path.starts_with("crates/core/src")) {
        for (line, code) in code_lines(before_tests(&text)) {
            faults.extend(BANNED.iter().filter(|word| code.contains(**word)).map(|word| format!("{}:{line}: {word}", path.display())));
        }
    }
    fail_on(faults, "core holds nouns: no IO, threads, locks, async or environment");
}

#[test]
fn time_comes_from_a_clock() {
    let mut faults = Vec::new();
    for (path, text) in sources().into_iter().filter(|(path, _)| is_under(path, "src")) {
        if CLOCK_FILES.iter().any(|(file, _)| Path::new(file) == path) {
            continue;
        }
        for (line, code) in code_lines(before_tests(&text)) {
            let is_clock = ["Instant::now", "SystemTime::now", "clock_gettime"].iter().any(|word| code.contains(word));
            faults.extend(is_clock.then(|| format!("{}:{line}: {}", path.display(), code.trim())));
        }
    }
    fail_on(faults, "time stamps come from a Clock; a file that needs the system's is named in CLOCK_FILES with its reason");
}

#[test]
fn the_command_line_prints_through_one_place() {
    // These write escape sequences of their own, completions that a shell reads, or ask what a terminal is.
    const OWN: [&str; 5] = [
        "crates/cli/src/text.rs",
        "crates/cli/src/outlet.rs",
        "crates/cli/src/live.rs",
        "crates/cli/src/prompt.rs",
        "crates/cli/src/commands/completions.rs",
    ];
    let mut faults = Vec::new();
    for (path, text) in sources().into_iter().filter(|(path, _)| path.starts_with("crates/cli/src")) {
        for (line, code) in code_lines(before_tests(&text)).filter(|_| !OWN.iter().any(|file| Path::new(file) == path)) {
            let is_direct = code.contains("io::stdout()") || code.contains("io::stderr()") && !code.contains("is_terminal");
            faults.extend(is_direct.then(|| format!("{}:{line}: {}", path.display(), code.trim())));
        }
    }
    fail_on(faults, "what strangers wrote reaches the terminal escaped: through say!, note!, text::stdout() and text::stderr()");
}

#[test]
fn unsafe_stands_only_in_named_places_with_its_reason() {
    let mut faults = Vec::new();
    for (path, text) in sources() {
        let lines: Vec<&str> = text.lines().collect();
        for (line, code) in code_lines(&text).filter(|(_, code)| has_word(code, "unsafe")) {
            let is_named = UNSAFE_FILES.iter().any(|(file, _)| Path::new(file) == path);
            let above = &lines[(line - 1).saturating_sub(8)..line];
            // A function's documentation says what its callers must keep.
            let is_declared = code.contains("unsafe fn");
            let has_reason = |line: &&str| line.contains("SAFETY:") || is_declared && line.contains("# Safety");
            if !is_named || !above.iter().any(has_reason) {
                faults.push(format!("{}:{line}: {}", path.display(), code.trim()));
            }
        }
    }
    fail_on(faults, "unsafe needs its file in UNSAFE_FILES and a SAFETY: comment (a function: a # Safety section) right above");
}

#[test]
fn lists_of_exceptions_hold_no_file_that_is_gone_or_needs_none() {
    let root = root();
    let read = |file: &str| fs::read_to_string(root.join(file)).unwrap_or_default();
    let mut faults = Vec::new();
    for (file, reason) in UNSAFE_FILES {
        if reason.is_empty() || !code_lines(&read(file)).any(|(_, code)| has_word(&code, "unsafe")) {
            faults.push(format!("UNSAFE_FILES: {file}"));
        }
    }
    for (file, reason) in CLOCK_FILES {
        if reason.is_empty() || !["Instant::now", "SystemTime::now", "clock_gettime"].iter().any(|word| read(file).contains(word)) {
            faults.push(format!("CLOCK_FILES: {file}"));
        }
    }
    fail_on(faults, "an exception has a reason and is used");
}

#[test]
fn files_stay_short() {
    let long = sources().into_iter().map(|(path, text)| (path, text.lines().count())).filter(|(_, lines)| *lines > MAX_LINES);
    fail_on(
        long.map(|(path, lines)| format!("{}: {lines} lines", path.display())).collect(),
        &format!("a source file has at most {MAX_LINES} lines"),
    );
}

#[test]
fn nothing_is_left_to_do() {
    // Put together here so that this file does not find itself.
    let markers = [["TO", "DO"].concat(), ["FIX", "ME"].concat(), ["todo", "!"].concat(), ["unimple", "mented!"].concat()];
    let mut faults = Vec::new();
    for (path, text) in texts() {
        for (index, line) in text.lines().enumerate() {
            faults.extend(
                markers.iter().filter(|marker| line.contains(*marker)).map(|marker| format!("{}:{}: {marker}", path.display(), index + 1)),
            );
        }
    }
    fail_on(faults, "what is missing is said in README.md, not in the code");
}

#[test]
fn no_path_of_somebodys_machine_is_written_down() {
    let homes = [["/ho", "me/"].concat(), ["/ro", "ot/"].concat(), ["/wo", "rk/"].concat(), ["/Use", "rs/"].concat()];
    let mut faults = Vec::new();
    for (path, text) in texts() {
        for (index, line) in text.lines().enumerate() {
            // As the beginning of a path, not inside one.
            let is_found = homes.iter().any(|home| {
                let mut before = line.split(home.as_str()).collect::<Vec<_>>();
                before.pop();
                before.iter().any(|before| !before.ends_with(|c: char| c.is_alphanumeric() || "._-/~}*".contains(c)))
            });
            faults.extend(is_found.then(|| format!("{}:{}", path.display(), index + 1)));
        }
    }
    fail_on(faults, "no absolute path of one machine");
}

#[test]
fn what_a_module_offers_is_documented() {
    const KINDS: [&str; 7] = ["pub struct ", "pub enum ", "pub trait ", "pub fn ", "pub type ", "pub const ", "pub static "];
    let mut faults = Vec::new();
    let is_library = |path: &Path| is_under(path, "src") && !path.starts_with("crates/cli");
    for (path, text) in sources().into_iter().filter(|(path, _)| is_library(path)) {
        let lines: Vec<&str> = text.lines().collect();
        for (index, line) in lines.iter().enumerate().filter(|(_, line)| KINDS.iter().any(|kind| line.starts_with(kind))) {
            let above = lines[..index].iter().rev().find(|line| !line.starts_with("#["));
            if !above.is_some_and(|line| line.starts_with("///") || line.ends_with(")]")) {
                faults.push(format!("{}:{}: {line}", path.display(), index + 1));
            }
        }
    }
    fail_on(faults, "a public item says what it is; its fields and methods too where name and unit don't");
}

#[test]
fn decisions_say_what_they_must() {
    let mut faults = Vec::new();
    let mut pages = 0;
    for (path, text) in texts().into_iter().filter(|(path, _)| path.starts_with("docs/decisions")) {
        pages += 1;
        let headings: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("## ")).collect();
        if headings != ["Context", "Choice", "Alternatives", "What would reverse it"] || !text.starts_with("# ") {
            faults.push(format!("{}: headings {headings:?}", path.display()));
        }
    }
    assert!(pages > 0);
    fail_on(faults, "a decision page has a title and the headings Context, Choice, Alternatives, What would reverse it");
}

#[test]
fn documents_name_only_what_exists() {
    let root = root();
    let sources = sources();
    let mut faults = Vec::new();
    for document in ["ARCHITECTURE.md", "README.md", "CHANGELOG.md"] {
        let text = fs::read_to_string(root.join(document)).unwrap();
        // Odd parts of a line split at backticks are code.
        for name in text.lines().flat_map(|line| line.split('`').skip(1).step_by(2)) {
            let is_path = ["crates/", "docs/", "robots/", "policies/", "scripts/", ".ci/"].iter().any(|folder| name.starts_with(folder));
            let is_plain = name.chars().all(|c| c.is_ascii_alphanumeric() || "/._-".contains(c));
            if is_path && is_plain && !root.join(name).exists() {
                faults.push(format!("{document}: {name}"));
            }
            // Tests are named for the sentence that they prove.
            let is_test = name.matches('_').count() >= 4 && name.chars().all(|c| c.is_ascii_lowercase() || c == '_');
            if is_test && !sources.iter().any(|(_, text)| text.contains(&format!("fn {name}("))) {
                faults.push(format!("{document}: there is no test {name}"));
            }
        }
        let links = text.split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next());
        faults.extend(
            links
                .filter(|link| !link.is_empty() && !link.contains("://") && !root.join(link).exists())
                .map(|link| format!("{document}: {link}")),
        );
    }
    let architecture = fs::read_to_string(root.join("ARCHITECTURE.md")).unwrap();
    for package in list(&cargo_metadata(&["--no-deps"]), "packages") {
        let folder = text(package, "name").replace("sinew-", "crates/");
        if !architecture.contains(&folder) {
            faults.push(format!("ARCHITECTURE.md says nothing of {folder}"));
        }
    }
    fail_on(faults, "documents name files that exist, and the code map names every crate");
}

#[test]
fn rules_of_udev_name_every_serial_adapter_that_is_known() {
    let root = root();
    let ports = fs::read_to_string(root.join("crates/drivers/src/setup/ports.rs")).unwrap();
    let rules = fs::read_to_string(root.join("packaging/udev/70-sinew.rules")).unwrap();
    let known: BTreeSet<(&str, &str)> = ports
        .lines()
        .filter_map(|line| line.trim().strip_prefix("adapter(0x")?.split_once(", 0x"))
        .filter_map(|(vendor, rest)| Some((vendor, rest.split_once(',')?.0)))
        .collect();
    assert!(known.len() > 5, "{known:?}");
    let value = |line: &'static str, key: &str| line.split_once(&format!("{key}==\""))?.1.split_once('"').map(|(value, _)| value);
    let rules: &'static str = rules.leak();
    let named = |end: &str| -> BTreeSet<(&str, &str)> {
        let lines = rules.lines().filter(|line| line.ends_with(end));
        lines.filter_map(|line| Some((value(line, "ATTRS{idVendor}")?, value(line, "ATTRS{idProduct}")?))).collect()
    };
    assert_eq!(named("ENV{SINEW_SERIAL}=\"1\""), known, "packaging/udev/70-sinew.rules has the adapters of ports.rs");
    // Those of FTDI keep answers back.
    let slow: BTreeSet<_> = known.into_iter().filter(|(vendor, _)| *vendor == "0403").collect();
    assert_eq!(named("ATTR{latency_timer}=\"1\""), slow, "packaging/udev/70-sinew.rules has the latency timers of FTDI's adapters");
}

#[test]
fn licences_of_dependencies_are_allowed() {
    let deny: toml::Table = fs::read_to_string(root().join("deny.toml")).unwrap().parse().unwrap();
    let names =
        |value: &toml::Value| -> Vec<String> { value.as_array().unwrap().iter().map(|name| name.as_str().unwrap().to_owned()).collect() };
    let allowed = names(&deny["licenses"]["allow"]);
    let exceptions = deny["licenses"]["exceptions"].as_array().unwrap();
    // Only what is built here: the sources of other platforms' crates may not be on this machine.
    let version = Command::new(env!("CARGO")).arg("-vV").output().unwrap();
    let version = String::from_utf8(version.stdout).unwrap();
    let host = version.lines().find_map(|line| line.strip_prefix("host: ")).expect("cargo -vV names its host");
    let metadata = cargo_metadata(&["--filter-platform", host]);
    let mut faults = Vec::new();
    let mut count = 0;
    for package in list(&metadata, "packages") {
        count += 1;
        let name = text(package, "name");
        let extra = exceptions
            .iter()
            .filter(|exception| exception["crate"].as_str() == Some(name))
            .flat_map(|exception| names(&exception["allow"]));
        let extra: Vec<String> = extra.collect();
        let is_allowed = |licence: &str| allowed.iter().chain(&extra).any(|known| known == licence);
        match package["license"].as_str().map(|expression| (expression, spdx::is_met(expression, &is_allowed))) {
            Some((_, Ok(true))) => {}
            Some((expression, Ok(false))) => faults.push(format!("{name}: {expression}")),
            Some((_, Err(err))) => faults.push(format!("{name}: {err}")),
            None => faults.push(format!("{name}: no licence")),
        }
    }
    assert!(count > 100, "only {count} packages");
    fail_on(faults, "every dependency's licence is met by the lists in deny.toml");
}

/// The crates whose modules below `lib.rs` form no circle, so that each can be read after those that it uses.
const LAYERED: &[&str] = &["policy"];

/// What each module of the crate in `folder` uses of the crate's other modules, by their names.
fn module_uses(folder: &str) -> BTreeMap<String, BTreeSet<String>> {
    let src = Path::new("crates").join(folder).join("src");
    let files: Vec<(String, String)> = sources()
        .into_iter()
        .filter_map(|(path, text)| {
            let module = path.strip_prefix(&src).ok()?.iter().next()?.to_str()?.trim_end_matches(".rs").to_owned();
            Some((module, code_lines(before_tests(&text)).map(|(_, code)| code + "\n").collect::<String>()))
        })
        .collect();
    let of = |module: &str| files.iter().filter(|(name, _)| name == module).map(|(_, code)| code.as_str()).collect::<String>();
    let names: BTreeSet<&str> = files.iter().map(|(name, _)| name.as_str()).filter(|name| *name != "lib").collect();
    // What `lib.rs` hands on is the module's that it comes from.
    let mut homes: BTreeMap<String, String> = names.iter().map(|name| ((*name).to_owned(), (*name).to_owned())).collect();
    for line in of("lib").split(';') {
        let Some((module, items)) = line.trim().strip_prefix("pub use ").and_then(|path| path.split_once("::")) else { continue };
        homes.extend(listed(items).map(|item| (item.to_owned(), module.to_owned())));
    }
    let uses = |module: &&str| {
        let code = of(module);
        let used =
            code.split("crate::").skip(1).flat_map(listed).filter_map(|item| homes.get(item)).filter(|used| used.as_str() != *module);
        ((*module).to_owned(), used.cloned().collect())
    };
    names.iter().map(uses).collect()
}

/// The first name of a path, or of each path between its braces.
fn listed(path: &str) -> impl Iterator<Item = &str> {
    let mut depth = 0;
    let is_end = |c: char| {
        depth += i32::from(c == '{') - i32::from(c == '}');
        depth == 0 && (c == '}' || !c.is_alphanumeric() && c != '_')
    };
    let list = path.split(is_end).next().unwrap_or("");
    let mut depth = 0;
    list.trim_start_matches('{')
        .split(move |c: char| {
            depth += i32::from(c == '{') - i32::from(c == '}');
            depth == 0 && c == ','
        })
        .map(|item| item.split("::").next().unwrap_or("").trim())
}

/// Some modules that use each other in a circle.
fn circle(mut uses: BTreeMap<String, BTreeSet<String>>) -> Vec<String> {
    // What uses nothing that is left is in no circle.
    while let Some(leaf) = uses.iter().find(|(_, used)| used.is_empty()).map(|(name, _)| name.clone()) {
        uses.remove(&leaf);
        for used in uses.values_mut() {
            used.remove(&leaf);
        }
    }
    let mut path: Vec<String> = uses.keys().next().cloned().into_iter().collect();
    while let Some(next) = path.last().and_then(|last| uses[last].first()) {
        if let Some(start) = path.iter().position(|name| name == next) {
            return path.split_off(start);
        }
        path.push(next.clone());
    }
    path
}

#[test]
fn modules_form_no_circle() {
    let found = |folder: &&str| Some((folder.to_string(), circle(module_uses(folder)))).filter(|(_, circle)| !circle.is_empty());
    let faults = LAYERED.iter().filter_map(found).map(|(folder, circle)| format!("crates/{folder}: {}", circle.join(" uses "))).collect();
    fail_on(faults, "the modules of a crate use each other in one direction");
}

#[test]
fn circles_of_modules_are_found() {
    let uses = |pairs: &[(&str, &[&str])]| {
        circle(pairs.iter().map(|(name, used)| ((*name).to_owned(), used.iter().map(|name| (*name).to_owned()).collect())).collect())
    };
    assert_eq!(uses(&[("a", &["b", "c"]), ("b", &["c"]), ("c", &[])]), [""; 0]);
    assert_eq!(uses(&[("a", &["b"]), ("b", &["c"]), ("c", &["b", "d"]), ("d", &[])]), ["b", "c"]);
    assert_eq!(listed("{a::{B, c::D}, E}; f").collect::<Vec<_>>(), ["a", "E"]);
    assert_eq!(listed("a::B, c").collect::<Vec<_>>(), ["a"]);
}
