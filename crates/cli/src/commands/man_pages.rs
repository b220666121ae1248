//! `sinew man-pages`

use std::io::Write as _;
use std::path::Path;

use anyhow::{Context as _, ensure};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, roman};

use crate::Done;
use crate::args;
use crate::text::{plural, say};

pub fn run(folder: &Path) -> anyhow::Result<Done> {
    let writing = || format!("writing the manual pages into {}", folder.display());
    ensure!(folder.is_dir() || !folder.exists(), "{}: it is a file, expected a folder", writing());
    std::fs::create_dir_all(folder).with_context(writing)?;
    let mut sinew = args::command().disable_help_subcommand(true);
    sinew.build();
    let count = write_all(&sinew, folder)?;
    say!("{} in {}", plural(count, "page"), folder.display());
    Ok(Done::Ok)
}

/// Writes the page of a verb and those of the verbs below it, and says how many. What help hides has none.
fn write_all(verb: &clap::Command, folder: &Path) -> anyhow::Result<u64> {
    // clap_mangen gives no words to what `-h` leaves out.
    let man = Man::new(verb.clone().mut_args(|arg| arg.hide_short_help(false)));
    let path = folder.join(man.get_filename());
    let page = page(&man, verb).with_context(|| format!("making {}", path.display()))?;
    std::fs::write(&path, page).with_context(|| format!("writing {}", path.display()))?;
    let mut count = 1;
    for below in verb.get_subcommands().filter(|below| !below.is_hide_set()) {
        count += write_all(below, folder)?;
    }
    Ok(count)
}

fn page(man: &Man, verb: &clap::Command) -> std::io::Result<Vec<u8>> {
    let mut page = Vec::new();
    // No date, as the version says enough. clap_mangen leaves an empty one out, so that the next word would stand for it.
    let title = verb.get_display_name().unwrap_or_else(|| verb.get_name());
    writeln!(page, ".TH {title} 1 \"\" \"sinew {}\" Sinew", env!("CARGO_PKG_VERSION"))?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    if verb.get_subcommands().any(|below| !below.is_hide_set()) {
        man.render_subcommands_section(&mut page)?;
    }
    if let Some(help) = verb.get_after_long_help().or_else(|| verb.get_after_help()) {
        end(&help.to_string()).to_writer(&mut page)?;
    }
    Ok(page)
}

/// What stands below the options: sentences, which are filled, and examples, whose lines stay as they are.
fn end(help: &str) -> Roff {
    let mut roff = Roff::default();
    let (mut has_section, mut is_kept, mut is_new) = (false, false, false);
    for line in help.lines() {
        let is_indented = line.starts_with(' ');
        if is_indented != is_kept {
            roff.control(if is_indented { "nf" } else { "fi" }, []);
            is_kept = is_indented;
        }
        if line.is_empty() {
            is_new = true;
            continue;
        }
        if matches!(line, "Example:" | "Examples:") {
            roff.control("SH", ["EXAMPLES"]);
        } else {
            match (has_section, is_new) {
                (false, _) => {
                    roff.control("SH", ["NOTES"]);
                }
                (true, true) => {
                    roff.control("PP", []);
                }
                (true, false) => {}
            }
            roff.text([roman(line.strip_prefix("  ").unwrap_or(line))]);
        }
        (has_section, is_new) = (true, false);
    }
    if is_kept {
        roff.control("fi", []);
    }
    roff
}
