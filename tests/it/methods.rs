//! `sure methods`: the benchmark's numbers of parameters, printed.

use std::process::Command;

use tests::executable;

fn methods(arguments: &[&str]) -> (bool, String, String) {
    let output = Command::new(executable("sure")).arg("methods").args(arguments).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.success(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn the_table_is_that_of_the_benchmark_with_its_shares() {
    let (ok, out, _) = methods(&[]);
    assert!(ok);
    assert!(out.contains("24 layers of 1024 and 4096: 315,438,720 parameters"), "{out}");
    let words = |start: &str| {
        let line = out.lines().find(|line| line.starts_with(start)).unwrap_or_else(|| panic!("no `{start}` in {out}"));
        line.split_whitespace().map(str::to_owned).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(words("KS"), "KS 11 265,227 315,703,947 25,467,915 1,739,787 3,804,171 3,669,003 265,227");
    assert_eq!(words("ASR LibriSpeech"), "ASR LibriSpeech 30 30,750 311,259,294 25,233,438 1,505,310 3,569,694 3,434,526 30,750");
    assert_eq!(words("share (KS) "), "share (KS) 100.00 % 8.07 % 0.55 % 1.20 % 1.16 % 0.08 %");
    assert_eq!(words("share (KS),"), "share (KS), without the head 100.00 % 7.99 % 0.47 % 1.12 % 1.08 % 0.00 %");
    assert!(out.contains("0.94 %"), "{out}");
}

#[test]
fn other_shapes_are_counted_and_impossible_ones_refused() {
    let (ok, out, _) = methods(&["--hidden", "768", "--layers", "12", "--json"]);
    let counted: serde_json::Value = serde_json::from_str(&out).unwrap();
    // LoRA beside six linear layers of twelve: 12 * 8 * (4 * 2 * 768 + 2 * (768 + 3072)).
    assert!(ok && counted["tasks"][4]["trained"]["lora"] == 1_327_104 + counted["tasks"][4]["head"].as_u64().unwrap(), "{out}");
    for (arguments, expected) in [
        (&["--hidden", "100"][..], "no encoder has width 100"),
        (&["--hidden", "0"], "no encoder has width 0"),
        (&["--hidden", "4294967280"], "no encoder has width 4294967280"),
        (&["--inner", "0"], "width 1024 and inner width 0"),
        (&["--layers", "3"], "--layers must lie between 4"),
        (&["--layers", "4294967295"], "no encoder of 4294967295 layers"),
        (&["--layers", "many"], "invalid value 'many' for '--layers"),
    ] {
        let (ok, _, error) = methods(arguments);
        assert!(!ok && error.contains(expected), "{arguments:?}: {error}");
    }
}
