//! Columns aligned with blanks, in the layout of docker's tables.
//!
//! Cells are separated by tabs. A column is a run of consecutive lines that have a tab-terminated cell there; it
//! is as wide as its widest cell plus the padding, at least [`MINIMUM_WIDTH`] (Go's text/tabwriter, the documented
//! behaviour of `NewWriter(out, 10, 1, 3, ' ', 0)`).

/// Least width of a column, in characters.
pub const MINIMUM_WIDTH: usize = 10;
/// Blanks between a column's widest cell and the next column.
pub const PADDING: usize = 3;

/// Returns `text` with its tab-separated cells aligned with docker's widths.
#[must_use]
pub fn align(text: &str) -> String {
    align_with(text, MINIMUM_WIDTH, PADDING)
}

/// Returns `text` with its tab-separated cells aligned with the given least width and padding.
#[must_use]
pub fn align_with(text: &str, minimum_width: usize, padding: usize) -> String {
    let lines: Vec<Vec<&str>> = text
        .split('\n')
        .map(|line| line.split('\t').collect())
        .collect();
    let mut widths: Vec<Vec<usize>> = lines.iter().map(|cells| vec![0; cells.len() - 1]).collect();
    let deepest = widths.iter().map(Vec::len).max().unwrap_or(0);
    for column in 0..deepest {
        let mut start = 0;
        while start < lines.len() {
            let length = lines[start..]
                .iter()
                .take_while(|cells| cells.len() > column + 1)
                .count();
            let widest = lines[start..start + length]
                .iter()
                .map(|cells| cells[column].chars().count())
                .max();
            let width = (widest.unwrap_or(0) + padding).max(minimum_width);
            for line in &mut widths[start..start + length] {
                line[column] = width;
            }
            start += length.max(1);
        }
    }
    let mut aligned = String::with_capacity(text.len() * 2);
    for (index, cells) in lines.iter().enumerate() {
        if index > 0 {
            aligned.push('\n');
        }
        for (column, cell) in cells.iter().enumerate() {
            aligned.push_str(cell);
            if let Some(width) = widths[index].get(column) {
                let blanks = width.saturating_sub(cell.chars().count());
                aligned.extend(std::iter::repeat_n(' ', blanks));
            }
        }
    }
    aligned
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_at_least_ten_wide_and_padded_by_three() {
        assert_eq!(
            align("A\tB\nlong-name-here\tx\n"),
            "A                B\nlong-name-here   x\n"
        );
        assert_eq!(align("TAG\tID\ny\tz\n"), "TAG       ID\ny         z\n");
    }

    #[test]
    fn a_line_without_tabs_ends_a_column() {
        assert_eq!(
            align("wide-wide-wide\tx\nbreak\na\tb"),
            "wide-wide-wide   x\nbreak\na         b"
        );
    }
}
