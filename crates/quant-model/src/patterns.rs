//! Patterns of names, compiled within bounds.

use regex::{Regex, RegexBuilder};

use crate::Error;
use crate::error::{one_line, shortened};

/// Bytes of all patterns of one option, compiled. With their caches they may take three times as much.
const MOST: usize = 128 << 20;
/// Bytes of one: every character of a name may take a step for each of its some 30,000 states, which is a
/// tenth of a millisecond. Hundreds of names fit.
const LARGEST: usize = 1 << 20;
/// Bytes of its cache; the regex crate's own limit.
const LARGEST_CACHE: usize = 2 << 20;
/// Groups of one: to match takes memory for each of them in each state.
const MOST_GROUPS: usize = 100;
/// Characters of one: they are taken apart before its size is known.
const LONGEST: usize = 65_536;

/// Compiles the patterns of an option, such as `--include`.
///
/// ```
/// let patterns = quant_model::patterns("--include", &[r"\.weight$".to_string()])?;
/// assert!(patterns[0].is_match("lm_head.weight"));
/// assert!(quant_model::patterns("--include", &["(".to_string()]).is_err());
/// # Ok::<(), quant_model::Error>(())
/// ```
///
/// # Errors
/// A text that is no regular expression; patterns that take more than 1 MiB, or 128 MiB together, or have
/// more than 100 groups that capture.
pub fn patterns(option: &str, texts: &[String]) -> Result<Vec<Regex>, Error> {
    let texts: Vec<_> = texts
        .iter()
        .map(|text| (text.as_str(), text.as_str()))
        .collect();
    compile(option, &texts).map_err(Error::Option)
}

/// Compiles patterns; each goes with the text that messages show.
pub(crate) fn compile(option: &str, patterns: &[(&str, &str)]) -> Result<Vec<Regex>, String> {
    let count = patterns.len();
    let share = MOST / count.max(1);
    let compile = |(pattern, shown): &(&str, &str)| {
        let mut builder = RegexBuilder::new(pattern);
        builder.size_limit(share.min(LARGEST));
        builder.dfa_size_limit(share.min(LARGEST_CACHE));
        let built = match pattern.chars().nth(LONGEST) {
            Some(_) => Err(format!("has more than {LONGEST} characters; {FEWER}")),
            None => builder.build().map_err(|error| problem(&error, count)),
        };
        let few = built.and_then(|regex| match regex.captures_len() - 1 {
            groups if groups > MOST_GROUPS => Err(format!(
                "has {groups} groups, more than {MOST_GROUPS}; write (?:..) instead of (..)"
            )),
            _ => Ok(regex),
        });
        few.map_err(|problem| one_line(format!("{option} '{}' {problem}", shortened(shown))))
    };
    patterns.iter().map(compile).collect()
}

/// What to do about one that is too large.
const FEWER: &str = "give several shorter ones";

fn problem(error: &regex::Error, count: usize) -> String {
    match error {
        regex::Error::CompiledTooBig(_) if count > 1 => format!(
            "takes too much memory as one of {count} patterns; give fewer, or simpler ones: \\w, \\d and counts such as {{1,100}} take the most"
        ),
        regex::Error::CompiledTooBig(_) => format!(
            "takes too much memory and time; {FEWER}, or a simpler one: \\w, \\d and counts such as {{1,100}} take the most"
        ),
        other => {
            let text = other.to_string();
            // The place is shown in lines before.
            let last = text.lines().next_back().unwrap_or_default();
            let last = last.trim_start_matches("error: ");
            format!("is not a regular expression: {last}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn many(count: usize, text: impl Fn(usize) -> String) -> Result<Vec<Regex>, Error> {
        patterns("--exclude", &(0..count).map(text).collect::<Vec<_>>())
    }

    #[test]
    fn many_names_are_compiled() {
        let found = many(2000, |i| format!(r"^model\.layers\.{i}\.mlp\.\d+\.weight$")).unwrap();
        assert!(found[7].is_match("model.layers.7.mlp.31.weight"));
    }

    /// These took 600 MiB.
    #[test]
    fn many_large_patterns_are_refused() {
        let error = many(2000, |i| format!(r"\w{{1,5}}x{i}"))
            .unwrap_err()
            .to_string();
        assert!(
            error.starts_with(r"--exclude '\w{1,5}x0' takes too much memory as one of 2000"),
            "{error}"
        );
        let one = many(1, |_| r"\w{1000}".into()).unwrap_err().to_string();
        assert!(one.contains("takes too much memory and time; "), "{one}");
    }

    /// They took minutes, or gigabytes, for the names of a model.
    #[test]
    fn what_would_take_minutes_is_refused() {
        for (text, words) in [
            ("(a|b|ab|ba|a.)*".repeat(4000) + "z", "takes too much"),
            (".*".repeat(3000) + "z", "takes too much"),
            (".{0,5000}z".into(), "takes too much"),
            ("(a)".repeat(500), "has 500 groups"),
            ("x".repeat(60_000), "takes too much"),
            ("é".repeat(70_000), "has more than 65536 characters"),
        ] {
            let start = std::time::Instant::now();
            let error = many(1, |_| text.clone()).unwrap_err().to_string();
            assert!(error.contains(words) && error.len() < 500, "{error}");
            assert!(start.elapsed().as_secs() < 10);
        }
        // A hundred names in one, and what people write.
        let names = (0..100).map(|i| format!(r"^model\.layers\.{i}\.self_attn\.q_proj\.weight$"));
        let names = names.collect::<Vec<_>>().join("|");
        for text in [
            &names,
            r"^(\w+)\.layers\.\d+\.(mlp|attn)\.(\w{1,16})$",
            "(?i)norm|embed",
        ] {
            many(1, |_| text.into()).unwrap();
        }
    }

    #[test]
    fn what_is_no_pattern_is_said_in_a_line() {
        let error = many(1, |_| "(".into()).unwrap_err().to_string();
        assert_eq!(
            error,
            "--exclude '(' is not a regular expression: unclosed group"
        );
        let long = many(1, |_| "(\n".repeat(100_000)).unwrap_err().to_string();
        assert!(long.len() < 400 && !long.contains('\n'), "{long}");
    }
}
