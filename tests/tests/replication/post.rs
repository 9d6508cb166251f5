//! The way over MQTT: a broker that can be cut off, and the cloud's function behind it, on the link to the table.

use ioto_tests::{Function, Mosquitto, Moto, Proxy};

use crate::link::Link;

/// Everything between one device and the link.
pub struct Post {
    function: Function,
    front: Proxy,
    trouble: u8,
    random: fastrand::Rng,
}

impl Post {
    pub fn new(moto: &Moto, broker: &Mosquitto, thing: &str, link: &Link, seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let (endpoint, seed) = (link.endpoint(), random.u32(..).to_string());
        let function = Function::with(moto, broker, &["--endpoint", &endpoint, "--thing", thing, "--seed", &seed]);
        Self { function, front: Proxy::new(broker.address()), trouble: 0, random }
    }

    /// What the device needs to use it.
    pub fn settings(&self) -> String {
        format!(
            "{{services: {{mqtt: true}}, mqtt: {{endpoint: 'mqtt://{}'}}, sync: {{transport: 'mqtt', answer: '3 secs'}}}}",
            self.front.address()
        )
    }

    /// From now on so many messages of 100 have a fault, and connections are cut now and then.
    pub fn set(&mut self, trouble: u8) {
        self.trouble = trouble;
        self.function.trouble(trouble);
    }

    /// Cuts the connection to the broker, if there is trouble.
    pub fn cut_perhaps(&mut self) {
        if self.random.u16(..2500) < u16::from(self.trouble) {
            self.front.cut();
        }
    }

    /// Ends the trouble, and waits until the function has done all that it is at.
    pub fn calm(&mut self) {
        self.trouble = 0;
        self.function.calm();
    }
}
