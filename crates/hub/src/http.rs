//! Requests to the Hub and to the stores that it names: retries, redirects, limits, and whom the token may reach.

use std::io;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use futures_util::future::{Either, select};
use hyper_util::client::proxy::matcher::Matcher;
use reqwest::header::{
    ACCEPT_ENCODING, AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, DATE, HeaderMap, HeaderName, HeaderValue, LINK, LOCATION, RETRY_AFTER,
};
use reqwest::{Client, Method, Response, StatusCode};
use serde::de::DeserializeOwned;
use url::Url;

use crate::cache::read_small;
use crate::error::{CacheHint, Gate, TokenState, innermost, may_pass};
use crate::options::EndpointLogin;
use crate::pace::{Limit, stalls};
use crate::{HubError, HubOptions, HubRepo};

/// The longest answer that is read into memory, in bytes: a page of a listing has a thousand entries.
const MAX_ANSWER_BYTES: usize = 32 << 20;
/// More than the Hub's own chain of redirects is long (a renamed repository, another case, the store).
const MAX_REDIRECTS: usize = 8;
/// The longest pause before a request is sent again.
const MAX_PAUSE: Duration = Duration::from_secs(60);
/// A pause that the Hub asks for is told from here on.
const TOLD_PAUSE: Duration = Duration::from_secs(2);
/// An answer that is waited for so long is told, once.
const QUIET: Duration = Duration::from_secs(5);
/// A body that is sent, and the answer to it, may stand still for so many time limits: a store that joins parts, or a
/// commit of a thousand files, takes its time.
const SENDING_PATIENCE: u32 = 9;
/// All tries of one request together may stand still for so many.
const MOST_SILENCE: u32 = 12;
/// A body that is read into memory may take so many time limits, and a second more for each [`SLOWEST_BYTES_PER_S`] of it:
/// whoever sends a byte now and then is never silent.
const READING_PATIENCE: u32 = 6;
const SLOWEST_BYTES_PER_S: f64 = 4096.0;
/// The longest file of certificates; a system's whole bundle has a quarter of a megabyte.
const MAX_CERTIFICATES_BYTES: u64 = 16 << 20;
/// More of an answer than this is not searched for a secret that it begins with.
const MAX_SECRET_BYTES: usize = 16 << 10;
/// What to do about a page that came in place of an answer.
const IN_PLACE: &str = "something between here and the Hub may have answered in its place, such as the login page of a network, or a proxy";
/// The most entries of a listing: the Hub advises to keep repositories under 100,000 files.
pub(crate) const MAX_ENTRIES: usize = 500_000;

/// What the Hub says of a token that it doesn't know (huggingface_hub's `_http.py` tells the two by it as well).
const INVALID_TOKEN: &str = "Invalid credentials in Authorization header";

/// How bodies are made, once for each try.
pub(crate) type MakeBody<'a> = dyn Fn() -> io::Result<reqwest::Body> + Send + Sync + 'a;

/// One request, in words and in bytes.
pub(crate) struct Ask<'a> {
    pub method: Method,
    pub url: Url,
    pub headers: HeaderMap,
    pub body: Option<&'a MakeBody<'a>>,
    /// What an error says was attempted.
    pub doing: String,
    /// The repository that it is about.
    pub repo: Option<&'a HubRepo>,
    /// Whether a failed try may be repeated: not where it might have had an effect that a second one would spoil.
    pub may_repeat: bool,
    /// An answer that is no success, and still one that the asker understands.
    pub understands: Option<StatusCode>,
    /// Whether the address itself says who asks, so that no token may go along.
    pub is_presigned: bool,
    /// How many bytes of the body have left, for a body or an answer that takes longer than others: as long as it
    /// grows, nobody is silent.
    pub pulse: Option<Arc<AtomicU64>>,
    /// A redirect with this header is an answer, and is not followed.
    pub stops_at: Option<&'static str>,
}

impl<'a> Ask<'a> {
    pub fn get(url: Url, doing: impl Into<String>) -> Self {
        Self::new(Method::GET, url, doing)
    }

    pub fn new(method: Method, url: Url, doing: impl Into<String>) -> Self {
        Self {
            method,
            url,
            headers: HeaderMap::new(),
            body: None,
            doing: doing.into(),
            repo: None,
            may_repeat: true,
            understands: None,
            is_presigned: false,
            pulse: None,
            stops_at: None,
        }
    }

    pub fn about(mut self, repo: &'a HubRepo) -> Self {
        self.repo = Some(repo);
        self
    }

