//! Draws a directed acyclic graph: as SVG with a layout of our own, as DOT text and as Mermaid text.
//!
//! Layers run from left to right by longest path; long edges pass through points of the layers between, so that they
//! go around boxes, and those to the same box share these points; the order within a layer follows the mean place of the neighbours (Sugiyama, Tagawa and Toda 1981).
//! Knows nothing of what the boxes stand for; the same input gives the same text.

use std::collections::BTreeMap;
use std::fmt::Write;

/// A graph to draw.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Drawing<'a> {
    /// Names the picture for those who cannot see it.
    pub(crate) title: &'a str,
    /// The boxes.
    pub(crate) nodes: &'a [DrawNode],
    /// Arrows by index into `nodes`, from and to. Those that point nowhere or at their own start are left out; in a graph
    /// with a cycle the boxes of the cycle share the leftmost layers.
    pub(crate) edges: &'a [(usize, usize)],
}

/// A box.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DrawNode {
    /// Shown under the pointer.
    pub(crate) id: String,
    /// Lines of text; the first one is bold.
    pub(crate) lines: Vec<String>,
    /// State, shown as a colour.
    pub(crate) state: DrawState,
}

/// State of a box.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum DrawState {
    /// Nothing is known about it.
    Plain,
    /// Output exists already.
    Reuse,
    /// It runs.
    Run,
    /// It runs if an input changes.
    Maybe,
    /// It has failed.
    Failed,
}

impl DrawState {
    const ALL: [DrawState; 5] = [Self::Plain, Self::Reuse, Self::Run, Self::Maybe, Self::Failed];

    fn class(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Reuse => "reuse",
            Self::Run => "run",
            Self::Maybe => "maybe",
            Self::Failed => "failed",
        }
    }
    fn meaning(self) -> &'static str {
        match self {
            Self::Plain => "not planned",
            Self::Reuse => "reuse",
            Self::Run => "run",
            Self::Maybe => "run if an input changes",
            Self::Failed => "failed",
        }
    }
    /// Fill and border on a light page.
    fn light(self) -> (&'static str, &'static str) {
        match self {
            Self::Plain => ("#f3f5f7", "#9aa4af"),
            Self::Reuse => ("#e3f4ea", "#2f8f5b"),
            Self::Run => ("#e4effb", "#1f6fb5"),
            Self::Maybe => ("#fdf3dc", "#b08a14"),
            Self::Failed => ("#fbe6e6", "#b33c3c"),
        }
    }
    /// Fill and border on a dark page.
    fn dark(self) -> (&'static str, &'static str) {
        match self {
            Self::Plain => ("#22272e", "#68727e"),
            Self::Reuse => ("#16301f", "#58c795"),
            Self::Run => ("#152b42", "#6cb2f2"),
            Self::Maybe => ("#352b10", "#e0c257"),
            Self::Failed => ("#3b1b1b", "#ef817c"),
        }
    }
}

const LINE_HEIGHT: f64 = 17.0;
/// Generous for a proportional typeface at 13 pixels, because the viewer chooses it.
const CHAR_WIDTH: f64 = 7.4;
const GAP_BETWEEN_LAYERS: f64 = 64.0;
const GAP_IN_LAYER: f64 = 16.0;
const MARGIN: f64 = 24.0;
const SWEEPS: usize = 12;

