//! Tokens, and who may do what.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::git;
use super::reply::Reply;
use super::repo::{Gated, Repo};

/// What a token may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rights {
    /// Nothing but say whose it is: a fine-grained token without rights.
    None,
    /// Read what its user may read.
    Read,
    /// Read and write.
    Write,
}

#[derive(Clone, Debug)]
pub(super) struct Token {
    pub user: String,
    pub rights: Rights,
}

/// Tokens and organisations.
#[derive(Debug, Default)]
pub(super) struct Accounts {
    pub tokens: BTreeMap<String, Token>,
    /// Organisation → its members.
    pub orgs: BTreeMap<String, Vec<String>>,
}

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Caller {
    Nobody,
    User { name: String, rights: Rights },
}

impl Caller {
    pub fn name(&self) -> Option<&str> {
        match self {
            Self::Nobody => None,
            Self::User { name, .. } => Some(name),
        }
    }
}

impl Accounts {
    /// Who sends this `Authorization` header.
    pub fn caller(&self, authorization: Option<&str>) -> Result<Caller, Reply> {
        let Some(authorization) = authorization else { return Ok(Caller::Nobody) };
        let token = authorization.strip_prefix("Bearer ").map(str::trim).and_then(|token| self.tokens.get(token));
        match token {
            Some(token) => Ok(Caller::User { name: token.user.clone(), rights: token.rights }),
            None => Err(Reply::error(401, None, "Invalid credentials in Authorization header")),
        }
    }

    /// Whether `caller`'s user owns, or is in the organisation that owns, `namespace`.
    pub fn owns(&self, caller: &Caller, namespace: &str) -> bool {
        caller.name().is_some_and(|name| {
            name == namespace || self.orgs.get(namespace).is_some_and(|members| members.iter().any(|member| member == name))
        })
    }

    /// That `caller` may know of `repo`, and read its files too where `is_content`.
    pub fn may_read(&self, caller: &Caller, repo: &Repo, is_content: bool) -> Result<(), Reply> {
        let owns = self.owns(caller, repo.owner());
        let reads = matches!(caller, Caller::User { rights: Rights::Read | Rights::Write, .. });
        if repo.private && !(owns && reads) {
            return Err(Reply::no_repo(caller));
        }
        if !is_content || repo.gated == Gated::No || owns && reads {
            return Ok(());
        }
        let link = format!("Access to {} {} is restricted.", repo.kind.word(), repo.name);
        match caller.name() {
            None => Err(Reply::error(
                401,
                Some("GatedRepo"),
                &format!("{link} You must have access to it and be authenticated to access it. Please log in."),
            )),
            Some(name) if reads && repo.granted.contains(name) => Ok(()),
            Some(_) => Err(Reply::error(
                403,
                Some("GatedRepo"),
                &format!(
                    "{link} You are not in the authorized list. Visit https://huggingface.co/{}{} to ask for access.",
                    repo.kind.prefix(),
                    repo.name
                ),
            )),
        }
    }

    /// That `caller` may write in `namespace`.
    pub fn may_write(&self, caller: &Caller, namespace: &str) -> Result<(), Reply> {
        match caller {
            Caller::Nobody => Err(Reply::error(401, None, "Invalid username or password.")),
            Caller::User { rights: Rights::Write, .. } if self.owns(caller, namespace) => Ok(()),
            Caller::User { rights: Rights::Write, .. } => {
                Err(Reply::error(403, None, &format!("You don't have the rights to write under the namespace \"{namespace}\"")))
            }
            Caller::User { .. } => Err(Reply::error(403, None, "Forbidden: you must use a write token to upload to a repository.")),
        }
    }

    /// The answer of `/api/whoami-v2`.
    pub fn whoami(&self, caller: &Caller, authorization: &str) -> Result<Value, Reply> {
        let Caller::User { name, rights } = caller else {
            return Err(Reply::error(401, None, "Invalid username or password."));
        };
        let orgs: Vec<Value> = self
            .orgs
            .iter()
            .filter(|(_, members)| members.contains(name))
            .map(|(org, _)| json!({"type": "org", "id": short_id(org), "name": org, "fullname": org, "roleInOrg": "write", "isEnterprise": false}))
            .collect();
        let role = match rights {
            Rights::Write => "write",
            Rights::Read => "read",
            Rights::None => "fineGrained",
        };
        let is_oauth = authorization.starts_with("Bearer hf_oauth");
        let auth = if is_oauth {
            json!({"type": "oauth", "expiresAt": super::clock::iso(super::clock::unix_s() + 3600)})
        } else {
            json!({"type": "access_token", "accessToken": {"displayName": format!("{name}-{role}"), "role": role, "createdAt": "2026-01-01T00:00:00.000Z"}})
        };
        Ok(json!({
            "type": "user", "id": short_id(name), "name": name, "fullname": name, "isPro": false,
            "avatarUrl": "/avatars/none.svg", "email": format!("{name}@example.org"), "emailVerified": true, "orgs": orgs, "auth": auth,
        }))
    }
}

/// 24 hexadecimal digits, as the Hub's ids are.
pub(super) fn short_id(of: &str) -> String {
    git::sha256(of.as_bytes()).chars().take(24).collect()
}
