#!/usr/bin/env python3
"""Reference numbers of encoders over feature frames (the encoder of Whisper, Wav2Vec2-BERT), their heads, adapters and features.

    python3 frames.py OUT [--hidden 16] [--layers 2] [--heads 2] [--inner 24] [--seed 1]

The form is that of encoders.py, with `input_features` [batch, frames, values] in the place of `input_values`, and `attention_mask` of their
frames. `frames/` next to this file is what it writes without options. Whisper has no mask: every clip is computed alone, at its own length
(positions are cut, see `alone`), and padding is zero in what is stored. Needs peft, too (made with 0.21.2).
"""

import argparse
import copy
import json
import shutil
from pathlib import Path

import numpy
import torch
import transformers
from encoders import BACKBONE, HEAD, both, case, save, shake
from peft import IA3Config, LoraConfig, get_peft_model
from safetensors.torch import save_file

F = torch.nn.functional
WHISPER, BERT = "Whisper", "Wav2Vec2Bert"
FAMILIES = [("whisper", WHISPER, dict(num_mel_bins=6)), ("wav2vec2_bert", BERT, dict(feature_projection_input_dim=10))]
CLASSES = {WHISPER: "WhisperForAudioClassification", BERT: "Wav2Vec2BertForSequenceClassification"}
# Linear layers, and those whose input IA3 scales.
TARGETS = {
    WHISPER: (["q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2"], ["k_proj", "v_proj", "fc2"], ["fc2"]),
    BERT: (["linear_q", "linear_k", "linear_v", "linear_out", "intermediate_dense", "output_dense"], ["linear_k", "linear_v", "output_dense"], ["output_dense"]),
}


