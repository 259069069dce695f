//! `completions` and `manual`: generated from the definition of the command line.

use std::io;
use std::path::Path;

use clap::{Command, CommandFactory as _};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};

use super::args::Arguments;
use super::args::help::{self, Example};
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
    let failed = |error: io::Error| Failure::io("can't write the man pages", &shown(folder), &error);
    std::fs::create_dir_all(folder).map_err(failed)?;
    let mut command = with_all_help(Arguments::command()).disable_help_subcommand(true);
    // Sets the display names, by which the pages are called.
    command.build();
    let mut pages = vec![Page { command: &command, parents: Vec::new() }];
    while let Some(page) = pages.pop() {
        let path = folder.join(format!("{}.1", page.name()));
        std::fs::write(&path, page.text().map_err(failed)?).map_err(failed)?;
        output.result(shown(&path));
        pages.extend(page.children());
    }
    Ok(())
}

/// Returns the command with the help of all flags, some of which `-h` does not show.
fn with_all_help(command: Command) -> Command {
    command.mut_args(|arg| arg.hide_short_help(false)).mut_subcommands(with_all_help)
}

/// The man page of a command.
struct Page<'a> {
    command: &'a Command,
    /// Names of the pages of the commands above it.
    parents: Vec<&'a str>,
}

impl<'a> Page<'a> {
    fn name(&self) -> &'a str {
        self.command.get_display_name().unwrap_or(self.command.get_name())
    }

    /// Returns the pages of the subcommands, in reverse order.
    fn children(&self) -> impl Iterator<Item = Self> {
        let parents = [&self.parents[..], &[self.name()]].concat();
        let visible: Vec<&Command> = self.command.get_subcommands().filter(|sub| !sub.is_hide_set()).collect();
        visible.into_iter().rev().map(move |command| Self { command, parents: parents.clone() })
    }

    /// Returns the page in the language of roff.
    fn text(&self) -> io::Result<Vec<u8>> {
        let man = Man::new(self.command.clone().name(self.name().to_owned()));
        let ending = self.command.get_after_long_help().map(ToString::to_string).unwrap_or_default();
        let (notes, examples) = help::read(&ending);
        let mut text = Vec::new();
        man.render_title(&mut text)?;
        man.render_name_section(&mut text)?;
        man.render_synopsis_section(&mut text)?;
        man.render_description_section(&mut text)?;
        let mut paragraphs = Roff::new();
        for note in notes.split("\n\n").filter(|note| !note.is_empty()) {
            paragraphs.control("PP", []).text([roman(note)]);
        }
        paragraphs.to_writer(&mut text)?;
        man.render_options_section(&mut text)?;
        if self.children().next().is_some() {
            man.render_subcommands_section(&mut text)?;
        }
        let mut end = Roff::new();
        end.control("SH", ["EXAMPLES"]);
        for Example { purpose, line } in examples {
            end.control("PP", []).text([roman(format!("{purpose}:"))]);
            end.control("RS", ["4"]).control("nf", []).text([bold(line)]).control("fi", []).control("RE", []);
        }
        if !self.parents.is_empty() {
            let pages = self.parents.iter().map(|page| format!("{page}(1)")).collect::<Vec<_>>().join(", ");
            end.control("SH", ["SEE ALSO"]).text([roman(pages)]);
        }
        end.to_writer(&mut text)?;
        Ok(text)
    }
}

/// Copies the command without hidden flags and commands, which the generators of some shells would show.
fn without_hidden(command: &Command) -> Command {
    let mut shown = Command::new(command.get_name().to_owned()).disable_help_flag(true).disable_version_flag(true);
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
