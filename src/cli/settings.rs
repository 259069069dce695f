//! Flags from the environment and from a configuration file.
//!
//! Every flag `--some-flag` is also `BT_FAST_SOME_FLAG` in the environment and `some-flag = value` in a configuration file.
//! The command line takes precedence over the environment, the environment over the file, the file over the defaults.
//! A file, a line or a variable that cannot be understood is refused: it may hold a setting that protects the user.

use std::collections::HashSet;
use std::env;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use clap::builder::FalseyValueParser;
use clap::{Arg, ArgAction, Command, CommandFactory as _};

use super::args::Arguments;
use super::exit::{Exit, Failure};
use super::hook::HOOK_PREFIX;
use crate::base::FLAG_VARIABLES;
use crate::base::escape::printable;
use crate::base::limits::CONFIG_LEN_MAX;
use crate::create::open::shown;

const FLAG: &str = "config";
/// Variables of `uring::fault`, which release builds do not read.
const FAULT_VARIABLES: [&str; 3] = ["BT_FAST_KILL_AT", "BT_FAST_FAULTS", "BT_FAST_CHAOS"];

/// A configuration file: `flag = value` lines, for one command below its `[command]`, for all that know the flag above.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Settings(Vec<Setting>);

#[derive(Debug, PartialEq, Eq)]
struct Setting {
    line: usize,
    /// `None`: any that knows the flag.
    command: Option<String>,
    flag: String,
    /// Raw bytes: it may be a path.
    value: OsString,
}

impl Settings {
    /// The file that `args` or the environment name, or the one in its usual place if there is one.
    pub fn load(args: &[OsString]) -> Result<(Self, PathBuf), Failure> {
        if let Some(path) = named(args).or_else(|| env::var_os("BT_FAST_CONFIG").map(PathBuf::from)) {
            let bytes = read(&path).map_err(|error| unreadable(&path, &error))?;
            return Ok((Self::parse(&bytes, &path)?, path));
        }
        for path in usual_places() {
            match read(&path) {
                Ok(bytes) => return Ok((Self::parse(&bytes, &path)?, path)),
                Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {}
                Err(error) => return Err(unreadable(&path, &error)),
            }
        }
        Ok((Self::default(), PathBuf::new()))
    }

    /// Comments may hold any text, in any encoding, on one line.
    fn parse(bytes: &[u8], path: &Path) -> Result<Self, Failure> {
        let commands = Arguments::command();
        let is_command = |name: &str| commands.find_subcommand(name).is_some();
        let mut settings = Vec::new();
        let mut command = None;
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        for (line, content) in (1..).zip(bytes.split(|&byte| byte == b'\n').map(<[u8]>::trim_ascii)) {
            // A lone carriage return, or the zeros of UTF-16, would hide the settings that follow in a comment.
            if content.iter().any(|&byte| byte.is_ascii_control() && byte != b'\t') {
                return Err(refusal(path, line, "a control character: save it as UTF-8 text with line feeds"));
            }
            if content.is_empty() || content.starts_with(b"#") {
                continue;
            }
            if let Some(name) = content.strip_prefix(b"[").and_then(|rest| rest.strip_suffix(b"]")) {
                let name = text(name, path, line)?;
                if !is_command(&name) {
                    return Err(refusal(path, line, &format!("there is no command '{}'", printable(name.as_bytes()))));
                }
                command = Some(name);
                continue;
            }
            let Some(equals) = content.iter().position(|&byte| byte == b'=') else {
                return Err(refusal(path, line, "give flag = value"));
            };
            let (flag, value) = content.split_at(equals);
            let flag = text(flag, path, line)?;
            let value = OsString::from_vec(value.get(1..).unwrap_or_default().trim_ascii().to_vec());
            settings.push(Setting { line, command: command.clone(), flag, value });
        }
        Ok(Self(settings))
    }

