#!/usr/bin/env python3
"""Reference numbers of encoders and heads, computed with transformers: small checkpoints with random weights, inputs and outputs.

    python3 encoders.py OUT [--hidden 16] [--layers 2] [--heads 2] [--inner 24] [--channels 8] [--seed 1]

OUT gets `manifest.json`, `backbones/NAME/` and `heads/NAME/`; the form is that of the other reference numbers (docs/reference-numbers.md).
`encoders/` next to this file is what it writes without options. Networks run in double precision, and their values are rounded once to
float32; `float32_scaled_error` is what the same network in float32 is off by. Every parameter, biases and norms included, has a random value
that matters. Needs torch, transformers and safetensors (made with 2.11.0, 5.23.0 and 0.8.0).
"""

import argparse
import json
import shutil
from pathlib import Path

import torch
import transformers
from safetensors.torch import save_file
from transformers import Data2VecAudioConfig, UniSpeechConfig, UniSpeechSatConfig

LARGE = dict(feat_extract_norm="layer", do_stable_layer_norm=True, conv_bias=True)
# Name, configuration class, name of the model classes, prefix of their encoders, options.
FAMILIES = [
    ("unispeech_base", UniSpeechConfig, "UniSpeech", {}),
    ("unispeech_large", UniSpeechConfig, "UniSpeech", LARGE),
    ("unispeech_sat_base", UniSpeechSatConfig, "UniSpeechSat", {}),
    ("unispeech_sat_large", UniSpeechSatConfig, "UniSpeechSat", LARGE),
    ("data2vec_audio", Data2VecAudioConfig, "Data2VecAudio", dict(num_conv_pos_embeddings=3, conv_pos_kernel_size=5)),
    ("data2vec_audio_even", Data2VecAudioConfig, "Data2VecAudio", dict(num_conv_pos_embeddings=2, conv_pos_kernel_size=4, conv_bias=True)),
]
QUIET = dict(hidden_dropout=0.0, attention_dropout=0.0, activation_dropout=0.0, feat_proj_dropout=0.0, final_dropout=0.0, layerdrop=0.0)
BACKBONE = {"scaled": 1e-5}
HEAD = {"scaled": 2e-5}


def main() -> None:
    transformers.utils.logging.disable_progress_bar()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    for name, value in dict(hidden=16, layers=2, heads=2, inner=24, channels=8, seed=1).items():
        parser.add_argument(f"--{name}", type=int, default=value)
    options = parser.parse_args()
    shutil.rmtree(options.out, ignore_errors=True)
    cases = []
    for name, config, model, own in FAMILIES:
        cases += family(options, name, config, model, own)
    versions = {"torch": torch.__version__.split("+")[0], "transformers": transformers.__version__}
    manifest = {"format": 1, "set": "encoders", "made_with": versions, "cases": cases}
    (options.out / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n")


def family(options, name: str, config, model: str, own: dict) -> list:
    sizes = dict(hidden_size=options.hidden, num_hidden_layers=options.layers, num_attention_heads=options.heads, intermediate_size=options.inner)
    sizes |= dict(conv_dim=[options.channels] * 4, conv_kernel=[10, 3, 3, 2], conv_stride=[5, 2, 2, 2], num_conv_pos_embedding_groups=2)
    config = config(**{**sizes, "num_conv_pos_embeddings": 5, "apply_spec_augment": False, "mask_time_prob": 0.05, **QUIET, **own})
    torch.manual_seed(options.seed)
    bare = getattr(transformers, f"{model}Model")(config)
    shake(bare)
    base = options.out / "backbones" / name
    bare.save_pretrained(base)
    mask = own.get("feat_extract_norm") == "layer"
    extractor = transformers.Wav2Vec2FeatureExtractor(return_attention_mask=mask)
    (base / "preprocessor_config.json").write_text(json.dumps(extractor.to_dict(), indent=1) + "\n")
    inputs = batch(options.seed)
    tensors, error = both(bare, lambda model: backbone(model, inputs))
    save(base, {**inputs, **tensors})
    what = "bare encoder forward, every stage, with and without an attention mask, and with given time-mask indices"
    cases = [case(name, "backbone", f"backbones/{name}", what, BACKBONE, error, {**inputs, **tensors})]
    for kind, build, run, what in [
        ("seqcls", classifier, classify, "sequence classification: projector, masked mean pooling, classifier, cross entropy; all gradients"),
        ("ctc", recogniser, recognise, "CTC head; blank id 0; loss with reduction none, sum and mean, zero_infinity; gradients of the logits and the head"),
    ]:
        torch.manual_seed(options.seed + 1)
        full = build(model, config)
        full.base_model.load_state_dict(bare.state_dict())
        head = [parameter for own, parameter in full.named_parameters() if not own.startswith(full.base_model_prefix)]
        for parameter in head:
            parameter.data += 0.2 * torch.randn_like(parameter)
        folder = options.out / "heads" / f"{kind}_{name}"
        folder.mkdir(parents=True)
        own_head = {own: tensor for own, tensor in full.state_dict().items() if not own.startswith(full.base_model_prefix)}
        save_file({own: tensor.float().contiguous() for own, tensor in own_head.items()}, folder / "head.safetensors")
        tensors, error = both(full, lambda model: run(model, inputs))
        save(folder, tensors)
        cases.append({**case(f"{kind}_{name}", "head", f"heads/{kind}_{name}", what, HEAD, error, tensors), "base": f"backbones/{name}"})
    return cases


def shake(model) -> None:
    """Moves norms and biases from their starting values."""
    for parameter in model.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)


