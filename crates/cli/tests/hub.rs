//! `sinew hub` against a fake Hub: what it says when something is wrong, and what it lets nobody see.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod common;

use std::process::{Command, Output};

use common::{Desk, contains_all, demo_policy, files};
use sinew_testkit::hub::{FakeHub, Gated, HubOptions, RepoKind, Rights};

fn start() -> FakeHub {
    let hub = FakeHub::with(HubOptions::default()).unwrap();
    hub.token("hf_read", "bob", Rights::Read);
    hub
}

fn sinew(desk: &Desk, endpoint: &str, args: &[&str]) -> Command {
    let mut command = desk.sinew(args);
    for name in ["HF_HUB_OFFLINE", "HF_TOKEN", "HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy"] {
        command.env_remove(name);
    }
    command.env("HF_ENDPOINT", endpoint);
    command
}

/// The one line of an error.
#[track_caller]
fn error(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr).trim_end().to_owned();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.starts_with("error: ") && text.lines().count() == 1, "{text}");
    text
}

#[test]
fn a_dead_proxy_is_named_without_its_password() {
    let desk = Desk::new();
    for (endpoint, variable) in
        [("https://hub.invalid", "HTTPS_PROXY"), ("http://hub.invalid", "HTTP_PROXY"), ("http://hub.invalid", "ALL_PROXY")]
    {
        let mut command = sinew(&desk, endpoint, &["hub", "info", "a/b", "--type", "model"]);
        let text = error(&command.env(variable, "http://ada:s3cr3t@127.0.0.1:9").output().unwrap());
        contains_all(&text, &[endpoint, "can't be reached (by the proxy http://127.0.0.1:9: "]);
        assert!(!text.contains("s3cr3t") && !text.contains("ada"), "{text}");
    }
    // One that is not asked is not named.
    let hub = start();
    let mut command = sinew(&desk, "http://127.0.0.1:9", &["hub", "info", "a/b"]);
    let text = error(&command.env("HTTP_PROXY", hub.endpoint()).env("NO_PROXY", "127.0.0.1").output().unwrap());
    assert!(text.contains("can't be reached") && !text.contains("proxy"), "{text}");
}

#[test]
fn without_a_network_there_is_one_line() {
    let desk = Desk::new();
    for args in [&["hub", "info", "a/b"][..], &["hub", "download", "a/b"], &["hub", "search", "act"], &["hub", "card", "a/b"]] {
        let text = error(&sinew(&desk, "http://ada:s3cr3t@127.0.0.1:9", args).output().unwrap());
        assert!(text.contains("http://127.0.0.1:9 can't be reached") && !text.contains("s3cr3t"), "{text}");
    }
}

#[test]
fn who_may_not_see_a_repository_is_told_what_to_do() {
    let (desk, hub) = (Desk::new(), start());
    hub.add(RepoKind::Dataset, "ada/private").private(true).commit(&[("meta/info.json", b"{}")]);
    hub.add(RepoKind::Model, "ada/gated").gated(Gated::Manual).commit(&[("config.json", b"{}")]);
    for verb in ["info", "download"] {
        let mut command = sinew(&desk, &hub.endpoint(), &["hub", verb, "ada/private"]);
        contains_all(
            &error(&command.output().unwrap()),
            &["or it is private and no token was sent: run `sinew hub login`, or set HF_TOKEN"],
        );
        contains_all(&error(&command.env("HF_TOKEN", "hf_read").output().unwrap()), &["or it is private and the token that was sent"]);
    }
    let page = format!("{}/ada/gated", hub.endpoint());
    let info = sinew(&desk, &hub.endpoint(), &["hub", "info", "ada/gated"]).output().unwrap();
    contains_all(&String::from_utf8_lossy(&info.stdout), &[&format!("gated: ask for access at {page}")]);
    let mut command = sinew(&desk, &hub.endpoint(), &["hub", "download", "ada/gated"]);
    let text = String::from_utf8_lossy(&command.output().unwrap().stderr).into_owned();
    contains_all(&text, &["no token was sent: run `sinew hub login`, or set HF_TOKEN", &page]);
}

