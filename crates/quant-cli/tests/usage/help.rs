//! Help, the manual, completions.

use crate::folder::Folder;

const COMMANDS: [&str; 12] = [
    "quantize",
    "activations",
    "calibrate",
    "plot",
    "dequantize",
    "inspect",
    "index",
    "convert",
    "diff",
    "backends",
    "completions",
    "man",
];

#[test]
fn every_command_has_help_and_a_page() {
    let folder = Folder::new();
    let top = folder.succeeds(&["man"]);
    assert!(top.contains("quant"));
    for command in COMMANDS {
        let page = folder.succeeds(&["man", command]);
        assert!(page.contains(&format!("quant\\-{command}")), "{page}");
        let help = folder.succeeds(&[command, "--help"]);
        for text in [&help, &page] {
            assert!(
                text.contains("Exit status") && text.contains("143"),
                "{text}"
            );
        }
        let has_example = !matches!(command, "backends" | "completions");
        assert_eq!(
            help.contains("\n  quant ") || help.contains("    quant "),
            has_example,
            "{help}"
        );
        assert!(
            help.lines().all(|line| line.chars().count() <= 125),
            "{help}"
        );
        assert!(folder.succeeds(&[command, "-h"]).lines().count() < help.lines().count());
    }
    let wrong = folder.quant(&["man", "nothing"]);
    assert_eq!(wrong.status.code(), Some(2));
    let help = folder.succeeds(&["diff", "--help"]);
    for line in [
        "0  done; diff: the models are equal",
        "1  failed",
        "2  the command line is wrong; diff: trouble",
        "3  --strict",
    ] {
        assert!(help.contains(line), "{help}");
    }
}

#[test]
fn shells_complete_what_there_is() {
    let folder = Folder::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = folder.succeeds(&["completions", shell]);
        assert!(script.contains("quant"), "{shell}");
    }
    let script = folder.succeeds(&["completions", "bash"]);
    let backends = folder.succeeds(&["backends"]);
    // What follows `--backend` there: names, and no files.
    let blocks: Vec<&str> = script.split("--backend)").skip(1).collect();
    assert_eq!(blocks.len(), 2);
    for block in blocks {
        let block = &block[..block.find(";;").unwrap()];
        assert!(!block.contains("compgen -f"), "{block}");
        assert!(backends.lines().all(|name| block.contains(name)), "{block}");
    }
    for option in [
        "--include)",
        "--exclude)",
        "--threads)",
        "--name)",
        "--min-elements)",
        "--axis)",
        "--bins)",
    ] {
        let block = script.split(option).nth(1).unwrap();
        assert!(
            !block[..block.find(";;").unwrap()].contains("compgen -f"),
            "{option}"
        );
    }
}
