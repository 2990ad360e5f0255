//! Times as text.

/// Formats a time as RFC 3339 in UTC with as many of nine fraction digits as are needed.
pub(crate) fn format_time(time_ns: u64) -> String {
    let seconds = time_ns / 1_000_000_000;
    let fraction = time_ns % 1_000_000_000;
    let (year, month, day) = civil_date(seconds / 86_400);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    let mut text = format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}");
    if fraction != 0 {
        let digits = format!(".{fraction:09}");
        text.push_str(digits.trim_end_matches('0'));
    }
    text.push('Z');
    text
}

/// Formats a time as RFC 3339 in UTC with six fraction digits.
pub(super) fn format_micros(time_ns: u64) -> String {
    let whole = format_time(time_ns - time_ns % 1_000_000_000);
    let micros = time_ns % 1_000_000_000 / 1000;
    format!("{}.{micros:06}Z", whole.trim_end_matches('Z'))
}

/// Formats a time as RFC 3164 wants it, in UTC.
pub(super) fn stamp(time_ns: u64) -> String {
    const MONTHS: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let seconds = time_ns / 1_000_000_000;
    let (_, month, day) = civil_date(seconds / 86_400);
    let month = usize::try_from(month - 1)
        .ok()
        .and_then(|month| MONTHS.get(month));
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    format!(
        "{} {day:>2} {hour:02}:{minute:02}:{second:02}",
        month.unwrap_or(&"Jan")
    )
}

/// Returns the Gregorian date of a day counted from 1970-01-01.
fn civil_date(days: u64) -> (u64, u64, u64) {
    // Years start in March here, so that the leap day is the last of its year.
    let days = days + 719_468;
    let era = days / 146_097;
    let day_of_era = days % 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_as_many_digits_as_they_need() {
        let time = 1_714_557_600_123_456_000;
        assert_eq!(format_time(time), "2024-05-01T10:00:00.123456Z");
        assert_eq!(format_time(0), "1970-01-01T00:00:00Z");
        assert_eq!(
            format_time(951_827_696_000_000_001),
            "2000-02-29T12:34:56.000000001Z"
        );
    }

    #[test]
    fn syslog_stamps_pad_the_day_with_a_space() {
        assert_eq!(stamp(1_714_557_600_123_456_000), "May  1 10:00:00");
        assert_eq!(stamp(951_827_696_000_000_001), "Feb 29 12:34:56");
    }
}