def main() -> None:
    transformers.utils.logging.disable_progress_bar()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    for name, value in dict(hidden=16, layers=2, heads=2, inner=24, seed=1).items():
        parser.add_argument(f"--{name}", type=int, default=value)
    options = parser.parse_args()
    shutil.rmtree(options.out, ignore_errors=True)
    cases = [features(options)]
    for name, family, own in FAMILIES:
        cases += of_family(options, name, family, own)
    versions = {"torch": torch.__version__.split("+")[0], "transformers": transformers.__version__}
    manifest = {"format": 1, "set": "frames", "made_with": versions, "cases": cases}
    (options.out / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n")


def config_of(options, family: str, own: dict):
    quiet = dict(activation_dropout=0.0, attention_dropout=0.0, apply_spec_augment=False, num_labels=5, classifier_proj_size=7)
    if family == WHISPER:
        sizes = dict(d_model=options.hidden, encoder_layers=options.layers, encoder_attention_heads=options.heads, encoder_ffn_dim=options.inner)
        decoder = dict(decoder_layers=1, decoder_attention_heads=options.heads, decoder_ffn_dim=8, vocab_size=12, max_target_positions=4, bos_token_id=1,
                       pad_token_id=0, eos_token_id=2, decoder_start_token_id=3, suppress_tokens=None, begin_suppress_tokens=None)
        return transformers.WhisperConfig(**sizes, **decoder, max_source_positions=20, dropout=0.0, **quiet, **own)
    sizes = dict(hidden_size=options.hidden, num_hidden_layers=options.layers, num_attention_heads=options.heads, intermediate_size=options.inner)
    conformer = dict(conv_depthwise_kernel_size=5, left_max_position_embeddings=4, right_max_position_embeddings=2, conformer_conv_dropout=0.0)
    return transformers.Wav2Vec2BertConfig(**sizes, **conformer, hidden_dropout=0.0, feat_proj_dropout=0.0, final_dropout=0.0, layerdrop=0.0, **quiet, **own)


def of_family(options, name: str, family: str, own: dict) -> list:
    config = config_of(options, family, own)
    torch.manual_seed(options.seed)
    # Of Whisper the whole model, as it is published: the decoder is to be stepped over.
    bare = (transformers.WhisperForConditionalGeneration if family == WHISPER else transformers.Wav2Vec2BertModel)(config)
    shake(bare)
    base = options.out / "backbones" / name
    bare.save_pretrained(base)
    bands = config.num_mel_bins if family == WHISPER else config.feature_projection_input_dim // 2
    if family == WHISPER:
        extractor = transformers.WhisperFeatureExtractor(feature_size=bands)
    else:
        extractor = transformers.SeamlessM4TFeatureExtractor(feature_size=bands, num_mel_bins=bands)
    written = {key: value for key, value in extractor.to_dict().items() if key not in ("mel_filters", "window")}
    (base / "preprocessor_config.json").write_text(json.dumps(written, indent=1) + "\n")
    (base / "generation_config.json").unlink(missing_ok=True)
    inputs = batch(options.seed, family, bands if family == WHISPER else 2 * bands)
    encoder = bare.model.encoder if family == WHISPER else bare
    tensors, error = both(encoder, lambda model: backbone(model, family, inputs))
    save(base, {**inputs, **tensors})
    what = "bare encoder forward, inputs of all layers; each clip alone" if family == WHISPER else "bare encoder forward, inputs of all layers, with and without an attention mask"
    cases = [case(name, "backbone", f"backbones/{name}", what, BACKBONE, error, {**inputs, **tensors})]
    base_name = {"base": f"backbones/{name}"}

    def classifier(layer_sum: bool):
        own_config = copy.deepcopy(config)
        own_config.use_weighted_layer_sum = layer_sum
        torch.manual_seed(options.seed + 1)
        full = getattr(transformers, CLASSES[family])(own_config)
        (full.encoder if family == WHISPER else full.base_model).load_state_dict(encoder.state_dict())
        for own_name, parameter in full.named_parameters():
            if not own_name.startswith(("encoder.", "wav2vec2_bert.")):
                parameter.data += 0.2 * torch.randn_like(parameter)
        return full

    # Of Whisper, transformers mixes the inputs of the layers and the output after the final norm, in version 5, too.
    what = "sequence classification: projector, masked mean pooling, classifier, cross entropy; all gradients"
    for kind, layer_sum in [("seqcls", False), ("seqcls_layersum", True)]:
        full = classifier(layer_sum)
        folder = options.out / "heads" / f"{kind}_{name}"
        head_file(full, folder)
        tensors, error = both(full, lambda model: classify(model, family, inputs))
        save(folder, tensors)
        cases.append({**case(f"{kind}_{name}", "head", f"heads/{kind}_{name}", what, HEAD, error, tensors), **base_name})
    if family == BERT:
        cases.append({**recogniser(options, name, config, encoder, inputs), **base_name})

    every, scaled, feed_forward = TARGETS[family]
    saved = ["projector", "classifier"]
    for kind, adapter in [
        ("lora", LoraConfig(r=3, lora_alpha=6, target_modules=every, modules_to_save=saved)),
        ("dora", LoraConfig(r=2, lora_alpha=3, target_modules=every[:3], use_dora=True, modules_to_save=saved, layers_to_transform=[1])),
        ("ia3", IA3Config(target_modules=scaled, feedforward_modules=feed_forward, modules_to_save=saved)),
    ]:
        cases.append({**adapted(options, f"{kind}_{name}", family, classifier(False), adapter, inputs), **base_name})
    return cases


def head_file(full, folder: Path) -> None:
    folder.mkdir(parents=True)
    head = {name: tensor.float().contiguous() for name, tensor in full.state_dict().items() if not name.startswith(("encoder.", "wav2vec2_bert."))}
    save_file(head, folder / "head.safetensors")


def batch(seed: int, family: str, width: int) -> dict:
    generator = torch.Generator().manual_seed(seed)
    lengths = [40, 26, 14] if family == WHISPER else [20, 13, 7]
    frames = torch.randn(len(lengths), max(lengths), width, generator=generator)
    mask = torch.arange(max(lengths))[None] < torch.tensor(lengths)[:, None]
    return {"input_features": frames * mask[..., None], "attention_mask": mask.long()}


def of_kind(model, inputs: dict) -> tuple:
    return inputs["input_features"].to(next(model.parameters()).dtype), inputs["attention_mask"]


def alone(encoder, clip: torch.Tensor, run) -> object:
    """Runs Whisper over one clip [frames, values] of any even length: transformers asks for 30 s, unless there are fewer positions."""
    frames, positions = len(clip) // 2, encoder.embed_positions.num_embeddings
    encoder.config.max_source_positions = encoder.embed_positions.num_embeddings = frames
    result = run(clip.T[None])
    encoder.config.max_source_positions = encoder.embed_positions.num_embeddings = positions
    return result


def clips(inputs: dict, features: torch.Tensor) -> list:
    return [row[: mask.sum()] for row, mask in zip(features, inputs["attention_mask"])]


def watched(encoder, run) -> dict:
    """Input of every layer, the output of the last one, and what the encoder returns."""
    seen, hooks = {}, []
    for at, layer in enumerate(encoder.layers):
        def hook(_, inputs, output, at=at):
            seen[f"hidden_states.{at}"] = inputs[0]
            seen["layer_out.last"] = output[0] if isinstance(output, tuple) else output
        hooks.append(layer.register_forward_hook(hook))
    seen["last_hidden_state"] = run().last_hidden_state
    for own in hooks:
        own.remove()
    return {name: tensor.clone() for name, tensor in seen.items()}


def backbone(model, family: str, inputs: dict) -> dict:
    features, mask = of_kind(model, inputs)
    with torch.no_grad():
        if family == WHISPER:
            each = [alone(model, clip, lambda clip: watched(model, lambda: model(clip))) for clip in clips(inputs, features)]
            tensors = {f"mask.{name}": torch.nn.utils.rnn.pad_sequence([one[name][0] for one in each], True) for name in each[0]}
            return {**tensors, "single.last_hidden_state": each[-1]["last_hidden_state"]}
        tensors = {f"nomask.{name}": tensor for name, tensor in watched(model.encoder, lambda: model(features)).items()}
        tensors |= {f"mask.{name}": tensor for name, tensor in watched(model.encoder, lambda: model(features, attention_mask=mask)).items()}
        tensors["single.last_hidden_state"] = model(features[-1:, : mask[-1].sum()]).last_hidden_state
        return tensors


def logits_of(model, family: str, inputs: dict) -> torch.Tensor:
    features, mask = of_kind(model, inputs)
    if family == WHISPER:
        encoder = (model.get_base_model() if hasattr(model, "get_base_model") else model).encoder
        return torch.cat([alone(encoder, clip, lambda clip: model(clip).logits) for clip in clips(inputs, features)])
    return model(features, attention_mask=mask).logits


def classify(model, family: str, inputs: dict) -> dict:
    labels = torch.tensor([0, 3, 4])
    model.zero_grad()
    logits = logits_of(model, family, inputs)
    tensors = {"labels": labels}
    loss = F.cross_entropy(logits, labels)
    loss.backward()
    tensors |= {f"grad.{name}": parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}
    return {**tensors, "mask.logits": logits.detach(), "loss": loss.detach()[None]}


def recogniser(options, name: str, config, encoder, inputs: dict) -> dict:
    config.vocab_size, config.pad_token_id = 6, 0
    torch.manual_seed(options.seed + 1)
    full = transformers.Wav2Vec2BertForCTC(config)
    full.base_model.load_state_dict(encoder.state_dict())
    folder = options.out / "heads" / f"ctc_{name}"
    head_file(full, folder)
    tensors, error = both(full, lambda model: recognise(model, inputs))
    save(folder, tensors)
    what = "CTC head; blank id 0; loss with reduction none, sum and mean, zero_infinity; gradients of the logits and the head"
    return case(f"ctc_{name}", "head", f"heads/ctc_{name}", what, HEAD, error, tensors)


def recognise(model, inputs: dict) -> dict:
    features, mask = of_kind(model, inputs)
    model.zero_grad()
    logits = model(features, attention_mask=mask).logits
    logits.retain_grad()
    frames = mask.sum(-1)
    labels = torch.tensor([[1, 2, 3], [4, 5, -100], [2, 2, -100]])
    counts = (labels >= 0).sum(-1)
    log_probs = logits.log_softmax(-1).transpose(0, 1)
    loss = lambda reduction: F.ctc_loss(log_probs, labels[labels >= 0], frames, counts, blank=0, reduction=reduction, zero_infinity=True)
    mean = loss("mean")
    mean.backward(retain_graph=True)
    longest = int(frames[-1]) + 1
    impossible = torch.full((1, longest), 2)
    last = lambda zero: F.ctc_loss(log_probs[:, -1:], impossible, frames[-1:], torch.tensor([longest]), blank=0, reduction="mean", zero_infinity=zero).detach()[None]
    return {
        "grad.logits": logits.grad, "grad.lm_head.weight": model.lm_head.weight.grad, "grad.lm_head.bias": model.lm_head.bias.grad,
        "logits": logits.detach(), "frame_lengths": frames, "greedy_ids": logits.argmax(-1), "labels": labels,
        "loss.none": loss("none").detach(), "loss.sum": loss("sum").detach()[None], "loss.mean": mean.detach()[None],
        "impossible.labels": impossible, "impossible.loss": last(False), "impossible.loss.zero_infinity": last(True),
    }


def adapted(options, name: str, family: str, full, adapter, inputs: dict) -> dict:
    base = logits_of(full.eval(), family, inputs).detach()
    model = get_peft_model(full, adapter)
    torch.manual_seed(options.seed + 2)
    trained = {own: tensor for own, tensor in model.named_parameters() if tensor.requires_grad}
    for own, tensor in trained.items():
        if "modules_to_save" not in own:
            tensor.data += 0.2 * torch.randn_like(tensor)
    folder = options.out / "peft" / name
    model.save_pretrained(folder / "adapter")
    (folder / "adapter" / "README.md").unlink(missing_ok=True)
    plain = lambda own: own.replace("_vector.default.weight", "_vector").replace(".modules_to_save.default", "").replace(".default", "")

    def run(model) -> dict:
        labels = torch.tensor([0, 3, 4])
        model.zero_grad()
        logits = logits_of(model, family, inputs)
        loss = F.cross_entropy(logits, labels)
        loss.backward()
        tensors = {f"grad.{plain(own)}": tensor.grad for own, tensor in model.named_parameters() if tensor.requires_grad}
        return {**tensors, "labels": labels, "loss": loss.detach()[None], "mask.logits": logits.detach()}

    tensors, error = both(model, run)
    tensors["base.logits"] = base
    save(folder, tensors)
    what = f"{name.split('_')[0]} of peft and a head of classes: logits, loss, all gradients, and the same without the adapter"
    return {**case(name, "peft", f"peft/{name}", what, HEAD, error, tensors), "trainable": sum(tensor.numel() for tensor in trained.values())}


def features(options) -> dict:
    """Frames of a clip as the published extractors make them, without padding to 30 s."""
    rng = numpy.random.default_rng(options.seed)
    tensors = {}
    for length in (720, 2399, 3200):
        time = numpy.arange(length) / 16000
        clip = (0.3 * numpy.sin(2 * numpy.pi * (300 + 2000 * time) * time) + 0.05 * rng.standard_normal(length)).astype("float32")
        clip[: length // 4] *= 1e-4  # more than eight decades of power below the loudest
        tensors[f"samples.{length}"] = torch.from_numpy(clip)
        for bands in (80, 128):
            extractor = transformers.WhisperFeatureExtractor(feature_size=bands)
            made = extractor(clip, sampling_rate=16000, padding="longest", pad_to_multiple_of=320, return_tensors="pt").input_features
            tensors[f"whisper{bands}.{length}"] = made[0].T.contiguous()
        made = transformers.SeamlessM4TFeatureExtractor()(clip, sampling_rate=16000, return_tensors="pt")
        counted = made.attention_mask[0].bool()
        tensors[f"w2v_bert.{length}"] = made.input_features[0][counted].float()
    folder = options.out / "audio"
    folder.mkdir(parents=True)
    save(folder, tensors)
    what = "frames that the encoders read: WhisperFeatureExtractor with padding to 320 samples alone, SeamlessM4TFeatureExtractor's frames that its mask counts"
    return case("input_frames", "audio", "audio", what, {"atol": 2e-3, "rtol": 1e-4}, 0.0, tensors)


if __name__ == "__main__":
    main()
