//! The command line: turns raw arguments into resolved options, runs a command, and turns its result into an exit code.
//!
//! Owns the terminal, the exit codes and signals. The layers below do the work.

#![allow(clippy::disallowed_methods, reason = "commands time themselves and date what they make")]

mod activation;
pub mod args;
mod bench;
mod bench_compare;
mod bench_swarm;
mod bound;
mod checks;
mod children;
mod create;
mod edit;
mod existing;
pub mod exit;
mod generate;
mod get;
mod health;
mod hook;
mod identity;
pub mod interrupt;
mod load;
mod log_file;
mod magnet;
pub mod metainfo_file;
pub mod notify;
pub mod options;
pub mod output;
pub mod progress;
mod progress_line;
pub mod records;
mod seed;
pub mod select;
pub mod settings;
mod show;
mod track;
mod transfer;
mod verify;

use std::ffi::OsString;

use clap::error::ErrorKind;
use clap::{ArgAction, CommandFactory as _, FromArgMatches as _};

use args::Arguments;
use exit::{Exit, Failure};
use options::{Command, Options, OutputOptions};
use output::Output;
use settings::Settings;

use crate::hash;
use crate::io::{ThreadStart, prepare_threads};
use crate::storage::KernelFeature;

/// Runs the program. `args` begins with the program's own name.
pub fn run(args: impl IntoIterator<Item = OsString>) -> Exit {
    prepare_threads();
    let args: Vec<OsString> = args.into_iter().collect();
    let invoked = invoked(&args);
    let configured = Settings::load(&args).and_then(|(settings, path)| {
        let command = settings.apply(Arguments::command(), &path, invoked.first().map(String::as_str))?;
        settings::check_variables(&command, std::env::vars_os().map(|(name, _)| name))?;
        Ok(command)
    });
    let command = match configured {
        Ok(command) => command,
        Err(failure) => {
            // Help and version must work without a valid configuration.
            return match displayed(Arguments::command(), &args).try_get_matches_from(&args) {
                Err(error) if !error.use_stderr() => refuse(&error, &args, &invoked),
                _ => refuse_usage(&failure, &args),
            };
        }
    };
    let matches = displayed(command, &args).try_get_matches_from(&args);
    let arguments = match matches.and_then(|matches| Arguments::from_arg_matches(&matches)) {
        Ok(arguments) => arguments,
        Err(error) => return refuse(&error, &args, &invoked),
    };
    let output_options = options::resolve_output(&arguments);
    let output = match Output::new(output_options.clone()) {
        Ok(output) => output,
        Err(failure) => {
            Output::without_log(output_options).failure(&failure);
            return failure.exit;
        }
    };
    let done = Options::resolve(arguments).and_then(|options| execute(options, &output));
    match done.and_then(|()| output.finish()) {
        Ok(()) => Exit::Done,
        Err(failure) => {
            output.failure(&failure);
            failure.exit
        }
    }
}

/// Returns the command with the layout of the help that these arguments ask for.
fn displayed(command: clap::Command, args: &[OsString]) -> clap::Command {
    let is_brief = args.len() <= 1 || args.iter().any(|arg| arg == "-h");
    if is_brief { args::help::brief(command) } else { command }
}

fn execute(options: Options, output: &Output) -> Result<(), Failure> {
    hash::choose(options.hash_kernel)?;
    if matches!(options.command, Command::Create(_) | Command::Seed(_) | Command::Get(_) | Command::Verify(_)) {
        tracing::info!("hash kernel: {}", hash::chosen());
        log_kernel_features();
    }
    if matches!(options.command, Command::Seed(_) | Command::Get(_) | Command::Track(_)) {
        children::reap_orphans()?;
    }
    match options.command {
        Command::Create(options) => create::run(options, output),
        Command::Edit(options) => edit::run(&options, output),
        Command::Seed(options) => seed::run(options, output),
        Command::Get(options) => get::run(&options, output),
        Command::Verify(options) => verify::run(&options, output),
        Command::Show(options) => show::run(&options, output),
        Command::Magnet(options) => magnet::run(&options, output),
        Command::Track(options) => track::run(&options, output),
        Command::Health(options) => health::run(&options, output),
        Command::Completions(shell) => generate::completions(shell, output),
        Command::Manual(folder) => generate::manual(&folder, output),
        Command::BenchLoopback(options) => bench::loopback(options, output),
        Command::BenchFloor(options) => bench::floor(options, output),
        Command::BenchSide => bench::side(),
        Command::BenchHash(options) => bench::hash(&options, output),
        Command::BenchSwarm(options) => bench_swarm::run(options, output),
    }
}

/// Prints help and version as they are, and a usage error as one line.
fn refuse(error: &clap::Error, args: &[OsString], invoked: &[String]) -> Exit {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            // A reader that closed stdout early is no error.
            let _ = error.print();
            Exit::Done
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            let _ = error.print();
            Exit::Usage
        }
        _ => {
            let line = one_line(&error.render().to_string(), invoked);
            refuse_usage(&Failure::new(Exit::Usage, line), args)
        }
    }
}

/// Reports a usage error before the arguments are parsed.
fn refuse_usage(failure: &Failure, args: &[OsString]) -> Exit {
    let json = args.iter().skip(1).take_while(|arg| *arg != "--").any(|arg| arg == "--json");
    Output::without_log(OutputOptions { json, ..OutputOptions::default() }).failure(failure);
    failure.exit
}

