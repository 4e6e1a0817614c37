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
        "2  the command line is wrong; diff: an error",
        "3  --strict",
    ] {
        assert!(help.contains(line), "{help}");
    }
}

/// Paragraphs are wrapped once, and commands stay commands.
#[test]
fn help_fits_narrow_terminals() {
    let folder = Folder::new();
    let help = |command: &str, columns: usize| {
        let mut command = folder.command(&[command, "--help"]);
        let output = command
            .env("COLUMNS", columns.to_string())
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    for command in COMMANDS.iter().chain(&["plan", "run", "evaluate"]) {
        let whole = help(command, 120);
        for columns in [60, 80] {
            let text = help(command, columns);
            let long = text.lines().find(|line| line.chars().count() > columns);
            assert!(
                long.is_none_or(|line| line.starts_with("Usage: ")),
                "{long:?}"
            );
            let (about, _) = text.split_once("Usage: ").unwrap();
            let lines: Vec<&str> = about.lines().collect();
            for pair in lines.windows(2).filter(|pair| !pair[0].is_empty()) {
                let Some(word) = pair[1].split_whitespace().next() else {
                    continue;
                };
                let together = pair[0].chars().count() + 1 + word.chars().count();
                assert!(together > columns, "{command}, {columns}: {pair:?}");
            }
            let end = |text: &str| {
                let at = ["Example:", "Examples:", "Exit status"].map(|word| text.find(word));
                text[at.into_iter().flatten().min().unwrap()..].to_owned()
            };
            let whole = end(&whole);
            let (commands, _) = whole.split_once("Exit status").unwrap();
            assert!(
                end(&text).replace(" \\\n      ", " ").starts_with(commands),
                "{text}"
            );
        }
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
