//! Captures the kinds of packets that leave a host of a [`NetPair`](super::net::NetPair).

use std::{net::IpAddr, path::Path, process::Command, time::Duration};

use rustix::process::Signal;
use serde::Deserialize;
use serde_json::Value;

use super::{
    net::Host,
    process::{Running, wait_until},
    python, script,
};

const DEADLINE: Duration = Duration::from_secs(20);

pub(crate) struct Capture(Running);

/// A kind of packet that left the host at least once.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Packet {
    pub(crate) protocol: String,
    pub(crate) source: Option<IpAddr>,
    #[serde(default)]
    pub(crate) source_port: u16,
    /// The destination; for ARP the address that is resolved.
    pub(crate) destination: Option<IpAddr>,
    #[serde(default)]
    pub(crate) destination_port: u16,
    /// The type of an ICMPv6 packet.
    #[serde(default, rename = "type")]
    pub(crate) icmp_type: u8,
}

impl Capture {
    /// Starts the capture. Its log is written to the folder `logs`.
    pub(crate) fn start(host: &Host, logs: &Path) -> Self {
        let mut command = Command::new(python());
        command.arg(script("capture.py"));
        let log = logs.join(format!("capture of {}.log", host.ip));
        let mut process = Running::start("capture", &host.command(&command), &log);
        let watches = wait_until(DEADLINE, || process.output().contains("watching"));
        assert!(watches, "{}", process.log_tail());
        Self(process)
    }

    /// Stops the capture and returns all kinds of packets. Panics if the kernel dropped a packet.
    pub(crate) fn stop(mut self) -> Vec<Packet> {
        self.0.signal(Signal::TERM);
        let status = self.0.wait(DEADLINE);
        assert!(status.is_some_and(|status| status.success()), "{}", self.0.log_tail());
        let lines: Vec<Value> = self.0.output().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.last().unwrap()["dropped"], 0);
        lines
            .iter()
            .filter(|line| line["protocol"].is_string())
            .map(|line| Packet::deserialize(line).unwrap())
            .collect()
    }
}
