//! Two network namespaces joined by a veth pair: two hosts for one test, with the same addresses in every test.
//! Transmission connects to no peer in 127/8, so its tests need them, and ports of different tests cannot clash. There
//! is no default route, so connections to the outside fail at once.

use std::{
    fs::{self, File},
    net::Ipv4Addr,
    os::fd::AsFd as _,
    path::Path,
    process::{self, Command, Stdio},
    sync::{
        Mutex, MutexGuard, Once,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::Duration,
};

use bt_fast::base::lock::lock;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::process::run;

/// Prefix of our namespaces' names, followed by the process id, a number and the side.
const PREFIX: &str = "btfast";
/// The folder of named namespaces (`ip netns`).
pub(super) const NAMESPACES: &str = "/run/netns";
/// `ip netns exec` binds files in a namespace's folder here over those in `/etc`.
const SETTINGS: &str = "/etc/netns";
const COMMAND_TIMEOUT: Duration = Duration::from_secs(20);

/// One of the two hosts.
#[derive(Clone, Debug)]
pub(crate) struct Host {
    pub(crate) ip: Ipv4Addr,
    pub(super) namespace: String,
}

impl Host {
    /// Returns `command`, run on this host.
    pub(crate) fn command(&self, command: &Command) -> Command {
        let mut inside = Command::new("ip");
        inside.args(["netns", "exec", &self.namespace]).arg(command.get_program()).args(command.get_args());
        for (key, value) in command.get_envs() {
            if let Some(value) = value {
                inside.env(key, value);
            }
        }
        if let Some(folder) = command.get_current_dir() {
            inside.current_dir(folder);
        }
        inside
    }

    /// Sets the name server for commands on this host: a single query with the longest timeout of the C library.
    pub(crate) fn set_name_server(&self, ip: Ipv4Addr) {
        let _changing = lock_settings();
        let folder = Path::new(SETTINGS).join(&self.namespace);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("resolv.conf"), format!("nameserver {ip}\noptions timeout:30 attempts:1\n")).unwrap();
    }

    /// Runs `script` in this host's network namespace; threads that it starts inherit the namespace.
    pub(crate) fn inside<T: Send>(&self, script: impl FnOnce() -> T + Send) -> T {
        let namespace = File::open(Path::new(NAMESPACES).join(&self.namespace)).unwrap();
        let enter_and_play = || {
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
            script()
        };
        thread::scope(|scope| scope.spawn(enter_and_play).join().unwrap())
    }
}

/// Two hosts on one link, removed on drop.
pub(crate) struct NetPair {
    pub(crate) left: Host,
    pub(crate) right: Host,
}

impl NetPair {
    pub(crate) const LEFT_IP: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
    pub(crate) const RIGHT_IP: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);

    pub(crate) fn new() -> Self {
        let pair = Self { left: new_namespace("l", Self::LEFT_IP), right: new_namespace("r", Self::RIGHT_IP) };
        pair.join();
        pair
    }

    fn join(&self) {
        let (left, right) = (&self.left.namespace, &self.right.namespace);
        ip(&format!("link add veth0 netns {left} type veth peer name veth0 netns {right}"));
        for host in [&self.left, &self.right] {
            let namespace = &host.namespace;
            ip(&format!("-n {namespace} addr add {}/24 dev veth0", host.ip));
            ip(&format!("-n {namespace} link set lo up"));
            ip(&format!("-n {namespace} link set veth0 up"));
        }
    }

    /// Adds default routes, so that packets to any address leave on the link and can be captured.
    pub(crate) fn add_default_routes(&self) {
        for host in [&self.left, &self.right] {
            ip(&format!("-n {} route add default dev veth0", host.namespace));
        }
    }

    /// Adds an address to the left host. With [`Self::add_default_routes`] the right host can reach it.
    pub(crate) fn add_left_address(&self, address: Ipv4Addr) {
        ip(&format!("-n {} addr add {address}/32 dev lo", self.left.namespace));
    }

    /// Removes the addresses of the left host's link, and gives it this one, as `ADDRESS/LEN`.
    pub(crate) fn replace_left_address(&self, address: Option<&str>) {
        let namespace = &self.left.namespace;
        ip(&format!("-n {namespace} addr flush dev veth0"));
        if let Some(address) = address {
            ip(&format!("-n {namespace} addr add {address} dev veth0 nodad"));
        }
    }

    /// Takes the link up or down. Both hosts keep their addresses.
    pub(crate) fn set_wire(&self, carries: bool) {
        let state = if carries { "up" } else { "down" };
        ip(&format!("-n {} link set veth0 {state}", self.left.namespace));
    }
}

impl Drop for NetPair {
    fn drop(&mut self) {
        remove_namespace(&self.left.namespace);
        remove_namespace(&self.right.namespace);
    }
}

/// Creates a network namespace, whose name ends in `side`, for a host with this address.
pub(super) fn new_namespace(side: &str, address: Ipv4Addr) -> Host {
    static SWEEP: Once = Once::new();
    static NEXT: AtomicU32 = AtomicU32::new(0);
    SWEEP.call_once(remove_orphans);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let host = Host { ip: address, namespace: format!("{PREFIX}-{}-{number}{side}", process::id()) };
    ip(&format!("netns add {}", host.namespace));
    host
}

#[track_caller]
pub(super) fn ip(arguments: &str) {
    let done = run(Command::new("ip").args(arguments.split_whitespace()), COMMAND_TIMEOUT);
    assert_eq!(done.code, Some(0), "`ip {arguments}` failed; network namespaces need root: {}", done.stderr);
}

/// Removes a namespace and its settings. Leftovers are removed by the next run.
pub(super) fn remove_namespace(name: &str) {
    let _ = Command::new("ip").args(["netns", "del", name]).stderr(Stdio::null()).status();
    let _changing = lock_settings();
    if fs::remove_dir_all(Path::new(SETTINGS).join(name)).is_ok() {
        // Succeeds only for the last folder.
        let _ = fs::remove_dir(SETTINGS);
    }
}

/// Serializes changes to [`SETTINGS`], which may be removed when it is empty.
fn lock_settings() -> MutexGuard<'static, ()> {
    static CHANGING: Mutex<()> = Mutex::new(());
    lock(&CHANGING)
}

/// Removes the namespaces of test processes that have ended.
fn remove_orphans() {
    let entries = [NAMESPACES, SETTINGS].into_iter().flat_map(|folder| fs::read_dir(folder).into_iter().flatten());
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let mut parts = name.split('-');
        if parts.next() != Some(PREFIX) {
            continue;
        }
        let owner = parts.next().unwrap_or_default();
        if !Path::new("/proc").join(owner).exists() {
            remove_namespace(&name);
        }
    }
}
