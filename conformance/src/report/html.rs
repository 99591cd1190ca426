//! The report as one page of HTML: no script, font or picture from elsewhere; light or dark like the reader's system;
//! wide tables scroll on a narrow screen.

use std::fmt::Write as _;

use super::Report;
use super::document::{Block, Cell, document};

const STYLE: &str = "
:root { color-scheme: light dark; --ink: #1d2129; --paper: #ffffff; --faint: #667085; --line: #d7dce3; --soft: #f3f5f8;
  --good: #0f6b3a; --good-paper: #dff5e6; --bad: #9b1c1c; --bad-paper: #fde3e3; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ee; --paper: #14171c; --faint: #98a2b3; --line: #333a45;
  --soft: #1d222a; --good: #8ee0ae; --good-paper: #12351f; --bad: #ffb3b3; --bad-paper: #4a1717; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.25rem; max-width: 70rem; color: var(--ink); background: var(--paper);
  font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.5rem; margin: 0 0 .25rem; } h2 { font-size: 1.15rem; margin: 2rem 0 .5rem; }
.faint { color: var(--faint); margin: 0 0 1rem; }
.verdict { display: inline-block; padding: .1rem .6rem; border-radius: 1rem; font-weight: 600; }
.good { color: var(--good); background: var(--good-paper); } .bad { color: var(--bad); background: var(--bad-paper); }
.wide { overflow-x: auto; border: 1px solid var(--line); border-radius: .5rem; }
table { border-collapse: collapse; width: 100%; }
th, td { padding: .35rem .7rem; text-align: left; border-bottom: 1px solid var(--line); vertical-align: top; }
tr:last-child td { border-bottom: 0; }
th { background: var(--soft); font-weight: 600; white-space: nowrap; }
.score { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
details { border: 1px solid var(--line); border-radius: .5rem; padding: .4rem .8rem; margin: .4rem 0; }
summary { cursor: pointer; overflow-wrap: anywhere; }
pre { overflow-x: auto; background: var(--soft); padding: .6rem; border-radius: .4rem; font-size: 13px; }
@media (max-width: 40rem) { body { padding: .75rem; font-size: 12px; } th, td { padding: .25rem .3rem; }
  th.score { writing-mode: vertical-rl; transform: rotate(180deg); text-align: left; } .score .verdict { padding: 0 .3rem; } }
dt { font-weight: 600; margin-top: .6rem; } dd { margin: 0; color: var(--faint); }
";

/// Writes the report.
#[must_use]
pub fn html(report: &Report) -> String {
    let mut out = String::new();
    // Writing to a string cannot fail.
    let _written = write(report, &mut out);
    out
}

fn write(report: &Report, out: &mut String) -> std::fmt::Result {
    let class = if report.passed() { "good" } else { "bad" };
    let headline = escaped(&report.headline());
    write!(
        out,
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>Quoin beside a real etcd</title>\n<style>{STYLE}</style>\n</head>\n<body>\n\
         <h1>Quoin beside a real etcd <span class=\"verdict {class}\">{headline}</span></h1>\n"
    )?;
    blocks(out, &document(report))?;
    writeln!(out, "</body>\n</html>")
}

fn blocks(out: &mut String, all: &[Block]) -> std::fmt::Result {
    for block in all {
        match block {
            Block::Details(title, inside) => {
                writeln!(out, "<details><summary>{}</summary>", escaped(title))?;
                blocks(out, inside)?;
                writeln!(out, "</details>")?;
            }
            Block::Heading(title) => writeln!(out, "<h2>{}</h2>", escaped(title))?,
            Block::Items(items) => {
                writeln!(out, "<dl>")?;
                for (name, words) in items {
                    writeln!(out, "<dt>{}</dt><dd>{}</dd>", escaped(name), escaped(words))?;
                }
                writeln!(out, "</dl>")?;
            }
            Block::Note(words) => writeln!(out, "<p class=\"faint\">{}</p>", escaped(words))?,
            Block::Pre(text) => writeln!(out, "<pre>{}</pre>", escaped(text))?,
            Block::Table(heads, rows) => {
                write!(out, "<div class=\"wide\"><table>\n<tr>")?;
                cells(out, "th", heads)?;
                for row in rows {
                    write!(out, "</tr>\n<tr>")?;
                    cells(out, "td", row)?;
                }
                writeln!(out, "</tr>\n</table></div>")?;
            }
        }
    }
    Ok(())
}

fn cells(out: &mut String, tag: &str, cells: &[Cell]) -> std::fmt::Result {
    for cell in cells {
        match cell {
            Cell::Text(text) => write!(out, "<{tag}>{}</{tag}>", escaped(text))?,
            Cell::Number(text) => write!(out, "<{tag} class=\"score\">{}</{tag}>", escaped(text))?,
            Cell::Bad(text) | Cell::Good(text) => {
                let class = if matches!(cell, Cell::Good(_)) { "good" } else { "bad" };
                let text = escaped(text);
                write!(
                    out,
                    "<{tag} class=\"score\"><span class=\"verdict {class}\">{text}</span></{tag}>"
                )?;
            }
        }
    }
    Ok(())
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            other => out.push(other),
        }
    }
    out
}
