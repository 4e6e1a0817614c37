//! Part of `cargo xtask circles`: no source file, benchmark, example or fuzz target is longer than 500 lines, no function longer than 60,
//! without a reason. A file gives it in its head, in a line that begins with `//! Long:`; a function
//! above or in it, in a comment that begins with `// Long:`. Tests are not looked at.

use std::fs;
use std::path::Path;

/// Lines of a file at most.
const FILE: usize = 500;
/// Lines of a function at most.
const FUNCTION: usize = 60;

/// What is too long in a file.
pub fn too_long(file: &Path) -> std::io::Result<Vec<String>> {
    let text = fs::read_to_string(file)?;
    let shown = file.display();
    let mut found = Vec::new();
    let lines: Vec<&str> = text.lines().collect();
    let mut head = lines.iter().take_while(|line| line.starts_with("//!"));
    if lines.len() > FILE && !head.any(|line| line.starts_with("//! Long:")) {
        found.push(format!("{shown}: {} lines, at most {FILE}", lines.len()));
    }
    let tests = lines.iter().position(|line| *line == "#[cfg(test)]");
    let code = &lines[..tests.unwrap_or(lines.len())];
    let mut start = 0;
    while start < code.len() {
        let function = function(code, start);
        if let Some((name, length)) = function.filter(|(_, length)| *length > FUNCTION) {
            let above = start.saturating_sub(1);
            let reason = code[above..start + length]
                .iter()
                .any(|line| line.contains("// Long:"));
            if !reason {
                let line = start + 1;
                found.push(format!(
                    "{shown}:{line}: `{name}` of {length} lines, at most {FUNCTION}"
                ));
            }
        }
        start += 1;
    }
    Ok(found)
}

/// The name and the lines of the function that begins in a line, as rustfmt lays it out.
fn function<'t>(code: &[&'t str], start: usize) -> Option<(&'t str, usize)> {
    let line = code[start];
    let plain = line.trim_start();
    let indent = &line[..line.len() - plain.len()];
    let words = [
        "pub ",
        "pub(crate) ",
        "pub(super) ",
        "const ",
        "unsafe ",
        "extern \"C\" ",
    ];
    let mut rest = plain;
    while let Some(shorter) = words.iter().find_map(|word| rest.strip_prefix(word)) {
        rest = shorter;
    }
    let name = rest.strip_prefix("fn ")?.split(['(', '<']).next()?;
    let end = format!("{indent}}}");
    for (after, line) in code[start..].iter().enumerate() {
        // A declaration without a body ends at the same depth.
        let inside = line.starts_with(indent) && line[indent.len()..].starts_with(' ');
        if *line == end {
            return Some((name, after + 1));
        }
        if line.ends_with(';') && !inside {
            return None;
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> usize {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.rs");
        fs::write(&file, text).unwrap();
        too_long(&file).unwrap().len()
    }

    #[test]
    fn long_functions_and_files_need_a_reason() {
        let body = "        one();\n".repeat(FUNCTION);
        let long =
            format!("impl A {{\n    pub fn long(\n        a: u8,\n    ) {{\n{body}    }}\n}}\n");
        assert_eq!(found(&long), 1);
        assert_eq!(
            found(&long.replace("    pub fn", "    // Long: all of it.\n    pub fn")),
            0
        );
        assert_eq!(
            found(&long.replace(") {", ");\n    fn b() {\n    }\n    fn c() {")),
            1
        );
        assert_eq!(found(&format!("#[cfg(test)]\n{long}")), 0);
        let file = "fn a() {\n}\n".repeat(FILE / 2 + 1);
        assert_eq!(found(&file), 1);
        assert_eq!(
            found(&format!("//! A.\n//!\n//! Long: a table.\n{file}")),
            0
        );
        assert_eq!(found(&format!("{file}//! Long: a table.\n")), 1);
    }
}
