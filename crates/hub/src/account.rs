//! Who asks: logging in, logging out, and what a token may do.

use std::fs;
use std::io;
use std::time::{Duration, Instant};

use reqwest::Method;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use serde::{Deserialize, Serialize};

use crate::cache::{read_small, write_secret};
use crate::http::Ask;
use crate::{Hub, HubError, Token};

/// The owner of a token.
#[derive(Clone, Debug, Serialize)]
pub struct Account {
    pub name: String,
    /// Organisations that the user belongs to.
    pub organisations: Vec<String>,
    /// `read`, `write`, `fineGrained` or `oauth`; `None` where the Hub doesn't say.
    pub rights: Option<String>,
}

/// A login that waits for its user to say yes in a browser.
#[derive(Clone, Debug, Deserialize)]
pub struct DeviceLogin {
    /// What the user types on the page.
    pub user_code: String,
    /// The page.
    pub verification_uri: String,
    /// The same page with the code in its address, where the Hub offers it.
    pub verification_uri_complete: Option<String>,
    device_code: String,
    /// Seconds between two questions; the RFC says 5 where nothing is said.
    #[serde(default = "five")]
    interval: u64,
    #[serde(default = "quarter_of_an_hour")]
    expires_in: u64,
    #[serde(skip)]
    client_id: String,
}

fn five() -> u64 {
    5
}

fn quarter_of_an_hour() -> u64 {
    900
}

