//! The options of a policy that is on another machine.

use std::path::PathBuf;
use std::str::FromStr as _;
use std::time::Duration;

use clap::Args;
use sinew_hub::{HubOptions, HubRepo};
use sinew_remote::{Address, KeyMap, Protocol, RemoteOptions};

use super::{ComputeArgs, Misuse, above_zero, refuse_given};

const HEADING: &str = "Policy server";

#[derive(Args, Clone, Default)]
pub struct RemoteArgs {
    /// With a policy server: the names under which it wants images and state: droid, libero, aloha, lerobot, groot-so100, or a TOML file [default: what the server says]
    #[arg(long, value_name = "PRESET|FILE", help_heading = HEADING, hide_short_help = true)]
    pub policy_keys: Option<String>,
    /// With a policy server: how long an answer may take, in seconds. A later one is not used [default: as long as its actions last, but 0.5 to 10 s]
    #[arg(long, value_name = "S", value_parser = above_zero, help_heading = HEADING, hide_short_help = true)]
    pub policy_deadline: Option<f64>,
    /// With a policy server: the environment variable with its token. It is sent as "Authorization: Bearer TOKEN", or as it is if it names a scheme, such as "Api-Key TOKEN"
    #[arg(long, value_name = "NAME", help_heading = HEADING, hide_short_help = true)]
    pub policy_token_env: Option<String>,
    /// With LeRobot's server (--policy zenoh://HOST:PORT/DEPLOYMENT): what its numbers mean, word by word as the server says it. Without it only `sinew serve` is believed
    #[arg(long, value_name = "TEXT", help_heading = HEADING, hide_short_help = true)]
    pub policy_semantics: Option<String>,
    /// With LeRobot's server: zenoh's own configuration (JSON5), for certificates
    #[arg(long, value_name = "FILE", help_heading = HEADING, hide_short_help = true)]
    pub policy_zenoh_config: Option<PathBuf>,
    /// With an Inference Endpoint (--policy https://NAME.endpoints.huggingface.cloud): send your token of the Hub (HF_TOKEN, or the one that `sinew hub login` stored)
    #[arg(long, conflicts_with = "policy_token_env", help_heading = HEADING, hide_short_help = true)]
    pub hub_token: bool,
}

/// Whether a policy is on a server. The address of a page of the Hub names a checkpoint.
pub fn is_server(policy: &str) -> bool {
    Address::is_meant(policy) && !HubRepo::is_page(policy)
}

/// Whether it is one of LeRobot's servers, over zenoh.
pub fn is_zenoh(policy: Option<&str>) -> bool {
    policy.is_some_and(|policy| policy.parse::<Address>().is_ok_and(|address| address.protocol() == Protocol::Lerobot))
}

impl RemoteArgs {
    /// Refuses what means nothing for a policy that is `policy` names.
    pub fn check(&self, policy: Option<&str>, compute: &ComputeArgs) -> Result<(), Misuse> {
        if policy.is_some_and(is_server) {
            let (is_zenoh, has_token) = (is_zenoh(policy), self.policy_token_env.is_some());
            if is_zenoh {
                refuse_given(
                    &[("--policy-token-env", has_token), ("--hub-token", self.hub_token)],
                    "is for servers that take a token; for zenoh:// --policy-zenoh-config names a file with certificates",
                )?;
            } else {
                refuse_given(
                    &[
                        ("--policy-semantics", self.policy_semantics.is_some()),
                        ("--policy-zenoh-config", self.policy_zenoh_config.is_some()),
                    ],
                    "is for --policy zenoh://HOST:PORT/DEPLOYMENT",
                )?;
            }
            return refuse_given(
                &[
                    ("--threads", compute.threads.is_some()),
                    ("--device", compute.device != ComputeArgs::default().device),
                    ("--quantize", compute.quantize.is_some()),
                    ("--allow-nan", compute.allow_nan),
                    ("--commercial", compute.commercial),
                ],
                "is for a policy that runs here, and --policy names a server",
            );
        }
        refuse_given(
            &[
                ("--policy-keys", self.policy_keys.is_some()),
                ("--policy-deadline", self.policy_deadline.is_some()),
                ("--policy-semantics", self.policy_semantics.is_some()),
                ("--policy-zenoh-config", self.policy_zenoh_config.is_some()),
                ("--policy-token-env", self.policy_token_env.is_some()),
                ("--hub-token", self.hub_token),
            ],
            "is for a policy on a server, named as ws://HOST:PORT, zenoh://HOST:PORT/DEPLOYMENT, https://HOST or groot://HOST:PORT",
        )
    }

    /// How to reach the server that `policy` names, where it names one.
    ///
    /// `asks` when the policy is to be asked, and not only looked at.
    pub fn options(&self, policy: Option<&str>, renames: &[(String, String)], asks: bool) -> anyhow::Result<Option<RemoteOptions>> {
        let Some(text) = policy.filter(|policy| is_server(policy)) else { return Ok(None) };
        let address = Address::from_str(text).map_err(|error| Misuse(error.to_string()))?;
        if asks && matches!(address.protocol(), Protocol::Endpoint | Protocol::Groot) && self.policy_keys.is_none() {
            let preset = if address.protocol() == Protocol::Groot { "groot-so100" } else { "lerobot" };
            let why =
                format!("{text} is a server, which does not say which joints are which: expected --policy-keys with a file, or {preset}");
            return Err(Misuse(why).into());
        }
        let token = match &self.policy_token_env {
            Some(name) => Some(token(name, "--policy-token-env")?),
            None if self.hub_token => Some(hub_token(&address)?),
            None => None,
        };
        Ok(Some(RemoteOptions {
            token,
            keys: self.policy_keys.as_deref().map(KeyMap::find).transpose()?,
            renames: renames.to_vec(),
            semantics: self.policy_semantics.clone(),
            zenoh_config: self.policy_zenoh_config.clone(),
            deadline: self.policy_deadline.map(Duration::from_secs_f64),
            ..RemoteOptions::new(address)
        }))
    }
}

/// The Hub's own token, for a server that is the Hub's own.
fn hub_token(address: &Address) -> Result<String, Misuse> {
    if !address.is_of_the_hub() {
        return Err(Misuse(format!(
            "--hub-token: {address} is none of Hugging Face's endpoints (https://NAME.endpoints.huggingface.cloud), and nobody else gets a \
             token of the Hub; expected --policy-token-env NAME"
        )));
    }
    let token = HubOptions::from_env().token;
    token
        .map(|token| token.secret().to_owned())
        .ok_or_else(|| Misuse("--hub-token: there is no token of the Hub; run `sinew hub login`, or set HF_TOKEN".into()))
}

/// A token from the environment, where other users of the machine cannot see it.
pub fn token(name: &str, option: &str) -> Result<String, Misuse> {
    let value = std::env::var(name).ok().map(|value| value.trim().to_owned()).filter(|value| !value.is_empty());
    value.ok_or_else(|| Misuse(format!("{option} {name}: the environment has no such variable, or it is empty")))
}