impl Drawing<'_> {
    /// As SVG, with colours for light and dark surroundings and a legend of the states that occur.
    pub(crate) fn svg(&self) -> String {
        let layout = Layout::new(self);
        let boxes = (0..self.nodes.len()).map(|node| layout.items[node]);
        let states = DrawState::ALL.into_iter().filter(|state| self.nodes.iter().any(|node| node.state == *state));
        let legend = legend(&states.collect::<Vec<_>>());
        let width = layout.items.iter().map(|item| item.x + item.width).fold(legend.1, f64::max) + MARGIN;
        let height = layout.items.iter().map(|item| item.y + item.height / 2.0).fold(0.0, f64::max) + MARGIN + legend.2;

        let mut out = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width:.0}\" height=\"{height:.0}\" \
             viewBox=\"0 0 {width:.0} {height:.0}\" role=\"img\" font-size=\"13\" \
             font-family=\"Ubuntu, 'Segoe UI', 'Helvetica Neue', Arial, sans-serif\">\n<title>{}</title>\n{}\
             <defs><marker id=\"arrow\" viewBox=\"0 0 8 8\" refX=\"7\" refY=\"4\" markerWidth=\"7\" markerHeight=\"7\" \
             orient=\"auto\"><path class=\"head\" d=\"M0,0 L8,4 L0,8 Z\"/></marker></defs>\n\
             <rect class=\"paper\" width=\"{width:.0}\" height=\"{height:.0}\"/>\n",
            escape(self.title),
            style()
        );
        for route in &layout.routes {
            push(&mut out, format_args!("<path class=\"edge\" marker-end=\"url(#arrow)\" d=\"{}\"/>\n", layout.curve(route)));
        }
        for (node, place) in self.nodes.iter().zip(boxes) {
            draw_box(&mut out, node, place);
        }
        push(&mut out, format_args!("<g transform=\"translate(0 {:.1})\">\n{}</g>\n</svg>\n", height - legend.2, legend.0));
        out
    }

    /// As text for Graphviz.
    pub(crate) fn dot(&self) -> String {
        let quote = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', " ");
        let mut out = format!("digraph \"{}\" {{\n  rankdir=LR;\n", quote(self.title));
        out.push_str("  node [shape=box, style=\"rounded,filled\", fontname=\"sans-serif\"];\n");
        for (at, node) in self.nodes.iter().enumerate() {
            let label: Vec<String> = node.lines.iter().map(|line| quote(line)).collect();
            let ((fill, border), id) = (node.state.light(), quote(&node.id));
            push(&mut out, format_args!("  n{at} [label=\"{}\", tooltip=\"{id}\", ", label.join("\\n")));
            push(&mut out, format_args!("fillcolor=\"{fill}\", color=\"{border}\"];\n"));
        }
        for (from, to) in self.clean_edges() {
            push(&mut out, format_args!("  n{from} -> n{to};\n"));
        }
        out.push_str("}\n");
        out
    }

    /// As text for Mermaid, which many pages of Markdown show as a picture.
    pub(crate) fn mermaid(&self) -> String {
        let quote = |text: &str| escape(text).replace('&', "#");
        let mut out = "flowchart LR\n".to_owned();
        for (at, node) in self.nodes.iter().enumerate() {
            let label: Vec<String> = node.lines.iter().map(|line| quote(line)).collect();
            push(&mut out, format_args!("  n{at}[\"{}\"]:::{}\n", label.join("<br/>"), node.state.class()));
        }
        for (from, to) in self.clean_edges() {
            push(&mut out, format_args!("  n{from} --> n{to}\n"));
        }
        for state in DrawState::ALL.into_iter().filter(|state| self.nodes.iter().any(|node| node.state == *state)) {
            let (fill, border) = state.light();
            let class = state.class();
            push(&mut out, format_args!("  classDef {class} fill:{fill},stroke:{border},color:#1c2128\n"));
        }
        out
    }

    /// Sorted, each once, without those that cannot be drawn.
    fn clean_edges(&self) -> Vec<(usize, usize)> {
        let drawable = |&(from, to): &(usize, usize)| from != to && from.max(to) < self.nodes.len();
        let mut edges: Vec<(usize, usize)> = self.edges.iter().copied().filter(drawable).collect();
        edges.sort_unstable();
        edges.dedup();
        edges
    }
}

/// A box, or a point that a long edge passes through.
#[derive(Debug, Clone, Copy)]
struct Item {
    layer: usize,
    width: f64,
    height: f64,
    /// The left end.
    x: f64,
    /// The middle.
    y: f64,
}

/// Where everything stands. The first items are the boxes in order.
struct Layout {
    items: Vec<Item>,
    /// Each edge as the items it passes, both ends included.
    routes: Vec<Vec<usize>>,
}

impl Layout {
    fn new(drawing: &Drawing) -> Self {
        let edges = drawing.clean_edges();
        let layers = longest_paths(drawing.nodes.len(), &edges);
        let size = |node: &DrawNode| {
            let longest = node.lines.iter().map(|line| line.chars().count()).max().unwrap_or(0);
            (longest as f64 * CHAR_WIDTH + 24.0, node.lines.len() as f64 * LINE_HEIGHT + 14.0)
        };
        let item = |(node, &layer): (&DrawNode, &usize)| {
            let (width, height) = size(node);
            Item { layer, width, height, x: 0.0, y: 0.0 }
        };
        let mut items: Vec<Item> = drawing.nodes.iter().zip(&layers).map(item).collect();
        let mut routes = Vec::new();
        let mut joints = BTreeMap::new();
        for (from, to) in edges {
            let mut route = vec![from];
            for layer in layers[from] + 1..layers[to] {
                // Edges to the same box join on the way, so that eight parts of a corpus make one strand.
                route.push(*joints.entry((to, layer)).or_insert_with(|| {
                    items.push(Item { layer, width: 0.0, height: 4.0, x: 0.0, y: 0.0 });
                    items.len() - 1
                }));
            }
            route.push(to);
            routes.push(route);
        }
        let mut layout = Self { items, routes };
        layout.place();
        layout
    }