impl Hub {
    /// Whose token is sent, or another token that is tried.
    ///
    /// # Errors
    /// When there is none, the Hub doesn't know it, or can't be reached.
    pub fn whoami(&self, token: Option<&Token>) -> Result<Account, HubError> {
        #[derive(Deserialize)]
        struct Answer {
            name: String,
            #[serde(default)]
            orgs: Vec<Org>,
            auth: Option<Auth>,
        }
        #[derive(Deserialize)]
        struct Org {
            name: String,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Auth {
            #[serde(rename = "type")]
            kind: Option<String>,
            access_token: Option<AccessToken>,
        }
        #[derive(Deserialize)]
        struct AccessToken {
            role: Option<String>,
        }
        let doing = "asking whose token it is";
        self.needs_network(doing)?;
        let http = self.http()?;
        let mut ask = Ask::get(http.url(["api", "whoami-v2"])?, doing);
        if let Some(token) = token {
            ask = ask.header(AUTHORIZATION, bearer(token)?);
        }
        let answer: Answer = self.wait(http.json(&ask))??;
        let rights = answer.auth.and_then(|auth| auth.access_token.and_then(|token| token.role).or(auth.kind));
        Ok(Account { name: answer.name, organisations: answer.orgs.into_iter().map(|org| org.name).collect(), rights })
    }

    /// Begins a login by a browser (RFC 8628) for the OAuth application `client_id`.
    ///
    /// # Errors
    /// When the Hub offers no such login, or can't be reached.
    pub fn begin_device_login(&self, client_id: &str) -> Result<DeviceLogin, HubError> {
        let form = [("client_id", client_id)];
        let login: DeviceLogin = self.form("device", "beginning a login by a browser", &form)?.map_err(|said| self.refused(said))?;
        Ok(DeviceLogin { client_id: client_id.to_owned(), ..login })
    }

    /// Waits until the user has said yes or no in the browser. `may_wait` is asked before each question.
    ///
    /// # Errors
    /// When he said no, or nothing in time.
    pub fn finish_device_login(&self, login: &DeviceLogin, mut may_wait: impl FnMut() -> bool) -> Result<Token, HubError> {
        #[derive(Deserialize)]
        struct Answer {
            access_token: String,
        }
        let end = Instant::now() + Duration::from_secs(login.expires_in);
        let mut pause = Duration::from_secs(login.interval.clamp(1, 60));
        let form = [
            ("client_id", login.client_id.as_str()),
            ("device_code", &login.device_code),
            ("grant_type", "urn:ietf:params:oauth:grant-type:device_code"),
        ];
        while Instant::now() < end && may_wait() {
            std::thread::sleep(pause);
            match self.form::<Answer>("token", "waiting for the login in the browser", &form) {
                Ok(Ok(answer)) => return Token::new(&answer.access_token).ok_or_else(|| self.refused("an empty token".into())),
                Ok(Err(said)) if said == "authorization_pending" => {}
                Ok(Err(said)) if said == "slow_down" => pause += Duration::from_secs(5),
                Ok(Err(said)) => return Err(self.refused(said)),
                // The RFC advises to go on asking where the answer says nothing.
                Err(HubError::Broken { .. } | HubError::Unreachable { .. } | HubError::Server { .. }) => {}
                Err(other) => return Err(other),
            }
        }
        Err(self.refused("nobody said yes in time".into()))
    }

    fn refused(&self, what: String) -> HubError {
        HubError::Server { doing: "logging in by a browser".into(), host: self.options().endpoint.clone(), what }
    }

    /// Asks one of the two routes of a device login: its answer, or the error that it names.
    fn form<T: serde::de::DeserializeOwned>(&self, route: &str, doing: &str, form: &[(&str, &str)]) -> Result<Result<T, String>, HubError> {
        #[derive(Deserialize)]
        struct Refusal {
            error: String,
        }
        self.needs_network(doing)?;
        let http = self.http()?;
        let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
        let make = move || Ok(reqwest::Body::from(body.clone()));
        let mut ask = Ask::new(Method::POST, http.url(["oauth", route])?, doing)
            .header(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"))
            .with(&make);
        ask.understands = Some(reqwest::StatusCode::BAD_REQUEST);
        let json: serde_json::Value = self.wait(http.json(&ask))??;
        match serde_json::from_value::<Refusal>(json.clone()) {
            Ok(refusal) => Ok(Err(refusal.error)),
            Err(_) => match serde_json::from_value(json) {
                Ok(answer) => Ok(Ok(answer)),
                Err(err) => Err(http.server(&ask, &ask.url, err.to_string())),
            },
        }
    }

    /// Says that there is nobody to write as, where there is no token.
    ///
    /// # Errors
    /// Then, with what to do.
    pub fn needs_token(&self, doing: impl Into<String>) -> Result<(), HubError> {
        match &self.options().token {
            Some(_) => Ok(()),
            None => {
                let path = &self.options().token_path;
                let unread = read_small(path, 4 << 10).err().filter(|err| err.kind() != io::ErrorKind::NotFound);
                let unread =
                    unread.map(|err| format!(" (the stored login in {} can't be read: {err})", path.display())).unwrap_or_default();
                let what = format!("there is no token{unread}; run `sinew hub login`, or set HF_TOKEN");
                Err(HubError::Unusable { doing: doing.into(), what })
            }
        }
    }

    /// Stores `token` where huggingface_hub looks for it, for its owner's eyes alone.
    ///
    /// # Errors
    /// When the file can't be written.
    pub fn store_token(&self, token: &Token) -> Result<(), HubError> {
        let path = &self.options().token_path;
        write_secret(path, token.secret().as_bytes()).map_err(HubError::io(format!("storing the token in {}", path.display())))
    }

    /// Removes the stored token; whether there was one.
    ///
    /// # Errors
    /// When the file can't be removed.
    pub fn forget_token(&self) -> Result<bool, HubError> {
        let path = &self.options().token_path;
        match fs::remove_file(path) {
            Ok(()) => Ok(true),
            Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(source) => Err(HubError::Io { doing: format!("removing {}", path.display()), source }),
        }
    }
}

fn bearer(token: &Token) -> Result<HeaderValue, HubError> {
    let what = "it holds characters that no token has".to_owned();
    token.bearer().ok_or_else(|| HubError::Unusable { doing: "sending a token".into(), what })
}
