//! `device`: what this device is.

use serde_json::Value as Json;

use super::node::quote;
use super::section::{Section, text};

/// Identity and description, as the maker states them.
#[derive(Clone, Debug, Default)]
pub struct Device {
    /// `device.id`: the claim id; `auto` or nothing: made at the first start and kept in the state directory. Letters, digits,
    /// `-`, `_` and `:`, at most 128: what AWS IoT takes as the name of a thing.
    pub id: Option<String>,
    /// `device.product`: the maker's product token.
    pub product: String,
    /// `device.name`: a name for people.
    pub name: String,
    /// `device.description`: one line for people.
    pub description: String,
    /// `device.model`: the model of the hardware.
    pub model: String,
    /// `device.version`, or `version` at the root: the version of the firmware image.
    pub version: String,
}

impl Device {
    pub(super) fn read(s: &Section, version: &str) -> Self {
        Self {
            id: s.value(
                "id",
                None,
                |id: &Option<String>| Json::from(id.as_deref().unwrap_or("auto")),
                |node| match text(node)? {
                    id if id.is_empty() || id == "auto" => Ok(None),
                    id if is_name(&id) => Ok(Some(id)),
                    id => Err(format!(
                        "expected 1 to 128 letters, digits, `-`, `_`, `:`, or 'auto', found {}",
                        quote(&id)
                    )),
                },
            ),
            product: s.text("product", ""),
            name: s.text("name", ""),
            description: s.text("description", ""),
            model: s.text("model", ""),
            version: s.text("version", version),
        }
    }
}

fn is_name(id: &str) -> bool {
    id.len() <= 128 && id.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_:".contains(&b))
}
