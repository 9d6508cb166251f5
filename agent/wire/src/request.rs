//! What can be asked of the helper.

use crate::json::{Invalid, Members, VERSION};
use crate::names::{Bundle, Hostname, Slot, Time, Zone};
use crate::network::Profile;
use serde_json::{Map, Value};

/// A request with its arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Are you there? Answered with the helper's version.
    Ping,
    /// Restart the device.
    Reboot,
    /// Restart the agent.
    Restart,
    /// Set the name of the device.
    Hostname(Hostname),
    /// Set the clock.
    Time(Time),
    /// Set the time zone.
    Zone(Zone),
    /// Set up a network interface.
    Network(Profile),
    /// Install an update.
    Install(Bundle),
    /// Mark a root partition.
    Mark(Slot, Mark),
    /// Remove everything that was set or stored since the factory, and restart the device.
    Reset,
}

/// What is asked, without the arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Verb {
    Ping,
    Reboot,
    Restart,
    Hostname,
    Time,
    Zone,
    Network,
    Install,
    Mark,
    Reset,
}

/// How a root partition is marked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// It works.
    Good,
    /// It does not work: do not boot it.
    Bad,
    /// Boot it next.
    Active,
}

impl Verb {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Ping,
        Self::Reboot,
        Self::Restart,
        Self::Hostname,
        Self::Time,
        Self::Zone,
        Self::Network,
        Self::Install,
        Self::Mark,
        Self::Reset,
    ];

    /// Its name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ping => "ping",
            Self::Reboot => "reboot",
            Self::Restart => "restart",
            Self::Hostname => "hostname",
            Self::Time => "time",
            Self::Zone => "zone",
            Self::Network => "network",
            Self::Install => "install",
            Self::Mark => "mark",
            Self::Reset => "reset",
        }
    }

    /// From its name on the wire.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|verb| verb.name() == name)
    }
}

impl Mark {
    /// Its name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Bad => "bad",
            Self::Active => "active",
        }
    }

    /// From its name on the wire.
    pub fn parse(name: &str) -> Result<Self, Invalid> {
        [Self::Good, Self::Bad, Self::Active]
            .into_iter()
            .find(|mark| mark.name() == name)
            .ok_or_else(|| Invalid::new("a slot is marked good, bad or active"))
    }
}

impl Request {
    /// What is asked.
    pub fn verb(&self) -> Verb {
        match self {
            Self::Ping => Verb::Ping,
            Self::Reboot => Verb::Reboot,
            Self::Restart => Verb::Restart,
            Self::Hostname(_) => Verb::Hostname,
            Self::Time(_) => Verb::Time,
            Self::Zone(_) => Verb::Zone,
            Self::Network(_) => Verb::Network,
            Self::Install(_) => Verb::Install,
            Self::Mark(..) => Verb::Mark,
            Self::Reset => Verb::Reset,
        }
    }

    /// The payload of its frame.
    pub fn encode(&self) -> Vec<u8> {
        let mut object = Map::new();
        object.insert("version".into(), VERSION.into());
        object.insert("verb".into(), self.verb().name().into());
        self.arguments(&mut object);
        Value::Object(object).to_string().into_bytes()
    }

    /// From the payload of a frame, strictly: what is not known or not valid is an error.
    pub fn decode(payload: &[u8]) -> Result<Self, Invalid> {
        let mut members = Members::decode(payload)?;
        let verb = Verb::parse(&members.text("verb")?).ok_or_else(|| Invalid::new("a verb that is not known"))?;
        let request = match verb {
            Verb::Ping => Self::Ping,
            Verb::Reboot => Self::Reboot,
            Verb::Restart => Self::Restart,
            Verb::Hostname => Self::Hostname(Hostname::parse(&members.text("name")?)?),
            Verb::Time => {
                let millis = members.take("ms")?.as_u64();
                Self::Time(Time::from_millis(millis.ok_or_else(|| Invalid::new("\"ms\" must be a whole number"))?)?)
            }
            Verb::Zone => Self::Zone(Zone::parse(&members.text("zone")?)?),
            Verb::Network => Self::Network(Profile::decode(&mut members)?),
            Verb::Install => Self::Install(Bundle::parse(&members.text("bundle")?)?),
            Verb::Mark => Self::Mark(Slot::parse(&members.text("slot")?)?, Mark::parse(&members.text("as")?)?),
            Verb::Reset => Self::Reset,
        };
        members.end()?;
        Ok(request)
    }

    /// The arguments as an object for a log: a passphrase is masked.
    pub fn masked(&self) -> Value {
        let mut object = Map::new();
        self.arguments(&mut object);
        if let Some(passphrase) = object.get_mut("wifi").and_then(|wifi| wifi.get_mut("passphrase")) {
            *passphrase = "***".into();
        }
        Value::Object(object)
    }

