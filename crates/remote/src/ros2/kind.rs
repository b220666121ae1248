//! What a type of messages is made of, and the hash that ROS 2 knows it by.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use sha2::{Digest as _, Sha256};

/// A type of messages, such as `sensor_msgs/msg/JointState`.
#[derive(Debug)]
pub struct Kind {
    pub name: &'static str,
    pub(super) fields: &'static [(&'static str, Field)],
}

/// What a field holds.
#[derive(Debug)]
pub(super) enum Field {
    Uint8,
    Int32,
    Uint32,
    Float64,
    Text,
    Of(&'static Kind),
    Many(&'static Self),
}

impl Field {
    /// The number of `type_description_interfaces/msg/FieldType`, and the type that it is of.
    fn number(&self) -> (u32, &'static str) {
        /// What is added for a sequence without a bound.
        const MANY: u32 = 144;
        match self {
            Self::Of(kind) => (1, kind.name),
            Self::Uint8 => (3, ""),
            Self::Int32 => (6, ""),
            Self::Uint32 => (7, ""),
            Self::Float64 => (11, ""),
            Self::Text => (17, ""),
            Self::Many(one) => {
                let (number, kind) = one.number();
                (MANY + number, kind)
            }
        }
    }

    fn kind(&self) -> Option<&'static Kind> {
        match self {
            Self::Of(kind) => Some(kind),
            Self::Many(one) => one.kind(),
            _ => None,
        }
    }
}

impl Kind {
    /// As DDS calls it: `sensor_msgs::msg::dds_::JointState_`.
    pub fn dds_name(&self) -> String {
        let (package, name) = self.name.rsplit_once('/').unwrap_or(("", self.name));
        format!("{}::dds_::{name}_", package.replace('/', "::"))
    }

    /// `RIHS01_` and the SHA-256 of the type's description (REP 2016): a JSON of it and of all types that it holds, by name.
    pub fn hash(&self) -> String {
        let mut others = BTreeMap::new();
        self.collect(&mut others);
        let others: Vec<String> = others.values().map(|kind| kind.description()).collect();
        let json = format!("{{\"type_description\": {}, \"referenced_type_descriptions\": [{}]}}", self.description(), others.join(", "));
        format!("RIHS01_{}", data_encoding::HEXLOWER.encode(&Sha256::digest(json)))
    }

    fn collect(&self, into: &mut BTreeMap<&'static str, &'static Kind>) {
        for kind in self.fields.iter().filter_map(|(_, field)| field.kind()) {
            into.insert(kind.name, kind);
            kind.collect(into);
        }
    }

    fn description(&self) -> String {
        let mut json = format!("{{\"type_name\": \"{}\", \"fields\": [", self.name);
        for (at, (name, field)) in self.fields.iter().enumerate() {
            let (number, kind) = field.number();
            let comma = if at == 0 { "" } else { ", " };
            let _ = write!(
                json,
                "{comma}{{\"name\": \"{name}\", \"type\": {{\"type_id\": {number}, \"capacity\": 0, \"string_capacity\": 0, \"nested_type_name\": \"{kind}\"}}}}"
            );
        }
        json + "]}"
    }
}