    /// The command line with what the environment and this file say. A flag that no command knows is refused.
    pub fn apply(&self, mut command: Command, path: &Path) -> Result<Command, Failure> {
        for Setting { line, command: of, flag, .. } in &self.0 {
            // The file itself was chosen before it was read.
            let known = flag != FLAG
                && match of {
                    Some(name) => {
                        has(&command, flag) || command.find_subcommand(name).is_some_and(|sub| knows(sub, flag))
                    }
                    None => knows(&command, flag),
                };
            if !known {
                let flag = printable(flag.as_bytes());
                return Err(refusal(path, *line, &format!("no command has a flag '{flag}' there")));
            }
        }
        let names: Vec<String> = command.get_subcommands().map(|sub| sub.get_name().to_owned()).collect();
        for name in names {
            command = command.mut_subcommand(&name, |sub| {
                let inner: Vec<String> = sub.get_subcommands().map(|sub| sub.get_name().to_owned()).collect();
                let sub = sub.mut_args(|arg| self.fill(arg, Some(&name)));
                inner.iter().fold(sub, |sub, inner| {
                    sub.mut_subcommand(inner, |sub| sub.mut_args(|arg| self.fill(arg, Some(&name))))
                })
            });
        }
        Ok(command.mut_args(|arg| self.fill(arg, None)))
    }

    /// An argument of `command`, or of all.
    fn fill(&self, arg: Arg, command: Option<&str>) -> Arg {
        let Some(flag) = arg.get_long().map(str::to_owned) else { return arg };
        let mut arg = arg.env(variable(&flag)).hide_env(true);
        if matches!(arg.get_action(), ArgAction::SetTrue) {
            arg = arg.value_parser(FalseyValueParser::new());
        }
        let is_ours = |setting: &&Setting| {
            setting.flag == flag
                && (setting.command.is_none() || command.is_none() || setting.command.as_deref() == command)
        };
        let values: Vec<OsString> = self.0.iter().filter(is_ours).map(|setting| setting.value.clone()).collect();
        match (values.is_empty(), arg.get_action()) {
            (true, _) => arg,
            (false, ArgAction::Append) => arg.default_values(values),
            (false, _) => arg.default_value(values.last().cloned().unwrap_or_default()),
        }
    }
}

/// The command itself, or one of its own.
fn knows(command: &Command, flag: &str) -> bool {
    has(command, flag) || command.get_subcommands().any(|sub| knows(sub, flag))
}

fn has(command: &Command, flag: &str) -> bool {
    command.get_arguments().any(|arg| arg.get_long() == Some(flag))
}

fn variable(flag: &str) -> String {
    format!("{FLAG_VARIABLES}{}", flag.replace('-', "_").to_uppercase())
}

/// Refuses a variable of ours that stands for no flag: a misspelt one would not protect as its user believes.
pub fn check_variables(command: &Command, names: impl Iterator<Item = OsString>) -> Result<(), Failure> {
    fn collect(command: &Command, known: &mut HashSet<String>) {
        known.extend(command.get_arguments().filter_map(Arg::get_long).map(variable));
        command.get_subcommands().for_each(|sub| collect(sub, known));
    }
    let mut ours = names.filter(|name| name.as_bytes().starts_with(FLAG_VARIABLES.as_bytes())).peekable();
    if ours.peek().is_none() {
        return Ok(());
    }
    let mut known = HashSet::new();
    collect(command, &mut known);
    let is_exempt = |name: &[u8]| {
        name.starts_with(HOOK_PREFIX.as_bytes()) || FAULT_VARIABLES.iter().any(|fault| fault.as_bytes() == name)
    };
    match ours.find(|name| !is_exempt(name.as_bytes()) && name.to_str().is_none_or(|name| !known.contains(name))) {
        None => Ok(()),
        Some(name) => {
            let name = printable(name.as_bytes());
            Err(Failure::new(Exit::Usage, format_args!("bad environment: {name}: there is no such flag: unset it")))
        }
    }
}

