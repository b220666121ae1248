//! The fake Hub as a program, for scripts: prints its address and serves until it is killed or its input ends.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program for scripts speaks through its output")]

use std::error::Error;
use std::io::{self, Read as _, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use sinew_testkit::hub::{FakeHub, Fault, Gated, HubOptions, JobEnd, JobScript, RepoKind, Rights};

const USAGE: &str = "\
fake_hub [OPTION]…   a fake Hugging Face Hub; prints its address (HF_ENDPOINT) on a line

  --port N                  on 127.0.0.1; any by default
  --token TOKEN:USER:RIGHTS RIGHTS are write, read or none; may come again
  --member ORG:USER         makes USER a member of ORG; may come again
  --root DIR                repositories from DIR/models/owner/name, DIR/datasets/…, DIR/spaces/…
  --private KIND:OWNER/NAME, --gated KIND:OWNER/NAME      of those; KIND is model, dataset or space
  --made-up KIND:OWNER/NAME:N   a repository with N files that are made up while they are listed
  --zeros KIND:OWNER/NAME:PATH:BYTES   a large file of zeros, which takes no room
  --job 'MS|line|line…'     what the next job does: a line each MS milliseconds; may come again
  --login TOKEN             device logins are let in as TOKEN's user
  --faults FILE_OR_JSON     a list of faults: [{\"path\": \"*/resolve/*\", \"times\": 1, \"harm\": {\"kind\": \"cut_answer\", \"at\": 100}}]
  --latency-ms N            every request waits
  --rate BYTES_PER_S        what all answers together, and all requests together, may take
  --state DIR               where large objects lie
  --discard                 large objects that are uploaded are hashed and kept nowhere
  --requests FILE           a JSON line for each request
  --lfs-from BYTES, --multipart-from BYTES, --part BYTES   when files are LFS, when uploads are multipart, in which parts
  --cdn-host HOST           large files are on another host: 127.0.0.2 (so by default), localhost, or same for the Hub's own
  --resolve-cache           small files are answered by a relative redirect
  --urls-valid-s N          presigned addresses expire
  --page N                  entries a page of lists
  --requests-per-10-s N     more get 429
  --xet URL                 the Xet store, a local_cas_server
  --resumes-uploads         who asks again for a multipart upload gets the one that was begun
  --stdin                   ends when the standard input does
";

struct Setup {
    options: HubOptions,
    later: Vec<(String, String)>,
    ends_with_input: bool,
}

fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Setup, Box<dyn Error>> {
    let mut setup = Setup { options: HubOptions::default(), later: Vec::new(), ends_with_input: false };
    while let Some(name) = arguments.next() {
        match name.as_str() {
            "--resolve-cache" => setup.options.resolve_cache = true,
            "--resumes-uploads" => setup.options.resumes_uploads = true,
            "--discard" => setup.options.discards_uploads = true,
            "--stdin" => setup.ends_with_input = true,
            _ => {
                let value = arguments.next().ok_or_else(|| format!("{name}: expected a value\n\n{USAGE}"))?;
                let number = || value.parse::<u64>().map_err(|error| format!("{name} {value}: {error}"));
                let options = &mut setup.options;
                match name.as_str() {
                    "--port" => options.port = value.parse()?,
                    "--latency-ms" => options.latency = Duration::from_millis(number()?),
                    "--rate" => options.bytes_per_s = Some(number()?),
                    "--state" => options.state = Some(PathBuf::from(value)),
                    "--requests" => options.requests = Some(PathBuf::from(value)),
                    "--lfs-from" => options.lfs_from = number()?,
                    "--multipart-from" => options.multipart_from = number()?,
                    "--part" => options.part = number()?,
                    "--cdn-host" => options.cdn_host = Some(value).filter(|host| host != "same"),
                    "--urls-valid-s" => options.urls_valid = Duration::from_secs(number()?),
                    "--page" => options.page = value.parse()?,
                    "--requests-per-10-s" => options.requests_per_10_s = Some(number()?),
                    "--xet" => options.xet = Some(value),
                    "--token" | "--member" | "--root" | "--private" | "--gated" | "--made-up" | "--zeros" | "--job" | "--login"
                    | "--faults" => {
                        setup.later.push((name, value));
                    }
                    _ => return Err(format!("{name}: no such option\n\n{USAGE}").into()),
                }
            }
        }
    }
    Ok(setup)
}

fn kind(word: &str) -> Result<RepoKind, String> {
    RepoKind::ALL.into_iter().find(|kind| kind.word() == word).ok_or_else(|| format!("expected model, dataset or space, found {word}"))
}

/// Splits `KIND:OWNER/NAME`, and what comes after it.
fn repo(value: &str) -> Result<(RepoKind, &str, &str), String> {
    let (word, rest) = value.split_once(':').ok_or_else(|| format!("{value}: expected KIND:OWNER/NAME"))?;
    let (name, rest) = rest.split_once(':').unwrap_or((rest, ""));
    Ok((kind(word)?, name, rest))
}

fn later(hub: &FakeHub, name: &str, value: &str) -> Result<(), Box<dyn Error>> {
    match name {
        "--token" => {
            let [token, user, rights] = value.split(':').collect::<Vec<_>>()[..] else {
                return Err(format!("{value}: expected TOKEN:USER:RIGHTS").into());
            };
            let rights = match rights {
                "write" => Rights::Write,
                "read" => Rights::Read,
                "none" => Rights::None,
                _ => return Err(format!("{rights}: expected write, read or none").into()),
            };
            hub.token(token, user, rights);
        }
        "--member" => {
            let (org, user) = value.split_once(':').ok_or("--member: expected ORG:USER")?;
            hub.member(org, user);
        }
        "--root" => hub.load(value.as_ref())?,
        "--private" | "--gated" => {
            let (kind, id, _) = repo(value)?;
            let repo = if hub.has(kind, id) { hub.repo(kind, id) } else { hub.add(kind, id) };
            if name == "--private" {
                repo.private(true)
            } else {
                repo.gated(Gated::Manual)
            };
        }
        "--made-up" => {
            let (kind, id, count) = repo(value)?;
            hub.add(kind, id).made_up(count.parse()?);
        }
        "--zeros" => {
            let (kind, id, rest) = repo(value)?;
            let (path, len) = rest.split_once(':').ok_or("--zeros: expected KIND:OWNER/NAME:PATH:BYTES")?;
            let repo = if hub.has(kind, id) { hub.repo(kind, id) } else { hub.add(kind, id) };
            repo.commit_zeros(path, len.parse()?);
        }
        "--job" => {
            let mut parts = value.split('|');
            let every = Duration::from_millis(parts.next().unwrap_or_default().parse()?);
            let lines = parts.map(|line| (every, line.to_owned())).collect();
            hub.next_job(JobScript { waits: every, lines, end: JobEnd::Completed, message: None });
        }
        "--login" => hub.always_decide_logins(value),
        "--faults" => {
            let text = if value.trim_start().starts_with('[') { value.to_owned() } else { std::fs::read_to_string(value)? };
            for fault in serde_json::from_str::<Vec<Fault>>(&text)? {
                hub.fault(fault);
            }
        }
        _ => return Err(format!("{name}: no such option").into()),
    }
    Ok(())
}

fn run() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1).peekable();
    if arguments.peek().is_some_and(|first| first == "--help") {
        print!("{USAGE}");
        return Ok(());
    }
    let setup = parse(arguments)?;
    let hub = FakeHub::with(setup.options)?;
    for (name, value) in &setup.later {
        later(&hub, name, value)?;
    }
    println!("{}", hub.endpoint());
    io::stdout().flush()?;
    if setup.ends_with_input {
        io::copy(&mut io::stdin().lock().take(u64::MAX), &mut io::sink())?;
        return Ok(());
    }
    loop {
        std::thread::park();
    }
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("fake_hub: {error}");
            ExitCode::FAILURE
        }
    }
}
