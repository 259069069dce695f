//! `completions` and `manual`: generated from the definition of the command line.

use std::path::Path;

use clap::{Command, CommandFactory as _};

use super::args::Arguments;
use super::exit::Failure;
use super::output::Output;
use crate::create::open::shown;

/// Prints the completions of a shell.
pub(super) fn completions(shell: clap_complete::Shell, output: &Output) -> Result<(), Failure> {
    let mut out = Vec::new();
    clap_complete::generate(shell, &mut without_hidden(&Arguments::command()), "bt-fast", &mut out);
    output.bytes(&out)
}

/// Writes a man page for the program and for each command into a folder: `bt-fast.1`, `bt-fast-create.1` …
pub(super) fn manual(folder: &Path, output: &Output) -> Result<(), Failure> {
    let failed = |error: std::io::Error| Failure::io("can't write the man pages", &shown(folder), &error);
    std::fs::create_dir_all(folder).map_err(failed)?;
    let mut command = Arguments::command();
    // Sets the display names, by which the pages are called.
    command.build();
    for page in std::iter::once(&command).chain(visible(&command)) {
        let page = page.clone().name(page.get_display_name().unwrap_or("bt-fast").to_owned());
        let path = folder.join(format!("{}.1", page.get_name()));
        let mut text = Vec::new();
        clap_mangen::Man::new(page).render(&mut text).map_err(failed)?;
        std::fs::write(&path, text).map_err(failed)?;
        output.result(shown(&path));
    }
    Ok(())
}

/// Copies the command without hidden flags and commands, which the generators of some shells would show.
fn without_hidden(command: &Command) -> Command {
    let mut shown = Command::new(command.get_name().to_owned()).disable_help_subcommand(true);
    if let Some(about) = command.get_about() {
        shown = shown.about(about.clone());
    }
    if let Some(version) = command.get_version() {
        shown = shown.version(version.to_owned());
    }
    shown
        .args(command.get_arguments().filter(|arg| !arg.is_hide_set()).cloned())
        .subcommands(command.get_subcommands().filter(|sub| !sub.is_hide_set()).map(without_hidden))
}

fn visible(command: &Command) -> impl Iterator<Item = &Command> {
    command.get_subcommands().filter(|sub| !sub.is_hide_set() && sub.get_name() != "help")
}
