//! Where the Hub is, who asks, and where files are kept.

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use reqwest::header::HeaderValue;

use crate::cache::read_small;

/// A token of the Hub. It shows itself to nobody: its `Debug` is `Token(…)`, and it has no `Display`.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// `None` when nothing is left without white space.
    pub fn new(text: &str) -> Option<Self> {
        let text = text.trim();
        (!text.is_empty()).then(|| Self(text.to_owned()))
    }

    /// The token itself, to be sent to the Hub or stored by a login, and for nothing else.
    pub fn secret(&self) -> &str {
        &self.0
    }

    /// As a request carries it; `None` where it holds characters that no header can.
    pub(crate) fn bearer(&self) -> Option<HeaderValue> {
        let mut value = HeaderValue::try_from(format!("Bearer {}", self.0)).ok()?;
        value.set_sensitive(true);
        Some(value)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// A name and a password that a mirror asks for. It shows itself to nobody.
#[derive(Clone, PartialEq, Eq)]
pub struct EndpointLogin {
    name: String,
    password: String,
}

impl EndpointLogin {
    /// As a request carries it.
    pub(crate) fn basic(&self) -> Option<HeaderValue> {
        let mut value = HeaderValue::try_from(format!("Basic {}", self.encoded())).ok()?;
        value.set_sensitive(true);
        Some(value)
    }

    fn encoded(&self) -> String {
        data_encoding::BASE64.encode(format!("{}:{}", self.name, self.password).as_bytes())
    }

    /// What no message may hold.
    pub(crate) fn secrets(&self) -> [String; 2] {
        [self.password.clone(), self.encoded()]
    }
}

impl fmt::Debug for EndpointLogin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EndpointLogin(…)")
    }
}

/// Where the Hub is, and where its files are kept.
#[derive(Clone, Debug)]
pub struct HubOptions {
    /// `https://huggingface.co`, or a mirror. The token goes to this host alone. Told in messages, so it holds no
    /// password once [`without_login`](Self::without_login) was asked for, as [`Hub::new`](crate::Hub::new) does.
    pub endpoint: String,
    /// What goes to the endpoint in place of the token.
    pub endpoint_login: Option<EndpointLogin>,
    /// The folder that holds `models--owner--name` folders.
    pub cache_dir: PathBuf,
    /// The file that a login writes and that other programs read.
    pub token_path: PathBuf,
    pub token: Option<Token>,
    /// Answer from the cache and send nothing.
    pub offline: bool,
    /// How often a request is sent again when the server is busy or out of reach.
    pub retries: usize,
    /// How long the Hub may say nothing.
    pub timeout: Duration,
    /// Certificates to trust beside the system's, in PEM.
    pub ca_file: Option<PathBuf>,
    /// How many bytes a second an upload may send; `None` for all that the network takes.
    pub upload_limit: Option<u64>,
    /// What each thread of a transfer does first, such as giving way to a control loop.
    pub on_thread_start: Option<fn()>,
}

/// Whether nothing of this process may ask the Hub.
static STAYS_OFFLINE: AtomicBool = AtomicBool::new(false);

impl HubOptions {
    /// From here on every [`from_env`](Self::from_env) of this process is offline, as if `HF_HUB_OFFLINE` was set; for an option of a
    /// command line.
    pub fn stay_offline() {
        STAYS_OFFLINE.store(true, Ordering::Relaxed);
    }

    /// The environment's options, by the names and rules of huggingface_hub (its `constants.py`, and for certificates
    /// the variables that its HTTP clients read).
    pub fn from_env() -> Self {
        let options = Self::from_variables(|name| std::env::var_os(name), std::env::home_dir());
        Self { offline: options.offline || STAYS_OFFLINE.load(Ordering::Relaxed), ..options }
    }