    pub fn with(mut self, body: &'a MakeBody<'a>) -> Self {
        self.body = Some(body);
        self
    }

    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }
}

/// The client for all requests of a [`Hub`](crate::Hub).
pub(crate) struct Http {
    client: Client,
    /// For what is sent: reqwest's time limit on reading runs while a body is still being sent.
    sender: Client,
    options: Arc<HubOptions>,
    pub limit: Arc<Limit>,
    /// Which requests go to a proxy, as reqwest decides it.
    proxies: Matcher,
    /// Whether it was told that somebody does not answer.
    is_quiet_told: AtomicBool,
}

impl Http {
    pub fn new(options: Arc<HubOptions>) -> Result<Self, HubError> {
        let refuse = |why: String| HubError::Client { endpoint: options.endpoint.clone(), why };
        let url = Url::parse(&options.endpoint).map_err(|err| refuse(format!("HF_ENDPOINT is no address: {err}")))?;
        if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
            return Err(refuse("HF_ENDPOINT is no address of http or https".into()));
        }
        let mut certificates = Vec::new();
        if let Some(path) = &options.ca_file {
            if path.as_os_str().is_empty() {
                return Err(refuse("SSL_CERT_FILE is set and empty, so that no certificate is trusted: unset it, or name a file".into()));
            }
            // Before reqwest looks at it, which reads a pipe or a device for ever.
            let read = read_small(path, MAX_CERTIFICATES_BYTES)
                .map_err(|err| err.to_string())
                .and_then(|pem| reqwest::Certificate::from_pem_bundle(&pem).map_err(|err| innermost(&err)));
            let read = read.and_then(|read| if read.is_empty() { Err("it holds none".to_owned()) } else { Ok(read) });
            certificates = read.map_err(|why| refuse(format!("reading the certificates {}: {why}", path.display())))?;
        }
        let build = |read_timeout: Option<Duration>| {
            let mut builder = Client::builder()
                .user_agent(concat!("sinew/", env!("CARGO_PKG_VERSION")))
                // Followed here, so that it is decided at each step who is told what.
                .redirect(reqwest::redirect::Policy::none())
                .connect_timeout(options.timeout)
                .pool_idle_timeout(Duration::from_secs(20))
                .tls_certs_merge(certificates.clone());
            if let Some(limit) = read_timeout {
                builder = builder.read_timeout(limit);
            }
            let of_file = options.ca_file.as_ref().map_or_else(String::new, |path| format!(" (with the certificates {})", path.display()));
            // reqwest takes `*` for names alone.
            if ["NO_PROXY", "no_proxy"].iter().any(|name| std::env::var(name).is_ok_and(|hosts| hosts.trim() == "*")) {
                builder = builder.no_proxy();
            }
            builder.build().map_err(|err| refuse(innermost(&err) + &of_file))
        };
        let (client, sender) = (build(Some(options.timeout))?, build(None)?);
        let limit = Arc::new(Limit::new(options.upload_limit));
        Ok(Self { client, sender, options, limit, proxies: Matcher::from_system(), is_quiet_told: AtomicBool::new(false) })
    }

    /// How long what is sent may stand still.
    pub fn patience(&self) -> Duration {
        self.options.timeout * SENDING_PATIENCE
    }

    /// How long it may stand still in all tries together.
    pub fn most_silence(&self) -> Duration {
        self.options.timeout * MOST_SILENCE
    }

    pub fn options(&self) -> &HubOptions {
        &self.options
    }

    /// An address below the endpoint, each of `parts` as one step of its path, whatever characters it has.
    pub fn url<'p>(&self, parts: impl IntoIterator<Item = &'p str>) -> Result<Url, HubError> {
        let refuse = |why: &str| HubError::Client { endpoint: self.options.endpoint.clone(), why: why.to_owned() };
        let mut url = Url::parse(&self.options.endpoint).map_err(|err| refuse(&err.to_string()))?;
        url.path_segments_mut().map_err(|()| refuse("HF_ENDPOINT can't have a path"))?.pop_if_empty().extend(parts);
        Ok(url)
    }

    /// Where a file of a repository is.
    pub fn file_url(&self, repo: &HubRepo, commit: &str, path: &str) -> Result<Url, HubError> {
        let of_repo = repo.kind().prefix().into_iter().chain([repo.owner(), repo.name(), "resolve", commit]);
        self.url(of_repo.chain(path.split('/')))
    }

    /// Sends a request until it is answered with success, and at most as often as the options say.
    pub async fn send(&self, ask: &Ask<'_>) -> Result<Response, HubError> {
        let (mut tries, mut silence, mut has_asked_anew) = (0, Duration::ZERO, false);
        loop {
            let (error, pause) = match self.follow(ask, silence).await {
                Ok(response) if response.status().is_success() || Some(response.status()) == ask.understands => return Ok(response),
                Ok(response) if ask.stops_at.is_some() && is_redirect(&response) => return Ok(response),
                Ok(response) => {
                    let status = response.status().as_u16();
                    // A store refuses an address whose time is over; asked again, the Hub gives another. Where the store is at the
                    // Hub itself, it may also be the Hub that refuses, which is the same the second time.
                    let is_redirected = status == 403 && *response.url() != ask.url;
                    let has_expired = is_redirected && (!self.options.is_endpoint(response.url()) || !has_asked_anew);
                    has_asked_anew |= has_expired;
                    let pause = (has_expired || may_pass(status)).then(|| retry_after(&response).unwrap_or(backoff(tries)));
                    (self.explain(ask, response).await, pause)
                }
                Err(Failure { error, is_transient, waited }) => {
                    silence += waited;
                    (error, (is_transient && silence < self.most_silence()).then(|| backoff(tries)))
                }
            };
            match pause {
                Some(pause) if ask.may_repeat && tries < self.most_tries(&error) && pause <= MAX_PAUSE => {
                    tracing::debug!(doing = ask.doing, %error, ?pause, "trying again");
                    if pause >= TOLD_PAUSE && matches!(error, HubError::Busy { .. }) {
                        tracing::warn!("{} has had too many requests, and asks to wait {} s", host(&ask.url), pause.as_secs());
                    }
                    tokio::time::sleep(pause).await;
                    tries += 1;
                }
                _ => return Err(error),
            }
        }
    }

    /// The JSON that answers `ask`.
    pub async fn json<T: DeserializeOwned>(&self, ask: &Ask<'_>) -> Result<T, HubError> {
        self.read_json(ask).await.map(|(value, _)| value)
    }

    /// The JSON that answers `ask`, and where the next page of it is.
    pub async fn page<T: DeserializeOwned>(&self, ask: &Ask<'_>) -> Result<(T, Option<Url>), HubError> {
        let (value, headers) = self.read_json(ask).await?;
        let Some(next) = next_page(&headers) else { return Ok((value, None)) };
        let next = ask.url.join(&next).map_err(|err| self.server(ask, &ask.url, format!("the next page's address: {err}")))?;
        if !self.options.is_endpoint(&next) {
            let what = format!("its next page is at another host, {}", next.host_str().unwrap_or_default());
            return Err(HubError::Hostile { doing: ask.doing.clone(), host: host(&ask.url), what });
        }
        Ok((value, Some(next)))
    }

    async fn read_json<T: DeserializeOwned>(&self, ask: &Ask<'_>) -> Result<(T, HeaderMap), HubError> {
        let (mut tries, begin) = (0, Instant::now());
        let (headers, url, body) = loop {
            let response = self.send(ask).await?;
            let (headers, url) = (response.headers().clone(), response.url().clone());
            match self.body(ask, response, MAX_ANSWER_BYTES).await {
                Ok(body) => break (headers, url, body),
                // One that came too slowly would again.
                Err(HubError::Broken { .. })
                    if ask.may_repeat && tries < self.options.retries && begin.elapsed() < self.options.timeout * READING_PATIENCE =>
                {
                    tokio::time::sleep(backoff(tries)).await;
                    tries += 1;
                }
                Err(error) => return Err(error),
            }
        };
        match serde_json::from_slice(&body) {
            Ok(value) => Ok((value, headers)),
            Err(_) if is_page(&headers, &body) => Err(self.server(ask, &url, format!("expected JSON, found a page of HTML; {IN_PLACE}"))),
            Err(err) => {
                let begin = self.without_secrets(ask, &String::from_utf8_lossy(&body[..body.len().min(MAX_SECRET_BYTES)]));
                let begin: String = begin.chars().take(60).collect();
                Err(self.server(ask, &url, format!("expected JSON ({}), found {begin:?}", self.without_secrets(ask, &err.to_string()))))
            }
        }
    }

    /// A body that is no longer than `limit_bytes`.
    pub async fn body(&self, ask: &Ask<'_>, mut response: Response, limit_bytes: usize) -> Result<Vec<u8>, HubError> {
        let url = response.url().clone();
        self.check_encoding(ask, &response)?;
        let (mut body, begin) = (Vec::new(), Instant::now());
        let broke = |why: String| HubError::Broken { doing: ask.doing.clone(), host: host(&url), why };
        let silence = |_| broke("nothing more came".to_owned());
        while let Some(chunk) =
            tokio::time::timeout(self.options.timeout, response.chunk()).await.map_err(silence)?.map_err(|err| broken(ask, &url, &err))?
        {
            let took = begin.elapsed();
            if took > self.options.timeout * READING_PATIENCE + Duration::from_secs_f64(body.len() as f64 / SLOWEST_BYTES_PER_S) {
                return Err(broke(format!("{} bytes came in {} s, which is too slow", body.len(), took.as_secs())));
            }
            if body.len() + chunk.len() > limit_bytes {
                let what = format!("it is longer than {limit_bytes} bytes");
                return Err(HubError::Hostile { doing: ask.doing.clone(), host: host(&url), what });
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }

    /// Nothing was asked for that is compressed, so nothing that swells is taken.
    pub fn check_encoding(&self, ask: &Ask<'_>, response: &Response) -> Result<(), HubError> {
        match response.headers().get(CONTENT_ENCODING) {
            Some(encoding) if encoding != "identity" => {
                let what = format!("its body is compressed ({}), which was not asked for", encoding.to_str().unwrap_or("?"));
                Err(HubError::Hostile { doing: ask.doing.clone(), host: host(response.url()), what })
            }
            _ => Ok(()),
        }
    }

    /// Where nobody answers at all, somebody waits who has no network.
    fn most_tries(&self, error: &HubError) -> usize {
        if matches!(error, HubError::Unreachable { .. }) { self.options.retries.min(2) } else { self.options.retries }
    }

    /// Asks where the address leads. Earlier tries stood still for `silence`.
    async fn follow(&self, ask: &Ask<'_>, silence: Duration) -> Result<Response, Failure> {
        let mut url = ask.url.clone();
        for _ in 0..MAX_REDIRECTS {
            let response = self.one(ask, &url, silence).await?;
            if !is_redirect(&response) || ask.stops_at.is_some_and(|header| response.headers().contains_key(header)) {
                return Ok(response);
            }
            url = self.target(ask, &response).map_err(Failure::lasting)?;
        }
        let what = format!("more than {MAX_REDIRECTS} redirects");
        Err(Failure::lasting(HubError::Hostile { doing: ask.doing.clone(), host: host(&url), what }))
    }

    /// Where a redirect leads.
    ///
    /// # Errors
    /// When it leads to what must not be asked, such as from https to http.
    pub fn target(&self, ask: &Ask<'_>, response: &Response) -> Result<Url, HubError> {
        let url = response.url();
        let refuse = |what: String| HubError::Hostile { doing: ask.doing.clone(), host: host(url), what };
        let next = response.headers().get(LOCATION).and_then(|to| to.to_str().ok()).and_then(|to| url.join(to).ok());
        let Some(next) = next else { return Err(refuse("a redirect without an address".into())) };
        if !matches!(next.scheme(), "http" | "https") || (url.scheme() == "https" && next.scheme() != "https") {
            return Err(refuse(format!("a redirect from {} to {}", url.scheme(), next.scheme())));
        }
        let is_read = matches!(ask.method, Method::GET | Method::HEAD);
        if !is_read && next.origin() != url.origin() {
            return Err(refuse(format!("a redirect of {} to another host, {}", ask.method, host(&next))));
        }
        Ok(next)
    }

    async fn one(&self, ask: &Ask<'_>, url: &Url, silence: Duration) -> Result<Response, Failure> {
        let client = if ask.pulse.is_some() { &self.sender } else { &self.client };
        let mut request = client.request(ask.method.clone(), url.clone()).headers(ask.headers.clone());
        request = request.header(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        let is_asked_who = self.options.is_endpoint(url) && !ask.is_presigned && !ask.headers.contains_key(AUTHORIZATION);
        // One header says who asks: a mirror that wants its own login has no use for the token.
        if let Some(login) = self.options.endpoint_login.as_ref().filter(|_| self.options.is_endpoint(url)) {
            request = request.headers(login.basic().map(|value| (AUTHORIZATION, value)).into_iter().collect());
        } else if let Some(token) = self.options.token.as_ref().filter(|_| is_asked_who) {
            let value = token.bearer().ok_or_else(|| {
                let why = "the token holds characters that can't be sent; log in again, or set HF_TOKEN anew".to_owned();
                Failure::lasting(HubError::Client { endpoint: self.options.endpoint.clone(), why })
            })?;
            request = request.header(AUTHORIZATION, value);
        }
        if let Some(make) = ask.body {
            let body = make().map_err(|source| Failure::lasting(HubError::Io { doing: ask.doing.clone(), source }))?;
            request = request.body(body);
        }
        let Some(pulse) = &ask.pulse else {
            let answer = match select(pin!(request.send()), pin!(tokio::time::sleep(QUIET))).await {
                Either::Left((answer, _)) => answer,
                Either::Right(((), send)) => {
                    if !self.is_quiet_told.swap(true, Ordering::Relaxed) {
                        let (host, limit) = (host(url), self.options.timeout.as_secs());
                        tracing::warn!("{host} has said nothing for {} s; each try waits {limit} s for it", QUIET.as_secs());
                    }
                    send.await
                }
            };
            return answer.map_err(|err| self.failure(ask, url, &err));
        };
        let patience = self.patience().min(self.most_silence().saturating_sub(silence));
        let before = pulse.load(Ordering::Relaxed);
        let moved = Mutex::new((before, Instant::now()));
        // How much has left, and for how long nothing has.
        let look = || {
            let (mut last, now) = (moved.lock().unwrap_or_else(PoisonError::into_inner), pulse.load(Ordering::Relaxed));
            if last.0 != now {
                *last = (now, Instant::now());
            }
            (now, last.1.elapsed())
        };
        let broken = |why: String| HubError::Broken { doing: ask.doing.clone(), host: host(url), why };
        let silent = |waited: Duration| {
            let why = format!("nothing was taken or answered for {} s", (silence + waited).as_secs());
            Failure { error: broken(why), is_transient: true, waited }
        };
        match select(pin!(request.send()), pin!(stalls(|| look().0, patience))).await {
            Either::Left((Ok(answer), _)) => Ok(answer),
            Either::Left((Err(err), _)) => {
                let (sent, waited) = look();
                let mut failure = self.failure(ask, url, &err);
                if err.is_timeout() && !err.is_connect() {
                    // The system gives up earlier on what takes nothing at all.
                    failure = silent(waited);
                } else if sent > before && !err.is_connect() && is_closed(&err) {
                    let bytes = sent - before;
                    failure.error =
                        broken(format!("it closed the connection after {bytes} bytes, and may have refused the file: {}", innermost(&err)));
                }
                Err(failure)
            }
            Either::Right(_) => Err(silent(patience)),
        }
    }

    fn failure(&self, ask: &Ask<'_>, url: &Url, err: &reqwest::Error) -> Failure {
        let mut why = if err.is_timeout() { format!("nothing was heard for {} s", self.options.timeout.as_secs()) } else { innermost(err) };
        let is_certificate = why.contains("certificate");
        if let Some(proxy) = self.proxy(url).filter(|_| err.is_connect()) {
            why = format!("by the proxy {proxy}: {why}");
        }
        let error = if err.is_connect() && self.options.is_endpoint(url) {
            HubError::Unreachable { doing: ask.doing.clone(), endpoint: self.options.endpoint.clone(), why, hint: CacheHint::Nothing }
        } else {
            HubError::Broken { doing: ask.doing.clone(), host: host(url), why }
        };
        Failure { error, is_transient: !err.is_builder() && !is_certificate, waited: Duration::ZERO }
    }

    /// The proxy by which an address is asked, as it may be told: without the name and the password for it.
    fn proxy(&self, url: &Url) -> Option<String> {
        let proxy = self.proxies.intercept(&url.as_str().parse().ok()?)?;
        Some(format!("{}://{}", proxy.uri().scheme_str().unwrap_or("http"), proxy.uri().authority()?.as_str().rsplit('@').next()?))
    }

    /// What an answer that is no success means.
    async fn explain(&self, ask: &Ask<'_>, response: Response) -> HubError {
        let (status, url, headers) = (response.status(), response.url().clone(), response.headers().clone());
        let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
        let code = header("x-error-code");
        let pause = retry_after(&response);
        let (mut said, mut is_ours) = (header("x-error-message"), true);
        if said.is_empty() {
            let body = self.body(ask, response, 64 << 10).await.unwrap_or_default();
            is_ours = !is_page(&headers, &body);
            said = if is_ours { message_of(&body) } else { format!("a page of HTML; {IN_PLACE}") };
        }
        let said: String = self.without_secrets(ask, &said).chars().take(300).collect();
        let (doing, endpoint) = (ask.doing.clone(), self.options.endpoint.clone());
        let is_read = matches!(ask.method, Method::GET | Method::HEAD);
        let is_write = !is_read && status == StatusCode::FORBIDDEN;
        let is_full = is_write && is_about_space(&said);
        let token = match &self.options.token {
            _ if self.options.endpoint_login.is_some() => TokenState::Login,
            None if ask.headers.contains_key(AUTHORIZATION) => TokenState::Sent,
            None => TokenState::Absent,
            Some(_) if is_full => TokenState::NotMeant,
            Some(_) if is_write => TokenState::MayNotWrite,
            Some(_) => TokenState::Sent,
        };
        if !self.options.is_endpoint(&url) {
            let (host, what) = (host(&url), in_words(status, &said));
            return if may_pass(status.as_u16()) {
                HubError::Broken { doing, host, why: what }
            } else {
                HubError::Server { doing, host, what }
            };
        }
        match (status.as_u16(), code.as_str(), ask.repo) {
            (407, ..) => {
                let proxy = self.proxy(&url).unwrap_or_else(|| "that answered".into());
                let why = format!("the proxy {proxy} wants a name and a password (HTTP 407): http://name:password@host:port");
                HubError::Unreachable { doing, endpoint, why, hint: CacheHint::Nothing }
            }
            (429, ..) => HubError::Busy { doing, endpoint, retry_after: pause },
            (404, "EntryNotFound", Some(repo)) => HubError::NoFile { repo: repo.clone(), path: crate::name::file_of(&url) },
            (_, "RevisionNotFound", Some(repo)) => HubError::NoRevision { repo: repo.clone(), endpoint },
            // Whoever may not know of a repository gets 401 without a code; a token that is wrong is told so by its message.
            (404 | 401, "RepoNotFound", Some(repo)) | (404, "", Some(repo)) => HubError::NoRepo { repo: repo.clone(), endpoint, token },
            (401, "", Some(repo)) if is_read && is_ours && said != INVALID_TOKEN => {
                HubError::NoRepo { repo: repo.clone(), endpoint, token }
            }
            (401 | 403, code, repo) => {
                let gate = match repo {
                    Some(repo) if code == "GatedRepo" => Gate::Gated(repo.page(&endpoint)),
                    _ => Gate::Open,
                };
                let token = if status == StatusCode::UNAUTHORIZED && token == TokenState::Sent { TokenState::Unknown } else { token };
                HubError::Refused { doing, endpoint, status: status.as_u16(), said, token, gate }
            }
            _ => HubError::Server { doing, host: host(&url), what: in_words(status, &said) },
        }
    }

    /// What a server says, without what only it may know: whoever gets a token may send it back in a message.
    pub(crate) fn without_secrets(&self, ask: &Ask<'_>, text: &str) -> String {
        let token = self.options.token.iter().map(|token| token.secret().to_owned());
        let header = ask.headers.get(AUTHORIZATION).and_then(|value| Some(value.to_str().ok()?.split_once(' ')?.1.to_owned()));
        let login = self.options.endpoint_login.iter().flat_map(EndpointLogin::secrets);
        let secrets = token.chain(header).chain(login).filter(|secret| !secret.is_empty());
        secrets.fold(text.to_owned(), |text, secret| text.replace(&secret, "[secret]"))
    }

    pub fn server(&self, ask: &Ask<'_>, url: &Url, what: impl Into<String>) -> HubError {
        HubError::Server { doing: ask.doing.clone(), host: host(url), what: what.into() }
    }
}

fn is_redirect(response: &Response) -> bool {
    matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308)
}

struct Failure {
    error: HubError,
    is_transient: bool,
    /// How long nothing had moved when it was given up.
    waited: Duration,
}

impl Failure {
    fn lasting(error: HubError) -> Self {
        Self { error, is_transient: false, waited: Duration::ZERO }
    }
}

/// Whether the other side has closed the connection before it had answered.
fn is_closed(err: &reqwest::Error) -> bool {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(err);
    while let Some(err) = cause {
        let is_io = err.downcast_ref().is_some_and(|err: &io::Error| {
            use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
            matches!(err.kind(), BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof)
        });
        if is_io || err.to_string().starts_with("connection closed before message") {
            return true;
        }
        cause = err.source();
    }
    false
}

/// A read that broke off.
pub(crate) fn broken(ask: &Ask<'_>, url: &Url, err: &reqwest::Error) -> HubError {
    let why = if err.is_timeout() { "nothing more came".to_owned() } else { innermost(err) };
    HubError::Broken { doing: ask.doing.clone(), host: host(url), why }
}

/// The host and port of an address; never what follows, which may hold a signature.
pub(crate) fn host(url: &Url) -> String {
    let name = url.host_str().unwrap_or("nowhere");
    url.port().map_or_else(|| name.to_owned(), |port| format!("{name}:{port}"))
}

/// Whether a refusal is about how much may be stored, which no other token helps against.
fn is_about_space(said: &str) -> bool {
    let said = said.to_lowercase();
    ["storage", "quota", "limit reached", "exceed", "payment", "billing", "upgrade"].iter().any(|word| said.contains(word))
}

pub(crate) fn in_words(status: StatusCode, said: &str) -> String {
    if said.is_empty() { format!("HTTP {status}") } else { format!("HTTP {status}: {said:?}") }
}

/// The message in an error's body: JSON's `error`, a store's XML, or the begin of a text that is no page.
pub(crate) fn message_of(body: &[u8]) -> String {
    match serde_json::from_slice::<serde_json::Value>(body) {
        Ok(json) => ["error", "message", "error_description"].iter().find_map(|key| json.get(key)?.as_str()).unwrap_or_default().to_owned(),
        Err(_) if body.windows(7).any(|tag| tag == b"<Error>") => message_of_store(&String::from_utf8_lossy(body)),
        Err(_) => {
            Some(String::from_utf8_lossy(body)).filter(|text| !text.trim_start().starts_with('<')).unwrap_or_default().trim().to_owned()
        }
    }
}

/// What a store like S3 says: `<Error><Code>…</Code><Message>…</Message></Error>`.
fn message_of_store(xml: &str) -> String {
    let inside = |tag: &str| xml.split_once(&format!("<{tag}>"))?.1.split_once(&format!("</{tag}>")).map(|(text, _)| text.trim());
    [inside("Code"), inside("Message")].into_iter().flatten().collect::<Vec<_>>().join(": ")
}

/// Whether a body is a page for people, which the Hub gives to no program.
fn is_page(headers: &HeaderMap, body: &[u8]) -> bool {
    let is_said = headers.get(CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().to_ascii_lowercase().starts_with(b"text/html"));
    // A store's errors are XML, which begins like it.
    let begin = body.trim_ascii_start().iter().take(14).map(u8::to_ascii_lowercase).collect::<Vec<_>>();
    is_said || begin.starts_with(b"<html") || begin.starts_with(b"<!doctype html")
}

/// What to add to an answer that is not the file, where it is a page.
pub(crate) fn in_place(response: &Response) -> String {
    if is_page(response.headers(), &[]) { format!(" of a page of HTML; {IN_PLACE}") } else { String::new() }
}

fn retry_after(response: &Response) -> Option<Duration> {
    pause_of(response.headers(), || SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs()))
}

