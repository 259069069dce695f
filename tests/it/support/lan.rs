//! Several hosts on one link: network namespaces joined by a bridge, without a default route.

use std::net::Ipv4Addr;

use super::net::{Host, ip, new_namespace, remove_namespace};

/// Hosts 10.77.0.1, 10.77.0.2 and so on, removed on drop. The bridge is on the first one.
pub(crate) struct Lan {
    pub(crate) hosts: Vec<Host>,
}

impl Lan {
    pub(crate) fn new(count: u8) -> Self {
        let hosts = (1..=count).map(|number| new_namespace(&number.to_string(), Ipv4Addr::new(10, 77, 0, number)));
        let lan = Self { hosts: hosts.collect() };
        let bridge = &lan.hosts[0].namespace;
        ip(&format!("-n {bridge} link add br0 type bridge"));
        ip(&format!("-n {bridge} addr add {}/24 dev br0", lan.hosts[0].ip));
        ip(&format!("-n {bridge} link set br0 up"));
        ip(&format!("-n {bridge} link set lo up"));
        for (number, host) in lan.hosts.iter().enumerate().skip(1) {
            let namespace = &host.namespace;
            ip(&format!("link add port{number} netns {bridge} type veth peer name veth0 netns {namespace}"));
            ip(&format!("-n {bridge} link set port{number} master br0 up"));
            ip(&format!("-n {namespace} addr add {}/24 dev veth0", host.ip));
            ip(&format!("-n {namespace} link set lo up"));
            ip(&format!("-n {namespace} link set veth0 up"));
        }
        lan
    }
}

impl Drop for Lan {
    fn drop(&mut self) {
        self.hosts.iter().for_each(|host| remove_namespace(&host.namespace));
    }
}
