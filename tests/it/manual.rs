//! docs/cli.md is generated from the definition of the command line. This test fails when the file is out of date, and
//! writes it when `UPDATE_CLI_DOC` is set.

use std::{env, fmt::Write as _, fs, path::Path};

use bt_fast::cli::args::Arguments;
use clap::{Arg, Command, CommandFactory as _, builder::StyledStr};

const REGENERATE: &str = "UPDATE_CLI_DOC=1 cargo test --test it manual";

fn manual() -> String {
    let mut root = Arguments::command();
    // Sets the usage of subcommands, and adds `--help`.
    root.build();
    let mut text = format!(
        "# Command line\n\n<!-- Generated from the definition of the command line, never edited by hand: {REGENERATE} -->\n\n"
    );
    let _ = write!(text, "{}.\n\n```\n{}\n```\n", paragraph(root.get_about()), usage(&root));
    text.push_str("\n| command | |\n|---|---|\n");
    for command in visible(&root) {
        let name = command.get_name();
        let _ = writeln!(text, "| [`{name}`](#bt-fast-{name}) | {} |", paragraph(command.get_about()));
    }
    let _ = write!(text, "\n{}\n", paragraph(root.get_after_help()));
    text.push_str("\n## Flags of every command\n\n");
    root.get_arguments().for_each(|arg| argument(&mut text, arg));
    visible(&root).for_each(|command| section(&mut text, command, 2));
    text
}

fn section(text: &mut String, command: &Command, level: usize) {
    let (hashes, name) = ("#".repeat(level), command.get_bin_name().unwrap_or_default());
    let _ = write!(text, "\n{hashes} {name}\n\n{}.\n", paragraph(command.get_about()));
    let _ = write!(text, "\n```\n{}\n```\n", usage(command));
    let own = || command.get_arguments().filter(|arg| !arg.is_global_set() && arg.get_id() != "help");
    let (positional, flags): (Vec<&Arg>, Vec<&Arg>) = own().partition(|arg| arg.is_positional());
    for arguments in [positional, flags].iter().filter(|arguments| !arguments.is_empty()) {
        text.push('\n');
        arguments.iter().for_each(|arg| argument(text, arg));
    }
    if let Some(notes) = command.get_after_help() {
        let _ = write!(text, "\n{}\n", paragraph(Some(notes)));
    }
    visible(command).for_each(|command| section(text, command, level + 1));
}

/// Appends a list item with the flag, its help, its default and its possible values.
fn argument(text: &mut String, arg: &Arg) {
    if arg.is_hide_set() {
        return;
    }
    let short = arg.get_short().map(|short| format!("-{short}, ")).unwrap_or_default();
    let _ = write!(text, "- `{short}{arg}`: {}.", paragraph(arg.get_help()));
    if arg.get_action().takes_values() {
        let code = |words: Vec<String>| words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ");
        let values = arg.get_possible_values().iter().map(|value| value.get_name().to_owned()).collect::<Vec<_>>();
        let defaults =
            arg.get_default_values().iter().map(|value| value.to_string_lossy().into_owned()).collect::<Vec<_>>();
        for (name, words) in [("Values", values), ("Default", defaults)] {
            if !words.is_empty() {
                let _ = write!(text, " {name}: {}.", code(words));
            }
        }
    }
    text.push('\n');
}

fn usage(command: &Command) -> String {
    let usage = command.clone().render_usage().to_string();
    usage.strip_prefix("Usage: ").unwrap_or(&usage).to_owned()
}

/// Escapes the characters that Markdown would interpret. Brackets outside of code, as in `[default: 1]`, become
/// parentheses.
fn paragraph(text: Option<&StyledStr>) -> String {
    let text = text.map(ToString::to_string).unwrap_or_default();
    let mut escaped = String::new();
    let mut is_code = false;
    for character in text.trim_end().chars() {
        is_code ^= character == '`';
        match character {
            '[' if !is_code => escaped.push('('),
            ']' if !is_code => escaped.push(')'),
            '*' | '<' if !is_code => escaped.extend(['\\', character]),
            _ => escaped.push(character),
        }
    }
    escaped
}

fn visible(command: &Command) -> impl Iterator<Item = &Command> {
    command.get_subcommands().filter(|command| !command.is_hide_set() && command.get_name() != "help")
}

#[test]
fn the_manual_is_up_to_date() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/cli.md");
    let generated = manual();
    if env::var_os("UPDATE_CLI_DOC").is_some() {
        fs::write(&path, &generated).unwrap();
    }
    let committed = fs::read_to_string(&path).unwrap_or_default();
    assert!(committed == generated, "docs/cli.md is out of date: {REGENERATE}");
}
