//! A container as a runtime makes it, by `bwrap`: a read-only root that holds the binary, a user without a name, no
//! `HOME`, the binary as PID 1 of its own process namespace, and one volume.

use std::{
    fs::{self, File},
    os::{fd::OwnedFd, unix::fs::chown},
    path::{Path, PathBuf},
    process::Command,
};

use rustix::process::{Pid, Signal, kill_process};

use super::{
    bt_fast_path,
    control_group::ControlGroup,
    net::{Host, NAMESPACES, NetPair},
    process::{CONTAINER_DEADLINE, Finished, Running, run},
    scratch::Scratch,
    script,
};

/// The user and group of the image.
const USER: u32 = 65534;
/// The folder of the volume, in the container.
pub(crate) const VOLUME: &str = "/data";
/// The folders of a dynamic binary's libraries, and of the shell.
const SYSTEM: [&str; 5] = ["/bin", "/lib", "/lib64", "/usr/bin", "/usr/lib"];
/// The first descriptor that a test passes on.
const FILTER_FD: &str = "3";

/// The contents of a container's root besides the binary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Proc {
    Mounted,
    Absent,
}

/// Files of the system in the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum System {
    /// Only those that the binary needs: none if it is static.
    Needed,
    /// A shell and its programs.
    Shell,
}

/// The seccomp profile of a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Profile {
    /// `packaging/container/seccomp.json`.
    Ours,
    /// The same without io_uring, as the defaults of container runtimes.
    NoRing,
}

/// How a container is made.
#[derive(Clone, Copy)]
pub(crate) struct Recipe<'a> {
    pub(crate) proc: Proc,
    pub(crate) system: System,
    pub(crate) profile: Profile,
    /// The only variables of the environment.
    pub(crate) variables: &'a [(&'a str, &'a str)],
    /// A file of the host that is the container's `/etc/hosts`.
    pub(crate) hosts: Option<&'a Path>,
    pub(crate) limits: Option<Limits<'a>>,
}

/// The limits of a small container.
#[derive(Clone, Copy)]
pub(crate) struct Limits<'a> {
    pub(crate) group: &'a ControlGroup,
    pub(crate) descriptors: u32,
}

impl Default for Recipe<'_> {
    fn default() -> Self {
        let (variables, hosts, limits) = (&[][..], None, None);
        Self { proc: Proc::Mounted, system: System::Needed, profile: Profile::NoRing, variables, hosts, limits }
    }
}

/// Containers on one host without a network but the loopback.
pub(crate) struct Containers {
    network: NetPair,
    /// The binary, where its user can reach it.
    image: Scratch,
}

impl Containers {
    pub(crate) fn new() -> Self {
        let image = Scratch::public();
        fs::copy(bt_fast_path(), image.join("bt-fast")).unwrap();
        Self { network: NetPair::new(), image }
    }

    pub(crate) fn host(&self) -> &Host {
        &self.network.left
    }

    /// Returns a new folder for a volume, which belongs to the user of the containers.
    pub(crate) fn volume(&self, name: &str) -> PathBuf {
        let folder = self.image.folder(name);
        chown(&folder, Some(USER), Some(USER)).unwrap();
        folder
    }

