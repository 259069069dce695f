//! A tracker on one host of a [`NetPair`](super::net::NetPair), whose announces a test can wait for.

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
    /// Starts on `host`; the log goes into the folder `logs`.
    pub(crate) fn start(host: &Host, logs: &Path) -> Self {
        let mut command = Command::new(python());
        command.arg(script("tracker.py")).arg(host.ip.to_string()).arg(PORT.to_string());
        let process = Running::start("tracker", &host.command(&command), &logs.join("tracker.log"));
        let mut tracker = Self { process };
        let listens = wait_until(START_TIMEOUT, || tracker.process.output().contains("listening"));
        assert!(listens, "the tracker did not start\n{}", tracker.log_tail());
        tracker
    }

    /// The URL of a tracker that runs on a host with this address.
    pub(crate) fn url(host_ip: Ipv4Addr) -> String {
        format!("http://{}/announce", Self::address(host_ip))
    }

    pub(crate) fn address(host_ip: Ipv4Addr) -> SocketAddr {
        (host_ip, PORT).into()
    }

    /// All announces so far: the GET keys as they came, and `ip`.
    pub(crate) fn announces(&self) -> Vec<Value> {
        let output = self.process.output();
        let lines = output.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines.filter(|line| line.get("info_hash").is_some()).collect()
    }

    /// There was an announce with all these keys.
    pub(crate) fn saw(&self, keys: &[(&str, &str)]) -> bool {
        self.announces().iter().any(|announce| keys.iter().all(|(key, value)| announce[key] == *value))
    }

    pub(crate) fn log_tail(&mut self) -> String {
        self.process.log_tail()
    }
}
