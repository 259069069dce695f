//! Flags from the environment and from a configuration file.
//!
//! Every flag `--some-flag` is also `BT_FAST_SOME_FLAG` in the environment and `some-flag = value` in a configuration
//! file. The command line takes precedence over the environment, the environment over the file, the file over the
//! defaults. A file, line or variable that cannot be understood is an error, because it may hold a setting that
//! protects the user. Flags without a value are switched on or off, see `switch`.

use std::collections::BTreeSet;
use std::env;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use clap::builder::{StringValueParser, TypedValueParser as _};
use clap::{Arg, ArgAction, Command, CommandFactory as _};

use super::args::Arguments;
use super::exit::{Exit, Failure};
use super::hook::HOOK_PREFIX;
use crate::base::FLAG_VARIABLES;
use crate::base::escape::printable;
use crate::base::limits::{CONFIG_LEN_MAX, MISSPELT_LEN_MAX};
use crate::create::open::shown;

const FLAG: &str = "config";
/// The variables of `io::fault`, which release builds do not read.
const FAULT_VARIABLES: [&str; 3] = ["BT_FAST_KILL_AT", "BT_FAST_FAULTS", "BT_FAST_CHAOS"];

/// A configuration file of `flag = value` lines. Lines below `[command]` apply to that command, lines above to every
/// command that has the flag.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Settings(Vec<Setting>);

#[derive(Debug, PartialEq, Eq)]
struct Setting {
    line: usize,
    /// `None` stands for every command that has the flag.
    command: Option<String>,
    flag: String,
    /// Raw bytes, because the value may be a path.
    value: OsString,
}

impl Settings {
    /// Loads the file that `args` or the environment names, or else the first one in the usual places.
    pub fn load(args: &[OsString]) -> Result<(Self, PathBuf), Failure> {
        if let Some(path) = named(args).or_else(|| env::var_os("BT_FAST_CONFIG").map(PathBuf::from)) {
            let bytes = read(&path).map_err(|error| unreadable(&path, &error))?;
            return Ok((Self::parse(&bytes, &path)?, path));
        }
        for path in usual_places() {
            match read(&path) {
                Ok(bytes) => return Ok((Self::parse(&bytes, &path)?, path)),
                Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {}
                // In a container $HOME may be another user's.
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied && !exists(&path) => {}
                Err(error) => return Err(unreadable(&path, &error)),
            }
        }
        Ok((Self::default(), PathBuf::new()))
    }

