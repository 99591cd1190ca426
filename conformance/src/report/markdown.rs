//! The report as Markdown.

use std::fmt::Write as _;

use super::Report;
use super::document::{Block, Cell, document};

/// Writes the report.
#[must_use]
pub fn markdown(report: &Report) -> String {
    let mut out = format!("# Quoin beside a real etcd\n\n**{}**\n", escaped(&report.headline()));
    // Writing to a string cannot fail.
    let _written = blocks(&mut out, &document(report));
    out
}

fn blocks(out: &mut String, all: &[Block]) -> std::fmt::Result {
    for block in all {
        match block {
            Block::Details(title, inside) => {
                writeln!(out, "\n<details><summary>{}</summary>", escaped(title))?;
                blocks(out, inside)?;
                writeln!(out, "\n</details>")?;
            }
            Block::Heading(title) => writeln!(out, "\n## {title}")?,
            Block::Items(items) => {
                writeln!(out)?;
                for (name, words) in items {
                    writeln!(out, "- {}: {}", escaped(name), escaped(words))?;
                }
            }
            Block::Note(words) => writeln!(out, "\n{}", escaped(words))?,
            Block::Pre(text) => writeln!(out, "\n~~~~\n{}\n~~~~", text.trim_end())?,
            Block::Table(heads, rows) => {
                writeln!(out)?;
                row(out, heads)?;
                let lines = heads.iter().map(|head| match head {
                    Cell::Text(_) => "---|",
                    Cell::Bad(_) | Cell::Good(_) | Cell::Number(_) => "--:|",
                });
                writeln!(out, "|{}", lines.collect::<String>())?;
                for cells in rows {
                    row(out, cells)?;
                }
            }
        }
    }
    Ok(())
}

fn row(out: &mut String, cells: &[Cell]) -> std::fmt::Result {
    write!(out, "|")?;
    for cell in cells {
        match cell {
            Cell::Bad(text) => write!(out, " **{}** |", escaped(text))?,
            Cell::Good(text) | Cell::Number(text) | Cell::Text(text) => write!(out, " {} |", escaped(text))?,
        }
    }
    writeln!(out)
}

/// Escapes characters that Markdown would read as a table's line, as HTML or as a new line.
fn escaped(text: &str) -> String {
    let text = text.replace('&', "&amp;").replace('<', "&lt;");
    text.replace('|', "\\|").replace('\n', " ")
}
