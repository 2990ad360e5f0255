//! Finds the name that was probably meant.

/// Names further away than this many edits are not offered.
const MAX_DISTANCE: usize = 2;
/// Longer names are not compared: it costs more than it helps.
const MAX_CHARS: usize = 128;

/// Returns the candidate nearest to `name`, at most two edits away and not equal; the first of equals.
pub(crate) fn nearest<'a>(
    name: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    if name.chars().count() > MAX_CHARS {
        return None;
    }
    let mut best: Option<(usize, &str)> = None;
    for candidate in candidates {
        if candidate.chars().count() > MAX_CHARS {
            continue;
        }
        let distance = edit_distance(name, candidate);
        if distance == 0 {
            return None;
        }
        if distance <= MAX_DISTANCE && best.is_none_or(|(nearest, _)| distance < nearest) {
            best = Some((distance, candidate));
        }
    }
    best.map(|(_, candidate)| candidate)
}

/// Returns the Levenshtein distance of two names, upper and lower case being equal.
fn edit_distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.to_lowercase().chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (index, left_char) in left.to_lowercase().chars().enumerate() {
        let (mut diagonal, mut previous) = (index, index + 1);
        let mut next_row = vec![previous];
        for (right_char, above) in right.iter().zip(row.iter().skip(1)) {
            let substitution = diagonal + usize::from(left_char != *right_char);
            previous = substitution.min(above + 1).min(previous + 1);
            diagonal = *above;
            next_row.push(previous);
        }
        row = next_row;
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn names() {
        let names = ["st0", "st1", "main.go", "src"];
        assert_eq!(nearest("st2", names), Some("st0"));
        assert_eq!(nearest("mian.go", names), Some("main.go"));
        assert_eq!(nearest("1", names), Some("st1"));
        assert_eq!(nearest("src", names), None);
        assert_eq!(nearest("readme", names), None);
    }
}
