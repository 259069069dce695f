//! A tracker on a host of a [`NetPair`](super::net::NetPair), which records announces.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    process::Command,
    time::Duration,
};

use serde_json::Value;

use super::{
    net::Host,
    process::{Running, wait_until},
    python, script,
};

const PORT: u16 = 6969;
const START_TIMEOUT: Duration = Duration::from_secs(20);

pub(crate) struct Tracker {
    process: Running,
}

impl Tracker {
    /// Starts a tracker on `host`. Its log is written to the folder `logs`.
    pub(crate) fn start(host: &Host, logs: &Path) -> Self {
        let mut command = Command::new(python());
        command.arg(script("tracker.py")).arg(host.ip.to_string()).arg(PORT.to_string());
        let process = Running::start("tracker", &host.command(&command), &logs.join("tracker.log"));
        let mut tracker = Self { process };
        let listens = wait_until(START_TIMEOUT, || tracker.process.output().contains("listening"));
        assert!(listens, "the tracker did not start\n{}", tracker.log_tail());
        tracker
    }

    /// Returns the URL of a tracker on the host with this address.
    pub(crate) fn url(host_ip: Ipv4Addr) -> String {
        format!("http://{}/announce", Self::address(host_ip))
    }

    pub(crate) fn address(host_ip: Ipv4Addr) -> SocketAddr {
        (host_ip, PORT).into()
    }

    /// Returns all announces so far: the raw query keys, and `ip`.
    pub(crate) fn announces(&self) -> Vec<Value> {
        let output = self.process.output();
        let lines = output.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines.filter(|line| line.get("info_hash").is_some()).collect()
    }

    /// Returns whether there was an announce with all these values.
    pub(crate) fn saw(&self, keys: &[(&str, &str)]) -> bool {
        self.announces().iter().any(|announce| keys.iter().all(|(key, value)| announce[key] == *value))
    }

    pub(crate) fn log_tail(&mut self) -> String {
        self.process.log_tail()
    }
}
