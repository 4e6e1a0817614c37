use clap::CommandFactory as _;

use super::*;
use crate::commands::Arguments;

/// Options that have an effect whatever else is given. Whoever adds an option decides: here, or
/// in the table.
const FREE: &[(&str, &[&str])] = &[
    (
        "quantize",
        &[
            "output",
            // The encoding says which of these it takes.
            "format",
            "bits",
            "group_size",
            "preset",
            // The encoding says which of these it takes.
            "type",
            "requantize",
            "dtype",
            "mode",
            "granularity",
            "dialect",
            "search",
            // It needs samples or moments, and says so.
            #[cfg(feature = "run")]
            "method",
            // Where nothing is searched the library refuses it.
            "importance",
            "min_elements",
            "include",
            "exclude",
            "non_finite",
            // The library refuses these for a package.
            "experts",
            "expert_axes",
            "backend",
            "threads",
            "strict",
            "dry_run",
            "force",
            "no_sync",
            "quiet",
            "json",
            "report",
        ],
    ),
    (
        "plan",
        &[
            "output",
            "format",
            "bits",
            "group_size",
            "preset",
            // The encoding says which of these it takes.
            "type",
            "requantize",
            "dtype",
            "mode",
            "granularity",
            "dialect",
            "search",
            // Where nothing is searched the library refuses it.
            "importance",
            "min_elements",
            "include",
            "exclude",
            "experts",
            "expert_axes",
            "non_finite",
            "candidates",
            "report",
            "force",
            "quiet",
        ],
    ),
    (
        "activations",
        &[
            "ranges", "output", "dtype", "mode", "include", "exclude", "strict", "dry_run",
            "force", "no_sync", "quiet", "json",
        ],
    ),
    (
        "calibrate",
        &[
            "output", "observer", "dtype", "mode", "name", "backend", "threads", "force", "quiet",
            "json",
        ],
    ),
    ("plot", &["output", "force", "quiet", "json"]),
    #[cfg(feature = "run")]
    (
        "run",
        &[
            "input",
            "output",
            "image_fit",
            "function",
            "round_f16",
            "memory",
            "max_iterations",
            "threads",
            "force",
            "quiet",
            "json",
        ],
    ),
    #[cfg(feature = "run")]
    (
        "evaluate",
        &[
            "samples",
            "samples_limit",
            "image_fit",
            "sequence",
            "labels",
            "only",
            "report",
            "function",
            "round_f16",
            "memory",
            "max_iterations",
            "threads",
            "quiet",
            "json",
        ],
    ),
    (
        "dequantize",
        &["output", "threads", "force", "no_sync", "quiet", "json"],
    ),
    (
        "convert",
        &[
            "output", "format", "threads", "force", "no_sync", "quiet", "json",
        ],
    ),
    ("inspect", &["values", "json"]),
    ("index", &["force", "quiet", "json"]),
    ("diff", &["json", "quiet"]),
    ("backends", &["json"]),
    ("completions", &[]),
    ("man", &[]),
];

#[test]
fn every_command_that_a_hint_may_name_can_be_typed() {
    let mut command = Arguments::command();
    command.build();
    for named in HintCommand::ALL {
        let mut words = typed(named).split(' ');
        let subcommand = words.next().and_then(|name| command.find_subcommand(name));
        let subcommand = subcommand.unwrap_or_else(|| panic!("{}", typed(named)));
        for word in words {
            let mut options = subcommand.get_opts().chain(subcommand.get_arguments());
            let is_there = options.any(|one| {
                one.get_long()
                    .is_some_and(|long| word == format!("--{long}"))
            });
            assert!(is_there, "{}", typed(named));
        }
    }
}

#[test]
fn every_option_of_every_command_was_thought_of() {
    let mut command = Arguments::command();
    command.build();
    for subcommand in command
        .get_subcommands()
        .filter(|command| command.get_name() != "help")
    {
        let name = subcommand.get_name();
        let free = FREE.iter().find(|(command, _)| *command == name);
        let (_, free) = free.unwrap_or_else(|| panic!("`{name}` is not in the list"));
        let needs: Vec<_> = needs(name).collect();
        let options: Vec<&str> = subcommand
            .get_opts()
            .map(|option| option.get_id().as_str())
            .chain(
                subcommand
                    .get_arguments()
                    .filter(|one| !one.is_positional())
                    .map(|one| one.get_id().as_str()),
            )
            .filter(|id| !["help", "version"].contains(id))
            .collect();
        for option in &options {
            let known = free.contains(option) || needs.iter().any(|(known, _)| known == option);
            assert!(known, "{name} --{option}");
        }
        for (option, need) in needs.iter().filter(|(_, need)| need.command == name) {
            let others = match &need.rule {
                Value(other, values) => {
                    let found = subcommand
                        .get_opts()
                        .find(|option| option.get_id() == *other);
                    let possible = found.unwrap().get_possible_values();
                    for value in *values {
                        assert!(
                            possible.iter().any(|one| one.get_name() == *value),
                            "{value}"
                        );
                    }
                    vec![*other]
                }
                Given(other) => vec![*other],
                Without(others) => others.to_vec(),
                Package | Tensors | Folder | Files => Vec::new(),
            };
            for option in others.into_iter().chain([*option]) {
                assert!(options.contains(&option), "{name} has no --{option}");
            }
        }
    }
}