    /// Parses a file. Comments may be in any encoding.
    fn parse(bytes: &[u8], path: &Path) -> Result<Self, Failure> {
        let commands = Arguments::command();
        let is_command = |name: &str| commands.find_subcommand(name).is_some();
        let mut settings = Vec::new();
        let mut command = None;
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        for (line, content) in (1..).zip(bytes.split(|&byte| byte == b'\n').map(<[u8]>::trim_ascii)) {
            // A lone carriage return or the zero bytes of UTF-16 would hide the settings that follow a comment.
            if content.iter().any(|&byte| byte.is_ascii_control() && byte != b'\t') {
                return Err(refusal(path, line, "a control character: save it as UTF-8 text with line feeds"));
            }
            if content.is_empty() || content.starts_with(b"#") {
                continue;
            }
            if let Some(name) = content.strip_prefix(b"[").and_then(|rest| rest.strip_suffix(b"]")) {
                let name = text(name, path, line)?;
                if !is_command(&name) {
                    let names = commands.get_subcommands().map(Command::get_name);
                    let hint = nearest(&name, names).map(|name| format!(": did you mean [{name}]?"));
                    let (name, hint) = (printable(name.as_bytes()), hint.unwrap_or_default());
                    return Err(refusal(path, line, &format!("there is no command '{name}'{hint}")));
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

    /// Adds the settings of the environment and of this file for the command `invoked` to the command line, as
    /// defaults. Fails if a flag is unknown.
    pub fn apply(&self, mut command: Command, path: &Path, invoked: Option<&str>) -> Result<Command, Failure> {
        for Setting { line, command: of, flag, .. } in &self.0 {
            if flag == FLAG {
                return Err(refusal(path, *line, "'config' names this file and can't be set in it: remove the line"));
            }
            let is_known = match of {
                Some(name) => has(&command, flag) || command.find_subcommand(name).is_some_and(|sub| knows(sub, flag)),
                None => knows(&command, flag),
            };
            if !is_known {
                return Err(refusal(path, *line, &unknown_flag(&command, of.as_deref(), flag)));
            }
        }
        let names: Vec<String> = command.get_subcommands().map(|sub| sub.get_name().to_owned()).collect();
        for name in names {
            command = command.mut_subcommand(&name, |sub| {
                let inner: Vec<String> = sub.get_subcommands().map(|sub| sub.get_name().to_owned()).collect();
                let sub = sub.mut_args(|arg| self.fill(arg, path, Some(&name)));
                inner.iter().fold(sub, |sub, inner| {
                    sub.mut_subcommand(inner, |sub| sub.mut_args(|arg| self.fill(arg, path, Some(&name))))
                })
            });
        }
        Ok(command.mut_args(|arg| self.fill(arg, path, invoked)))
    }

    /// Adds the settings of one argument of `command`.
    fn fill(&self, arg: Arg, path: &Path, command: Option<&str>) -> Arg {
        let Some(flag) = setting_name(&arg).map(str::to_owned) else { return arg };
        let variable = variable(&flag);
        let is_ours = |setting: &&Setting| {
            setting.flag == flag && (setting.command.is_none() || setting.command.as_deref() == command)
        };
        let from_environment = env::var_os(&variable);
        let (values, place) = match &from_environment {
            Some(value) => (vec![value.clone()], format!("{variable} in the environment")),
            None => {
                let ours: Vec<&Setting> = self.0.iter().filter(is_ours).collect();
                let line = ours.last().map_or(0, |setting| setting.line);
                let values = ours.into_iter().map(|setting| setting.value.clone()).collect();
                (values, format!("{}: line {line}", shown(path)))
            }
        };
        let form = Form::of(&arg);
        let values: Vec<OsString> = match arg.get_action() {
            ArgAction::Append => values.into_iter().filter_map(|value| form.given(value)).collect(),
            _ => values.into_iter().next_back().and_then(|value| form.given(value)).into_iter().collect(),
        };
        let arg = form.with_parser(arg, place);
        match (values.is_empty(), from_environment.is_some()) {
            (true, true) => arg,
            (true, false) => arg.env(variable).hide_env(true),
            // The variable may be `on`, which clap would take for the value.
            (false, true) if form == Form::OptionalValue => arg.default_values(values),
            (false, true) => arg.env(variable).hide_env(true),
            (false, false) => arg.env(variable).hide_env(true).default_values(values),
        }
    }
}

/// How the environment or the file writes a flag.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    /// A flag without a value: on or off.
    Switch,
    /// A flag that is counted, such as `-vv`: on, off or a number.
    Count,
    /// A flag with an optional value (`--flag`, `--flag=VALUE`): on, off or the value.
    OptionalValue,
    /// A flag with a value.
    Value,
}

impl Form {
    fn of(arg: &Arg) -> Self {
        match arg.get_action() {
            ArgAction::SetTrue => Self::Switch,
            ArgAction::Count => Self::Count,
            _ if arg.get_num_args().is_some_and(|count| count.min_values() == 0) => Self::OptionalValue,
            _ => Self::Value,
        }
    }

    /// Returns the value to pass to clap, or `None` if the flag is off.
    fn given(self, value: OsString) -> Option<OsString> {
        let is_number = value.as_bytes().first().is_some_and(u8::is_ascii_digit);
        match (self, value.to_str().and_then(switch)) {
            (Self::Switch | Self::Count, Some(false)) => None,
            (Self::OptionalValue, Some(is_on)) if !is_number => is_on.then(OsString::new),
            _ => Some(value),
        }
    }

    fn with_parser(self, arg: Arg, place: String) -> Arg {
        let read = StringValueParser::new();
        match self {
            Self::Switch => arg.value_parser(
                read.try_map(move |text| switch(&text).ok_or_else(|| format!("{place}: give on or off"))),
            ),
            Self::Count => arg.value_parser(read.try_map(move |text| {
                let count = text.parse::<u8>().ok().or_else(|| switch(&text).map(u8::from));
                count.ok_or_else(|| format!("{place}: give on, off or a number"))
            })),
            Self::OptionalValue | Self::Value => arg,
        }
    }
}

/// Parses `on`, `true`, `yes`, `1` and `off`, `false`, `no`, `0`, in any case. An empty text is off.
fn switch(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "on" | "true" | "yes" | "1" => Some(true),
        "" | "off" | "false" | "no" | "0" => Some(false),
        _ => None,
    }
}

/// Whether the command or one of its subcommands has the flag.
fn knows(command: &Command, flag: &str) -> bool {
    has(command, flag) || command.get_subcommands().any(|sub| knows(sub, flag))
}

fn has(command: &Command, flag: &str) -> bool {
    command.get_arguments().any(|arg| setting_name(arg) == Some(flag))
}

/// Returns the flag's name in the environment and the file, which can't ask for help or the version.
fn setting_name(arg: &Arg) -> Option<&str> {
    arg.get_long().filter(|_| !matches!(arg.get_action(), ArgAction::Help | ArgAction::Version))
}

/// Says that the command, or any command, lacks the flag, and points to the section or flag that was probably meant.
fn unknown_flag(root: &Command, of: Option<&str>, flag: &str) -> String {
    let shown = printable(flag.as_bytes());
    let sections: Vec<String> =
        root.get_subcommands().filter(|sub| knows(sub, flag)).map(|sub| format!("[{}]", sub.get_name())).collect();
    let fault = match of {
        Some(name) => format!("{name} has no flag '{shown}'"),
        None => format!("no command has a flag '{shown}'"),
    };
    if !sections.is_empty() {
        return format!("{fault}: it belongs below {}", sections.join(" or "));
    }
    let mut known = BTreeSet::new();
    collect_flags(of.and_then(|name| root.find_subcommand(name)).unwrap_or(root), &mut known);
    collect_own_flags(root, &mut known);
    let wanted = flag.replace('_', "-").to_lowercase();
    let hint = nearest(&wanted, known.iter().map(String::as_str)).map(|flag| format!(": did you mean '{flag}'?"));
    format!("{fault}{}", hint.unwrap_or_default())
}

/// Adds the flags of the command and its subcommands.
fn collect_flags(command: &Command, flags: &mut BTreeSet<String>) {
    collect_own_flags(command, flags);
    command.get_subcommands().for_each(|sub| collect_flags(sub, flags));
}

fn collect_own_flags(command: &Command, flags: &mut BTreeSet<String>) {
    flags.extend(command.get_arguments().filter_map(setting_name).map(str::to_owned));
}

/// Returns the candidate that takes the fewest edits; `None` if each takes more than one edit for three letters.
fn nearest<'a>(word: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    if word.len() > MISSPELT_LEN_MAX {
        return None;
    }
    let edits = |candidate: &&str| strsim::damerau_levenshtein(word, candidate);
    candidates.min_by_key(edits).filter(|candidate| edits(candidate) <= (word.len() / 3).max(1))
}

