//! The options of a policy that is on another machine.

use std::str::FromStr as _;
use std::time::Duration;

use clap::Args;
use sinew_remote::{Address, KeyMap, RemoteOptions};

use super::{ComputeArgs, Misuse, above_zero, refuse_given};

const HEADING: &str = "Policy server";

#[derive(Args, Clone, Default)]
pub struct RemoteArgs {
    /// With --policy ws://…: the names under which the server wants images and state: droid, libero, aloha, lerobot, or a TOML file [default: what the server says]
    #[arg(long, value_name = "PRESET|FILE", help_heading = HEADING, hide_short_help = true)]
    pub policy_keys: Option<String>,
    /// With --policy ws://…: how long an answer may take, in seconds. A later one is not used [default: as long as its actions last, but 0.5 to 10 s]
    #[arg(long, value_name = "S", value_parser = above_zero, help_heading = HEADING, hide_short_help = true)]
    pub policy_deadline: Option<f64>,
    /// With --policy ws://…: the environment variable with the server's token. It is sent as "Authorization: Bearer TOKEN", or as it is if it names a scheme, such as "Api-Key TOKEN"
    #[arg(long, value_name = "NAME", help_heading = HEADING, hide_short_help = true)]
    pub policy_token_env: Option<String>,
}

impl RemoteArgs {
    /// Refuses what means nothing for a policy that is `policy` names.
    pub fn check(&self, policy: Option<&str>, compute: &ComputeArgs) -> Result<(), Misuse> {
        if policy.is_some_and(Address::is_meant) {
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
                ("--policy-token-env", self.policy_token_env.is_some()),
            ],
            "is for a policy on a server, named as ws://HOST:PORT",
        )
    }

    /// How to reach the server that `policy` names, where it names one.
    pub fn options(&self, policy: Option<&str>, renames: &[(String, String)]) -> anyhow::Result<Option<RemoteOptions>> {
        let Some(text) = policy.filter(|policy| Address::is_meant(policy)) else { return Ok(None) };
        let address = Address::from_str(text).map_err(|error| Misuse(error.to_string()))?;
        let token = self.policy_token_env.as_deref().map(|name| token(name, "--policy-token-env")).transpose()?;
        Ok(Some(RemoteOptions {
            token,
            keys: self.policy_keys.as_deref().map(KeyMap::find).transpose()?,
            renames: renames.to_vec(),
            deadline: self.policy_deadline.map(Duration::from_secs_f64),
            ..RemoteOptions::new(address)
        }))
    }
}

/// A token from the environment, where other users of the machine cannot see it.
pub fn token(name: &str, option: &str) -> Result<String, Misuse> {
    let value = std::env::var(name).ok().map(|value| value.trim().to_owned()).filter(|value| !value.is_empty());
    value.ok_or_else(|| Misuse(format!("{option} {name}: the environment has no such variable, or it is empty")))
}
