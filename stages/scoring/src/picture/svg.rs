//! Writes a picture as SVG text.

use std::fmt::Write;

use super::{Anchor, Mark, Paint, Picture, Text, Weight, font};

/// The paints that get a class, so that a style sheet can swap them on a dark page.
const PAINTS: [Paint; 14] = [
    Paint::Paper,
    Paint::Ink,
    Paint::Muted,
    Paint::Grid,
    Paint::OnFill,
    Paint::Heat,
    Paint::Series(0),
    Paint::Series(1),
    Paint::Series(2),
    Paint::Series(3),
    Paint::Series(4),
    Paint::Series(5),
    Paint::Series(6),
    Paint::Series(7),
];

/// Purpose of an SVG.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// Part of a page: colours for light and dark, fonts of the reader's machine, tips under the pointer.
    Page,
    /// Source of a PNG or PDF: light colours, the typeface compiled in.
    Print,
}

pub(super) fn write(picture: &Picture, form: Form) -> String {
    let (width, height) = (number(picture.width), number(picture.height));
    let mut out = String::new();
    push(&mut out, format_args!("<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" "));
    push(&mut out, format_args!("viewBox=\"0 0 {width} {height}\" role=\"img\" "));
    match form {
        Form::Print => push(&mut out, format_args!("font-family=\"{}\">\n", font::FAMILY)),
        Form::Page => {
            push(&mut out, format_args!("font-family=\"Ubuntu, 'Segoe UI', 'Helvetica Neue', Arial, sans-serif\">\n"));
            push(&mut out, format_args!("<title>{}</title>\n", escape(&picture.title)));
            out.push_str("<style>@media screen and (prefers-color-scheme: dark) {");
            for paint in PAINTS {
                let (class, colour) = (class(paint), paint.dark());
                push(&mut out, format_args!(" .f-{class} {{ fill: #{colour:06x} }} .s-{class} {{ stroke: #{colour:06x} }}"));
            }
            out.push_str(" }</style>\n");
        }
    }
    for mark in &picture.marks {
        write_mark(&mut out, mark, form);
    }
    out.push_str("</svg>\n");
    out
}

fn write_mark(out: &mut String, mark: &Mark, form: Form) {
    match mark {
        Mark::Rect { x, y, width, height, fill, opacity, tip } => {
            let (x, y, width, height) = (number(*x), number(*y), number(*width), number(*height));
            push(out, format_args!("<rect x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\" {}", filled(*fill)));
            if *opacity < 1.0 {
                push(out, format_args!(" fill-opacity=\"{}\"", number(*opacity)));
            }
            close(out, "rect", tip);
        }
        Mark::Line { points, width, stroke, dash } => {
            let (class, colour, width) = (class(*stroke), stroke.light(), number(*width));
            push(out, format_args!("<polyline class=\"s-{class}\" fill=\"none\" stroke=\"#{colour:06x}\" "));
            push(out, format_args!("stroke-width=\"{width}\" stroke-linecap=\"round\" stroke-linejoin=\"round\" "));
            if !dash.is_empty() {
                push(out, format_args!("stroke-dasharray=\"{dash}\" "));
            }
            push(out, format_args!("points=\"{}\"/>\n", places(points)));
        }
        Mark::Area { points, fill, opacity } => {
            let (fill, opacity) = (filled(*fill), number(*opacity));
            push(out, format_args!("<polygon {fill} fill-opacity=\"{opacity}\" points=\"{}\"/>\n", places(points)));
        }
        Mark::Circle { x, y, radius, fill, tip } => {
            let (x, y, radius) = (number(*x), number(*y), number(*radius));
            push(out, format_args!("<circle cx=\"{x}\" cy=\"{y}\" r=\"{radius}\" {}", filled(*fill)));
            close(out, "circle", tip);
        }
        Mark::Text(text) => write_text(out, text, form),
    }
}

fn places(points: &[(f32, f32)]) -> String {
    points.iter().map(|&(x, y)| format!("{},{}", number(x), number(y))).collect::<Vec<_>>().join(" ")
}

fn write_text(out: &mut String, text: &Text, form: Form) {
    let (x, y, size) = (number(text.x), number(text.y), number(text.size));
    push(out, format_args!("<text x=\"{x}\" y=\"{y}\" font-size=\"{size}\" {}", filled(text.paint)));
    match text.anchor {
        Anchor::Start => {}
        Anchor::Middle => out.push_str(" text-anchor=\"middle\""),
        Anchor::End => out.push_str(" text-anchor=\"end\""),
    }
    match (form, text.weight) {
        (Form::Page, Weight::Regular) => {}
        (Form::Page, Weight::Bold) => out.push_str(" font-weight=\"600\""),
        // The typeface is a light one: a thin stroke brings it to the weight asked for.
        (Form::Print, weight) => {
            let width = text.size * if weight == Weight::Bold { 0.065 } else { 0.016 };
            push(out, format_args!(" stroke=\"#{:06x}\" stroke-width=\"{width:.3}\"", text.paint.light()));
        }
    }
    if text.turn.abs() > 0.0 {
        push(out, format_args!(" transform=\"rotate({} {x} {y})\"", number(text.turn)));
    }
    push(out, format_args!(">{}</text>\n", escape(&text.content)));
}

fn close(out: &mut String, element: &str, tip: &str) {
    if tip.is_empty() {
        out.push_str("/>\n");
    } else {
        push(out, format_args!("><title>{}</title></{element}>\n", escape(tip)));
    }
}

fn filled(paint: Paint) -> String {
    format!("class=\"f-{}\" fill=\"#{:06x}\"", class(paint), paint.light())
}

fn class(paint: Paint) -> String {
    match paint {
        Paint::Paper => "paper".to_owned(),
        Paint::Ink => "ink".to_owned(),
        Paint::Muted => "muted".to_owned(),
        Paint::Grid => "grid".to_owned(),
        Paint::OnFill => "on-fill".to_owned(),
        Paint::Heat => "heat".to_owned(),
        Paint::Series(k) => format!("series{}", k % 8),
    }
}

fn push(out: &mut String, text: std::fmt::Arguments) {
    out.write_fmt(text).expect("writing to a string cannot fail");
}

/// At most two decimals, without trailing zeros.
fn number(value: f32) -> String {
    let text = format!("{value:.2}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text == "-0" { "0".to_owned() } else { text.to_owned() }
}

/// Safe inside an element or a quoted attribute; control characters, which XML forbids, become spaces.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => out.push(' '),
            c => out.push(c),
        }
    }
    out
}