/// The named file, which is needed before the arguments are parsed because it takes part in the parsing.
fn named(args: &[OsString]) -> Option<PathBuf> {
    let mut args = args.iter().skip(1);
    while let Some(arg) = args.next() {
        match arg.as_bytes() {
            b"--" => return None,
            b"--config" => return args.next().map(PathBuf::from),
            arg => {
                if let Some(path) = arg.strip_prefix(b"--config=") {
                    return Some(PathBuf::from(OsStr::from_bytes(path)));
                }
            }
        }
    }
    None
}

/// All of a file that may be a pipe, within [`CONFIG_LEN_MAX`].
fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(CONFIG_LEN_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > CONFIG_LEN_MAX {
        return Err(io::Error::other(format!("it is longer than {CONFIG_LEN_MAX} bytes")));
    }
    Ok(bytes)
}

fn text(bytes: &[u8], path: &Path, line: usize) -> Result<String, Failure> {
    let bytes = bytes.trim_ascii();
    let text = str::from_utf8(bytes).map(str::to_owned);
    text.map_err(|_| refusal(path, line, &format!("'{}' is no flag: it is not UTF-8", printable(bytes))))
}

/// XDG Base Directory Specification, then the machine's own.
fn usual_places() -> Vec<PathBuf> {
    let absolute = |name: &str| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let own = absolute("XDG_CONFIG_HOME").or_else(|| Some(absolute("HOME")?.join(".config")));
    own.into_iter().chain([PathBuf::from("/etc")]).map(|folder| folder.join("bt-fast").join(OsStr::new(FLAG))).collect()
}

fn unreadable(path: &Path, error: &io::Error) -> Failure {
    let place = shown(path);
    let line = format!("cannot read the configuration: {place}: {error}: mend it, or give another with --config FILE");
    Failure::new(Exit::Usage, line)
}