def batch(seed: int) -> dict:
    generator = torch.Generator().manual_seed(seed)
    lengths = [900, 613, 388]
    audio = torch.randn(len(lengths), max(lengths), generator=generator)
    mask = torch.arange(max(lengths))[None] < torch.tensor(lengths)[:, None]
    return {"input_values": audio * mask, "attention_mask": mask.long()}


def both(model, run) -> tuple:
    """Values in double precision, and how far float32 is off."""
    model.eval()
    single = run(model.float())
    exact = {name: value for name, value in run(model.double()).items()}
    model.float()
    error = 0.0
    for name, value in exact.items():
        if value.is_floating_point() and value.isfinite().all():
            error = max(error, ((single[name].double() - value).abs().max() / max(1.0, value.abs().max())).item())
    return {name: value.float() if value.is_floating_point() else value for name, value in exact.items()}, error


def of_kind(model, inputs: dict) -> tuple:
    kind = next(model.parameters()).dtype
    return inputs["input_values"].to(kind), inputs["attention_mask"]


def backbone(model, inputs: dict) -> dict:
    audio, mask = of_kind(model, inputs)
    tensors = {}

    def watched(prefix: str, *arguments, **options) -> torch.Tensor:
        seen, hooks = {}, []
        first = lambda output: output[0] if isinstance(output, tuple) else output
        hooks.append(model.feature_extractor.register_forward_hook(lambda *call: seen.update({"conv_features": first(call[2]).transpose(1, 2)})))
        hooks.append(model.feature_projection.register_forward_hook(lambda *call: seen.update({"projected": first(call[2])})))
        hooks.append(model.encoder.pos_conv_embed.register_forward_hook(lambda *call: seen.update({"pos_conv": first(call[2])})))
        for at, layer in enumerate(model.encoder.layers):
            hooks.append(layer.register_forward_hook(lambda _, inputs, output, at=at: seen.update({f"hidden_states.{at}": inputs[0], "layer_out.last": first(output)})))
        with torch.no_grad():
            output = model(*arguments, **options).last_hidden_state
        for hook in hooks:
            hook.remove()
        # In-place changes come later: what was seen is copied where it is not masked.
        tensors.update({f"{prefix}.{name}": value.clone() for name, value in seen.items() if name != "projected" or prefix == "nomask"})
        tensors[f"{prefix}.last_hidden_state"] = output
        return output

    watched("nomask", audio)
    watched("mask", audio, attention_mask=mask)
    lengths = model._get_feat_extract_output_lengths(mask.sum(-1))
    frames = tensors["nomask.last_hidden_state"].shape[1]
    tensors["feature_lengths"] = lengths
    tensors["feature_mask"] = (torch.arange(frames)[None] < lengths[:, None]).to(torch.uint8)
    masked = torch.zeros(len(audio), frames, dtype=torch.bool)
    masked[:, 3:6] = True
    masked[0, 10:12] = True
    tensors["mask_time_indices"] = masked.to(torch.uint8)
    with torch.no_grad():
        model.config.apply_spec_augment = True
        tensors["spec.last_hidden_state"] = model(audio, attention_mask=mask, mask_time_indices=masked).last_hidden_state
        model.config.apply_spec_augment = False
        alone = audio[-1:, : mask[-1].sum()]
        tensors["single.last_hidden_state"] = model(alone).last_hidden_state
    if hasattr(model.encoder.pos_conv_embed, "conv"):
        tensors["pos_conv_weight"] = model.encoder.pos_conv_embed.conv.weight.detach()
    return tensors