    fn place(&mut self) {
        let num_layers = self.items.iter().map(|item| item.layer + 1).max().unwrap_or(0);
        let mut layers = vec![Vec::new(); num_layers];
        for (at, item) in self.items.iter().enumerate() {
            layers[item.layer].push(at);
        }
        let (before, after) = self.neighbours();
        let mut left = MARGIN;
        for layer in &layers {
            let width = layer.iter().map(|&at| self.items[at].width).fold(0.0, f64::max);
            for &at in layer {
                let item = &mut self.items[at];
                item.x = left;
                if item.width > 0.0 {
                    item.width = width; // boxes of a layer are as wide as the widest
                }
            }
            left += width + GAP_BETWEEN_LAYERS;
        }
        for layer in &layers {
            self.settle(layer, &before); // stacks them; nothing has a place yet
        }
        for sweep in 0..SWEEPS {
            let forward = sweep % 2 == 0;
            let neighbours = if forward { &before } else { &after };
            let order: Vec<usize> = if forward { (0..num_layers).collect() } else { (0..num_layers).rev().collect() };
            for at in order {
                // In the last sweeps the order stands and only the distances settle.
                if sweep < SWEEPS - 4 {
                    let items = &self.items;
                    layers[at]
                        .sort_by(|&a, &b| wish(items, a, neighbours).total_cmp(&wish(items, b, neighbours)).then(a.cmp(&b)));
                }
                self.settle(&layers[at], neighbours);
            }
        }
        let top = self.items.iter().map(|item| item.y - item.height / 2.0).fold(f64::INFINITY, f64::min);
        for item in &mut self.items {
            item.y += MARGIN - top;
        }
    }

    /// The items each one is joined to in the layer before and in the layer after.
    fn neighbours(&self) -> (Vec<Vec<usize>>, Vec<Vec<usize>>) {
        let (mut before, mut after) = (vec![Vec::new(); self.items.len()], vec![Vec::new(); self.items.len()]);
        for pair in self.routes.iter().flat_map(|route| route.windows(2)) {
            after[pair[0]].push(pair[1]);
            before[pair[1]].push(pair[0]);
        }
        (before, after)
    }

    /// Moves the items of a layer, in their order, as near as possible to where their neighbours want them (least squares).
    ///
    /// With the heights of those above taken off, the order becomes "none above its predecessor", and neighbours that would
    /// break it share their mean: isotonic regression by pooling.
    fn settle(&mut self, layer: &[usize], neighbours: &[Vec<usize>]) {
        let mut offset = 0.0;
        let mut offsets = Vec::new();
        let mut blocks: Vec<(f64, usize)> = Vec::new(); // mean and number of items
        for &at in layer {
            let half = self.items[at].height / 2.0;
            offset += half;
            offsets.push(offset);
            blocks.push((wish(&self.items, at, neighbours) - offset, 1));
            offset += half + GAP_IN_LAYER;
            while let [.., (above, many), (below, few)] = blocks[..] {
                if above <= below {
                    break;
                }
                blocks.truncate(blocks.len() - 2);
                let count = many + few;
                blocks.push(((above * many as f64 + below * few as f64) / count as f64, count));
            }
        }
        let places = blocks.into_iter().flat_map(|(mean, count)| std::iter::repeat_n(mean, count));
        for ((&at, place), offset) in layer.iter().zip(places).zip(offsets) {
            self.items[at].y = place + offset;
        }
    }

