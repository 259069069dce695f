//! Flags from the environment and from a file, for whoever starts the program without typing.
//!
//! Every flag `--some-flag` is also `BT_FAST_SOME_FLAG` in the environment and `some-flag = value` in a configuration file.
//! What is typed counts before the environment, that before the file, that before the defaults.

use std::env;
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};

use clap::builder::FalseyValueParser;
use clap::{Arg, ArgAction, Command};

use super::exit::{Exit, Failure};
use crate::base::escape::printable;
use crate::create::open::shown;

const ENV_PREFIX: &str = "BT_FAST_";
const FLAG: &str = "config";

/// A configuration file: `flag = value` lines, for one command below its `[command]`, for all that know the flag above.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Settings(Vec<Setting>);

#[derive(Debug, PartialEq, Eq)]
struct Setting {
    line: usize,
    /// `None`: any that knows the flag.
    command: Option<String>,
    flag: String,
    value: String,
}

impl Settings {
    /// The file that `args` or the environment name, or the one in its usual place if there is one.
    pub fn load(args: &[OsString]) -> Result<(Self, PathBuf), Failure> {
        if let Some(path) = named(args).or_else(|| env::var_os("BT_FAST_CONFIG").map(PathBuf::from)) {
            let text = std::fs::read_to_string(&path)
                .map_err(|error| Failure::io("cannot read the configuration", &shown(&path), &error))?;
            return Ok((Self::parse(&text, &path)?, path));
        }
        for path in usual_places() {
            match std::fs::read_to_string(&path) {
                Ok(text) => return Ok((Self::parse(&text, &path)?, path)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => tracing::debug!("{}: {error}", shown(&path)),
            }
        }
        Ok((Self::default(), PathBuf::new()))
    }

    fn parse(text: &str, path: &Path) -> Result<Self, Failure> {
        let mut settings = Vec::new();
        let mut command = None;
        for (line, content) in (1..).zip(text.lines().map(str::trim)) {
            if content.is_empty() || content.starts_with('#') {
                continue;
            }
            if let Some(name) = content.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
                command = Some(name.trim().to_owned());
                continue;
            }
            let Some((flag, value)) = content.split_once('=') else {
                return Err(refusal(path, line, "give flag = value"));
            };
            let (flag, value) = (flag.trim().to_owned(), value.trim().to_owned());
            settings.push(Setting { line, command: command.clone(), flag, value });
        }
        Ok(Self(settings))
    }

    /// The command line with what the environment and this file say. A flag that no command knows is refused.
    pub fn apply(&self, mut command: Command, path: &Path) -> Result<Command, Failure> {
        for Setting { line, command: of, flag, .. } in &self.0 {
            let known = match of {
                Some(name) => has(&command, flag) || command.find_subcommand(name).is_some_and(|sub| knows(sub, flag)),
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
        let name = format!("{ENV_PREFIX}{}", flag.replace('-', "_").to_uppercase());
        let mut arg = arg.env(name).hide_env(true);
        if matches!(arg.get_action(), ArgAction::SetTrue) {
            arg = arg.value_parser(FalseyValueParser::new());
        }
        let is_ours = |setting: &&Setting| {
            setting.flag == flag
                && (setting.command.is_none() || command.is_none() || setting.command.as_deref() == command)
        };
        let values: Vec<String> = self.0.iter().filter(is_ours).map(|setting| setting.value.clone()).collect();
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

/// Known before anything is parsed: what it says takes part in the parsing.
fn named(args: &[OsString]) -> Option<PathBuf> {
    let mut args = args.iter().skip(1);
    while let Some(arg) = args.next() {
        match arg.to_str() {
            Some("--") => return None,
            Some("--config") => return args.next().map(PathBuf::from),
            Some(text) if text.starts_with("--config=") => return text.strip_prefix("--config=").map(PathBuf::from),
            _ => {}
        }
    }
    None
}

/// XDG Base Directory Specification, then the machine's own.
fn usual_places() -> Vec<PathBuf> {
    let absolute = |name: &str| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let own = absolute("XDG_CONFIG_HOME").or_else(|| Some(absolute("HOME")?.join(".config")));
    own.into_iter().chain([PathBuf::from("/etc")]).map(|folder| folder.join("bt-fast").join(OsStr::new(FLAG))).collect()
}

fn refusal(path: &Path, line: usize, what: &str) -> Failure {
    Failure::new(Exit::Usage, format_args!("bad configuration: {}: line {line}: {what}", shown(path)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::args::{Arguments, CommandArgs};
    use clap::{CommandFactory as _, FromArgMatches as _};

    fn parsed(text: &str, line: &str) -> Result<Arguments, String> {
        let path = Path::new("file");
        let settings = Settings::parse(text, path).map_err(|failure| failure.to_string())?;
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
        ] {
            let refusal = parsed(text, "bt-fast show x").unwrap_err();
            assert!(refusal.contains(part), "{refusal}");
        }
        assert!(parsed("rings = many", "bt-fast seed x").unwrap_err().contains("--rings"));
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
                assert_eq!(name, format!("{ENV_PREFIX}{expected}"), "{}", command.get_name());
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
    }
}
