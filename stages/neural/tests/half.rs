//! The encoder's own ways of computing in 16 bits, held against the plain way in 16 bits and in 64.
#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

#[expect(dead_code, reason = "its batch is for other tests")]
mod small;

use neural::checkpoint::{EncoderConfig, Weights, weights};
use neural::models::encoder::{Encoder, Input, Point};
use neural::nn::pass::{Mode, Pass};
use neural::peft::Adapters;
use neural_spec::ConvNorm;
use small::{shape, take_turn};
use tch::{Device, Kind, Tensor};

/// (B, T, C), as the encoder computes it in the precision of its weights.
fn convolutions(config: &EncoderConfig, weights: &Weights, audio: &Tensor) -> Tensor {
    let encoder = Encoder::new(config, weights, &Adapters::new()).unwrap();
    let mut found = None;
    let mut watch = |point: Point, tensor: &Tensor| {
        if matches!(point, Point::ConvFeatures) {
            found = Some(tensor.shallow_clone());
        }
    };
    let input = Input { audio, num_samples: None, masked: None };
    tch::no_grad(|| encoder.forward(input, &Pass::begin(Mode::Eval), &mut watch)).unwrap();
    found.unwrap()
}

/// Plain steps: convolution, norm over its output, activation.
fn step_by_step(config: &EncoderConfig, weights: &Weights, audio: &Tensor) -> Tensor {
    let mut x = audio.unsqueeze(1); // (B, 1, S)
    for (at, &stride) in config.conv_stride.iter().enumerate() {
        let name = format!("feature_extractor.conv_layers.{at}");
        x = x.conv1d(&weights[&format!("{name}.conv.weight")], None::<Tensor>, [stride], [0], [1], 1);
        if at == 0 {
            let [gain, shift] = ["weight", "bias"].map(|part| &weights[&format!("{name}.layer_norm.{part}")]);
            x = x.group_norm(x.size()[1], Some(gain), Some(shift), 1e-5, false);
        }
        x = x.gelu("none");
    }
    x.transpose(1, 2)
}

fn in_kind(tensors: &Weights, kind: Kind) -> Weights {
    tensors.iter().map(|(name, tensor)| (name.clone(), tensor.to_kind(kind))).collect()
}

/// Root mean square of a difference, as a share of what it should be.
fn error(found: &Tensor, expected: &Tensor) -> f64 {
    let rms = |tensor: Tensor| tensor.square().mean(Kind::Double).sqrt().double_value(&[]);
    rms(found.to_kind(Kind::Double) - expected) / rms(expected.shallow_clone())
}

/// The mean and the variance of a channel go into weights of 8 bits. Where neighbouring samples are alike, these are large numbers that
/// nearly cancel, so that a hum loses up to three times as much as by a norm over the output, and speech next to nothing.
#[test]
fn a_norm_in_the_weights_loses_little_in_16_bits() {
    let _turn = take_turn();
    let config = EncoderConfig::of_shape(&shape(ConvNorm::Group, 0.0));
    tch::manual_seed(5);
    let time = Tensor::arange(4000, (Kind::Float, Device::Cpu));
    let noise = |level: f64| Tensor::randn([4000], (Kind::Float, Device::Cpu)) * level;
    for (name, audio, times) in [
        ("noise", noise(1.0), 1.5),
        ("two tones", (&time * 0.05).sin() + (&time * 0.31).sin() * 0.5 + noise(0.1), 2.0),
        ("a hum", (&time * 0.02).sin() * 1.4 + noise(0.01), 4.0),
        ("noise far from zero", noise(0.5) + 2.0, 3.0),
    ] {
        let audio = audio.unsqueeze(0).to_kind(Kind::BFloat16);
        for seed in 0..3 {
            let half = in_kind(&weights::random(&config, seed).unwrap(), Kind::BFloat16);
            let exact = step_by_step(&config, &in_kind(&half, Kind::Double), &audio.to_kind(Kind::Double));
            let folded = convolutions(&config, &half, &audio);
            assert_eq!((folded.kind(), folded.size()), (Kind::BFloat16, exact.size()));
            let (folded, plain) = (error(&folded, &exact), error(&step_by_step(&config, &half, &audio), &exact));
            assert!(folded <= times * plain && folded <= 0.02, "{name}: off by {folded:e}, over the output by {plain:e}");
        }
    }
}