    /// A smooth path through the items of a route, level at every one of them.
    fn curve(&self, route: &[usize]) -> String {
        let start = self.items[route[0]];
        let (mut x, mut y) = (start.x + start.width, start.y);
        let mut out = format!("M{x:.1},{y:.1}");
        for (at, &item) in route.iter().enumerate().skip(1) {
            let item = self.items[item];
            let end = if at + 1 == route.len() { item.x - 1.0 } else { item.x };
            let bend = f64::midpoint(x, end);
            push(&mut out, format_args!(" C{bend:.1},{y:.1} {bend:.1},{:.1} {end:.1},{:.1}", item.y, item.y));
            (x, y) = (end, item.y);
            if at + 1 < route.len() {
                x += self.layer_width(item.layer); // straight on beside the boxes of that layer
                push(&mut out, format_args!(" L{x:.1},{y:.1}"));
            }
        }
        out
    }

    fn layer_width(&self, layer: usize) -> f64 {
        self.items.iter().filter(|item| item.layer == layer).map(|item| item.width).fold(0.0, f64::max)
    }
}

/// Where the neighbours of an item want it: their mean, or where it is when it has none.
fn wish(items: &[Item], at: usize, neighbours: &[Vec<usize>]) -> f64 {
    let near = &neighbours[at];
    if near.is_empty() {
        return items[at].y;
    }
    near.iter().map(|&other| items[other].y).sum::<f64>() / near.len() as f64
}

/// The layer of each node: edges of the longest path that ends there.
fn longest_paths(nodes: usize, edges: &[(usize, usize)]) -> Vec<usize> {
    let (mut layers, mut waiting) = (vec![0; nodes], vec![0_usize; nodes]);
    for &(_, to) in edges {
        waiting[to] += 1;
    }
    let mut ready: Vec<usize> = (0..nodes).filter(|&node| waiting[node] == 0).collect();
    while let Some(node) = ready.pop() {
        for &(_, to) in edges.iter().filter(|edge| edge.0 == node) {
            layers[to] = layers[to].max(layers[node] + 1);
            waiting[to] -= 1;
            if waiting[to] == 0 {
                ready.push(to);
            }
        }
    }
    layers
}

fn draw_box(out: &mut String, node: &DrawNode, place: Item) {
    let (top, middle) = (place.y - place.height / 2.0, place.x + place.width / 2.0);
    push(out, format_args!("<g><title>{}</title><rect class=\"{}\" ", escape(&node.id), node.state.class()));
    push(out, format_args!("x=\"{:.1}\" y=\"{top:.1}\" width=\"{:.1}\" ", place.x, place.width));
    push(out, format_args!("height=\"{:.1}\" rx=\"6\"/>\n", place.height));
    for (at, line) in node.lines.iter().enumerate() {
        let y = top + 7.0 + LINE_HEIGHT * at as f64 + 13.0;
        let class = if at == 0 { "name" } else { "more" };
        let line = escape(line);
        push(out, format_args!("<text class=\"{class}\" x=\"{middle:.1}\" y=\"{y:.1}\" text-anchor=\"middle\">{line}</text>\n"));
    }
    out.push_str("</g>\n");
}

/// A row of swatches: its text, its right end and its height.
fn legend(states: &[DrawState]) -> (String, f64, f64) {
    let (mut out, mut x) = (String::new(), MARGIN);
    for state in states {
        push(&mut out, format_args!("<rect class=\"{}\" x=\"{x:.1}\" y=\"4\" ", state.class()));
        push(&mut out, format_args!("width=\"18\" height=\"14\" rx=\"3\"/>\n"));
        push(&mut out, format_args!("<text class=\"more\" x=\"{:.1}\" y=\"15\">{}</text>\n", x + 26.0, state.meaning()));
        x += 26.0 + state.meaning().len() as f64 * CHAR_WIDTH + 20.0;
    }
    (out, x, 38.0)
}

fn style() -> String {
    let mut out = "<style>\n.paper { fill: #fff } .name { fill: #1c2128; font-weight: 600 } .more { fill: #5c6570 }\n\
                   .edge { fill: none; stroke: #9aa4af; stroke-width: 1.4 } .head { fill: #9aa4af }\n"
        .to_owned();
    let rules = |out: &mut String, of: fn(DrawState) -> (&'static str, &'static str)| {
        for state in DrawState::ALL {
            let (fill, border) = of(state);
            push(out, format_args!(".{} {{ fill: {fill}; stroke: {border}; stroke-width: 1.4 }}\n", state.class()));
        }
    };
    rules(&mut out, DrawState::light);
    out.push_str(
        "@media (prefers-color-scheme: dark) {\n.paper { fill: #14171c } .name { fill: #e7eaee } .more { fill: #9aa4af }\n",
    );
    out.push_str(".edge { stroke: #68727e } .head { fill: #68727e }\n");
    rules(&mut out, DrawState::dark);
    out.push_str("}\n</style>\n");
    out
}