fn variable(flag: &str) -> String {
    format!("{FLAG_VARIABLES}{}", flag.replace('-', "_").to_uppercase())
}

/// Fails if a variable with our prefix stands for no flag: a misspelt setting would silently have no effect.
///
/// Variables that Kubernetes sets for a service whose name begins with `bt-fast` are ignored.
pub fn check_variables(command: &Command, names: impl Iterator<Item = OsString>) -> Result<(), Failure> {
    let ours: Vec<OsString> = names.filter(|name| name.as_bytes().starts_with(FLAG_VARIABLES.as_bytes())).collect();
    if ours.is_empty() {
        return Ok(());
    }
    let services: Vec<&[u8]> = ours.iter().filter_map(|name| service(name)).collect();
    let mut flags = BTreeSet::new();
    collect_flags(command, &mut flags);
    let known: BTreeSet<String> = flags.iter().map(|flag| variable(flag)).collect();
    let is_exempt = |name: &[u8]| {
        name.starts_with(HOOK_PREFIX.as_bytes())
            || FAULT_VARIABLES.iter().any(|fault| fault.as_bytes() == name)
            || services.iter().any(|service| is_of_service(name, service))
    };
    match ours.iter().find(|name| !is_exempt(name.as_bytes()) && name.to_str().is_none_or(|name| !known.contains(name)))
    {
        None => Ok(()),
        Some(name) => {
            let wanted = name.to_string_lossy().to_uppercase();
            // The prefix is no part of the misspelt word.
            let flag = |variable: &str| variable.strip_prefix(FLAG_VARIABLES).unwrap_or_default().to_owned();
            let words: Vec<String> = known.iter().map(|known| flag(known)).collect();
            let remedy = nearest(&flag(&wanted), words.iter().map(String::as_str))
                .map_or_else(|| "unset it".to_owned(), |word| format!("did you mean {FLAG_VARIABLES}{word}?"));
            let name = printable(name.as_bytes());
            Err(Failure::new(Exit::Usage, format_args!("bad environment: {name}: no flag has this variable: {remedy}")))
        }
    }
}