#[test]
fn copies_of_which_nothing_is_known_are_not_said_to_be_whole() {
    let (desk, hub) = (Desk::new(), start());
    hub.add(RepoKind::Model, "ada/act").commit(&[("config.json", b"{}")]);
    let out = sinew(&desk, &hub.endpoint(), &["hub", "download", "ada/act", "--json"]).output().unwrap();
    let told: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    let file = std::path::Path::new(told["folder"].as_str().unwrap()).join("config.json");
    let blob = file.canonicalize().unwrap();
    std::fs::remove_file(&file).unwrap();
    std::fs::rename(blob, &file).unwrap();
    let verify = |endpoint: &str| sinew(&desk, endpoint, &["hub", "cache", "verify"]).output().unwrap();
    let output = verify(&hub.endpoint());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    let output = verify("http://127.0.0.1:9");
    assert_eq!(output.status.code(), Some(1));
    contains_all(&String::from_utf8_lossy(&output.stdout), &["config.json: ", "can't be reached", "0 flaws, 1 file not verified"]);
    std::fs::write(&file, "{]").unwrap();
    contains_all(&String::from_utf8_lossy(&verify(&hub.endpoint()).stdout), &["config.json: its content has the hash", "1 flaw"]);
}

#[test]
fn the_licence_of_a_base_counts() {
    let (desk, hub) = (Desk::new(), start());
    hub.add(RepoKind::Model, "ada/base").commit(&[("README.md", b"---\nlicense: cc-by-nc-4.0\n---\n")]);
    let adapter = b"---\nlicense: mit\nbase_model: ada/base\ntags:\n- base_model:adapter:ada/base\n---\n";
    hub.add(RepoKind::Model, "ada/adapter").commit(&[("README.md", adapter)]);
    let output = sinew(&desk, &hub.endpoint(), &["hub", "info", "ada/adapter", "--json"]).output().unwrap();
    let told: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&told["licence"], &told["commercial_use"]), (&"mit".into(), &false.into()), "{told}");
    let output = sinew(&desk, &hub.endpoint(), &["hub", "info", "ada/adapter"]).output().unwrap();
    contains_all(&String::from_utf8_lossy(&output.stdout), &["cc-by-nc-4.0: not for commercial use (says the card of its base ada/base)"]);
    // A policy that runs here: what its card and its configuration say holds, both.
    let policy = desk.policy("policy");
    let args = ["policy", "bench", "./policy", "--repeat", "1", "--commercial"];
    let run = |args: &[&str]| desk.run(args);
    let output = run(&args);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let card = std::fs::read_to_string(demo_policy().join("README.md")).unwrap();
    std::fs::write(policy.join("README.md"), card.replacen("license: apache-2.0", "license: other\nlicense_name: mine-nc", 1)).unwrap();
    contains_all(&error(&run(&args)), &["with --commercial", "other (mine-nc): not for commercial use"]);
    std::fs::write(policy.join("README.md"), "").unwrap();
    assert!(run(&args).status.success(), "what the configuration states holds alone");
    let config = std::fs::read_to_string(policy.join("config.json")).unwrap();
    let stating = |licence: &str| std::fs::write(policy.join("config.json"), config.replacen("\"apache-2.0\"", licence, 1)).unwrap();
    stating("\"cc-by-nc-4.0\"");
    contains_all(&error(&run(&args)), &["with --commercial", "cc-by-nc-4.0"]);
    stating("null");
    contains_all(&error(&run(&args)), &["with --commercial", "not stated: ask its owner"]);
    // YAML has many forms; one that nobody understands allows nothing.
    stating("\"apache-2.0\"");
    let odd = "not stated: ask its owner before you use it commercially (says its card, which can't be understood)";
    for (card, words) in [
        ("---\nlicense:\n  cc-by-nc-4.0\n---\n", "cc-by-nc-4.0: not for commercial use (says its card)"),
        ("\n---\n\"license\" : cc-by-nc-4.0\n---\n", "cc-by-nc-4.0: not for commercial use (says its card)"),
        ("---\n{license: cc-by-nc-4.0}\n---\n", "cc-by-nc-4.0: not for commercial use (says its card)"),
        ("---\nlicense: [cc-by-nc-4.0\n---\n", odd),
    ] {
        std::fs::write(policy.join("README.md"), card).unwrap();
        contains_all(&error(&run(&args)), &["with --commercial", words]);
    }
}

