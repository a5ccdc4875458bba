//! What the API says as people read it: text in columns. Or as it is, for programs.

use std::{fmt::Write as _, process::ExitCode};

use serde_json::Value;

use crate::arguments::FarmArguments;

/// Prints an answer: as JSON where that is wanted, else as text.
///
/// # Errors
/// When it cannot be written.
pub fn show(
    farm: &FarmArguments,
    answer: &Value,
    as_text: fn(&Value) -> String,
) -> anyhow::Result<ExitCode> {
    match farm.json {
        true => {
            crate::output::deliver(format_args!("{}\n", serde_json::to_string_pretty(answer)?))?;
        }
        false => crate::output::deliver(format_args!("{}", as_text(answer)))?,
    }
    Ok(ExitCode::SUCCESS)
}

/// The items of a list; none of anything else.
pub fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

/// A value as people read it; what is not there is a dash.
pub fn text(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Lines of cells under a head, each column as wide as its widest cell.
pub fn table<const N: usize>(head: [&str; N], rows: &[[String; N]]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.chain([head[column].chars().count()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..N).map(width).collect();
    let mut text = String::new();
    let head = head.map(str::to_owned);
    for row in std::iter::once(&head).chain(rows) {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            let _ = write!(line, "{cell:<width$}  ");
        }
        let _ = writeln!(text, "{}", line.trim_end());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let rows = [["a".to_owned(), "1".to_owned()], ["longer".to_owned(), "2".to_owned()]];
        assert_eq!(table(["name", "n"], &rows), "name    n\na       1\nlonger  2\n");
    }
}
