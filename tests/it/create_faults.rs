//! `create` while files change under it: one error line that names the cause, the right exit code, and no leftover
//! files.
//!
//! The program is stopped once it has opened the content, the files are changed, and the program continues.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::support::bt_fast_path;
use crate::support::process::wait_until;
use crate::support::sandbox::{Run, Sandbox, content};

/// Sparse, so it takes no disk space, and long enough that the program still hashes it when it is stopped.
const BIG_LEN: u64 = 1 << 30;
const TIMEOUT: Duration = Duration::from_secs(60);

/// Creates a folder with a large file that is hashed first, and small files after it.
fn world() -> Sandbox {
    let sandbox = Sandbox::new();
    for name in ["a", "b", "c"] {
        sandbox.write(&format!("folder/{name}"), name);
    }
    File::options().write(true).open(sandbox.path("folder/a")).unwrap().set_len(BIG_LEN).unwrap();
    sandbox
}

/// Wraps `command` so that permissions apply to root too.
fn without_privileges(command: &Command) -> Command {
    let mut limited = Command::new("setpriv");
    if rustix::process::geteuid().is_root() {
        limited.arg("--bounding-set=-dac_override,-dac_read_search");
    }
    limited.arg(command.get_program()).args(command.get_args());
    limited.current_dir(command.get_current_dir().unwrap());
    limited.envs(command.get_envs().filter_map(|(key, value)| Some((key, value?))));
    limited
}

fn signal(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).unwrap();
}

/// Starts `create folder` and waits until it has opened `folder/a`.
fn creating(sandbox: &Sandbox) -> Child {
    let mut command = without_privileges(&sandbox.command(["create", "folder"]));
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let open_files = Path::new("/proc").join(child.id().to_string()).join("fd");
    let big = fs::canonicalize(sandbox.path("folder/a")).unwrap();
    let has_it_open = || {
        let links = fs::read_dir(&open_files).into_iter().flatten().flatten();
        links.filter_map(|link| fs::read_link(link.path()).ok()).any(|path| path == big)
    };
    assert!(wait_until(TIMEOUT, has_it_open));
    child
}

/// Runs `create folder`, calls `disturb` in the middle, and returns the result.
fn disturbed(sandbox: &Sandbox, disturb: impl FnOnce()) -> Run {
    let child = creating(sandbox);
    signal(&child, Signal::STOP);
    disturb();
    signal(&child, Signal::CONT);
    child.wait_with_output().unwrap().into()
}

#[test]
fn a_file_that_vanishes_is_named() {
    for name in ["folder/a", "folder/c"] {
        let sandbox = world();
        let run = disturbed(&sandbox, || fs::remove_file(sandbox.path(name)).unwrap());
        run.fails(1, &format!("can't read: {name}: No such file"));
        assert_eq!(sandbox.names(), ["folder"]);
    }
}

#[test]
fn a_file_that_is_replaced_is_named() {
    for (name, len) in [("folder/a", BIG_LEN), ("folder/c", 1)] {
        let sandbox = world();
        sandbox.write("other", "x");
        File::options().write(true).open(sandbox.path("other")).unwrap().set_len(len).unwrap();
        let run = disturbed(&sandbox, || fs::rename(sandbox.path("other"), sandbox.path(name)).unwrap());
        run.fails(1, &format!("changed while it was read: {name}"));
        assert_eq!(sandbox.names(), ["folder"]);
    }
}

#[test]
fn a_file_that_is_written_to_is_named() {
    for (name, len) in [("folder/a", BIG_LEN + 1), ("folder/a", 1 << 20), ("folder/c", 0)] {
        let sandbox = world();
        let file = File::options().append(true).open(sandbox.path(name)).unwrap();
        disturbed(&sandbox, || file.set_len(len).unwrap()).fails(1, &format!("changed while it was read: {name}"));
        assert_eq!(sandbox.names(), ["folder"]);
    }
}

#[test]
fn a_file_that_becomes_unreadable_is_named() {
    let sandbox = world();
    let path = sandbox.path("folder/c");
    let run = disturbed(&sandbox, || fs::set_permissions(&path, Permissions::from_mode(0o000)).unwrap());
    run.fails(1, "can't read: folder/c: Permission denied");
    assert_eq!(sandbox.names(), ["folder"]);
}

#[test]
fn a_kill_leaves_no_torrent() {
    let sandbox = world();
    let mut child = creating(&sandbox);
    signal(&child, Signal::KILL);
    assert_eq!(child.wait().unwrap().code(), None);
    assert_eq!(sandbox.names(), ["folder"]);
}

/// Runs `script` in the sandbox with its own mount namespace. `$0` is the program.
fn in_own_mounts(sandbox: &Sandbox, script: &str) -> Run {
    let mut command = Command::new("unshare");
    if !rustix::process::geteuid().is_root() {
        command.arg("--map-root-user");
    }
    command.args(["--mount", "sh", "-ec", script]).arg(bt_fast_path());
    command.env("XDG_CACHE_HOME", sandbox.cache()).current_dir(sandbox.path(""));
    command.output().unwrap().into()
}

#[test]
fn a_full_output_leaves_nothing() {
    let sandbox = Sandbox::new();
    sandbox.write("content", content(3 << 20));
    fs::create_dir(sandbox.path("full")).unwrap();
    let script = "mount -t tmpfs -o size=16k none full; head -c 16384 /dev/zero >full/filler; \
                  $0 create content -l 16K -o full/content.torrent || code=$?; ls -A full; exit $code";
    let run = in_own_mounts(&sandbox, script).fails(5, "can't write: full/content.torrent: No space left");
    assert_eq!(run.text(), "filler\n");
}

#[test]
fn an_output_in_a_read_only_folder_is_refused_early() {
    let sandbox = world();
    fs::create_dir(sandbox.path("folder.ro")).unwrap();
    let script = "mount -t tmpfs -o ro none folder.ro; exec $0 create folder -o folder.ro/x.torrent -v";
    let run = in_own_mounts(&sandbox, script).fails(5, "can't write: folder.ro/x.torrent: Read-only file system");
    assert_eq!(run.text(), "");

    fs::set_permissions(sandbox.path("folder.ro"), Permissions::from_mode(0o555)).unwrap();
    let mut command = without_privileges(&sandbox.command(["create", "folder", "-o", "folder.ro/x.torrent"]));
    Run::from(command.output().unwrap()).fails(1, "can't write: folder.ro/x.torrent: Permission denied");
    assert_eq!(fs::read_dir(sandbox.path("folder.ro")).unwrap().count(), 0);
}

/// A tmpfs does not support direct reads on older kernels, so the program falls back to buffered ones.
#[test]
fn content_in_memory_gives_the_same_bytes() {
    let sandbox = Sandbox::new();
    let memory = tempfile::tempdir_in("/dev/shm").unwrap();
    let bytes = content((9 << 20) + 5);
    sandbox.write("disk/content", &bytes);
    fs::write(memory.path().join("content"), &bytes).unwrap();
    let create = |path: &Path| {
        let path = path.to_str().unwrap();
        sandbox.run(&format!("create {path} -o - --no-date --no-creator -l 16K")).ok().stdout
    };
    assert_eq!(create(&sandbox.path("disk/content")), create(&memory.path().join("content")));
}
