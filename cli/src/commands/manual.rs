//! `completions` and `man`: what the command line says of itself, for shells, for `man` and for docs/cli.md.

use std::fmt::Write;

use anyhow::{Result, bail};
use clap::{Arg, Command};
use clap_complete::Shell;

use crate::show;

/// Prints the completions of a shell.
pub fn completions(mut command: Command, shell: Shell) -> Result<bool> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, "shiftgate", &mut script);
    show::line(String::from_utf8(script)?.trim_end());
    Ok(true)
}

/// Prints the manual page of a command, named by its words, or all of the command line as Markdown.
pub fn man(command: Command, words: &[String], as_markdown: bool) -> Result<bool> {
    if as_markdown {
        show::line(markdown(command).trim_end());
        return Ok(true);
    }
    let mut page = Vec::new();
    clap_mangen::Man::new(named(command, words)?).render(&mut page)?;
    show::line(String::from_utf8(page)?.trim_end());
    Ok(true)
}

/// The command of these words, as it is called.
fn named(mut command: Command, words: &[String]) -> Result<Command> {
    command.build();
    for word in words {
        let found = command.find_subcommand(word).cloned();
        let name = command.get_name();
        command = match found {
            Some(found) => found,
            None => bail!("`{name}` has no command `{word}`; `shiftgate --help` lists them"),
        };
    }
    Ok(command)
}

/// All commands as one document.
fn markdown(mut command: Command) -> String {
    command.build();
    let mut text = String::from(
        "# The command line\n\n<!-- Made by `cargo run -- man --markdown`; change the commands, not this file. -->\n",
    );
    // Writing to a String cannot fail.
    let _ = write(&mut text, &command, 2);
    text
}

fn write(text: &mut String, command: &Command, depth: usize) -> std::fmt::Result {
    let name = command.get_bin_name().unwrap_or_else(|| command.get_name());
    writeln!(text, "\n{} {name}\n", "#".repeat(depth.min(4)))?;
    if let Some(about) = command.get_long_about().or_else(|| command.get_about()) {
        writeln!(text, "{about}.\n")?;
    }
    let usage = command.clone().render_usage().to_string();
    writeln!(text, "```text\n{}\n```", usage.trim_start_matches("Usage: "))?;
    let is_root = depth == 2;
    let mut arguments = command.get_arguments().filter(|one| is_told(one, is_root)).peekable();
    if arguments.peek().is_some() {
        writeln!(text)?;
    }
    for one in arguments {
        writeln!(text, "- {}", argument(one))?;
    }
    if let Some(after) = command.get_after_help() {
        writeln!(text, "\n{after}")?;
    }
    let parts = command.get_subcommands().filter(|part| part.get_name() != "help");
    parts.into_iter().try_for_each(|part| write(text, part, depth + 1))
}

/// What is the same for every command is told once.
fn is_told(one: &Arg, of_root: bool) -> bool {
    let everywhere = matches!(one.get_id().as_str(), "help" | "version") || one.is_global_set();
    !one.is_hide_set() && (of_root || !everywhere)
}

fn argument(one: &Arg) -> String {
    let values: Vec<String> = one
        .get_value_names()
        .filter(|_| one.get_action().takes_values())
        .unwrap_or_default()
        .iter()
        .map(|name| format!("<{name}>"))
        .collect();
    let name = match (one.get_short(), one.get_long()) {
        (_, Some(long)) => format!("--{long} {}", values.join(" ")),
        (Some(short), None) => format!("-{short} {}", values.join(" ")),
        (None, None) => values.join(" "),
    };
    let help = one.get_help().map(ToString::to_string).unwrap_or_default();
    let text = format!("`{}`: {help}", name.trim_end());
    if !one.get_action().takes_values() {
        return text;
    }
    let possible: Vec<String> =
        one.get_possible_values().iter().map(|value| format!("`{}`", value.get_name())).collect();
    let possible = Some(possible.join(", ")).filter(|list| !list.is_empty());
    let defaults: Vec<String> =
        one.get_default_values().iter().map(|value| format!("`{}`", value.to_string_lossy())).collect();
    let defaults = Some(defaults.join(", ")).filter(|list| !list.is_empty());
    let parts = [
        Some(text),
        possible.map(|list| format!("one of {list}")),
        defaults.map(|list| format!("{list} without it")),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::Arguments;

    #[test]
    fn the_checked_in_document_is_the_one_that_is_generated() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/cli.md");
        let checked_in = std::fs::read_to_string(path).unwrap();
        assert_eq!(
            checked_in.trim_end(),
            markdown(Arguments::command()).trim_end(),
            "write it anew: cargo run -- man --markdown > docs/cli.md"
        );
    }

    #[test]
    fn every_command_says_what_it_is_and_has_a_page() {
        fn check(command: &Command) {
            assert!(command.get_about().is_some(), "{} says nothing of itself", command.get_name());
            for one in command.get_arguments() {
                assert!(one.get_help().is_some(), "{} says nothing of {}", command.get_name(), one.get_id());
            }
            command.get_subcommands().for_each(check);
        }
        let mut command = Arguments::command();
        command.build();
        check(&command);
        let page = |words: &[&str]| {
            let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
            named(Arguments::command(), &words).map(|command| command.get_display_name().unwrap().to_owned())
        };
        assert_eq!(page(&["policy", "check"]).unwrap(), "shiftgate-policy-check");
        assert!(
            page(&["policy", "mend"]).unwrap_err().to_string().contains("`policy` has no command `mend`")
        );
    }

    #[test]
    fn shells_get_completions_of_the_new_commands() {
        let mut script = Vec::new();
        clap_complete::generate(Shell::Bash, &mut Arguments::command(), "shiftgate", &mut script);
        let script = String::from_utf8(script).unwrap();
        for word in ["verdicts", "explain", "--since"] {
            assert!(script.contains(word), "no {word}");
        }
    }
}