def classifier(model: str, config):
    config.num_labels, config.classifier_proj_size = 5, 7
    return getattr(transformers, f"{model}ForSequenceClassification")(config)


def classify(model, inputs: dict) -> dict:
    audio, mask = of_kind(model, inputs)
    labels = torch.tensor([0, 3, 4])
    model.zero_grad()
    loss = model(audio, attention_mask=mask, labels=labels).loss
    loss.backward()
    tensors = {f"grad.{name}": parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}
    with torch.no_grad():
        tensors |= {"nomask.logits": model(audio).logits, "mask.logits": model(audio, attention_mask=mask).logits}
    return {**tensors, "labels": labels, "loss": loss.detach()[None]}


def recogniser(model: str, config):
    config.vocab_size, config.pad_token_id = 6, 0
    return getattr(transformers, f"{model}ForCTC")(config)


def recognise(model, inputs: dict) -> dict:
    audio, mask = of_kind(model, inputs)
    model.zero_grad()
    logits = model(audio, attention_mask=mask).logits
    logits.retain_grad()
    frames = model._get_feat_extract_output_lengths(mask.sum(-1))
    labels = torch.tensor([[1, 2, 3], [4, 5, -100], [2, 2, -100]])
    counts = (labels >= 0).sum(-1)
    log_probs = logits.log_softmax(-1).transpose(0, 1)

    def loss(labels, counts, reduction: str, zero: bool = True) -> torch.Tensor:
        flat = labels[labels >= 0]
        return torch.nn.functional.ctc_loss(log_probs, flat, frames, counts, blank=0, reduction=reduction, zero_infinity=zero)

    mean = loss(labels, counts, "mean")
    mean.backward(retain_graph=True)
    tensors = {"grad.logits": logits.grad, "grad.lm_head.weight": model.lm_head.weight.grad, "grad.lm_head.bias": model.lm_head.bias.grad}
    longest = int(frames[-1]) + 1
    impossible = labels[:, :1].repeat(1, longest)
    impossible[:-1] = -100
    last = torch.nn.functional.ctc_loss
    own = dict(blank=0, reduction="mean")
    tensors |= {
        "logits": logits.detach(), "frame_lengths": frames, "greedy_ids": logits.argmax(-1), "labels": labels,
        "loss.none": loss(labels, counts, "none").detach(), "loss.sum": loss(labels, counts, "sum").detach()[None], "loss.mean": mean.detach()[None],
        "impossible.labels": impossible[-1:],
        "impossible.loss": last(log_probs[:, -1:], impossible[-1:], frames[-1:], torch.tensor([longest]), zero_infinity=False, **own).detach()[None],
        "impossible.loss.zero_infinity": last(log_probs[:, -1:], impossible[-1:], frames[-1:], torch.tensor([longest]), zero_infinity=True, **own).detach()[None],
    }
    return tensors


def case(name: str, kind: str, folder: str, what: str, tolerance: dict, error: float, tensors: dict) -> dict:
    shapes = {name: [str(value.dtype).removeprefix("torch."), list(value.shape)] for name, value in tensors.items()}
    return {"name": name, "kind": kind, "dir": folder, "what": what, "tolerance": tolerance, "float32_scaled_error": error, "tensors": shapes}


def save(folder: Path, tensors: dict) -> None:
    save_file({name: value.contiguous() for name, value in tensors.items()}, folder / "golden.safetensors")


if __name__ == "__main__":
    main()
