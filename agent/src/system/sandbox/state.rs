//! What of the sandbox is in force, for the log, `ioto status` and `ioto doctor`.

use std::fmt;

use serde_json::{Value, json};

/// One layer of the sandbox.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Layer {
    /// Not wanted by the configuration.
    #[default]
    Off,
    /// Wanted, and the system does not have it; the text says why.
    Missing(String),
    /// In force: `ABI 4`, `240 calls`.
    On(String),
}

/// What is in force since the start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// Whether a sandbox was wanted at all, and otherwise why not.
    pub off: Option<String>,
    /// Who the agent is.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// Names of the capabilities that it has; empty: none.
    pub capabilities: Vec<String>,
    /// No program that is started has more rights.
    pub no_new_privs: bool,
    /// Which files can be read and written.
    pub landlock: Layer,
    /// Which system calls are answered.
    pub seccomp: Layer,
    /// What is not as it should be, a sentence each.
    pub warnings: Vec<String>,
}

impl State {
    /// As a member of `/api/status`.
    pub fn to_json(&self) -> Value {
        let layer = |layer: &Layer| match layer {
            Layer::Off => json!("off"),
            Layer::Missing(why) => json!(format!("missing: {why}")),
            Layer::On(what) => json!(what),
        };
        json!({
            "active": self.off.is_none(),
            "summary": self.to_string(),
            "uid": self.uid,
            "gid": self.gid,
            "capabilities": self.capabilities,
            "noNewPrivs": self.no_new_privs,
            "landlock": layer(&self.landlock),
            "seccomp": layer(&self.seccomp),
            "warnings": self.warnings,
            "pid": std::process::id(),
        })
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(why) = &self.off {
            return write!(f, "off: {why}");
        }
        write!(f, "uid {}, ", self.uid)?;
        match self.capabilities.as_slice() {
            [] => f.write_str("no capabilities")?,
            some if some.len() > 3 => write!(f, "{} capabilities", some.len())?,
            some => write!(f, "capabilities {}", some.join(" "))?,
        }
        f.write_str(if self.no_new_privs { ", no_new_privs" } else { ", new privileges possible" })?;
        for (name, layer) in [("landlock", &self.landlock), ("seccomp", &self.seccomp)] {
            match layer {
                Layer::Off => write!(f, ", {name} off")?,
                Layer::Missing(_) => write!(f, ", no {name}")?,
                Layer::On(what) => write!(f, ", {name} {what}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_says_what_is_in_force() {
        let state = State {
            uid: 998,
            gid: 998,
            no_new_privs: true,
            landlock: Layer::On("ABI 4".into()),
            seccomp: Layer::On("240 calls".into()),
            ..State::default()
        };
        assert_eq!(state.to_string(), "uid 998, no capabilities, no_new_privs, landlock ABI 4, seccomp 240 calls");
        let state =
            State { capabilities: vec!["net_bind_service".into()], landlock: Layer::Missing("x".into()), ..state };
        assert_eq!(
            state.to_string(),
            "uid 998, capabilities net_bind_service, no_new_privs, no landlock, seccomp 240 calls"
        );
        assert_eq!(State { off: Some("profile dev".into()), ..state }.to_string(), "off: profile dev");
    }
}
