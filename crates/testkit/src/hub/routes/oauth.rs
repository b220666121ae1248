//! Device login (RFC 8628): a code for the user, and polling until he has entered it.

use hyper::http::{Method, StatusCode};
use serde_json::json;

use super::Call;
use crate::hub::access::{Rights, Token};
use crate::hub::clock::unix_s;
use crate::hub::git;
use crate::hub::reply::Reply;
use crate::hub::target::pairs;

/// Seconds between polls.
const INTERVAL_S: u64 = 1;
const VALID_S: u64 = 900;

/// A login that somebody began.
#[derive(Debug)]
struct Login {
    device_code: String,
    expires_s: u64,
    /// Undecided, or let in with the rights of this token, or refused.
    decision: Option<Option<String>>,
}

/// All of them.
#[derive(Debug, Default)]
pub struct Devices {
    logins: Vec<Login>,
    /// Refresh token → the token whose user it was given to.
    refreshes: std::collections::BTreeMap<String, String>,
    given: u64,
    /// Logins are let in as this token's user as soon as they begin.
    pub always: Option<String>,
}

impl Devices {
    /// Decides on all that wait.
    pub fn decide(&mut self, token: Option<&str>) {
        for login in self.logins.iter_mut().filter(|login| login.decision.is_none()) {
            login.decision = Some(token.map(str::to_owned));
        }
    }
}

fn refused(error: &str, description: &str) -> Reply {
    let mut reply = Reply::json(&json!({"error": error, "error_description": description}));
    reply.status = StatusCode::BAD_REQUEST;
    reply
}

/// `POST /oauth/device` and `/oauth/token`.
pub async fn answer(call: &mut Call<'_>, what: &str) -> Result<Reply, Reply> {
    call.only(&[Method::POST])?;
    let body = call.body.whole(1 << 16).await?;
    let form = pairs(&String::from_utf8_lossy(&body));
    let field = |name: &str| form.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
    if field("client_id").is_none_or(str::is_empty) {
        return Err(refused("invalid_client", "client_id is missing"));
    }
    let mut state = call.hub.state();
    match what {
        "device" => {
            state.counter += 1;
            let seed = git::sha256(format!("{} device {}", call.hub.secret, state.counter).as_bytes()).to_uppercase();
            let user_code = format!("{}-{}", seed.get(..4).unwrap_or_default(), seed.get(4..8).unwrap_or_default());
            let device_code = seed.to_lowercase();
            let decision = state.devices.always.clone().map(Some);
            state.devices.logins.push(Login { device_code: device_code.clone(), expires_s: unix_s() + VALID_S, decision });
            let uri = format!("{}/oauth/device", call.hub.endpoint);
            Ok(Reply::json(&json!({
                "device_code": device_code, "user_code": user_code, "verification_uri": uri,
                "verification_uri_complete": format!("{uri}?user_code={user_code}"), "expires_in": VALID_S, "interval": INTERVAL_S,
            })))
        }
        "token" => {
            let of = match field("grant_type") {
                Some("urn:ietf:params:oauth:grant-type:device_code") => {
                    let code = field("device_code").unwrap_or_default();
                    let Some(at) = state.devices.logins.iter().position(|login| login.device_code == code) else {
                        return Err(refused("invalid_grant", "no such device code"));
                    };
                    let login = &state.devices.logins[at];
                    match &login.decision {
                        _ if login.expires_s <= unix_s() => return Err(refused("expired_token", "the code has expired")),
                        None => return Err(refused("authorization_pending", "the user has not decided yet")),
                        Some(None) => return Err(refused("access_denied", "the user refused")),
                        Some(Some(token)) => {
                            let token = token.clone();
                            // A code is good for one token.
                            state.devices.logins.remove(at);
                            token
                        }
                    }
                }
                Some("refresh_token") => {
                    let old = field("refresh_token").unwrap_or_default().to_owned();
                    state.devices.refreshes.remove(&old).ok_or_else(|| refused("invalid_grant", "no such refresh token"))?
                }
                other => return Err(refused("unsupported_grant_type", &format!("{other:?}"))),
            };
            let user = state.accounts.tokens.get(&of).cloned().unwrap_or(Token { user: of.clone(), rights: Rights::Write });
            state.devices.given += 1;
            let digits = git::sha256(format!("{} {of} {}", call.hub.secret, state.devices.given).as_bytes());
            let (access, refresh) = (format!("hf_oauth_{digits}"), format!("hf_refresh_{digits}"));
            state.accounts.tokens.insert(access.clone(), user);
            state.devices.refreshes.insert(refresh.clone(), of);
            Ok(Reply::json(&json!({
                "access_token": access, "refresh_token": refresh, "token_type": "bearer", "expires_in": 3600,
                "scope": "openid profile read-repos write-repos manage-repos",
            })))
        }
        _ => Err(Reply::error(404, None, "Not found")),
    }
}