    fn arguments(&self, object: &mut Map<String, Value>) {
        match self {
            Self::Ping | Self::Reboot | Self::Restart | Self::Reset => {}
            Self::Hostname(name) => drop(object.insert("name".into(), name.as_str().into())),
            Self::Time(time) => drop(object.insert("ms".into(), time.millis().into())),
            Self::Zone(zone) => drop(object.insert("zone".into(), zone.as_str().into())),
            Self::Network(profile) => profile.encode(object),
            Self::Install(bundle) => drop(object.insert("bundle".into(), bundle.as_str().into())),
            Self::Mark(slot, mark) => {
                object.insert("slot".into(), slot.as_str().into());
                object.insert("as".into(), mark.name().into());
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn decode(text: &str) -> Result<Request, Invalid> {
        Request::decode(text.as_bytes())
    }

    fn refused(text: &str) -> String {
        decode(text).expect_err(text).to_string()
    }

    const EXAMPLES: [&str; 13] = [
        r#"{"version":1,"verb":"ping"}"#,
        r#"{"version":1,"verb":"reboot"}"#,
        r#"{"version":1,"verb":"restart"}"#,
        r#"{"version":1,"verb":"reset"}"#,
        r#"{"version":1,"verb":"hostname","name":"pump-7"}"#,
        r#"{"version":1,"verb":"time","ms":1790000000000}"#,
        r#"{"version":1,"verb":"zone","zone":"Europe/Berlin"}"#,
        r#"{"version":1,"verb":"install","bundle":"a.raucb"}"#,
        r#"{"version":1,"verb":"mark","slot":"A","as":"good"}"#,
        r#"{"version":1,"verb":"network","interface":"eth0","ip":"dhcp"}"#,
        r#"{"version":1,"verb":"network","interface":"eth0","ip":{"address":"10.0.0.2/8","gateway":"10.0.0.1","dns":["10.0.0.1"]}}"#,
        r#"{"version":1,"verb":"network","interface":"wlan0","ip":"dhcp","wifi":{"ssid":"a \"b\"","passphrase":"secret123"}}"#,
        r#"{"version":1,"verb":"network","interface":"wlan0","ip":{"address":"fd00::2/64"},"wifi":{"ssid":"open"}}"#,
    ];

    #[test]
    fn each_request_comes_back_as_it_was_written() {
        for text in EXAMPLES {
            let request = decode(text).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(String::from_utf8(request.encode()).unwrap(), text);
        }
        for verb in Verb::ALL {
            assert!(EXAMPLES.iter().any(|text| decode(text).unwrap().verb() == verb), "{verb:?}");
        }
    }

    #[test]
    fn a_missing_a_doubled_and_an_unknown_key_and_trailing_bytes_are_refused() {
        for text in EXAMPLES {
            assert!(refused(&format!("{text}x")).contains("not JSON"));
            assert!(refused(&text.replacen('{', r#"{"x":1,"#, 1)).contains("not a known key"));
            assert!(refused(&text.replacen('{', r#"{"verb":"ping","#, 1)).contains("twice"));
            assert!(refused(&text.replace(r#""version":1,"#, "")).contains("version"));
            assert!(refused(&text.replace(r#""version":1,"#, r#""version":2,"#)).contains("version 2"));
            for end in 0..text.len() {
                refused(&text[..end]);
            }
        }
        assert!(refused(r#"{"version":1,"verb":"shell"}"#).contains("verb"));
        assert!(refused(r#"{"version":1,"verb":"hostname"}"#).contains("missing"));
        for strange in ["[]", "1", "null", r#"{"version":1.0,"verb":"ping"}"#, r#"{"version":1,"verb":["ping"]}"#] {
            refused(strange);
        }
        refused(&"[".repeat(10_000));
    }

    #[test]
    fn no_argument_can_break_out() {
        for (verb, key, values) in [
            ("hostname", "name", &["../x", "a\\nb", "", "-x", "a;reboot", "$(id)"][..]),
            ("zone", "zone", &["../../etc/shadow", "/etc/shadow", "Europe/../../x", "a\\u0000", "Europe/", "."]),
            ("install", "bundle", &["../x", "/etc/x", "a/b", "..", "-x", "a\\u0000b", "--help"]),
        ] {
            for value in values {
                refused(&format!(r#"{{"version":1,"verb":"{verb}","{key}":"{}"}}"#, value.replace("\\\\", "\\")));
            }
        }
        for network in [
            r#""interface":"eth0\nX","ip":"dhcp""#,
            r#""interface":"../eth0","ip":"dhcp""#,
            r#""interface":"lo","ip":"dhcp""#,
            r#""interface":"eth0","ip":"none""#,
            r#""interface":"eth0","ip":{"address":"10.0.0.2"}"#,
            r#""interface":"eth0","ip":{"address":"10.0.0.2/33"}"#,
            r#""interface":"eth0","ip":{"address":"10.0.0.2/8\nDNS=1"}"#,
            r#""interface":"eth0","ip":{"address":"10.0.0.2/8","gateway":"fd00::1"}"#,
            r#""interface":"eth0","ip":{"address":"10.0.0.2/8","dns":["1.1.1.1","1.1.1.1","1.1.1.1","1.1.1.1"]}"#,
            r#""interface":"eth0","ip":{"address":"10.0.0.2/8","dns":["a b"]}"#,
            r#""interface":"wlan0","ip":"dhcp","wifi":{"ssid":"a\nb"}"#,
            r#""interface":"wlan0","ip":"dhcp","wifi":{"ssid":"a","passphrase":"secret1\n}"}"#,
            r#""interface":"wlan0","ip":"dhcp","wifi":{"ssid":"a","passphrase":"short"}"#,
            r#""interface":"wlan0","ip":"dhcp","wifi":{"ssid":"a","passphrase":null}"#,
        ] {
            refused(&format!(r#"{{"version":1,"verb":"network",{network}}}"#));
        }
    }

    #[test]
    fn a_passphrase_reaches_no_log() {
        let request = decode(EXAMPLES[11]).unwrap();
        assert!(!request.masked().to_string().contains("secret123"));
        assert!(request.masked().to_string().contains("***"));
        assert!(!format!("{request:?}").contains("secret123"));
    }
}