fn push(out: &mut String, text: std::fmt::Arguments) {
    out.write_fmt(text).expect("a string takes any text");
}

/// Safe inside an element or a quoted attribute; control characters, which XML forbids, become spaces.
fn escape(text: &str) -> String {
    let plain: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    plain.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nodes(count: usize) -> Vec<DrawNode> {
        let node = |at: usize| DrawNode {
            id: format!("node <{at}>"),
            lines: vec![format!("node \"{at}\""), "a & b".to_owned()],
            state: DrawState::ALL[at % DrawState::ALL.len()],
        };
        (0..count).map(node).collect()
    }

    fn layout(count: usize, edges: &[(usize, usize)]) -> Layout {
        Layout::new(&Drawing { title: "", nodes: &nodes(count), edges })
    }

    #[test]
    fn a_node_stands_right_of_all_that_it_needs() {
        let edges = [(0, 1), (1, 2), (0, 3), (3, 2), (0, 2), (2, 4)];
        let found = layout(5, &edges);
        for (from, to) in edges {
            assert!(found.items[from].x + found.items[from].width < found.items[to].x, "{from} -> {to}");
        }
        assert_eq!(longest_paths(5, &edges), [0, 1, 2, 1, 3]);
    }

    #[test]
    fn nothing_in_a_layer_overlaps() {
        let edges: Vec<(usize, usize)> = (1..9).flat_map(|k| [(0, k), (k, 9 + k % 3), (k, 12)]).chain([(0, 12)]).collect();
        let found = layout(13, &edges);
        for (at, a) in found.items.iter().enumerate() {
            assert!(a.y - a.height / 2.0 >= MARGIN - 1e-6, "item {at} sticks out");
            for b in found.items[..at].iter().filter(|b| b.layer == a.layer) {
                assert!((a.y - b.y).abs() >= f64::midpoint(a.height, b.height) + GAP_IN_LAYER - 1e-6, "{a:?} {b:?}");
            }
        }
    }

    #[test]
    fn parallel_chains_do_not_cross() {
        // Listed in mixed order: 0 -> 7 -> 2, 1 -> 6 -> 5, 3 -> 4 -> 8.
        let chains = [[0, 7, 2], [1, 6, 5], [3, 4, 8]];
        let edges: Vec<(usize, usize)> = chains.iter().flat_map(|c| [(c[0], c[1]), (c[1], c[2])]).collect();
        let found = layout(9, &edges);
        for chain in chains {
            let heights = chain.map(|node| found.items[node].y);
            assert!(heights.iter().all(|y| (y - heights[0]).abs() < 0.5), "{chain:?} stands at {heights:?}");
        }
    }

    #[test]
    fn texts_are_escaped_and_the_same_every_time() {
        let nodes = nodes(3);
        let drawing = Drawing { title: "a < b", nodes: &nodes, edges: &[(0, 1), (1, 2), (0, 2), (0, 1), (2, 2), (7, 0)] };
        let svg = drawing.svg();
        assert_eq!(svg, drawing.svg());
        assert!(svg.contains("<title>a &lt; b</title>") && svg.contains("node &quot;1&quot;") && svg.contains("a &amp; b"));
        assert_eq!(svg.matches("class=\"edge\"").count(), 3, "doubled and impossible edges are left out");
        assert!(svg.contains("run if an input changes") == nodes.iter().any(|node| node.state == DrawState::Maybe));
        let dot = drawing.dot();
        assert!(dot.contains("label=\"node \\\"1\\\"\\na & b\"") && dot.contains("n0 -> n2;"), "{dot}");
        let mermaid = drawing.mermaid();
        assert!(mermaid.contains("n1[\"node #quot;1#quot;<br/>a #amp; b\"]:::reuse"), "{mermaid}");
        assert!(mermaid.contains("n0 --> n2"), "{mermaid}");
    }

    #[test]
    fn no_nodes_and_cycles_are_drawn_too() {
        assert!(Drawing { title: "", nodes: &[], edges: &[] }.svg().ends_with("</svg>\n"));
        let cycle = Drawing { title: "", nodes: &nodes(3), edges: &[(0, 1), (1, 2), (2, 0)] }.svg();
        assert_eq!(cycle.matches("class=\"edge\"").count(), 3);
    }
}