/// How long the headers say to wait; where they say until when and not what time it is, `now` says it (s since 1970).
fn pause_of(headers: &HeaderMap, now: impl Fn() -> u64) -> Option<Duration> {
    let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let seconds = |text: &str| text.trim().parse::<f64>().ok().filter(|seconds| *seconds >= 0.0).map(|seconds| seconds.ceil() as u64);
    let until = |at: &str| Some(http_date(at)?.saturating_sub(text(DATE).and_then(http_date).unwrap_or_else(&now)));
    // The Hub's own header: `"api";r=0;t=55`, t being the seconds until it takes requests again.
    let of_rate_limit = |text: &str| text.split(';').find_map(|part| part.trim().strip_prefix("t=")?.parse().ok());
    let wait = text(RETRY_AFTER).and_then(|text| seconds(text).or_else(|| until(text)));
    wait.or_else(|| text(HeaderName::from_static("ratelimit")).and_then(of_rate_limit)).map(Duration::from_secs)
}

/// The seconds since 1970 of a date as HTTP has it (RFC 9110, 5.6.7): `Sun, 06 Nov 1994 08:49:37 GMT`.
fn http_date(text: &str) -> Option<u64> {
    const MONTHS: &str = "JanFebMarAprMayJunJulAugSepOctNovDec";
    let [day, month, year, time, "GMT"] = text.trim().split_once(", ")?.1.split(' ').collect::<Vec<_>>()[..] else { return None };
    let month = MONTHS.find(month).filter(|at| month.len() == 3 && at % 3 == 0)? as u64 / 3 + 1;
    let [day, year] = [day, year].map(|text| text.parse::<u64>().ok());
    let (day, year) = (day.filter(|day| (1..=31).contains(day))?, year.filter(|year| (1970..=9999).contains(year))?);
    let parts: Vec<u64> = time.split(':').map(|part| part.parse().ok()).collect::<Option<_>>()?;
    let [hour @ 0..24, minute @ 0..60, second @ 0..=60] = parts[..] else { return None };
    // Years that begin in March have their leap day at the end.
    let (years, months) = if month <= 2 { (year - 1, month + 9) } else { (year, month - 3) };
    let days = 365 * years + years / 4 - years / 100 + years / 400 + (153 * months + 2) / 5 + day - 1 - 719_468;
    Some(days * 86_400 + hour * 3600 + minute * 60 + second)
}