    pub(crate) fn from_variables(variable: impl Fn(&str) -> Option<OsString>, home: Option<PathBuf>) -> Self {
        let set = |name: &str| variable(name).filter(|value| !value.is_empty());
        let text = |name: &str| set(name).and_then(|value| value.into_string().ok());
        let home = home.unwrap_or_else(|| PathBuf::from("."));
        let path = |name: &str| {
            let path = PathBuf::from(set(name)?);
            Some(path.strip_prefix("~").map(|rest| home.join(rest)).unwrap_or(path))
        };
        let hf_home = path("HF_HOME").unwrap_or_else(|| path("XDG_CACHE_HOME").unwrap_or_else(|| home.join(".cache")).join("huggingface"));
        let is_true = |name: &str| text(name).is_some_and(|value| ["1", "ON", "YES", "TRUE"].contains(&value.to_uppercase().as_str()));
        let token_path = path("HF_TOKEN_PATH").unwrap_or_else(|| hf_home.join("token"));
        let given = || text("HF_TOKEN").or_else(|| text("HUGGING_FACE_HUB_TOKEN")).and_then(|token| Token::new(&token));
        let stored = || stored_token(&token_path);
        let token = (!is_true("HF_HUB_DISABLE_IMPLICIT_TOKEN")).then(|| given().or_else(stored)).flatten();
        let seconds = |name: &str| text(name).and_then(|value| value.parse().ok()).filter(|seconds| *seconds > 0).map(Duration::from_secs);
        Self {
            endpoint: text("HF_ENDPOINT").unwrap_or_else(|| "https://huggingface.co".into()).trim_end_matches('/').to_owned(),
            endpoint_login: None,
            cache_dir: path("HF_HUB_CACHE").or_else(|| path("HUGGINGFACE_HUB_CACHE")).unwrap_or_else(|| hf_home.join("hub")),
            offline: is_true("HF_HUB_OFFLINE") || is_true("TRANSFORMERS_OFFLINE"),
            retries: 5,
            timeout: seconds("HF_HUB_DOWNLOAD_TIMEOUT").unwrap_or(Duration::from_secs(10)),
            // rustls reads the first one, too, and takes an empty one for a file. So does the client here, which says it.
            ca_file: variable("SSL_CERT_FILE")
                .filter(|value| value.is_empty())
                .map(PathBuf::from)
                .or_else(|| ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"].into_iter().find_map(path)),
            upload_limit: None,
            on_thread_start: None,
            token,
            token_path,
        }
        .without_login()
    }

    /// The same, with the name and the password in the endpoint's address kept apart from it: `https://name:password@host`
    /// is `https://host` for everybody who reads messages.
    #[must_use]
    pub fn without_login(mut self) -> Self {
        // By its text, since an address that can't be understood is told, too.
        let (scheme, rest) = self.endpoint.split_once("://").unwrap_or(("", &self.endpoint));
        let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        if let Some((login, host)) = authority.rsplit_once('@') {
            let decoded = |text: &str| percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned();
            let (name, password) = login.split_once(':').unwrap_or((login, ""));
            self.endpoint_login = Some(EndpointLogin { name: decoded(name), password: decoded(password) });
            self.endpoint = if scheme.is_empty() { format!("{host}{path}") } else { format!("{scheme}://{host}{path}") };
        }
        self
    }

    /// Whether an address belongs to the Hub, so that the token may go there.
    pub(crate) fn is_endpoint(&self, url: &url::Url) -> bool {
        url::Url::parse(&self.endpoint).is_ok_and(|endpoint| endpoint.origin() == url.origin())
    }
}

/// What a login stored, as a file that is no longer than a token may be.
fn stored_token(path: &Path) -> Option<Token> {
    Token::new(&String::from_utf8(read_small(path, 4 << 10).ok()?).ok()?)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn options(variables: &[(&str, &str)]) -> HubOptions {
        let lookup = |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| OsString::from(value));
        HubOptions::from_variables(lookup, Some(PathBuf::from("/home-of-user")))
    }

    fn token(options: &HubOptions) -> Option<&str> {
        options.token.as_ref().map(Token::secret)
    }

