//! The texts of image history, as BuildKit writes them (spec image-store §12.1).

use std::fmt::Write;

use wharf_dockerfile::instruction::Healthcheck;
use wharf_image::HistoryEntry;

/// The comment of every entry.
const COMMENT: &str = "buildkit.dockerfile.v0";

/// Returns an entry without a time.
pub(crate) fn entry(created_by: String, empty_layer: bool) -> HistoryEntry {
    HistoryEntry {
        created_by: Some(created_by),
        comment: Some(COMMENT.to_owned()),
        empty_layer,
        ..HistoryEntry::default()
    }
}

/// Returns `KEYWORD k=v k2=v2`.
pub(crate) fn pairs(keyword: &str, pairs: &[(String, String)]) -> String {
    let mut text = keyword.to_owned();
    for (key, value) in pairs {
        text.push_str(&format!(" {key}={value}"));
    }
    text
}

/// Returns `KEYWORD ["a" "b"]`.
pub(crate) fn quoted_list(keyword: &str, words: &[String]) -> String {
    let words: Vec<String> = words.iter().map(|word| quoted(word)).collect();
    format!("{keyword} [{}]", words.join(" "))
}

/// Returns `KEYWORD [a b]`.
pub(crate) fn plain_list(keyword: &str, words: &[String]) -> String {
    format!("{keyword} [{}]", words.join(" "))
}

/// Returns the entry of HEALTHCHECK.
pub(crate) fn healthcheck(check: &Healthcheck) -> String {
    format!(
        "HEALTHCHECK {{Test:[{}] Interval:{} Timeout:{} StartPeriod:{} StartInterval:{} Retries:{}}}",
        check.test.join(" "),
        duration(check.interval_ns),
        duration(check.timeout_ns),
        duration(check.start_period_ns),
        duration(check.start_interval_ns),
        check.retries,
    )
}

/// Returns the entry of RUN; `args` are the build arguments in scope.
pub(crate) fn run(args: &[(String, String)], command: &[String]) -> String {
    let mut text = "RUN ".to_owned();
    if !args.is_empty() {
        text.push_str(&format!("|{}", args.len()));
        for (key, value) in args {
            text.push_str(&format!(" {key}={value}"));
        }
        text.push(' ');
    }
    text.push_str(&command.join(" "));
    text.push_str(" # buildkit");
    text
}

/// Returns a duration as Go's `time.Duration` prints it, such as `1m30s` or `1.5ms`.
fn duration(nanoseconds: i64) -> String {
    const SECOND: u64 = 1_000_000_000;
    let sign = if nanoseconds < 0 { "-" } else { "" };
    let absolute = nanoseconds.unsigned_abs();
    if absolute == 0 {
        return "0s".to_owned();
    }
    if absolute < SECOND {
        let (unit, name) = match absolute {
            0..1_000 => (1, "ns"),
            1_000..1_000_000 => (1_000, "µs"),
            _ => (1_000_000, "ms"),
        };
        return format!("{sign}{}{name}", decimal(absolute, unit));
    }
    let (hours, minutes) = (absolute / SECOND / 3600, absolute / SECOND / 60 % 60);
    let mut text = sign.to_owned();
    if hours > 0 {
        text.push_str(&format!("{hours}h"));
    }
    if hours > 0 || minutes > 0 {
        text.push_str(&format!("{minutes}m"));
    }
    format!("{text}{}s", decimal(absolute % (60 * SECOND), SECOND))
}

/// Returns `value / unit` without zeros at the end; `unit` is a power of ten.
fn decimal(value: u64, unit: u64) -> String {
    let digits = usize::try_from(unit.ilog10()).unwrap_or(0);
    let text = format!("{}.{:0digits$}", value / unit, value % unit);
    let text = if digits == 0 {
        text.trim_end_matches(".0")
    } else {
        text.trim_end_matches('0')
    };
    text.trim_end_matches('.').to_owned()
}

/// Returns a text in double quotes with control characters escaped (Go's `%q`).
fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{b}' => out.push_str("\\v"),
            '\u{c}' => out.push_str("\\f"),
            // Writing to a String cannot fail.
            _ if character.is_ascii_control() => {
                let _ = write!(out, "\\x{:02x}", u32::from(character));
            }
            _ if character.is_control() => {
                let _ = write!(out, "\\u{:04x}", u32::from(character));
            }
            _ => out.push(character),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::{duration, quoted_list, run};

    #[test]
    fn durations_are_gos() {
        for (nanoseconds, expected) in [
            (0, "0s"),
            (1, "1ns"),
            (1_500, "1.5µs"),
            (250_000_000, "250ms"),
            (1_000_000_000, "1s"),
            (90_500_000_000, "1m30.5s"),
            (3_600_000_000_000, "1h0m0s"),
            (-2_000_000_000, "-2s"),
        ] {
            assert_eq!(duration(nanoseconds), expected);
        }
    }

    #[test]
    fn lists_and_commands() {
        let words = ["a".to_owned(), "b \"c\"\n".to_owned()];
        assert_eq!(quoted_list("CMD", &words), r#"CMD ["a" "b \"c\"\n"]"#);
        assert_eq!(quoted_list("CMD", &[]), "CMD []");
        let args = [
            ("A".to_owned(), "1".to_owned()),
            ("B".to_owned(), String::new()),
        ];
        assert_eq!(run(&args, &words[..1]), "RUN |2 A=1 B= a # buildkit");
        assert_eq!(run(&[], &words[..1]), "RUN a # buildkit");
    }
}