fn backoff(tries: usize) -> Duration {
    let base = Duration::from_millis(200) * 2u32.saturating_pow(u32::try_from(tries).unwrap_or(u32::MAX).min(7));
    base.min(Duration::from_secs(8)).mul_f64(0.75 + 0.5 * fastrand::f64())
}

/// The address in a `Link` header that is named `next` (RFC 8288).
fn next_page(headers: &HeaderMap) -> Option<String> {
    headers.get(LINK)?.to_str().ok()?.split(',').find_map(|link| {
        let (address, names) = link.split_once(';')?;
        names.split(';').any(|name| matches!(name.trim(), "rel=\"next\"" | "rel=next")).then_some(())?;
        address.trim().strip_prefix('<')?.strip_suffix('>').map(str::to_owned)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_page_is_the_link_of_that_name() {
        let headers = |link: &'static str| HeaderMap::from_iter([(LINK, HeaderValue::from_static(link))]);
        assert_eq!(next_page(&headers("<https://h/a?cursor=x>; rel=\"next\"")), Some("https://h/a?cursor=x".into()));
        assert_eq!(next_page(&headers("<https://h/1>; rel=\"prev\", </2>; rel=\"next\"")), Some("/2".into()));
        assert_eq!(next_page(&headers("<https://h/1>; rel=\"prev\"")), None);
        assert_eq!(next_page(&HeaderMap::new()), None);
    }

    #[test]
    fn a_pause_may_be_a_date() {
        assert_eq!(http_date("Sun, 06 Nov 1994 08:49:37 GMT"), Some(784_111_777));
        assert_eq!(http_date("Thu, 29 Feb 2024 23:59:59 GMT"), Some(1_709_251_199));
        for text in ["Sun, 06 Nov 1994 08:49:37 CET", "Sun, 06 Nox 1994 08:49:37 GMT", "Sun, 6 nov 1994", "", "Sun, 06 Nov 1 08:49:37 GMT"]
        {
            assert_eq!(http_date(text), None, "{text}");
        }
        let of = |pairs: &[(HeaderName, &'static str)]| {
            let headers = pairs.iter().map(|(name, value)| (name.clone(), HeaderValue::from_static(value))).collect();
            pause_of(&headers, || 784_111_700).map(|pause| pause.as_secs())
        };
        let until = (RETRY_AFTER, "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(of(std::slice::from_ref(&until)), Some(77));
        assert_eq!(of(&[until.clone(), (DATE, "Sun, 06 Nov 1994 08:49:22 GMT")]), Some(15));
        assert_eq!(of(&[until, (DATE, "Sun, 06 Nov 1994 09:00:00 GMT")]), Some(0));
        assert_eq!((of(&[(RETRY_AFTER, "1.5")]), of(&[(RETRY_AFTER, "-1")]), of(&[])), (Some(2), None, None));
        assert_eq!(of(&[(HeaderName::from_static("ratelimit"), "\"api\";r=0;t=55")]), Some(55));
    }

    #[test]
    fn pauses_grow_and_stay_short() {
        let of = |tries| backoff(tries).as_secs_f64();
        assert!((0.15..=0.25).contains(&of(0)) && (0.6..=1.0).contains(&of(2)) && of(50) <= 10.0);
    }

    #[test]
    fn an_error_page_is_no_message() {
        assert_eq!(message_of(b"<html><body>503</body></html>"), "");
        let none = HeaderMap::new();
        assert!(
            is_page(&none, b"\n<!DOCTYPE HTML>...")
                && is_page(&none, b"<HTML lang=en>")
                && !is_page(&none, b"<?xml version=\"1.0\"?><Error>")
        );
        assert_eq!(message_of(br#"{"error": "You are over quota"}"#), "You are over quota");
        assert_eq!(message_of(b"Repository not found\n"), "Repository not found");
        let xml = b"<?xml version=\"1.0\"?>\n<Error><Code>EntityTooLarge</Code><Message>Too large.</Message></Error>";
        assert_eq!(message_of(xml), "EntityTooLarge: Too large.");
    }
}
