//! A flat drawing of rectangles, lines, circles and texts, written as SVG, PNG or PDF.
//!
//! Lengths are in pixels of the SVG, from the top left corner. No writer needs a font or a setting of the machine, so the same
//! marks give the same bytes everywhere. Knows nothing of scores.

mod font;
mod render;
mod shade;
mod svg;

pub(crate) use font::{shorten, text_width};
pub(crate) use shade::{opaque, shade};

/// Draws marks in the order they were added.
#[derive(Debug, Clone)]
pub struct Picture {
    width: f32,
    height: f32,
    title: String,
    marks: Vec<Mark>,
}

/// A colour by its role, so that a dark page can give it another value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Paint {
    /// The background.
    Paper,
    /// Text and points.
    Ink,
    /// Secondary text and axes.
    Muted,
    /// Grid lines.
    Grid,
    /// Text on a strong fill.
    OnFill,
    /// Cells; mixed with the paper by opacity.
    Heat,
    /// The k-th of several things to tell apart, repeating after eight.
    Series(usize),
}

/// Point of a text that is at its position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Anchor {
    /// The left end.
    Start,
    /// The middle.
    Middle,
    /// The right end.
    End,
}

/// Weight of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weight {
    /// For labels.
    Regular,
    /// For headings.
    Bold,
}

/// A text with its size, place and colour; `x` and `y` are its anchor on the baseline.
#[derive(Debug, Clone, PartialEq)]
pub struct Text {
    /// From the left.
    pub x: f32,
    /// The baseline, from the top.
    pub y: f32,
    /// Height of the type.
    pub size: f32,
    /// Colour.
    pub paint: Paint,
    /// Point of the text that is at (`x`, `y`).
    pub anchor: Anchor,
    /// Weight.
    pub weight: Weight,
    /// Turned clockwise about (`x`, `y`), in degrees.
    pub turn: f32,
    /// Content.
    pub content: String,
}

impl Text {
    /// A regular text that starts at (`x`, `y`).
    pub fn new(x: f32, y: f32, size: f32, content: impl Into<String>) -> Self {
        let (anchor, weight) = (Anchor::Start, Weight::Regular);
        Self { x, y, size, paint: Paint::Ink, anchor, weight, turn: 0.0, content: content.into() }
    }
    /// In another colour.
    #[must_use]
    pub fn paint(self, paint: Paint) -> Self {
        Self { paint, ..self }
    }
    /// With another point at (`x`, `y`).
    #[must_use]
    pub fn anchor(self, anchor: Anchor) -> Self {
        Self { anchor, ..self }
    }
    /// Heavier.
    #[must_use]
    pub fn bold(self) -> Self {
        Self { weight: Weight::Bold, ..self }
    }
    /// Turned clockwise by degrees.
    #[must_use]
    pub fn turn(self, turn: f32) -> Self {
        Self { turn, ..self }
    }
}

