#!/usr/bin/env python3
"""Reference numbers of AdaLoRA, VeRA and PiSSA, computed with peft on the small encoders of encoders.py and frames.py.

    python3 adapters.py OUT [--seed 1]

`adapters/` next to this file is what it writes without options; the form is that of the other reference numbers. Bases are those next to
OUT (`../encoders`, `../frames`). An adapter is written by `save_pretrained`; of PiSSA also the form that peft converts it to (`converted/`), and
of AdaLoRA one with dropped ranks. `adalora_run` is a whole training with AdamW, in which ranks are dropped. Needs peft (made with 0.21.2).
"""

import argparse
import copy
import json
import shutil
from pathlib import Path

import peft
import torch
import transformers
from encoders import HEAD, case, save
from peft import AdaLoraConfig, LoraConfig, PeftModel, VeraConfig, get_peft_model
from safetensors.torch import load_file

F = torch.nn.functional
LABELS = torch.tensor([0, 3, 4])
ALL = ["q_proj", "k_proj", "v_proj", "out_proj", "intermediate_dense", "output_dense"]
BERT = ["linear_q", "linear_v", "intermediate_dense", "output_dense"]
LARGE, BASE, FRAMES = "encoders/backbones/unispeech_large", "encoders/backbones/unispeech_sat_base", "frames/backbones/wav2vec2_bert"


