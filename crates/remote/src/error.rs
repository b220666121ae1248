//! What can go wrong with a policy on the network, before a robot moves.

use thiserror::Error;

use crate::Fit;

/// A remote policy that can't be used, or a server that can't serve.
#[derive(Debug, Error)]
pub enum RemoteError {
    #[error("reading the address {text}: {what}")]
    Address { text: String, what: &'static str },
    #[error("reading the key map {name}: {what}")]
    Keys { name: String, what: String },
    /// Nobody is there, or it is somebody else.
    #[error("connecting to {address}: {what}")]
    Connect { address: String, what: String },
    /// The server names nothing that it wants, and no keys were given.
    #[error(
        "asking {address} what its policy wants: it does not say under which names; expected --policy-keys with one of droid, libero, \
         aloha, lerobot, groot-so100, or a file"
    )]
    Untold { address: String },
    /// What the server wants, or answers, is not for this robot.
    #[error("fitting the policy at {address} to robot {}: they don't fit\n{fit}", fit.robot)]
    Mismatch { address: String, fit: Fit },
    /// A first question, at rest.
    #[error("asking the policy at {address} for a first answer: {what}")]
    Probe { address: String, what: String },
    #[error("listening on {address}")]
    Listen {
        address: String,
        #[source]
        source: std::io::Error,
    },
    #[error("serving on {address}: {what}")]
    Serve { address: String, what: String },
    /// Where the robots of a fleet meet.
    #[error("meeting the fleet at {place}: {what}")]
    Fleet { place: String, what: String },
    /// Daemons on the same network.
    #[error("{doing} by mDNS: {what}")]
    Nearby { doing: &'static str, what: String },
    /// The certificate of a daemon.
    #[error("reading or making the certificate {}: {what}", path.display())]
    Certificate { path: std::path::PathBuf, what: String },
    /// The tokens of a daemon.
    #[error("reading or writing the tokens: {path}")]
    Keyring {
        path: std::path::PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("starting the {who} thread")]
    Thread {
        who: &'static str,
        #[source]
        source: std::io::Error,
    },
}