#[derive(Debug, Clone, PartialEq)]
enum Mark {
    Rect { x: f32, y: f32, width: f32, height: f32, fill: Paint, opacity: f32, tip: String },
    Line { points: Vec<(f32, f32)>, width: f32, stroke: Paint, dash: &'static str },
    Area { points: Vec<(f32, f32)>, fill: Paint, opacity: f32 },
    Circle { x: f32, y: f32, radius: f32, fill: Paint, tip: String },
    Text(Text),
}

impl Picture {
    /// An empty picture; `title` names it for those who cannot see it.
    pub fn new(width: f32, height: f32, title: impl Into<String>) -> Self {
        let mut picture = Self { width, height, title: title.into(), marks: Vec::new() };
        picture.rect((0.0, 0.0), (width, height), Paint::Paper, 1.0, "");
        picture
    }
    /// A filled rectangle from its top left corner; `tip` shows under the pointer in a browser.
    pub fn rect(&mut self, at: (f32, f32), size: (f32, f32), fill: Paint, opacity: f32, tip: impl Into<String>) {
        let ((x, y), (width, height), tip) = (at, size, tip.into());
        self.marks.push(Mark::Rect { x, y, width, height, fill, opacity, tip });
    }
    /// A line through points.
    pub fn line(&mut self, points: impl Into<Vec<(f32, f32)>>, width: f32, stroke: Paint) {
        self.marks.push(Mark::Line { points: points.into(), width, stroke, dash: "" });
    }
    /// A line in the colour and with the dashes of the k-th of several things.
    pub fn series(&mut self, points: impl Into<Vec<(f32, f32)>>, width: f32, k: usize) {
        /// Lengths of dashes and gaps; the first is a whole line.
        const DASHES: [&str; 8] = ["", "7 4", "2 3.5", "9 3 2 3", "12 4", "5 2.5 1.5 2.5 1.5 2.5", "1 2.5", "4 5"];
        let dash = DASHES[k % DASHES.len()];
        self.marks.push(Mark::Line { points: points.into(), width, stroke: Paint::Series(k), dash });
    }
    /// A filled polygon.
    pub fn area(&mut self, points: impl Into<Vec<(f32, f32)>>, fill: Paint, opacity: f32) {
        self.marks.push(Mark::Area { points: points.into(), fill, opacity });
    }
    /// A disc; `tip` shows under the pointer in a browser.
    pub fn circle(&mut self, at: (f32, f32), radius: f32, fill: Paint, tip: impl Into<String>) {
        self.marks.push(Mark::Circle { x: at.0, y: at.1, radius, fill, tip: tip.into() });
    }
    /// A text.
    pub fn text(&mut self, text: Text) {
        self.marks.push(Mark::Text(text));
    }
    /// Writes SVG for a page, with colours for light and dark surroundings.
    pub fn svg(&self) -> String {
        svg::write(self, svg::Form::Page)
    }
    /// Writes PNG in light colours, with `scale` pixels per pixel of the SVG.
    pub fn png(&self, scale: f32) -> Vec<u8> {
        render::png(self, scale)
    }
    /// Writes PDF in light colours, one column of a paper wide (85 mm), with the typeface embedded.
    pub fn pdf(&self) -> Vec<u8> {
        render::pdf(self, 241.0)
    }
    /// Writes SVG in light colours, with outlines in place of texts: it looks the same without the typeface.
    pub fn outlined_svg(&self) -> String {
        render::outlined(self)
    }
}

#[expect(clippy::unreadable_literal, reason = "a colour reads best as its six digits")]
impl Paint {
    /// Red, green and blue on a light page.
    fn light(self) -> u32 {
        const SERIES: [u32; 8] = [0x1f6fb5, 0xd4601a, 0x23875a, 0x96408a, 0xb08a14, 0x2a95ab, 0xb33c3c, 0x5f666e];
        match self {
            Paint::Paper | Paint::OnFill => 0xffffff,
            Paint::Ink => 0x1c2128,
            Paint::Muted => 0x5c6570,
            Paint::Grid => 0xe3e6ea,
            Paint::Heat => 0x1b5a9c,
            Paint::Series(k) => SERIES[k % SERIES.len()],
        }
    }
    /// Red, green and blue on a dark page.
    fn dark(self) -> u32 {
        const SERIES: [u32; 8] = [0x6cb2f2, 0xf5975a, 0x58c795, 0xd88ccd, 0xe0c257, 0x66cbe0, 0xef817c, 0xa8afb8];
        match self {
            Paint::Paper => 0x14171c,
            Paint::OnFill => 0xffffff,
            Paint::Ink => 0xe7eaee,
            Paint::Muted => 0x9aa4af,
            Paint::Grid => 0x2b3138,
            Paint::Heat => 0x2f7ed4,
            Paint::Series(k) => SERIES[k % SERIES.len()],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_writers_are_deterministic_and_well_formed() {
        let draw = || {
            let mut picture = Picture::new(120.0, 60.0, "a < b");
            picture.rect((10.0, 10.0), (20.0, 20.0), Paint::Heat, 0.5, "tip & \"more\"");
            for number in 1..20u8 {
                picture.rect((10.0, 10.0), (20.0, 20.0), Paint::Heat, f32::from(number) / 20.0, "");
            }
            picture.line([(0.0, 0.0), (50.0, 50.0)], 1.5, Paint::Grid);
            picture.circle((60.0, 30.0), 5.0, Paint::Series(9), "");
            picture.text(Text::new(60.0, 30.0, 12.0, "größer <yes>").anchor(Anchor::End).turn(-45.0).bold());
            picture
        };
        let svg = draw().svg();
        assert_eq!(svg, draw().svg());
        assert!(svg.contains("größer &lt;yes&gt;") && svg.contains("tip &amp; &quot;more&quot;"), "{svg}");
        let png = draw().png(2.0);
        assert_eq!(png, draw().png(2.0));
        assert_eq!(&png[..8], b"\x89PNG\r\n\x1a\n");
        let pdf = draw().pdf();
        assert!(pdf == draw().pdf() && pdf.starts_with(b"%PDF-"));
        let outlined = draw().outlined_svg();
        assert!(outlined.contains("<path") && !outlined.contains("<text"), "{outlined}");
        let side = |at: usize| u32::from_be_bytes(png[at..at + 4].try_into().unwrap());
        assert_eq!((side(16), side(20)), (240, 120));
    }

    #[test]
    fn text_leaves_ink() {
        let blank = Picture::new(60.0, 20.0, "").png(1.0);
        let mut picture = Picture::new(60.0, 20.0, "");
        picture.text(Text::new(2.0, 15.0, 14.0, "hello"));
        let regular = picture.png(1.0);
        assert_ne!(regular, blank);
        let mut picture = Picture::new(60.0, 20.0, "");
        picture.text(Text::new(2.0, 15.0, 14.0, "hello").bold());
        assert_ne!(picture.png(1.0), regular);
    }
}
