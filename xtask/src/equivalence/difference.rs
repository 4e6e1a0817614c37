//! Where two targets part: the first case, and in it the first byte.

use super::{Task, files, lock};

/// Prints the first case of a function, and in it the first byte, in which `bad` is not as `good`.
///
/// # Errors
/// If a program fails.
pub fn explain(function: &str, good: &Task<'_>, bad: &Task<'_>) -> Result<(), String> {
    let (Some(with), Some(without)) = (good.backend, bad.backend) else {
        return explain_files(good, bad);
    };
    let good_cases = good
        .target
        .print(good.programs, &["cases", with, function])?;
    let bad_cases = bad
        .target
        .print(bad.programs, &["cases", without, function])?;
    let cases = good_cases.lines().zip(bad_cases.lines());
    // Lines are a case's number and its digest.
    let different: Vec<&str> = cases
        .filter(|(good, bad)| good != bad)
        .filter_map(|(good, _)| good.split(' ').next())
        .collect();
    let (bad_name, good_name) = (&bad.target.name, &good.target.name);
    let count = good_cases.lines().count();
    let Some(first) = different.first() else {
        println!("{bad_name} {without}: {function}: the corpus is not that of {good_name}");
        return Ok(());
    };
    println!(
        "{bad_name} {without}: {function}: {} of {count} cases are not as on {good_name} {with}; \
         the first is case {first}:",
        different.len()
    );
    let function = lock::function(function);
    let good = good
        .target
        .print(good.programs, &["case", with, function, first])?;
    let bad = bad
        .target
        .print(bad.programs, &["case", without, function, first])?;
    for line in describe(&good, &bad) {
        println!("    {line}");
    }
    Ok(())
}

/// Parameters, and the first byte that differs, from two descriptions of a case.
fn describe(good: &str, bad: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let mut before: Vec<(&str, &str)> = Vec::new();
    for (good, bad) in good.lines().zip(bad.lines()) {
        match (good.split_once(" = "), bad.split_once(" = ")) {
            (Some((name, good)), Some((_, bad))) if good != bad => {
                lines.push(difference(name, good, bad));
                lines.extend(before.iter().filter_map(|of| source(good, bad, *of)));
                return lines;
            }
            (Some((name, good)), Some(_)) => {
                before.push((name, good));
                if good.len() <= 16 {
                    lines.push(format!("{name} = {good}"));
                }
            }
            _ if good != bad => {
                lines.push(format!("{bad}, but {good}"));
                return lines;
            }
            _ => lines.push(good.to_owned()),
        }
    }
    lines.push("one of them has more to tell".to_owned());
    lines
}

fn first_byte(good: &str, bad: &str) -> usize {
    let mut digits = good.bytes().zip(bad.bytes());
    let digit = digits.position(|(good, bad)| good != bad);
    digit.unwrap_or(good.len().min(bad.len())) / 2
}

fn difference(name: &str, good: &str, bad: &str) -> String {
    let byte = first_byte(good, bad);
    let at = |text: &str| {
        text.get(2 * byte..2 * byte + 2)
            .unwrap_or("none")
            .to_owned()
    };
    let (is, should, len) = (at(bad), at(good), good.len() / 2);
    format!("{name}: byte {byte} of {len} is {is}, not {should}")
}

/// What lies at the same place of an input that has as many elements.
fn source(good: &str, bad: &str, (name, bytes): (&str, &str)) -> Option<String> {
    let byte = first_byte(good, bad);
    let (len, of) = (good.len() / 2, bytes.len() / 2);
    // Single numbers have no places, and much larger inputs have others.
    let size = of / len.max(1);
    if len <= 8 || !(1..=8).contains(&size) || !of.is_multiple_of(len) {
        return None;
    }
    let place = bytes.get(2 * byte * size..2 * (byte + 1) * size)?;
    Some(format!("where {name} = {place} (in the order of memory)"))
}

fn explain_files(good: &Task<'_>, bad: &Task<'_>) -> Result<(), String> {
    let (bad_name, good_name) = (&bad.target.name, &good.target.name);
    let want = files::run(good.target, good.programs)?;
    let got = files::run(bad.target, bad.programs)?;
    for (want, got) in want.iter().zip(&got) {
        for ((part, want_bytes), (_, got_bytes)) in want.parts.iter().zip(&got.parts) {
            if want_bytes != got_bytes {
                let mut bytes = want_bytes.iter().zip(got_bytes);
                let place = bytes.position(|(want, got)| want != got);
                let place = place.unwrap_or(want_bytes.len().min(got_bytes.len()));
                println!(
                    "{bad_name}: quant quantize {}: the {part} is not that of {good_name}, from \
                     byte {place} on",
                    got.options
                );
                return Ok(());
            }
        }
    }
    println!("{bad_name}: the quant command: different, but not when done again");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::describe;

    #[test]
    fn the_first_byte_is_named() {
        let good = "scheme: int8\nscale = 0000803f\nvalues = 00000000111111112222222233333333444444445555555566666666777777778888888899999999\ncodes = 00010203040506070809";
        let bad = good.replace("0506", "0596");
        assert_eq!(
            describe(good, &bad),
            [
                "scheme: int8",
                "scale = 0000803f",
                "codes: byte 6 of 10 is 96, not 06",
                "where values = 66666666 (in the order of memory)",
            ]
        );
    }

    #[test]
    fn a_shorter_output_is_named() {
        assert_eq!(
            describe("codes = 0102", "codes = 01"),
            ["codes: byte 1 of 2 is none, not 02"]
        );
    }
}
