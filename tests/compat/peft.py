#!/usr/bin/env python3
"""Loads adapters that this project wrote with the Python library peft, compares the logits, and writes them again.

    python3 peft.py FOLDER

FOLDER holds `encoder/` (a checkpoint), `input.safetensors` (`audio`, `mask`) and one folder per adapter: `NAME/adapter/` and
`NAME/logits.safetensors` (`logits`). Beside each, `NAME/again/` becomes what peft itself makes of the adapter.
Needs torch, transformers and peft (tested: 2.11.0, 5.23.0, 0.21.2). Exit code 3: they are not installed.
"""

import sys
from pathlib import Path

# This file is called like the library: its own folder must not come first.
sys.path = [folder for folder in sys.path if Path(folder or ".").resolve() != Path(__file__).resolve().parent]

try:
    import torch
    from peft import PeftModel
    from safetensors.torch import load_file
    from transformers import AutoConfig, AutoModelForAudioClassification
except ImportError as missing:
    print(f"not installed: {missing}", file=sys.stderr)
    sys.exit(3)

TOLERANCE = 2e-5


def main(folder: Path) -> int:
    given = load_file(folder / "input.safetensors")
    failures = 0
    for logits in sorted(folder.glob("*/logits.safetensors")):
        expected = load_file(logits)["logits"]
        adapter = logits.parent / "adapter"
        model = PeftModel.from_pretrained(base_model(folder / "encoder", adapter), adapter).eval()
        with torch.no_grad():
            found = model(given["audio"], attention_mask=given["mask"]).logits
        error = (found - expected).abs().max().item()
        print(f"{logits.parent.name}: {error:.1e}")
        failures += not error <= TOLERANCE
        model.save_pretrained(logits.parent / "again")
    return 1 if failures else 0


def base_model(encoder: Path, adapter: Path) -> torch.nn.Module:
    """The encoder with a fresh head of the adapter's size; the adapter brings its own."""
    tensors = load_file(adapter / "adapter_model.safetensors")
    config = AutoConfig.from_pretrained(encoder)
    config.num_labels = tensors["base_model.model.classifier.weight"].shape[0]
    config.classifier_proj_size = tensors["base_model.model.projector.weight"].shape[0]
    config.use_weighted_layer_sum = "base_model.model.layer_weights" in tensors
    return AutoModelForAudioClassification.from_pretrained(encoder, config=config)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