#[test]
fn the_licence_of_a_configuration_counts_on_the_hub() {
    let (desk, hub) = (Desk::new(), start());
    let card = b"---\nlicense: mit\nbase_model: ada/base\ntags:\n- base_model:adapter:ada/base\n---\n";
    hub.add(RepoKind::Model, "ada/base").commit(&[("README.md", b"---\nlicense: mit\n---\n")]);
    hub.add(RepoKind::Model, "ada/adapter").commit(&[("README.md", card)]);
    let may = || {
        let output = sinew(&desk, &hub.endpoint(), &["hub", "info", "ada/adapter", "--json"]).output().unwrap();
        serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap()["commercial_use"].as_bool()
    };
    assert_eq!(may(), Some(true));
    for repo in ["ada/adapter", "ada/base"] {
        for (config, allowed) in [
            (r#"{"license": "apache-2.0"}"#, Some(true)),
            (r#"{"license": null}"#, Some(true)),
            (r#"{"license": "cc-by-nc-4.0"}"#, Some(false)),
            (r#"{"license": ["cc-by-nc-4.0"]}"#, Some(false)),
            ("{", None),
        ] {
            hub.repo(RepoKind::Model, repo).commit(&[("config.json", config.as_bytes())]);
            assert_eq!(may(), allowed, "{repo} {config}");
        }
        hub.repo(RepoKind::Model, repo).commit_on("main", &[], &["config.json"]);
    }
}

#[test]
fn the_cache_is_asked_for_what_it_has() {
    let (desk, hub) = (Desk::new(), start());
    hub.add(RepoKind::Model, "ada/act").commit(&[("config.json", b"{}")]);
    let run = |args: &[&str]| sinew(&desk, &hub.endpoint(), &[&["hub"], args].concat()).output().unwrap();
    assert!(run(&["download", "ada/act"]).status.success());
    for verb in ["verify", "prune"] {
        contains_all(
            &error(&run(&["cache", verb, "ada/act@main"])),
            &["ada/act@main", "expected a whole repository, ada/act, found a revision"],
        );
        contains_all(&error(&run(&["cache", verb, "ada/pi"])), &["the model ada/pi", "it is not there; there are the model ada/act"]);
        contains_all(&error(&run(&["cache", verb, "ada/act", "--type", "dataset"])), &["it is not there; there is the model ada/act"]);
    }
    let offline = sinew(&desk, &hub.endpoint(), &["hub", "cache", "verify"]).env("HF_HUB_OFFLINE", "1").output().unwrap();
    assert!(offline.status.success());
    let text = String::from_utf8_lossy(&offline.stderr).into_owned();
    contains_all(&text, &["was not compared with the Hub for 1 commit: HF_HUB_OFFLINE or --offline is set"]);
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(run(&["cache", "prune", "ada/act", "--yes"]).status.success());
    contains_all(&error(&run(&["cache", "verify", "ada/act"])), &["it is not there; nothing is there"]);
}

#[cfg(unix)]
/// Needs a system that lets its users mount in a space of their own.
#[cfg(target_os = "linux")]
#[test]
fn on_a_full_disk_a_download_says_what_it_needs_and_goes_on_when_there_is_room() {
    let (desk, hub) = (Desk::new(), start());
    let weights: Vec<u8> = (0..3_000_000_u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    hub.add(RepoKind::Model, "ada/large").commit(&[("config.json", br#"{"type": "act"}"#), ("model.safetensors", &weights)]);
    let expected = desk.path("expected");
    std::fs::write(&expected, &weights).unwrap();
    for is_cache in [false, true] {
        let disk = desk.path(if is_cache { "cache-disk" } else { "out-disk" });
        std::fs::create_dir(&disk).unwrap();
        let args: &[&str] = if is_cache { &[] } else { &["--out", "there"] };
        let said = desk.path("said");
        // The disk is there for these programs alone, and gone after them.
        let script = format!(
            r#"mount -t tmpfs -o size=4m none {disk} 2>/dev/null || exit 77
            cd {disk} && head -c 2000000 /dev/zero >filler || exit 78
            "$0" "$@" 2>{said} && exit 79
            rm filler; "$0" "$@" >/dev/null 2>&1 || exit 80
            find . -name model.safetensors -exec cat {{}} + | cmp - {expected}"#,
            disk = disk.display(),
            said = said.display(),
            expected = expected.display()
        );
        let command = sinew(&desk, &hub.endpoint(), &[]);
        let mut inside = Command::new("unshare");
        inside
            .args(["-rUm", "sh", "-c", &script])
            .arg(command.get_program())
            .args(["hub", "download", "ada/large", "--type", "policy"])
            .args(args);
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => inside.env(name, value),
                None => inside.env_remove(name),
            };
        }
        if is_cache {
            inside.env("HF_HOME", disk.join("hf"));
        }
        let Ok(done) = inside.output() else { return eprintln!("there is no unshare here") };
        if done.status.code() == Some(77) || done.status.code() == Some(1) && !said.exists() {
            return eprintln!("no disk can be mounted here");
        }
        assert!(done.status.success(), "{done:?}");
        let text = std::fs::read_to_string(&said).unwrap();
        contains_all(&text, &["ada/large", "model.safetensors", "the disk is full; make room there"]);
        std::fs::remove_file(&said).unwrap();
    }
}

#[test]
fn a_card_is_not_written_through_a_link() {
    let desk = Desk::new();
    let policy = desk.policy("policy");
    let (card, elsewhere) = (policy.join("README.md"), policy.join("elsewhere"));
    std::fs::write(&elsewhere, "of another").unwrap();
    std::fs::remove_file(&card).unwrap();
    std::os::unix::fs::symlink("elsewhere", &card).unwrap();
    contains_all(&error(&desk.run(&["hub", "card", "--write", "./policy", "--force"])), &["README.md: it is a link"]);
    assert_eq!(std::fs::read_to_string(&elsewhere).unwrap(), "of another");
    std::fs::remove_file(&card).unwrap();
    assert!(desk.run(&["hub", "card", "--write", "./policy"]).status.success());
}

#[cfg(target_os = "linux")]
#[test]
fn a_signal_at_the_hidden_question_gives_the_terminal_back() {
    use common::pty::{Terminal, signal};
    let (desk, hub) = (Desk::new(), start());
    for (name, code) in [("TERM", 143), ("INT", 130)] {
        let mut terminal = Terminal::run(&sinew(&desk, &hub.endpoint(), &["hub", "login"]), None);
        terminal.heard.wait_for("Token:", 1);
        assert!(terminal.is_hidden());
        signal(&terminal.child, name);
        let (found, text) = terminal.end();
        assert!(found == Some(code) && terminal.is_usual(), "{name}: {found:?}: {text}");
    }
    let mut terminal = Terminal::run(&sinew(&desk, &hub.endpoint(), &["hub", "login"]), None);
    terminal.heard.wait_for("Token:", 1);
    terminal.press("\x03");
    let (found, text) = terminal.end();
    assert!(found == Some(130) && terminal.is_usual(), "{found:?}: {text}");
}

#[cfg(target_os = "linux")]
#[test]
fn an_upload_that_is_stopped_says_how_to_go_on() {
    use common::pty::{Heard, exit_code, signal, with_usual_signals};
    let (desk, hub) = (Desk::new(), start());
    hub.token("hf_write", "bob", Rights::Write);
    std::fs::create_dir(desk.path("page")).unwrap();
    std::fs::write(desk.path("page/index.html"), "<p>").unwrap();
    std::fs::write(desk.path("page/large.bin"), vec![7; 12_000_000]).unwrap();
    for name in ["INT", "TERM"] {
        let args = ["hub", "upload", "page", "bob/page", "--limit", "1"];
        let mut command = with_usual_signals(sinew(&desk, &hub.endpoint(), &args).env("HF_TOKEN", "hf_write"), &[]);
        let mut child = command.stderr(std::process::Stdio::piped()).spawn().unwrap();
        let heard = Heard::listen(child.stderr.take().unwrap());
        common::wait_ms(1000);
        signal(&child, name);
        assert_eq!(exit_code(&mut child, &heard), None, "{}", heard.text());
        assert!(heard.text().contains("\nstopped; the same command goes on from here\n"), "{}", heard.text());
    }
    let mut command = sinew(&desk, &hub.endpoint(), &["hub", "upload", "page", "bob/page"]);
    assert!(command.env("HF_TOKEN", "hf_write").status().unwrap().success());
}

/// A picture as far as its first bytes.
fn png(content: &str) -> Vec<u8> {
    [b"\x89PNG\r\n\x1a\n", content.as_bytes()].concat()
}

#[test]
fn a_page_takes_the_place_of_one_of_the_same_making_alone() {
    let (desk, other, hub) = (Desk::new(), Desk::new(), start());
    hub.token("hf_write", "ada", Rights::Write);
    let publish_from = |desk: &Desk, content: &str, space: &str, more: &[&str]| {
        let shot = desk.path("shot.png");
        std::fs::write(&shot, png(content)).unwrap();
        let words = [&["hub", "publish-space", shot.to_str().unwrap(), space], more].concat();
        sinew(desk, &hub.endpoint(), &words).env("HF_TOKEN", "hf_write").output().unwrap()
    };
    let publish = |content: &str, space: &str| publish_from(&desk, content, space, &[]);
    for content in ["one", "two"] {
        let output = publish(content, "ada/page");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(hub.file(RepoKind::Space, "ada/page", "main", "evaluation.png").as_deref(), Some(png(content).as_slice()));
    }
    std::fs::write(desk.path("no.png"), "no picture").unwrap();
    contains_all(
        &error(
            &sinew(&desk, &hub.endpoint(), &["hub", "publish-space", "no.png", "ada/page"]).env("HF_TOKEN", "hf_write").output().unwrap(),
        ),
        &["no.png", "not a PNG"],
    );
    hub.add(RepoKind::Space, "ada/mine").commit(&[("README.md", b"---\ntags:\n- demo\n---\n"), ("index.html", b"by hand")]);
    contains_all(&error(&publish("three", "ada/mine")), &["ada/mine", "did not make", "another name"]);
    assert_eq!(hub.file(RepoKind::Space, "ada/mine", "main", "index.html").as_deref(), Some(b"by hand".as_slice()));

    // Another commit since, by hand or by this program on another machine, is named and stays.
    let theirs = hub.repo(RepoKind::Space, "ada/page").commit(&[("index.html", b"by eve")]);
    contains_all(&error(&publish("four", "ada/page")), &["changed meanwhile", "--parent", &theirs]);
    contains_all(&error(&publish_from(&other, "five", "ada/page", &[])), &["another one here", "--parent", &theirs]);
    assert_eq!(hub.file(RepoKind::Space, "ada/page", "main", "index.html").as_deref(), Some(b"by eve".as_slice()));
    assert!(publish_from(&other, "five", "ada/page", &["--parent", &theirs]).status.success());
    assert_eq!(hub.file(RepoKind::Space, "ada/page", "main", "evaluation.png").as_deref(), Some(png("five").as_slice()));
    assert!(publish_from(&other, "six", "ada/page", &[]).status.success());
}

#[test]
fn a_page_is_made_by_one_process_and_takes_what_it_showed_away() {
    let (desk, hub) = (Desk::new(), start());
    hub.token("hf_write", "ada", Rights::Write);
    let publish = |source: &str, more: &[&str]| {
        let words = [&["hub", "publish-space", source, "ada/page"], more].concat();
        sinew(&desk, &hub.endpoint(), &words).env("HF_TOKEN", "hf_write").output().unwrap()
    };
    std::fs::write(desk.path("shot.png"), png("one")).unwrap();
    std::fs::write(desk.path("run.rrd"), "RRF2 of a run").unwrap();
    assert!(publish("shot.png", &[]).status.success());
    let spaces = std::fs::read_dir(desk.path(".cache/sinew/spaces")).unwrap().next().unwrap().unwrap().path();
    let lock = std::fs::File::options().write(true).open(spaces.join("ada--page.lock")).unwrap();
    lock.lock().unwrap();
    contains_all(&error(&publish("run.rrd", &[])), &["the Space ada/page", "another `sinew hub publish-space`"]);
    drop(lock);
    assert_eq!(publish("run.rrd", &["--results", "shot.png"]).status.code(), Some(2));
    let output = publish("run.rrd", &[]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(hub.file(RepoKind::Space, "ada/page", "main", "recording.rrd").is_some());
    assert_eq!(hub.file(RepoKind::Space, "ada/page", "main", "evaluation.png"), None);
}

#[test]
fn a_card_that_can_not_be_read_is_not_written_over() {
    let desk = Desk::new();
    let policy = desk.policy("policy");
    std::fs::write(policy.join("README.md"), b"caf\xe9").unwrap();
    for more in [&[][..], &["--force"]] {
        let words = [&["hub", "card", "policy", "--write", "--licence", "mit"], more].concat();
        contains_all(&desk.error(&words), &["README.md", "no UTF-8"]);
    }
    assert_eq!(std::fs::read(policy.join("README.md")).unwrap(), b"caf\xe9");
    // A pipe would be waited for.
    std::fs::remove_file(policy.join("README.md")).unwrap();
    assert!(Command::new("mkfifo").arg(policy.join("README.md")).status().unwrap().success());
    contains_all(&desk.error(&["hub", "card", "policy", "--write"]), &["README.md", "expected a file"]);
    contains_all(&desk.error(&["hub", "card", "./policy"]), &["README.md", "expected a file"]);
    assert!(Command::new("mkfifo").arg(desk.path("shot.png")).status().unwrap().success());
    contains_all(
        &error(&sinew(&desk, "http://127.0.0.1:9", &["hub", "publish-space", "shot.png", "a/b"]).output().unwrap()),
        &["expected a file"],
    );
}

#[test]
fn what_is_damaged_does_not_go_up() {
    let (desk, hub) = (Desk::new(), start());
    hub.token("hf_write", "ada", Rights::Write);
    let upload = |folder: &str, more: &[&str]| {
        let words = [&["hub", "upload", folder, "ada/x"], more].concat();
        sinew(&desk, &hub.endpoint(), &words).env("HF_TOKEN", "hf_write").output().unwrap()
    };
    let refused = |folder: &str, told: &[&str]| {
        contains_all(&error(&upload(folder, &[])), told);
        assert!(!hub.requests().iter().any(|request| request.method == "POST"), "{told:?}");
    };
    desk.policy("whole");
    for (at, (file, bytes, told)) in [
        ("model.safetensors", Some(1_000_000), "it has 1000000 bytes, expected"),
        ("model.safetensors", Some(5), "its head is longer"),
        ("model.safetensors", None, "there are no weights"),
        ("config.json", Some(1), "config.json: it is no JSON"),
        ("policy_preprocessor.json", None, "there is no policy_preprocessor.json"),
        ("policy_preprocessor_step_3_normalizer_processor.safetensors", None, "whose statistics policy_preprocessor.json names"),
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("policy{at}");
        spoil(&desk.policy(&name).join(file), bytes);
        refused(&name, &["the policy is damaged", file, told, "bring the file again"]);
    }
    let scene = ["record", "--sim", "--teleop", "scripted", "--task", "reach", "--episodes", "1", "--out", "ds"];
    desk.ok(&scene);
    let videos = files(&desk.path("ds")).into_keys().filter(|path| path.ends_with(".mp4") || path.starts_with("data/")).collect::<Vec<_>>();
    assert!(videos.len() > 1, "{videos:?}");
    for path in videos {
        for bytes in [None, Some(100)] {
            let whole = std::fs::read(desk.path("ds").join(&path)).unwrap();
            spoil(&desk.path("ds").join(&path), bytes);
            refused("ds", &["it is damaged", &path, "sinew dataset verify ds", "sinew dataset repair ds"]);
            std::fs::write(desk.path("ds").join(&path), whole).unwrap();
        }
    }
    for (folder, kind) in [("whole", RepoKind::Model), ("ds", RepoKind::Dataset)] {
        let output = upload(folder, &[]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert!(hub.commit_of(kind, "ada/x", "main").is_some());
    }
    // One file that is whole goes up from a folder that is not.
    std::fs::remove_file(desk.path("whole/model.safetensors")).unwrap();
    assert!(upload("whole", &["--include", "README.md"]).status.success());
}

/// Cuts a file, or takes it away.
fn spoil(path: &std::path::Path, bytes: Option<u64>) {
    match bytes {
        Some(bytes) => std::fs::File::options().write(true).open(path).unwrap().set_len(bytes).unwrap(),
        None => std::fs::remove_file(path).unwrap(),
    }
}

#[test]
fn without_the_hub_a_folder_is_filled_from_the_cache_and_the_card_is_read() {
    let (desk, hub) = (Desk::new(), start());
    hub.add(RepoKind::Model, "ada/act").commit(&[("config.json", b"{}"), ("README.md", b"# Of the cache\n"), ("model.safetensors", b"x")]);
    let ok = |endpoint: &str, args: &[&str]| {
        let output = sinew(&desk, endpoint, args).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap())
    };
    let [out, _] = ok(&hub.endpoint(), &["hub", "download", "ada/act", "--type", "policy"]);
    contains_all(&out, &["4 files, ", "; 4 fetched and verified: "]);
    let gone = "http://127.0.0.1:9";
    let [out, told] = ok(gone, &["--offline", "hub", "download", "ada/act", "--type", "policy", "--out", "copy"]);
    contains_all(&out, &["4 files, ", "; 4 copied from the cache and verified", ": copy"]);
    contains_all(&told, &["from the cache, as HF_HUB_OFFLINE or --offline is set"]);
    assert_eq!(std::fs::read_to_string(desk.path("copy/README.md")).unwrap(), "# Of the cache\n");
    let [out, _] = ok(gone, &["--offline", "hub", "card", "ada/act"]);
    assert_eq!(out, "# Of the cache\n");
    let [out, told] = ok(gone, &["hub", "card", "ada/act", "--json"]);
    assert!(out.contains("# Of the cache") && told.contains("from the cache, as http://127.0.0.1:9 can't be reached"), "{out}{told}");
}

#[test]
fn a_command_line_that_makes_no_sense_is_told_by_its_code() {
    let (desk, hub) = (Desk::new(), start());
    hub.add(RepoKind::Model, "ada/act").commit(&[("config.json", b"{}")]);
    std::fs::create_dir_all(desk.path("folder")).unwrap();
    std::fs::write(desk.path("folder/config.json"), "{}").unwrap();
    for args in [
        &["hub", "download", "ada/act", "--type", "policy", "--include", "a[b"][..],
        &["hub", "upload", "folder", "ada/act", "--exclude", "{a"],
        &["hub", "download", "ada/act/x"],
        &["hub", "card", ""],
        &["policy", "check", ""],
        &["dataset", "info", "~nobody/else"],
        &["hub", "card", "--write", "folder", "--licence", "two words"],
    ] {
        let output = sinew(&desk, &hub.endpoint(), args).env("HF_TOKEN", "hf_read").output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    // What may be the path of a folder that is not there does make sense.
    assert_eq!(desk.run(&["dataset", "info", "ada/a/b"]).status.code(), Some(1));
    // Options as JSON where that is asked for.
    let text = desk.ok(&["hub", "cache", "list", "--json", "--explain"]);
    let json: serde_json::Value = serde_json::from_str(text.trim()).unwrap();
    let options = json["options"].as_array().unwrap();
    assert!(options.iter().any(|it| it["option"] == "--json" && it["value"] == "yes" && it["from"] == "the command line"), "{text}");
}

/// What a crate logs reaches whoever set nothing as a sentence, once.
#[test]
fn a_warning_is_in_the_words_of_the_program() {
    let desk = Desk::new();
    let root = desk.path("hub-cache");
    std::fs::create_dir_all(&root).unwrap();
    std::fs::write(root.join("models--ada--act"), "no folder").unwrap();
    let list = |log: &str| {
        let mut command = sinew(&desk, "http://127.0.0.1:9", &["hub", "cache", "prune", "--yes"]);
        let output = command.env("HF_HUB_CACHE", &root).env("SINEW_LOG", log).output().unwrap();
        String::from_utf8(output.stderr).unwrap()
    };
    let mut command = sinew(&desk, "http://127.0.0.1:9", &["hub", "cache", "prune", "--yes"]);
    let told = String::from_utf8(command.env("HF_HUB_CACHE", &root).output().unwrap().stderr).unwrap();
    let path = root.join("models--ada--act");
    assert_eq!(told, format!("warning: {}: it has the name of a repository, and is no folder; passed over\n", path.display()));
    assert!(list("warn").contains(" WARN sinew_hub::stock: "));
}