    #[test]
    fn the_cache_is_where_huggingface_hub_keeps_it() {
        let cases: [(&[(&str, &str)], &str); 6] = [
            (&[], "/home-of-user/.cache/huggingface/hub"),
            (&[("XDG_CACHE_HOME", "/xdg")], "/xdg/huggingface/hub"),
            (&[("HF_HOME", "/hf"), ("XDG_CACHE_HOME", "/xdg")], "/hf/hub"),
            (&[("HF_HOME", "~/hf")], "/home-of-user/hf/hub"),
            (&[("HF_HUB_CACHE", "/cache"), ("HF_HOME", "/hf")], "/cache"),
            (&[("HF_HOME", "")], "/home-of-user/.cache/huggingface/hub"),
        ];
        for (variables, expected) in cases {
            assert_eq!(options(variables).cache_dir, PathBuf::from(expected), "{variables:?}");
        }
    }

    #[test]
    fn the_environment_sets_endpoint_token_and_offline() {
        let defaults = options(&[]);
        assert_eq!((defaults.endpoint.as_str(), token(&defaults), defaults.offline), ("https://huggingface.co", None, false));
        let set = options(&[("HF_ENDPOINT", "https://mirror/"), ("HF_TOKEN", " hf_x\n"), ("HF_HUB_OFFLINE", "yes")]);
        assert_eq!((set.endpoint.as_str(), token(&set), set.offline), ("https://mirror", Some("hf_x"), true));
        assert!(!options(&[("HF_HUB_OFFLINE", "0")]).offline);
        assert_eq!(options(&[("HF_TOKEN", "hf_x"), ("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")]).token, None);
        assert_eq!(options(&[("CURL_CA_BUNDLE", "/ca.pem")]).ca_file, Some(PathBuf::from("/ca.pem")));
        assert_eq!(options(&[("CURL_CA_BUNDLE", "/ca.pem"), ("SSL_CERT_FILE", "")]).ca_file, Some(PathBuf::new()));
    }

    #[test]
    fn the_stored_login_is_a_token() {
        let home = tempfile::tempdir().unwrap();
        fs::write(home.path().join("token"), "hf_stored\n").unwrap();
        assert_eq!(token(&options(&[("HF_HOME", home.path().to_str().unwrap())])), Some("hf_stored"));
    }

    #[test]
    fn a_token_is_never_printed() {
        let set = options(&[("HF_TOKEN", "hf_secret")]);
        assert!(!format!("{set:?} {:#?}", set.token).contains("hf_secret"));
    }

    #[test]
    fn a_password_of_the_endpoint_is_never_printed() {
        for (given, endpoint) in [
            ("https://ada:s3cr3t@mirror:8443/hub/", "https://mirror:8443/hub"),
            ("http://ada:s3cr3t@", "http://"),
            ("ada:s3cr3t@mirror", "mirror"),
            ("https://a:s3cr3t@b:s3cr3t@mirror", "https://mirror"),
            ("https://s3cr3t@mirror/a@b", "https://mirror/a@b"),
        ] {
            let options = options(&[("HF_ENDPOINT", given)]);
            assert!(options.endpoint == endpoint && !format!("{options:?}").contains("s3cr3t"), "{given}: {options:?}");
            assert!(options.endpoint_login.is_some());
        }
        let login = |given: &str| options(&[("HF_ENDPOINT", given)]).endpoint_login.unwrap().basic().unwrap();
        // `printf 'ada:a@b' | base64` says so.
        assert_eq!(login("https://ada:a%40b@mirror"), "Basic YWRhOmFAYg==");
        assert_eq!(options(&[("HF_ENDPOINT", "https://mirror/a@b")]).endpoint_login, None);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_token_file_that_never_ends_is_none() {
        assert_eq!(options(&[("HF_TOKEN_PATH", "/dev/zero")]).token, None);
    }

    #[test]
    fn the_token_belongs_to_one_host() {
        let options = options(&[("HF_ENDPOINT", "https://hub.example:8443")]);
        let is_endpoint = |url: &str| options.is_endpoint(&url::Url::parse(url).unwrap());
        assert!(is_endpoint("https://hub.example:8443/api/x"));
        for other in ["http://hub.example:8443/", "https://hub.example/", "https://hub.example.evil:8443/", "https://cdn.hub.example:8443/"]
        {
            assert!(!is_endpoint(other), "{other}");
        }
    }
}
