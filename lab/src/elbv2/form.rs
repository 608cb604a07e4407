//! The parameters of a call, as the query protocol sends them.

use super::invalid;
use crate::api::ApiError;

/// The parameters, in the order they came in.
pub(super) struct Form(Vec<(String, String)>);

/// A target in the parameter `Targets`.
pub(super) struct AskedTarget {
    pub(super) id: String,
    pub(super) port: Option<u16>,
}

impl Form {
    pub(super) fn parse(body: &[u8]) -> Result<Self, ApiError> {
        serde_urlencoded::from_bytes(body).map(Self).map_err(|error| invalid(error.to_string()))
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// A list of texts: `Names.member.1`, `Names.member.2`.
    pub(super) fn list(&self, name: &str) -> Vec<&str> {
        (1..).map_while(|index| self.get(&format!("{name}.member.{index}"))).collect()
    }

    /// The parameter `Targets`; the port may be missing.
    pub(super) fn targets(&self) -> Result<Vec<AskedTarget>, ApiError> {
        let ids = (1..).map_while(|index| Some((index, self.get(&format!("Targets.member.{index}.Id"))?)));
        ids.map(|(index, id)| Ok(AskedTarget { id: id.to_owned(), port: self.target_port(index)? })).collect()
    }

    fn target_port(&self, index: usize) -> Result<Option<u16>, ApiError> {
        let text = self.get(&format!("Targets.member.{index}.Port"));
        text.map(str::parse)
            .transpose()
            .map_err(|_| invalid("the port of a target must be a number from 1 to 65535"))
    }
}
