#!/usr/bin/env python3
"""Training steps of `sure-neural` beside those of transformers and peft, on this machine, in one run.

    python3 tests/bench/neural.py                       # base shape, 5 s x 4, two threads
    python3 tests/bench/neural.py --size large --seconds 5 --batch 2 --methods lora6
    python3 tests/bench/neural.py --front cached --methods lora6,lora_qv,finetune      # ours from what frozen convolutions made once
    python3 tests/bench/neural.py --device 0 --size large --seconds 10 --batch 32 --precision bf16     # with a GPU

Both sides compute forward, backward, clipping and AdamW on the same shapes with the same dropout, in processes of their own that
take turns, so that whatever else the machine does hits both. Printed is the median of the rounds' ratios. First of all
both compute the loss of one batch with the same weights, which must agree.

The other side is `bench_hf_baseline.py`, looked for in `../shared` beside the repository or where `--baseline` says. Its
environment is made once: PyTorch's wheel (531 MB) without the 1.7 GB of CUDA libraries it links to, in whose place
`torch_stubs.py` puts stand-ins; with `--device`, name an environment that has all of them with `--python`.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parent.parent
# Exact versions: a comparison is with something.
WITHOUT_DEPENDENCIES = ["torch==2.11.0", "nvidia-cuda-runtime==13.0.96", "nvidia-cuda-cupti==13.0.85"]
WITHOUT_DEPENDENCIES += ["transformers==5.23.0", "peft==0.21.2", "accelerate==1.15.0"]
PLAIN = "numpy==2.4.6 huggingface_hub==2.4.0 tokenizers==0.23.3 safetensors==0.8.0 regex requests tqdm pyyaml filelock packaging "
PLAIN += "typing_extensions sympy networkx jinja2 fsspec psutil typer tensorboard==2.21.0 pyarrow"


def main() -> int:
    options = parse()
    python = options.python or make_environment(options.venv)
    ours = build()
    if not options.device:
        same_loss(python, ours, options)
    rows = []
    for method in options.methods.split(","):
        theirs_ms, ours_ms = [], []
        for _ in range(options.rounds):
            theirs_ms.append(run_theirs(python, method, options)["step_ms"])
            ours_ms.append(run_ours(ours, method, options)["step_ms"])
            print(f"  {method}: transformers + peft {theirs_ms[-1]:.0f} ms, sure {ours_ms[-1]:.0f} ms", file=sys.stderr, flush=True)
        ratio = statistics.median(theirs / mine for theirs, mine in zip(theirs_ms, ours_ms))
        rows.append((method, statistics.median(theirs_ms), statistics.median(ours_ms), ratio))
    print(f"{options.size}, {options.batch} x {options.seconds:g} s, {options.precision}, {options.threads} threads, {options.rounds} rounds")
    print("| method | transformers + peft, ms a step | sure, ms a step | times as fast |\n| --- | --- | --- | --- |")
    for method, theirs, mine, ratio in rows:
        print(f"| {method} | {theirs:.0f} | {mine:.0f} | {ratio:.2f} |")
    return 0


def parse() -> argparse.Namespace:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sure" / "bench-neural"
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="base")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=3, help="timed steps in a round, after three others")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--methods", default="forward,lora6,lora_qv,finetune")
    parser.add_argument("--precision", default="fp32", choices=["fp32", "bf16"])
    parser.add_argument("--front", default="audio", choices=["audio", "cached"], help="what our side reads")
    parser.add_argument("--device", help="index of a GPU")
    parser.add_argument("--python", help="a Python that has torch, transformers and peft")
    parser.add_argument("--venv", type=Path, default=cache, help="where to make one")
    parser.add_argument("--baseline", type=Path, default=REPOSITORY.parent / "shared" / "bench_hf_baseline.py")
    return parser.parse_args()


def make_environment(folder: Path) -> str:
    python = folder / "bin" / "python"
    done = folder / "complete"
    if not done.exists():
        print(f"making {folder}", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        pip = [str(python), "-m", "pip", "install", "-q", "--no-cache-dir", "--disable-pip-version-check"]
        subprocess.run([*pip, "--no-deps", *WITHOUT_DEPENDENCIES], check=True)
        subprocess.run([*pip, *PLAIN.split()], check=True)
        site = next(folder.glob("lib/python3*/site-packages"))
        subprocess.run([str(python), str(HERE / "torch_stubs.py"), str(site)], check=True)
        done.touch()
    return str(python)


def build() -> str:
    """The example, compiled; returns where it is."""
    command = ["cargo", "build", "--release", "--locked", "-p", "neural", "--example", "step_time", "--message-format=json"]
    lines = subprocess.run(command, cwd=REPOSITORY, check=True, capture_output=True, text=True).stdout.splitlines()
    found = [message["executable"] for message in map(json.loads, lines) if message.get("executable")]
    return found[-1]


def environment(options: argparse.Namespace) -> dict:
    threads = {"OMP_NUM_THREADS": str(options.threads), "MKL_NUM_THREADS": str(options.threads)}
    # Both wait without spinning, as `sure-neural` always does.
    return {**os.environ, **threads, "OMP_WAIT_POLICY": "passive", "HF_HUB_OFFLINE": "1"}


def run_theirs(python: str, method: str, options: argparse.Namespace) -> dict:
    command = [python, str(options.baseline), "--size", options.size, "--batch", str(options.batch), "--seconds", str(options.seconds)]
    # The convolutions frozen for real: without this, stock peft goes back through them in vain, and is slower still.
    command += ["--steps", str(options.steps), "--methods", method, "--freeze-encoder"]
    command += ["--fp32"] if options.precision == "fp32" else []
    return last_line(command, options)


def run_ours(ours: str, method: str, options: argparse.Namespace) -> dict:
    command = [ours, "--size", options.size, "--batch", str(options.batch), "--seconds", str(options.seconds), "--steps", str(options.steps)]
    command += ["--methods", method, "--threads", str(options.threads), "--precision", options.precision]
    command += ["--front", options.front] + (["--device", options.device] if options.device else [])
    return last_line(command, options)


def last_line(command: list, options: argparse.Namespace) -> dict:
    run = subprocess.run(command, env=environment(options), capture_output=True, text=True, check=False)
    lines = [line for line in run.stdout.splitlines() if line.startswith("{")]
    answer = json.loads(lines[-1]) if run.returncode == 0 and lines else {}
    if "step_ms" not in answer:
        raise SystemExit(f"{' '.join(command)}\n{run.stdout}{run.stderr}")
    return answer


def same_loss(python: str, ours: str, options: argparse.Namespace) -> None:
    """The loss of one batch, computed by both with the same weights."""
    with tempfile.TemporaryDirectory() as folder:
        command = [ours, "--size", options.size, "--batch", "2", "--seconds", "1", "--write", folder]
        mine = json.loads(subprocess.run(command, env=environment(options), check=True, capture_output=True, text=True).stdout)
        code = (
            "import sys, json, torch; from safetensors.torch import load_file; from transformers import Wav2Vec2ForSequenceClassification as M\n"
            "m = M.from_pretrained(sys.argv[1] + '/checkpoint').eval(); b = load_file(sys.argv[1] + '/batch.safetensors')\n"
            "with torch.no_grad(): print(json.dumps(m(input_values=b['audio'], labels=b['labels']).loss.item()))"
        )
        command = [python, "-c", code, folder]
        run = subprocess.run(command, env=environment(options), capture_output=True, text=True, check=False)
        if run.returncode != 0:
            raise SystemExit(run.stderr)
        theirs = json.loads(run.stdout.splitlines()[-1])
    print(f"loss of one batch with the same weights: transformers {theirs:.6f}, sure {mine['loss']:.6f}", file=sys.stderr)
    if abs(theirs - mine["loss"]) > 1e-4:
        raise SystemExit("the two do not compute the same")


if __name__ == "__main__":
    sys.exit(main())
