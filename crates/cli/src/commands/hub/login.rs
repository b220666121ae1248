//! `sinew hub login`, `logout` and `whoami`.

use std::io::{IsTerminal, Read};
use std::path::Path;

use anyhow::Context;
use serde_json::json;
use sinew_hub::{Account, Hub, Token};

use crate::Done;
use crate::args::LoginArgs;
use crate::text::{self, say};
use crate::watch::Watch;

/// Names the OAuth application that a login by a browser is for.
const CLIENT_ID: &str = "HF_DEVICE_CODE_OAUTH_CLIENT_ID";

pub fn run(args: &LoginArgs) -> anyhow::Result<Done> {
    let hub = Hub::from_env();
    let token = match &args.token_from {
        _ if args.browser => from_browser(&hub)?,
        Some(path) => Ok(from_file(path)?),
        None => from_keyboard(&hub)?,
    };
    let token = match token {
        Ok(token) => token,
        Err(ended) => return Ok(ended),
    };
    // A token that the Hub doesn't know is not stored.
    let account = hub.whoami(Some(&token)).context("checking the token; it was not stored")?;
    hub.store_token(&token)?;
    let path = hub.options().token_path.clone();
    if args.json {
        text::print_json(&with_path(&account, &path))?;
    } else {
        say!("{}", describe(&account));
        say!("stored    {}", path.display());
        if std::env::var_os("HF_TOKEN").is_some() {
            say!("note      HF_TOKEN is set, and goes before the stored token");
        }
    }
    Ok(Done::Ok)
}

pub fn logout(json: bool) -> anyhow::Result<Done> {
    let hub = Hub::from_env();
    let was_there = hub.forget_token()?;
    let path = hub.options().token_path.display().to_string();
    if json {
        text::print_json(&json!({ "removed": was_there, "token_path": path }))?;
    } else if was_there {
        say!("removed   {path}");
    } else {
        say!("no token is stored in {path}");
    }
    if std::env::var_os("HF_TOKEN").is_some() {
        text::note!("HF_TOKEN is still set");
    }
    Ok(Done::Ok)
}

pub fn whoami(json: bool) -> anyhow::Result<Done> {
    let hub = Hub::from_env();
    hub.needs_token("asking whose token it is")?;
    let account = hub.whoami(None)?;
    if json {
        text::print_json(&account)?;
    } else {
        say!("{}", describe(&account));
    }
    Ok(Done::Ok)
}

fn with_path(account: &Account, path: &Path) -> serde_json::Value {
    json!({ "name": account.name, "organisations": account.organisations, "rights": account.rights, "token_path": path })
}

fn describe(account: &Account) -> String {
    let mut lines = vec![format!("user      {}", text::in_line(&account.name))];
    if !account.organisations.is_empty() {
        lines.push(format!("member of {}", text::in_line(&account.organisations.join(", "))));
    }
    lines.extend(account.rights.as_ref().map(|rights| format!("token     {}", text::in_line(rights))));
    lines.join("\n")
}

fn from_file(path: &Path) -> anyhow::Result<Token> {
    let mut text = String::new();
    let read = if path == Path::new("-") {
        std::io::stdin().lock().take(4096).read_to_string(&mut text)
    } else {
        std::fs::File::open(path).and_then(|file| file.take(4096).read_to_string(&mut text))
    };
    read.with_context(|| format!("reading the token from {}", path.display()))?;
    Token::new(&text).with_context(|| format!("reading the token from {}: it is empty", path.display()))
}

/// The token that is typed, or what a signal ended the question with.
fn from_keyboard(hub: &Hub) -> anyhow::Result<Result<Token, Done>> {
    anyhow::ensure!(
        std::io::stdin().is_terminal(),
        "logging in: nobody is there to type a token; use --token-from FILE, or - for standard input"
    );
    text::note!("Make a token at {}/settings/tokens and paste it here. What you type is not shown.", hub.options().endpoint);
    let watch = Watch::start()?;
    let Some(text) = watch.secret("Token:")? else { return Ok(Err(watch.ended())) };
    Token::new(&text).map(Ok).context("logging in: no token was typed")
}

fn from_browser(hub: &Hub) -> anyhow::Result<Result<Token, Done>> {
    let id = std::env::var(CLIENT_ID).ok().filter(|id| !id.is_empty());
    let id = id.with_context(|| {
        format!("logging in by a browser: it is for an OAuth application of the Hub; set {CLIENT_ID} to the id of yours, or paste a token without --browser")
    })?;
    let login = hub.begin_device_login(&id)?;
    let page = login.verification_uri_complete.as_ref().unwrap_or(&login.verification_uri);
    text::note!("Open {} in a browser, on any machine, and enter the code {}", text::in_line(page), text::in_line(&login.user_code));
    let stop = sinew_runtime::StopFlag::new();
    stop.escalate_on_signals().context("listening for Ctrl-C")?;
    match hub.finish_device_login(&login, || !stop.is_requested()) {
        Err(_) if stop.was_terminated() => Ok(Err(Done::Terminated)),
        Err(_) if stop.is_requested() => Ok(Err(Done::Interrupted)),
        token => Ok(Ok(token?)),
    }
}