fn refusal(path: &Path, line: usize, what: &str) -> Failure {
    Failure::new(Exit::Usage, format_args!("bad configuration: {}: line {line}: {what}", shown(path)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::args::CommandArgs;
    use clap::FromArgMatches as _;

    fn parsed(text: impl AsRef<[u8]>, line: &str) -> Result<Arguments, String> {
        let path = Path::new("file");
        let settings = Settings::parse(text.as_ref(), path).map_err(|failure| failure.to_string())?;
        let command = settings.apply(Arguments::command(), path).map_err(|failure| failure.to_string())?;
        let matches = command.try_get_matches_from(line.split(' ')).map_err(|error| error.to_string())?;
        Arguments::from_arg_matches(&matches).map_err(|error| error.to_string())
    }

    #[test]
    fn a_file_gives_flags_to_the_commands_that_know_them() {
        let text = "# all\nlisten = 0.0.0.0:1\njson = true\n\n[seed]\nslots=7\npeer = a\npeer = b\n[get]\nslots = 3\n";
        let arguments = parsed(text, "bt-fast seed x.torrent").unwrap();
        assert!(arguments.shared.json);
        let CommandArgs::Seed(seed) = arguments.command else { panic!() };
        assert_eq!((seed.network.listen.as_deref(), seed.engine.slots.as_str()), (Some("0.0.0.0:1"), "7"));
        assert_eq!(seed.network.peer, ["a", "b"]);
        let arguments = parsed(text, "bt-fast get x.torrent --slots 9").unwrap();
        let CommandArgs::Get(get) = arguments.command else { panic!() };
        assert_eq!((get.engine.slots.as_str(), get.network.listen.as_deref()), ("9", Some("0.0.0.0:1")));
    }

    #[test]
    fn what_no_command_knows_is_refused_with_its_line() {
        for (text, part) in [
            ("what = 1", "line 1: no command has a flag 'what'"),
            ("\n[create]\nslots = 1", "line 3: no command has a flag 'slots'"),
            ("json", "line 1: give flag = value"),
            ("\n[seeed]\nup = 1M", "line 2: there is no command 'seeed'"),
            ("[seed\nup = 1M", "line 1: give flag = value"),
            ("config = other", "line 1: no command has a flag 'config'"),
            ("# old line ends\rdeny-peer = 10.0.0.0/8", "line 1: a control character"),
        ] {
            let refusal = parsed(text, "bt-fast show x").unwrap_err();
            assert!(refusal.contains(part), "{refusal}");
        }
        assert!(parsed("rings = many", "bt-fast seed x").unwrap_err().contains("--rings"));
    }

    #[test]
    fn comments_and_values_may_be_of_any_encoding() {
        let arguments = parsed(b"# caf\xe9\r\ndata = /srv/caf\xe9\r\n", "bt-fast seed x.torrent").unwrap();
        let CommandArgs::Seed(seed) = arguments.command else { panic!() };
        assert_eq!(seed.data, Some(PathBuf::from(OsStr::from_bytes(b"/srv/caf\xe9"))));
        assert!(parsed(b"\xef\xbb\xbfjson = true\n", "bt-fast show x").unwrap().shared.json);
        let refusal = parsed(b"\ncaf\xe9 = 1\n", "bt-fast show x").unwrap_err();
        assert!(refusal.contains("line 2: ") && refusal.contains("not UTF-8"), "{refusal}");
        let utf16: Vec<u8> = "json = true\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
        let refusal = parsed(utf16, "bt-fast show x").unwrap_err();
        assert!(refusal.contains("line 1: a control character"), "{refusal}");
    }

    #[test]
    fn unknown_variables_are_refused() {
        let check = |name: &[u8]| {
            let names = [OsString::from("PATH"), OsString::from_vec(name.to_vec())];
            check_variables(&Arguments::command(), names.into_iter()).map_err(|failure| (failure.exit, failure.line))
        };
        for known in [&b"BT_FAST_BIND_DEVICE"[..], b"BT_FAST_CONFIG", b"BT_FAST_HOOK_NAME", b"BT_FAST", b"bt_fast_x"] {
            assert_eq!(check(known), Ok(()));
        }
        for unknown in [&b"BT_FAST_BIND_DEVISE"[..], b"BT_FAST_", b"BT_FAST_\xe9", b"BT_FAST_bind_device"] {
            let (exit, line) = check(unknown).unwrap_err();
            assert!(exit == Exit::Usage && line.starts_with("bad environment: BT_FAST_"), "{line}");
        }
    }

    #[test]
    fn every_flag_has_its_variable() {
        fn check(command: &Command) {
            for arg in command
                .get_arguments()
                .filter(|arg| arg.get_long().is_some_and(|long| long != "help" && long != "version"))
            {
                let name = arg.get_env().and_then(OsStr::to_str).unwrap_or_default();
                let expected = arg.get_long().unwrap().replace('-', "_").to_uppercase();
                assert_eq!(name, format!("{FLAG_VARIABLES}{expected}"), "{}", command.get_name());
            }
            command.get_subcommands().for_each(check);
        }
        check(&Settings::default().apply(Arguments::command(), Path::new("")).unwrap());
    }

    #[test]
    fn the_file_is_found_among_the_arguments() {
        let named = |line: &str| named(&line.split(' ').map(OsString::from).collect::<Vec<_>>());
        assert_eq!(named("bt-fast seed x --config a"), Some("a".into()));
        assert_eq!(named("bt-fast --config=b seed"), Some("b".into()));
        assert_eq!(named("bt-fast seed -- --config a"), None);
        let raw = OsString::from_vec(b"--config=caf\xe9".to_vec());
        assert_eq!(super::named(&["bt-fast".into(), raw]), Some(OsString::from_vec(b"caf\xe9".to_vec()).into()));
    }
}
