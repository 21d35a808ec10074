//! The page: a frame, a style, a script, and the report as data that the script draws.
//!
//! Names come from checkpoints, which anybody may have made. They are in the data only, where no `<` stands for itself, and the script
//! puts them on the page as text; a policy in the frame forbids whatever would leave the page.

use super::Report;

const FRAME: &str = include_str!("page.html");
const STYLE: &str = include_str!("style.css");
const DRAW: &str = include_str!("draw.js");
const COURSE: &str = include_str!("course.js");
const SCRIPT: &str = include_str!("script.js");

/// The report as one HTML document; the same report gives the same bytes.
///
/// # Errors
/// A number that JSON does not have.
pub fn html(report: &Report<'_>) -> Result<String, serde_json::Error> {
    let data = data(report)?;
    let mut page = String::with_capacity(FRAME.len() + STYLE.len() + SCRIPT.len() + data.len());
    // What is put in is not looked at again.
    let mut rest = FRAME;
    for (mark, content) in [
        ("/* style */", STYLE),
        ("{{ data }}", &data),
        ("/* draw */", DRAW),
        ("/* course */", COURSE),
        ("/* script */", SCRIPT),
    ] {
        let (before, after) = rest.split_once(mark).unwrap_or((rest, ""));
        page += before;
        page += content;
        rest = after;
    }
    page += rest;
    Ok(page)
}

/// JSON in which nothing ends a script element or begins a comment.
fn data(report: &Report<'_>) -> Result<String, serde_json::Error> {
    let json = serde_json::to_string(report)?;
    let mut safe = String::with_capacity(json.len());
    for letter in json.chars() {
        match letter {
            '<' => safe += "\\u003c",
            '>' => safe += "\\u003e",
            '&' => safe += "\\u0026",
            '\u{2028}' => safe += "\\u2028",
            '\u{2029}' => safe += "\\u2029",
            letter => safe.push(letter),
        }
    }
    Ok(safe)
}
