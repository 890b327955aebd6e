//! Pages from templates that escape every value.

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment, UndefinedBehavior, Value};
use serde::{Serialize, Serializer};

use crate::picture::Picture;

/// Style sheet of all pages.
pub const STYLE: &str = include_str!("report/page.css");

/// Beginning of every page, up to its title.
const TOP: &str = include_str!("report/top.html");

/// Beginning of the pages of this crate, up to the end of their style.
const HEAD: &str = include_str!("report/head.html");

/// Returns an environment with the template `top.html`, whose templates escape every value as HTML; a line with a block leaves none.
pub fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_auto_escape_callback(|_| AutoEscape::Html);
    let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
    environment.set_syntax(syntax.expect("the delimiters are the usual ones"));
    environment.add_template("top.html", TOP).expect("the top is a template");
    environment
}

/// Renders a template with the style of all pages. A value that the template does not escape is a [`Picture`].
pub(crate) fn render(template: &str, page: &impl Serialize) -> String {
    let mut environment = environment();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.add_global("style", Value::from_safe_string(STYLE.to_owned()));
    environment.add_filter("thousands", thousands);
    environment.add_template("head.html", HEAD).expect("the head is a template");
    environment.render_str(template, Serde(page)).expect("the template fits its page") + "\n"
}

/// Renders a template that is a part of a page.
///
/// # Panics
/// When the template does not fit its values.
pub fn render_part(template: &str, values: &impl Serialize) -> String {
    environment().render_str(template, Serde(values)).expect("the template fits its values")
}

/// SVG of a picture, in a field of a page; the template marks it as safe.
pub(crate) fn svg<S: Serializer>(picture: &Picture, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&picture.svg())
}

/// `1234567` as `1,234,567`.
pub(crate) fn thousands(count: u64) -> String {
    let digits = count.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}