/// Logs the replacements of features that this kernel lacks or refuses.
fn log_kernel_features() {
    if !tracing::enabled!(tracing::Level::INFO) {
        return;
    }
    let missing = || KernelFeature::ALL.into_iter().filter(|feature| !feature.is_available());
    for feature in missing() {
        tracing::info!("without {} ({})", feature.name(), feature.replacement());
    }
    match prepare_threads() {
        ThreadStart::Clone3Hidden => {
            tracing::info!("without clone3, which is forbidden here: threads start with clone")
        }
        ThreadStart::Clone3Missing => tracing::info!("without clone3 (Linux 5.3): threads start with clone"),
        ThreadStart::Unchanged if missing().next().is_none() => {
            let names = KernelFeature::ALL.map(KernelFeature::name).join(", ");
            tracing::debug!("{names} and clone3 are available");
        }
        ThreadStart::Unchanged => {}
    }
}

/// Joins clap's paragraphs up to the usage into one line.
fn one_line(rendered: &str, invoked: &[String]) -> String {
    let is_noise = |line: &str| line.is_empty() || line.starts_with("For more") || line.starts_with("tip: to pass");
    let lines = rendered.lines().map(str::trim).take_while(|line| !line.starts_with("Usage:"));
    let (tips, words): (Vec<&str>, Vec<&str>) =
        lines.filter(|line| !is_noise(line)).partition(|line| line.starts_with("tip: "));
    let (line, names) = (words.join(" "), invoked.join(" "));
    let line = line.strip_prefix("error: ").unwrap_or(&line);
    let space = if names.is_empty() { "" } else { " " };
    match tips.iter().find_map(|tip| suggestion(tip)) {
        Some(suggestion) => {
            let line = line.strip_suffix(" found").unwrap_or(line);
            format!("{line}: did you mean {suggestion}? see bt-fast{space}{names} --help")
        }
        None => format!("{line}: see bt-fast{space}{names} --help"),
    }
}

/// Returns the names that a tip of clap suggests, such as `tip: a similar argument exists: '--seed'`.
fn suggestion(tip: &str) -> Option<String> {
    let similar = tip.split_once(" exists: ").or_else(|| tip.split_once(" exist: "));
    let names = match similar {
        Some((_, names)) => names,
        // A flag of a subcommand: `tip: 'get --seed' exists`.
        None => tip.strip_prefix("tip: ")?.strip_suffix(" exists")?,
    };
    Some(names.replace("', '", "' or '"))
}

/// Returns the names of the command and its subcommand in these arguments, as far as there are any.
fn invoked(args: &[OsString]) -> Vec<String> {
    let root = Arguments::command();
    let takes_value = |flag: &str| {
        let mut shared = root.get_arguments();
        shared.any(|arg| arg.get_long() == Some(flag) && matches!(arg.get_action(), ArgAction::Set))
    };
    let (mut command, mut names) = (&root, Vec::new());
    let mut args = args.iter().skip(1).take_while(|arg| *arg != "--").map(|arg| arg.to_str().unwrap_or_default());
    while let Some(arg) = args.next() {
        if arg.strip_prefix("--").is_some_and(takes_value) {
            args.next();
        } else if let Some(sub) = command.find_subcommand(arg) {
            command = sub;
            names.push(arg.to_owned());
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invoked_finds_command_and_subcommand() {
        let invoked = |line: &str| invoked(&line.split(' ').map(OsString::from).collect::<Vec<_>>()).join(" ");
        assert_eq!(invoked("bt-fast --json seed get"), "seed");
        assert_eq!(invoked("bt-fast --config show get x"), "get");
        assert_eq!(invoked("bt-fast bench -q loopback --size 1"), "bench loopback");
        assert_eq!(invoked("bt-fast --what"), "");
    }

    #[test]
    fn usage_errors_are_one_line_without_tips() {
        let refusal = |line: &str| {
            let args: Vec<OsString> = line.split(' ').map(OsString::from).collect();
            let error = Arguments::command().try_get_matches_from(&args).unwrap_err();
            one_line(&error.render().to_string(), &invoked(&args))
        };
        assert_eq!(refusal("bt-fast get x --dht"), "unexpected argument '--dht' found: see bt-fast get --help");
        assert_eq!(
            refusal("bt-fast get x --overwite"),
            "unexpected argument '--overwite': did you mean '--overwrite'? see bt-fast get --help"
        );
        assert_eq!(refusal("bt-fast gett"), "unrecognized subcommand 'gett': did you mean 'get'? see bt-fast --help");
        assert!(refusal("bt-fast bench hash --what").ends_with(": see bt-fast bench hash --help"));
        assert!(refusal("bt-fast sed").ends_with("? see bt-fast --help"));
    }

    #[test]
    fn suggestions_are_the_names_of_a_tip() {
        for (tip, expected) in [
            ("tip: a similar argument exists: '--seed'", Some("'--seed'")),
            ("tip: some similar subcommands exist: 'seed', 'get'", Some("'seed' or 'get'")),
            ("tip: 'get --overwrite' exists", Some("'get --overwrite'")),
            ("tip: give less", None),
        ] {
            assert_eq!(suggestion(tip).as_deref(), expected, "{tip}");
        }
    }
}
