//! `sure methods`: what each method trains, counted from shapes.

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use neural_spec::benchmark::{Experiment, PAPER_CONV_ADAPTER_PERCENT, other_methods};
use neural_spec::{EncoderShape, Method};
use serde_json::{Value, json};

use crate::problem::problem;

#[derive(Args)]
pub(crate) struct MethodsArgs {
    /// Width of the transformer
    #[arg(long, value_name = "N", default_value_t = 1024)]
    pub(crate) hidden: u32,
    /// Transformer layers
    #[arg(long, value_name = "N", default_value_t = 24)]
    pub(crate) layers: u32,
    /// Inner width of the feed-forward blocks [default: four times the width of the transformer]
    #[arg(long, value_name = "N")]
    pub(crate) inner: Option<u32>,
    /// Print it as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// Far above any encoder of speech; what is counted lists every tensor, and a slip of the finger must not fill the memory.
const MAX_WIDTH: u32 = 1 << 20;
/// Likewise.
const MAX_LAYERS: u32 = 1000;
/// The benchmark's speaker recognition fine-tunes this many layers.
const LAST_LAYERS: u32 = 4;

pub(crate) fn methods(args: &MethodsArgs) -> Result<ExitCode> {
    let published = EncoderShape::wav2vec2_large();
    let groups = published.num_conv_pos_embedding_groups;
    let inner = args.inner.unwrap_or_else(|| args.hidden.saturating_mul(4));
    let possible = |width: u32| (1..=MAX_WIDTH).contains(&width);
    if !(possible(args.hidden) && args.hidden.is_multiple_of(groups) && possible(inner)) {
        let hint = format!(
            "--hidden must be a multiple of {groups}, the groups of the positional convolution; --hidden and --inner lie between 1 and \
             {MAX_WIDTH}"
        );
        return Err(problem(format!("no encoder has width {} and inner width {inner}", args.hidden), hint));
    }
    if !(LAST_LAYERS..=MAX_LAYERS).contains(&args.layers) {
        let hint = format!("--layers must lie between {LAST_LAYERS}, which speaker recognition fine-tunes, and {MAX_LAYERS}");
        return Err(problem(format!("no encoder of {} layers can be counted", args.layers), hint));
    }
    let shape =
        EncoderShape { hidden_size: args.hidden, num_hidden_layers: args.layers, intermediate_size: inner, ..published.clone() };
    let table = Table::count(&shape)?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&table.json())?);
    } else {
        table.print(&shape, shape == published);
    }
    Ok(ExitCode::SUCCESS)
}

/// Trained parameters of the benchmark's tasks and methods on one encoder.
struct Table {
    encoder: u64,
    methods: Vec<&'static str>,
    rows: Vec<Row>,
    others: Vec<(&'static str, u64)>,
}

struct Row {
    task: &'static str,
    outputs: u32,
    head: u64,
    /// Head included, method by method.
    trained: Vec<u64>,
}

impl Table {
    fn count(shape: &EncoderShape) -> Result<Self> {
        let trained = |method: &Method| method.count(shape).map(|counts| counts.trained);
        let mut rows = Vec::new();
        let mut methods = Vec::new();
        for task in Experiment::all() {
            let head = task.head_parameters(shape.hidden_size);
            methods = task.methods().iter().map(Method::name).collect();
            let trained = task.methods().iter().map(|method| Ok(trained(method)? + head)).collect::<Result<_>>()?;
            rows.push(Row { task: task.name, outputs: task.num_outputs, head, trained });
        }
        let others = other_methods();
        let others = others.iter().map(|(name, method)| Ok((*name, trained(method)?))).collect::<Result<_>>()?;
        let encoder = Experiment::all()[0].methods()[0].count(shape)?.encoder;
        Ok(Self { encoder, methods, rows, others })
    }

    /// In percent of the encoder and the head together.
    fn share(&self, trained: u64, head: u64) -> f64 {
        100.0 * trained as f64 / (self.encoder + head) as f64
    }

    fn json(&self) -> Value {
        let of_row = |row: &Row| {
            let trained: serde_json::Map<String, Value> =
                self.methods.iter().zip(&row.trained).map(|(&method, &count)| (method.to_owned(), count.into())).collect();
            json!({"task": row.task, "outputs": row.outputs, "head": row.head, "trained": trained})
        };
        json!({
            "encoder": self.encoder,
            "tasks": self.rows.iter().map(of_row).collect::<Vec<_>>(),
            "others": self.others.iter().map(|&(name, trained)| json!({"method": name, "trained": trained})).collect::<Vec<_>>(),
        })
    }

    fn print(&self, shape: &EncoderShape, published: bool) {
        let EncoderShape { hidden_size, num_hidden_layers, intermediate_size, .. } = shape;
        println!(
            "Encoder: wav2vec 2.0, {num_hidden_layers} layers of {hidden_size} and {intermediate_size}: {} parameters",
            grouped(self.encoder)
        );
        println!("\nTrained parameters of encoder and head, at the benchmark's values:\n");
        print!("{:<16} {:>7} {:>8}", "task", "outputs", "head");
        for method in &self.methods {
            print!(" {method:>12}");
        }
        println!();
        for Row { task, outputs, head, trained } in &self.rows {
            print!("{task:<16} {outputs:>7} {:>8}", grouped(*head));
            for &count in trained {
                print!(" {:>12}", grouped(count));
            }
            println!();
        }
        let Some(row) = self.rows.iter().find(|row| row.task == "KS") else { return };
        print!("{:<33}", "share (KS)");
        for &count in &row.trained {
            print!(" {:>10.2} %", self.share(count, row.head));
        }
        print!("\n{:<33}", "share (KS), without the head");
        for &count in &row.trained {
            print!(" {:>10.2} %", self.share(count - row.head, 0));
        }
        println!("\n\nOther methods, without the head:\n");
        for &(name, trained) in &self.others {
            println!("{name:<33} {:>12} {:>10.3} %", grouped(trained), self.share(trained, 0));
        }
        if published {
            println!(
                "\nThe paper gives {PAPER_CONV_ADAPTER_PERCENT} % for convadapter. Its published code does not come to that at any width, with\n\
                 or without the head: 92 % of the block is its gate (squeeze and excitation), which does not get narrower."
            );
        }
        println!(
            "\nFine-tuning is what the benchmark calls it: everything (SER, KS, IC), everything but the lower layers (SR: all but\nthe last 4), everything but the convolutions (ASR, PR, SF)."
        );
    }
}

/// `315438720` as `315,438,720`.
fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
