//! `device`: what this device is.

/// Identity and description, as the maker states them.
#[derive(Clone, Debug, Default)]
pub struct Device {
    /// The claim id; `auto` or nothing: made at the first start and kept in the state directory.
    pub id: Option<String>,
    /// The maker's product token.
    pub product: String,
    /// A name for people.
    pub name: String,
    /// One line for people.
    pub description: String,
    /// The model of the hardware.
    pub model: String,
    /// The version of the firmware image.
    pub version: String,
}