/// Returns the part that all variables of a Kubernetes service have in front, if this one has the service's address:
/// `BT_FAST` for `BT_FAST_SERVICE_HOST`.
fn service(name: &OsStr) -> Option<&[u8]> {
    name.as_bytes().strip_suffix(b"_SERVICE_HOST")
}

/// Returns whether Kubernetes sets this variable for the service, as in `BT_FAST_SERVICE_PORT_WEB` and
/// `BT_FAST_PORT_6880_TCP_ADDR`.
fn is_of_service(name: &[u8], service: &[u8]) -> bool {
    let rest = name.strip_prefix(service).unwrap_or_default();
    rest.starts_with(b"_SERVICE_") || rest == b"_PORT" || rest.starts_with(b"_PORT_")
}

/// Finds `--config` in the arguments before they are parsed, because the file takes part in parsing them.
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

/// Reads a file of at most [`CONFIG_LEN_MAX`] bytes, which may be a pipe.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(CONFIG_LEN_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > CONFIG_LEN_MAX {
        return Err(io::Error::other(format!("longer than {CONFIG_LEN_MAX} bytes")));
    }
    Ok(bytes)
}

fn text(bytes: &[u8], path: &Path, line: usize) -> Result<String, Failure> {
    let bytes = bytes.trim_ascii();
    let text = str::from_utf8(bytes).map(str::to_owned);
    text.map_err(|_| refusal(path, line, &format!("'{}' is not a flag: it is not UTF-8", printable(bytes))))
}

/// The places of the user's file (XDG Base Directory Specification) and of the system's.
fn usual_places() -> Vec<PathBuf> {
    let absolute = |name: &str| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let own = absolute("XDG_CONFIG_HOME").or_else(|| Some(absolute("HOME")?.join(".config")));
    own.into_iter().chain([PathBuf::from("/etc")]).map(|folder| folder.join("bt-fast").join(OsStr::new(FLAG))).collect()
}

/// Returns whether the file exists, as far as its folder may be searched.
fn exists(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}

fn unreadable(path: &Path, error: &io::Error) -> Failure {
    let place = shown(path);
    let line =
        format!("can't read the configuration: {place}: {error}: fix it, or give another file with --config FILE");
    Failure::new(Exit::Usage, line)
}

fn refusal(path: &Path, line: usize, what: &str) -> Failure {
    Failure::new(Exit::Usage, format_args!("bad configuration: {}: line {line}: {what}", shown(path)))
}

#[cfg(test)]
#[path = "settings_tests.rs"]
mod tests;
