//! The command line: raw arguments to resolved options to a command, and its end to an exit code.
//!
//! Owns the terminal, the exit codes and the signals of `create` and `verify`. The work itself is done below.

#![allow(clippy::disallowed_methods, reason = "commands time themselves and date what they make")]

mod activation;
pub mod args;
mod bench;
mod bench_swarm;
mod bound;
mod checks;
mod create;
mod existing;
pub mod exit;
mod generate;
mod get;
mod hook;
pub mod interrupt;
mod magnet;
pub mod metainfo_file;
pub mod notify;
pub mod options;
pub mod output;
pub mod progress;
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
use clap::{CommandFactory as _, FromArgMatches as _};

use args::Arguments;
use exit::{Exit, Failure};
use options::{Command, Options};
use output::Output;
use settings::Settings;

use crate::hash;

/// Runs the program: `args` begins with the program's own name.
pub fn run(args: impl IntoIterator<Item = OsString>) -> Exit {
    let args: Vec<OsString> = args.into_iter().collect();
    let configured = Settings::load(&args).and_then(|(settings, path)| {
        let command = settings.apply(Arguments::command(), &path)?;
        settings::check_variables(&command, std::env::vars_os().map(|(name, _)| name))?;
        Ok(command)
    });
    let command = match configured {
        Ok(command) => command,
        Err(failure) => {
            Output::default().failure(&failure);
            return failure.exit;
        }
    };
    let matches = command.try_get_matches_from(args);
    let arguments = match matches.and_then(|matches| Arguments::from_arg_matches(&matches)) {
        Ok(arguments) => arguments,
        Err(error) => return refuse(&error),
    };
    let output = Output::new(options::resolve_output(&arguments.shared));
    let done = Options::resolve(arguments).and_then(|options| execute(options, &output));
    match done.and_then(|()| output.finish()) {
        Ok(()) => Exit::Done,
        Err(failure) => {
            output.failure(&failure);
            failure.exit
        }
    }
}

fn execute(options: Options, output: &Output) -> Result<(), Failure> {
    hash::choose(options.hash_kernel)?;
    if matches!(options.command, Command::Create(_) | Command::Seed(_) | Command::Get(_) | Command::Verify(_)) {
        tracing::info!("hash kernel: {}", hash::chosen());
    }
    match options.command {
        Command::Create(options) => create::run(options, output),
        Command::Seed(options) => seed::run(options, output),
        Command::Get(options) => get::run(options, output),
        Command::Verify(options) => verify::run(&options, output),
        Command::Show(options) => show::run(&options, output),
        Command::Magnet(options) => magnet::run(&options, output),
        Command::Track(options) => track::run(&options, output),
        Command::Completions(shell) => generate::completions(shell, output),
        Command::Manual(folder) => generate::manual(&folder, output),
        Command::BenchLoopback(options) => bench::loopback(options, output),
        Command::BenchFloor(options) => bench::floor(options, output),
        Command::BenchSide => bench::side(),
        Command::BenchHash { hash_kernel, seconds } => {
            bench::hash(hash_kernel, seconds, output);
            Ok(())
        }
        Command::BenchSwarm(options) => bench_swarm::run(options, output),
    }
}

/// Help and version as they are; a mistake as one line.
fn refuse(error: &clap::Error) -> Exit {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            // A reader that went away has what it wanted.
            let _ = error.print();
            Exit::Done
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            let _ = error.print();
            Exit::Usage
        }
        _ => {
            let failure = Failure::new(Exit::Usage, one_line(&error.render().to_string()));
            Output::default().failure(&failure);
            failure.exit
        }
    }
}

/// clap's paragraphs up to the usage, as one line.
fn one_line(rendered: &str) -> String {
    let lines = rendered.lines().map(str::trim).take_while(|line| !line.starts_with("Usage:"));
    let words: Vec<&str> = lines.filter(|line| !line.is_empty() && !line.starts_with("For more")).collect();
    let line = words.join(" ");
    format!("{}: see bt-fast --help", line.strip_prefix("error: ").unwrap_or(&line))
}
