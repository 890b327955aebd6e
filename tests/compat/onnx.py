#!/usr/bin/env python3
"""Exports what `sure run` leaves to ONNX by the lines of docs/own-recordings.md, and compares the answers of onnxruntime.

    python3 onnx.py SURE SURE_NEURAL

A fine-tuned recogniser, a fine-tuned classifier, and an adapter of LoRA that `sure-neural merge` made a checkpoint of. Answers are those
of `predictions.parquet`. Needs torch, transformers, pyarrow, onnx and onnxruntime (tested: 2.11.0, 5.23.0, 26.0, 1.23.2, 1.32.0).
Exit code 3: they are not installed.
"""

import io
import os
import re
import subprocess
import sys
import tempfile
import wave
import warnings
from pathlib import Path

# This file is called like the library: its folder must not come first.
HERE = Path(__file__).resolve().parent
sys.path = [folder for folder in sys.path if Path(folder or ".").resolve() != HERE]
os.environ["HF_HUB_OFFLINE"] = "1"
warnings.filterwarnings("ignore")

try:
    import numpy
    import onnx  # noqa: F401  the exporter needs it
    import onnxruntime
    import pyarrow.parquet
    import transformers
except ImportError as missing:
    print(f"not installed: {missing}", file=sys.stderr)
    sys.exit(3)

transformers.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()
CLIPS = 12  # of each model


def main(sure: Path, worker: Path) -> int:
    lines = documented_lines()
    wrong = 0
    with tempfile.TemporaryDirectory() as scratch:
        scratch = Path(scratch)
        run = lambda *arguments: command(scratch, sure, *arguments)
        run("synth", "speech_commands", "corpus", "--speakers", "8", "--takes", "1")
        (scratch / "sure.toml").write_text('[corpora]\nspeech_commands = "corpus"\n')
        for head, method in [("ctc", "finetune"), ("mixed", "finetune"), ("mixed", "lora")]:
            sets = [word for name, value in (("head", head), ("method", method)) for word in ("--set", f"{name}={value}")]
            workflow = f"{HERE / 'models.toml'}"
            run("run", workflow, "-q", *sets)
            path = lambda node: Path(run("path", f"{workflow}:{node}", *sets).splitlines()[0])
            folder = path("train") / ("adapter" if method == "lora" else "checkpoint")
            if method == "lora":
                run_worker(scratch, worker, "merge", folder, path("large"), scratch / "merged")
                folder = scratch / "merged"
            wrong += compare(f"{head}, {method}", lines, folder, head, rows(path("evaluate"), path("shards")))
    return 1 if wrong else 0


def documented_lines() -> str:
    text = (HERE.parent.parent / "docs" / "own-recordings.md").read_text()
    return re.search(r"## Export to ONNX.*?```python\n(.*?)```", text, re.DOTALL)[1]


def command(folder: Path, *words) -> str:
    done = subprocess.run([str(word) for word in words], cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, words))}\n{done.stdout}{done.stderr}")
    return done.stdout


def run_worker(folder: Path, worker: Path, *words) -> None:
    command(folder, worker, *words)


def rows(evaluation: Path, shards: Path) -> list:
    """Some predictions with the samples of their clips."""
    clips = {row["id"]: row["audio"]["bytes"] for row in pyarrow.parquet.read_table(shards / "test.parquet", columns=["id", "audio"]).to_pylist()}
    predictions = pyarrow.parquet.read_table(evaluation / "predictions.parquet").to_pylist()[:CLIPS]
    return [{**row, "samples": samples(clips[row["id"]])} for row in predictions]


def samples(clip: bytes) -> numpy.ndarray:
    with wave.open(io.BytesIO(clip)) as file:
        return numpy.frombuffer(file.readframes(file.getnframes()), dtype="<i2").astype("float32") / 32768


def compare(name: str, lines: str, folder: Path, head: str, rows: list) -> int:
    out = folder.parent / "model.onnx" if os.access(folder.parent, os.W_OK) and folder.name == "merged" else Path(tempfile.mkdtemp()) / "model.onnx"
    auto = "AutoModelForCTC" if head == "ctc" else "AutoModelForAudioClassification"
    exec(lines.replace("AutoModelForAudioClassification", auto), {"folder": str(folder), "out": str(out)})
    session = onnxruntime.InferenceSession(str(out))
    processor = transformers.AutoProcessor if head == "ctc" else transformers.AutoFeatureExtractor
    processor = processor.from_pretrained(folder)
    labels = transformers.AutoConfig.from_pretrained(folder).id2label
    wrong = 0
    for row in rows:
        inputs = processor(row["samples"], sampling_rate=16000, return_tensors="np")["input_values"]
        logits = session.run(None, {"input_values": inputs})[0]
        best = logits.argmax(-1)
        answer = processor.batch_decode(best)[0] if head == "ctc" else labels[int(best[0])]
        wrong += answer != row["hypothesis" if head == "ctc" else "prediction_text"]
    print(f"{'DIFFERS ' if wrong else ''}{name}: {wrong} of {len(rows)} answers of onnxruntime differ", flush=True)
    return wrong


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve()))
