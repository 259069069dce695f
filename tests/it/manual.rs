//! docs/cli.md is generated from the definition of the command line. A test fails when the file is out of date, and
//! writes it when `UPDATE_CLI_DOC` is set. Other tests check help and man pages.

use std::{
    env,
    fmt::Write as _,
    fs,
    path::Path,
    process::{Command as Process, Stdio},
};

use bt_fast::cli::args::{
    Arguments,
    help::{self, Example},
};
use clap::{Arg, Command, CommandFactory as _, builder::StyledStr};

use crate::support::sandbox::Sandbox;

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
    ending(&mut text, &root);
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
    if !positional.is_empty() {
        text.push('\n');
        positional.iter().for_each(|arg| argument(text, arg));
    }
    let mut headings: Vec<&str> = Vec::new();
    for heading in flags.iter().filter(|arg| !arg.is_hide_set()).filter_map(|arg| arg.get_help_heading()) {
        if !headings.contains(&heading) {
            headings.push(heading);
        }
    }
    for heading in headings {
        let _ = write!(text, "\n{heading}:\n\n");
        flags.iter().filter(|arg| arg.get_help_heading() == Some(heading)).for_each(|arg| argument(text, arg));
    }
    ending(text, command);
    visible(command).for_each(|command| section(text, command, level + 1));
}

/// Appends the notes and examples of a command.
fn ending(text: &mut String, command: &Command) {
    let ending = command.get_after_long_help().map(ToString::to_string).unwrap_or_default();
    let (notes, examples) = help::read(&ending);
    if !notes.is_empty() {
        let _ = write!(text, "\n{}\n", paragraph(Some(&notes.to_owned().into())));
    }
    text.push_str("\n```\n");
    for Example { purpose, line } in examples {
        let _ = writeln!(text, "# {purpose}\n{line}");
    }
    text.push_str("```\n");
}