def main() -> None:
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    shutil.rmtree(options.out, ignore_errors=True)
    saved = {"modules_to_save": ["projector", "classifier"]}
    phases = {"total_step": 10, "tinit": 2, "tfinal": 3, "deltaT": 2}
    cases = [
        adapted(options, "adalora_large", LARGE, AdaLoraConfig(init_r=4, target_r=2, lora_alpha=6, target_modules=ALL, **phases, **saved)),
        adapted(options, "adalora_frames", FRAMES, AdaLoraConfig(init_r=3, target_r=2, lora_alpha=4, target_modules=BERT, layers_to_transform=[1], orth_reg_weight=0.1, **phases, **saved)),
        adapted(options, "adalora_dropped", BASE, AdaLoraConfig(init_r=4, target_r=2, lora_alpha=6, target_modules=ALL, **phases, **saved)),
        adapted(options, "vera_large", LARGE, VeraConfig(r=6, target_modules=ALL, **saved)),
        adapted(options, "vera_base", BASE, VeraConfig(r=20, d_initial=0.5, projection_prng_key=3, target_modules=["q_proj", "v_proj"], layers_to_transform=[1], **saved)),
        adapted(options, "vera_frames", FRAMES, VeraConfig(r=5, target_modules=BERT, **saved)),
        adapted(options, "pissa_large", LARGE, LoraConfig(r=3, lora_alpha=6, init_lora_weights="pissa", target_modules=ALL, **saved)),
        adapted(options, "pissa_rslora_base", BASE, LoraConfig(r=4, lora_alpha=3, use_rslora=True, init_lora_weights="pissa", target_modules=["q_proj", "v_proj", "output_dense"], **saved)),
        adalora_run(options, "adalora_run", LARGE, AdaLoraConfig(init_r=4, target_r=2, lora_alpha=6, target_modules=ALL, **phases, **saved)),
    ]
    versions = {"torch": torch.__version__.split("+")[0], "transformers": transformers.__version__, "peft": peft.__version__}
    manifest = {"format": 1, "set": "adapters", "made_with": versions, "cases": cases}
    (options.out / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n")


def classifier(options, base: str):
    folder = options.out.parent / base
    torch.manual_seed(options.seed + 1)
    config = transformers.AutoConfig.from_pretrained(folder, num_labels=5, classifier_proj_size=7)
    full = transformers.AutoModelForAudioClassification.from_pretrained(folder, config=config)
    full.name_or_path = folder.name  # which peft writes into the adapter
    for name, parameter in full.named_parameters():
        if name.startswith(("projector.", "classifier.")):
            parameter.data += 0.2 * torch.randn_like(parameter)
    return full.eval()


def inputs_of(options, base: str) -> dict:
    tensors = load_file(options.out.parent / base / "golden.safetensors")
    return {name: tensors[name] for name in ("input_values", "input_features", "attention_mask") if name in tensors}


def call(model, inputs: dict, mask: bool = True, **options):
    kind = next(model.parameters()).dtype
    own = {name: tensor.to(kind) if tensor.is_floating_point() else tensor for name, tensor in inputs.items() if mask or name != "attention_mask"}
    return model(**own, **options)


def plain(name: str) -> str:
    return name.replace(".modules_to_save.default", "").replace(".default", "")


def precisely(model, run) -> tuple:
    """Values in double precision, and how far float32 is off."""
    exact, single = (run(copy.deepcopy(model).to(kind)) for kind in (torch.float64, torch.float32))
    error = max(((single[name].double() - value).abs().max() / max(1.0, value.abs().max())).item() for name, value in exact.items() if value.is_floating_point())
    return {name: value.float() if value.is_floating_point() else value for name, value in exact.items()}, error


def adapted(options, name: str, base: str, config) -> dict:
    inputs, full = inputs_of(options, base), classifier(options, base)
    tensors = {"base.logits": call(full, inputs).logits.detach(), "labels": LABELS}
    bare = copy.deepcopy(full)
    torch.manual_seed(options.seed + 2)
    model = get_peft_model(full, config).eval()
    folder = options.out / "peft" / name
    if name.startswith("pissa"):
        tensors |= started(model)
        model.peft_config["default"].init_lora_weights = True  # as peft asks for before it saves the start
        model.save_pretrained(folder / "start", save_embedding_layers=False)
        model.peft_config["default"].init_lora_weights = "pissa"
    trained = {own: tensor for own, tensor in model.named_parameters() if tensor.requires_grad}
    torch.manual_seed(options.seed + 3)
    for own, tensor in trained.items():
        if "modules_to_save" not in own:
            tensor.data += (0.1 if name.startswith("pissa") else 0.3) * torch.randn_like(tensor)
    count = sum(tensor.numel() for tensor in trained.values())
    dropped = name == "adalora_dropped"
    if dropped:
        drop(model)
    model.save_pretrained(folder / "adapter", save_embedding_layers=False)
    if name.startswith("pissa"):
        model.save_pretrained(folder / "converted", path_initial_model_for_weight_conversion=folder / "start", save_embedding_layers=False)
        shutil.rmtree(folder / "start")
    for readme in folder.rglob("README.md"):
        readme.unlink()
    if dropped:
        model = PeftModel.from_pretrained(bare, folder / "adapter").eval()  # as peft computes what it read
    whole, error = precisely(model, lambda model: answers(model, inputs, train=not dropped))
    tensors |= whole
    save(folder, tensors)
    kind = name.split("_")[0]
    what = f"{kind} of peft and a head of classes: logits, loss with the penalty where there is one, all gradients, the same without the adapter and merged"
    return {**case(name, "peft", f"peft/{name}", what, HEAD, error, tensors), "base": f"../{base}", "trainable": count}


def answers(model, inputs: dict, train: bool) -> dict:
    tensors = {"mask.logits": call(model, inputs).logits.detach()}
    if "input_values" in inputs:
        tensors["nomask.logits"] = call(model, inputs, mask=False).logits.detach()
    if train:
        model.zero_grad()
        loss = call(model.base_model, inputs, labels=LABELS).loss  # a `PeftModel` without a task type passes by the penalty
        loss.backward()
        tensors |= {f"grad.{plain(name)}": tensor.grad for name, tensor in model.named_parameters() if tensor.requires_grad}
        tensors["loss"] = loss.detach()[None]
    tensors["merged.logits"] = call(copy.deepcopy(model).merge_and_unload(), inputs).logits.detach()
    return tensors


def started(model) -> dict:
    """What PiSSA starts from: what is left of the weights, and both factors up to the signs of their singular vectors."""
    tensors = {}
    for name, tensor in model.get_base_model().named_parameters():
        if ".base_layer.weight" in name:
            tensors[f"start.{name.replace('.base_layer', '')}"] = tensor.detach().clone()
        elif ".lora_" in name:
            tensors[f"start_abs.{plain(name)}"] = tensor.detach().abs()
    return tensors


def drop(model) -> None:
    """Drops ranks as the rank allocator does: of one layer all, of others some."""
    tuner = model.base_model
    pattern = {name: [(at + row) % 3 != 0 for row in range(len(tensor))] for at, (name, tensor) in enumerate(tuner.model.named_parameters()) if "lora_E" in name}
    pattern[next(iter(pattern))] = [False] * len(next(iter(pattern.values())))
    tuner.rankallocator.mask_using_rank_pattern(tuner.model, pattern)
    model.peft_config["default"].rank_pattern = pattern


def adalora_run(options, name: str, base: str, config) -> dict:
    inputs, full = inputs_of(options, base), classifier(options, base)
    torch.manual_seed(options.seed + 2)
    model = get_peft_model(full, config).eval()
    trained = [own for own, tensor in model.named_parameters() if tensor.requires_grad]
    init = {f"init.{plain(own)}": tensor.detach().clone() for own, tensor in model.named_parameters() if own in trained}

    def run(model) -> dict:
        parameters = dict(model.named_parameters())
        optimizer = torch.optim.AdamW([parameters[own] for own in trained], lr=0.03, weight_decay=0.01, eps=1e-3)
        losses, ranks = [], []
        for step in range(1, config.total_step + 1):
            loss = call(model.base_model, inputs, labels=LABELS).loss  # a `PeftModel` without a task type passes by the penalty
            loss.backward()
            torch.nn.utils.clip_grad_norm_([parameters[own] for own in trained], 1.0)
            optimizer.step()
            model.base_model.update_and_allocate(step)
            optimizer.zero_grad()
            losses.append(loss.detach())
            ranks.append(sum(int((tensor != 0).sum()) for own, tensor in parameters.items() if "lora_E" in own))
        final = {f"final.{plain(own)}": parameters[own].detach() for own in trained}
        return {"losses": torch.stack(losses), "ranks": torch.tensor(ranks), **final}

    tensors, error = precisely(model, run)
    folder = options.out / "train"
    folder.mkdir()
    save(folder, {**init, **tensors})
    what = "AdaLoRA with AdamW lr 0.03, eps 1e-3, decay 0.01, clip to norm 1.0; update_and_allocate after each update, counted from 1; ranks: singular values that are not 0"
    own = {"tolerance": {"scaled": 1e-4}, "base": f"../{base}", "file": "golden.safetensors", "method": {key: getattr(config, key) for key in ("init_r", "target_r", "lora_alpha", "tinit", "tfinal", "deltaT", "beta1", "beta2", "orth_reg_weight")}}
    return {**case(name, "train", "train", what, HEAD, error, {**init, **tensors}), **own}


if __name__ == "__main__":
    main()