    /// Runs the binary in a container until it ends.
    pub(crate) fn run(&self, recipe: Recipe<'_>, volume: &Path, args: &[&str]) -> Finished {
        // The descriptor of the filter cannot be passed on by `run`.
        let filter = self.filter(recipe.profile);
        let bwrap = self.command(recipe, volume, args);
        let mut command = Command::new("sh");
        command.arg("-c").arg(format!(r#"exec {FILTER_FD}<"$0"; exec "$@""#)).arg(filter);
        command.arg(bwrap.get_program()).args(bwrap.get_args());
        run(&command, CONTAINER_DEADLINE)
    }

    /// Starts the binary in a container.
    pub(crate) fn start(&self, recipe: Recipe<'_>, volume: &Path, args: &[&str]) -> Running {
        let filter = OwnedFd::from(File::open(self.filter(recipe.profile)).unwrap());
        let log = self.image.join(&format!("{}.log", fastrand::u32(..)));
        Running::start_with(args[0], &self.command(recipe, volume, args), &log, vec![filter])
    }

    /// Returns the command of a container, which reads its seccomp filter from [`FILTER_FD`].
    fn command(&self, recipe: Recipe<'_>, volume: &Path, args: &[&str]) -> Command {
        let mut command = Command::new("setpriv");
        let user = USER.to_string();
        command.args(["--pdeathsig", "KILL", "--reuid", &user, "--regid", &user, "--clear-groups"]);
        if let Some(Limits { descriptors, .. }) = recipe.limits {
            command.args(["prlimit", &format!("--nofile={descriptors}:{descriptors}")]);
        }
        command.args([
            "bwrap",
            "--unshare-user",
            "--unshare-pid",
            "--unshare-ipc",
            "--unshare-uts",
            "--hostname",
            "pod",
        ]);
        command.args(["--as-pid-1", "--die-with-parent", "--new-session", "--clearenv", "--seccomp", FILTER_FD]);
        for (name, value) in recipe.variables {
            command.args(["--setenv", name, value]);
        }
        command.arg("--ro-bind").arg(self.image.join("bt-fast")).arg("/bt-fast");
        if recipe.system == System::Shell || is_dynamic(&bt_fast_path()) {
            for folder in SYSTEM {
                command.args(["--ro-bind", folder, folder]);
            }
        }
        command.args(["--dev", "/dev"]);
        if recipe.proc == Proc::Mounted {
            command.args(["--proc", "/proc"]);
        }
        if let Some(hosts) = recipe.hosts {
            command.arg("--ro-bind").arg(hosts).arg("/etc/hosts");
        }
        if let Some(Limits { group, .. }) = recipe.limits {
            // A container sees its own group as the root.
            command.arg("--ro-bind").arg(group.folder()).arg(group.root());
        }
        command.arg("--bind").arg(volume).arg(VOLUME).args(["--remount-ro", "/", "--chdir", "/", "/bt-fast"]);
        command.args(args);
        // `ip netns exec` would hide the control groups.
        let mut inside = Command::new("nsenter");
        inside.arg(format!("--net={NAMESPACES}/{}", self.host().namespace)).arg(command.get_program());
        inside.args(command.get_args());
        match recipe.limits {
            Some(Limits { group, .. }) => group.command(&inside),
            None => inside,
        }
    }

    /// Returns the file of a seccomp filter as the kernel loads it.
    fn filter(&self, profile: Profile) -> PathBuf {
        let path = self.image.join(&format!("{profile:?}.bpf"));
        if !path.exists() {
            let json = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/container/seccomp.json");
            // The bindings of libseccomp belong to the system's Python.
            let mut command = Command::new("/usr/bin/python3");
            command.arg(script("seccomp_filter.py")).arg(json).arg(&path);
            if profile == Profile::NoRing {
                command.arg("io_uring");
            }
            let done = run(&command, CONTAINER_DEADLINE);
            assert_eq!(done.code, Some(0), "{done:#?}");
        }
        path
    }
}

/// Returns whether the binary needs a loader, which it names in its first page.
fn is_dynamic(path: &Path) -> bool {
    let bytes = fs::read(path).unwrap();
    let head = &bytes[..bytes.len().min(4096)];
    head.windows(3).any(|window| window == b"ld-")
}

/// Sends a signal to PID 1 of a container.
pub(crate) fn signal_first(container: &Running, signal: Signal) {
    kill_process(first_process(container), signal).unwrap();
}

/// Returns the process id on the host of PID 1 of a container.
pub(crate) fn first_process(container: &Running) -> Pid {
    let children = children(container.id());
    Pid::from_raw(*children.first().expect("bwrap has started its command")).unwrap()
}

/// Returns the children of a process.
pub(crate) fn children(id: u32) -> Vec<i32> {
    let path = format!("/proc/{id}/task/{id}/children");
    fs::read_to_string(path).unwrap_or_default().split_whitespace().map(|pid| pid.parse().unwrap()).collect()
}