/// Appends a list item with the flag, its help, its default and its possible values.
fn argument(text: &mut String, arg: &Arg) {
    if arg.is_hide_set() {
        return;
    }
    let short = arg.get_short().map(|short| format!("-{short}, ")).unwrap_or_default();
    let help = paragraph(arg.get_long_help().or(arg.get_help())).replace("\n\n", ". ");
    let _ = write!(text, "- `{short}{arg}`: {}.", help.trim_end_matches('.'));
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

/// Escapes the characters that Markdown would interpret. Brackets of defaults, as in `[default: 1]`, become parentheses.
fn paragraph(text: Option<&StyledStr>) -> String {
    let text = text.map(ToString::to_string).unwrap_or_default();
    let has_default = text.contains("[default");
    let mut escaped = String::new();
    let mut is_code = false;
    for character in text.trim_end().chars() {
        is_code ^= character == '`';
        match character {
            '[' if !is_code && has_default => escaped.push('('),
            ']' if !is_code && has_default => escaped.push(')'),
            '*' | '<' | '[' if !is_code => escaped.extend(['\\', character]),
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

/// Returns every visible command below `command` with the words that call it, itself included.
fn all(command: &Command, words: &[&str]) -> Vec<(Vec<String>, Command)> {
    let own = (words.iter().map(|&word| word.to_owned()).collect(), command.clone());
    let below = visible(command).flat_map(|sub| all(sub, &[words, &[sub.get_name()]].concat()));
    std::iter::once(own).chain(below).collect()
}

fn commands() -> Vec<(Vec<String>, Command)> {
    let mut root = Arguments::command();
    root.build();
    all(&root, &[])
}

#[test]
fn short_help_fits_a_screen_and_full_help_has_the_rest() {
    let sandbox = Sandbox::new();
    let run = |words: &[String], flag: &str| {
        let mut command = sandbox.command(words.iter().map(String::as_str).chain([flag]));
        String::from_utf8(command.env("COLUMNS", "80").output().unwrap().stdout).unwrap()
    };
    for (words, command) in commands() {
        let (brief, full) = (run(&words, "-h"), run(&words, "--help"));
        let widest = brief.lines().map(|line| line.chars().count()).max().unwrap();
        assert!(brief.lines().count() <= 24 && widest <= 80, "{words:?}:\n{brief}");
        assert!(brief.contains("--help ") && brief.trim_end().lines().last().unwrap().contains("--help"), "{brief}");
        for arg in command.get_arguments().filter(|arg| !arg.is_hide_set()) {
            assert!(full.contains(&arg.to_string()), "{words:?}: {arg}");
            if let Some(heading) = arg.get_help_heading() {
                assert!(full.lines().any(|line| line == format!("{heading}:")), "{words:?}: {heading}");
            }
        }
        assert!(full.contains("\nExamples:\n"), "{words:?}");
    }
}

#[test]
fn help_takes_the_name_of_a_command() {
    let sandbox = Sandbox::new();
    sandbox.write("config", "[get]\ntimeout = 5m\n");
    for words in ["get", "bench loopback", "create"] {
        let help = sandbox.run(&format!("help {words}")).ok();
        assert_eq!(help.text(), sandbox.run(&format!("{words} --help")).ok().text());
        sandbox.run(&format!("--config config help {words}")).ok();
    }
    sandbox.run("help nosuch").fails(2, "unrecognized subcommand 'nosuch': see bt-fast --help");
}

#[test]
fn every_flag_has_a_heading() {
    for (words, command) in commands() {
        for arg in command.get_arguments().filter(|arg| !arg.is_positional()) {
            assert!(arg.get_help_heading().is_some(), "{words:?}: {arg}");
        }
    }
}

/// Splits a line as a shell does, as far as the examples need it.
fn split(line: &str) -> Vec<String> {
    let quoted = line.split('\'').enumerate().map(|(at, part)| match at % 2 {
        0 => part.replace(' ', "\n"),
        _ => part.to_owned(),
    });
    quoted.collect::<String>().split('\n').map(str::to_owned).collect()
}

#[test]
fn every_example_is_a_valid_command_line() {
    for (words, command) in commands() {
        let ending = command.get_after_long_help().unwrap_or_else(|| panic!("{words:?}")).to_string();
        let (_, examples) = help::read(&ending);
        assert!((3..=5).contains(&examples.len()), "{words:?}: {} examples", examples.len());
        for Example { purpose, line } in examples {
            let call = words.join(" ");
            assert!(line.starts_with(format!("bt-fast {call}").trim()) && line.len() <= 78, "{line}");
            assert!(purpose.len() <= 76 && !purpose.is_empty(), "{purpose}");
            let parsed = Arguments::command().try_get_matches_from(split(line));
            assert!(parsed.is_ok() || line.starts_with("bt-fast help "), "{line}: {parsed:?}");
        }
    }
}

#[test]
fn every_command_has_a_man_page_without_dangling_references() {
    let sandbox = Sandbox::new();
    sandbox.run("manual man").ok();
    let expected: Vec<String> =
        commands().iter().map(|(words, _)| [&["bt-fast".to_owned()], &words[..]].concat().join("-")).collect();
    assert!(expected.contains(&"bt-fast-bench-loopback".to_owned()));
    let mut found: Vec<String> = fs::read_dir(sandbox.path("man"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap().trim_end_matches(".1").to_owned())
        .collect();
    let mut sorted = expected.clone();
    sorted.sort();
    found.sort();
    assert_eq!(found, sorted);
    let has_man = Process::new("man").arg("--version").stdout(Stdio::null()).status().is_ok_and(|code| code.success());
    for (name, (words, command)) in expected.iter().zip(commands()) {
        let page = sandbox.path(format!("man/{name}.1"));
        let text = fs::read_to_string(&page).unwrap().replace("\\-", "-");
        for reference in text.split([' ', '\n', ',']).filter_map(|word| word.strip_suffix("(1)")) {
            assert!(expected.iter().any(|page| page == reference), "{name}: {reference}(1)");
        }
        assert!(words.is_empty() || text.contains("bt-fast(1)"), "{name}");
        for arg in command.get_arguments().filter(|arg| !arg.is_hide_set()) {
            let first = arg.get_help().map(ToString::to_string).unwrap_or_default();
            let word = first.split_whitespace().last().unwrap_or_default();
            assert!(!word.is_empty() && text.contains(word), "{name}: {arg}: {first}");
        }
        if has_man {
            let mut man = Process::new("man");
            let output = man.args(["--warnings", "-Tutf8", "-l"]).arg(&page).env("MANWIDTH", "80").output().unwrap();
            let complaints = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success() && complaints.is_empty(), "{name}: {complaints}");
        }
    }
}
