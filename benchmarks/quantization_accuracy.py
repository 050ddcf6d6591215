"""What small weights cost in accuracy, on trained networks: ``python -m benchmarks.quantization
--accuracy``.

The shipped JapaneseVowels GRU, g2p_en's encoder and decoder, and Silero's voice activity detector,
the last two out of packages that the registry has; and their recurrent layers by themselves, on
what they see, beside onnxruntime's int8. Recurrent layers only are small, and all layers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

import vledge
from benchmarks.quantization import Shape, onnxruntimes
from vledge import nn
from vledge.shipped import japanese_vowels
from vledge.small_matrix import FORMS

RATE = 16_000
NOISE_SECONDS = 60


def accuracy() -> None:
    """The tables."""
    vowels()
    print()
    spelling()
    print()
    silero()
    print()
    layers()


def ways(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """A model's small forms, by what is small."""
    recurrent = [name for name, one in model.named_modules() if _is_recurrent(one)]
    for storage in FORMS:
        yield storage, vledge.quantize(model, storage, layers=recurrent)
        yield f"{storage}, all layers", vledge.quantize(model, storage)


def _is_recurrent(module: nn.Module) -> bool:
    return any(name.startswith("weight_hh") for name in module.state_dict())


def vowels() -> None:
    """Series that are recognised."""
    model, test = japanese_vowels.load(), japanese_vowels.load_test_set()
    print("JapaneseVowels, 370 series | right | as float64's | rms error of logits | largest")
    print("---|---|---|---|---")
    for name, small in [("float32", model), *ways(model)]:
        logits = small(test.packed())
        error = logits - test.logits_float64
        same = int((logits.argmax(1) == test.logits_float64.argmax(1)).sum())
        print(
            name,
            f"{(logits.argmax(1) == test.labels).mean():.2%}",
            f"{same} of 370",
            f"{np.sqrt(np.mean(error**2)):.1e}",
            f"{np.abs(error).max():.1e}",
            sep=" | ",
        )


def spelling() -> None:
    """Words that are spelled the same."""
    speller, words = _speller()
    spelled = speller(words)
    print(f"g2p_en, {len(words):,} English words | spelled as by float32")
    print("---|---")
    for name, small in ways(speller):
        own = small(words)
        same = sum(one == other for one, other in zip(own, spelled, strict=True))
        print(name, f"{same / len(words):.2%}", sep=" | ", flush=True)


def silero() -> None:
    """Probabilities of speech, frame by frame."""
    model = _detector()
    speech, noise = _speech(), _noise()
    print(
        f"Silero, {len(speech) // RATE} s of speech and {len(noise) // RATE} s of noise | rms "
        "difference of probabilities | largest | frames on the other side of a half"
    )
    print("---|---|---|---")
    exact = np.concatenate([_probabilities(model, one) for one in (speech, noise)])
    some = _Detection(model)
    small_ways = list(ways(model))
    calibrated = vledge.quantize(
        some, "int8", layers="model.lstm_cell", calibrate=[speech[: len(speech) // 2]]
    )
    small_ways.append(("int8, calibrated on half of the speech", calibrated.model))
    for name, small in small_ways:
        own = np.concatenate([_probabilities(small, one) for one in (speech, noise)])
        error = own - exact
        print(
            name,
            f"{np.sqrt(np.mean(error**2)):.1e}",
            f"{np.abs(error).max():.1e}",
            f"{int(((own > 0.5) != (exact > 0.5)).sum())} of {len(exact)}",
            sep=" | ",
            flush=True,
        )


def layers() -> None:
    """Trained LSTMs on what they see, beside onnxruntime's int8 in its better setting."""
    print("trained layer | way | rms error | of onnxruntime's better int8 | largest")
    print("---|---|---|---|---")
    for name, weights, x in (_detectors_layer(),):
        shape = Shape("LSTM", x.shape[2], weights["weight_hh_l0"].shape[1], 1, len(x))
        wide = nn.LSTM.from_weights(weights, dtype=np.float64)
        exact = wide(x.astype(np.float64))[0]
        layer = nn.LSTM.from_weights(weights)
        results = {s: vledge.quantize(layer, s)(x)[0] for s in FORMS}
        part = [x[:600]]
        results["int8, calibrated"] = vledge.quantize(layer, "int8", calibrate=part)(x)[0]
        theirs = {way.name: way.run() for way in onnxruntimes(shape, weights, x)}
        better = min(_rms(y - exact) for y in theirs.values())
        for way, y in (results | theirs).items():
            rms, largest = _rms(y - exact), np.abs(y - exact).max()
            print(name, way, f"{rms:.1e}", f"{rms / better:.3f}", f"{largest:.1e}", sep=" | ")


def _rms(error: np.ndarray) -> float:
    return float(np.sqrt(np.mean(error**2)))


def _speech() -> np.ndarray:
    from tests.real_models.speech import spoken_minute

    return spoken_minute(RATE)


def _noise() -> np.ndarray:
    """White, pink and humming, from quiet to loud."""
    rng = np.random.default_rng(0)
    count = NOISE_SECONDS * RATE
    white = rng.standard_normal(count)
    spectrum = np.fft.rfft(rng.standard_normal(count))
    pink = np.fft.irfft(spectrum / np.sqrt(np.arange(1, len(spectrum) + 1)), count)
    hum = np.sin(np.arange(count) * (2 * np.pi * 50 / RATE))
    loud = np.repeat(10.0 ** np.linspace(-3.5, -0.8, NOISE_SECONDS), RATE)
    kind = np.arange(count) // (5 * RATE) % 3
    mixed = np.choose(kind, [white, pink / np.abs(pink).max() * 3, hum + 0.1 * white])
    return np.clip(mixed * loud, -1, 1).astype(np.float32)


def _detector() -> Any:
    from tests.real_models.test_silero_weights import SileroVAD, jit_weights

    model = SileroVAD(RATE)
    model.load_state_dict(jit_weights(RATE))
    return model


def _frames(samples: np.ndarray) -> np.ndarray:
    """Each frame behind the last eighth of the one before."""
    size = 512
    whole = samples[: len(samples) // size * size].reshape(-1, size)
    before = np.concatenate([np.zeros((1, size // 8), np.float32), whole[:-1, -size // 8 :]])
    return np.concatenate([before, whole], 1)


class _Detection(nn.Module):
    """The detector over samples."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, samples: np.ndarray) -> np.ndarray:
        return _probabilities(self.model, samples)


def _probabilities(model: Callable[..., Any], samples: np.ndarray) -> np.ndarray:
    state, found = None, []
    for frame in _frames(samples):
        probability, state = model(frame[None], state)
        found.append(probability[0])
    return np.array(found)


def _detectors_layer() -> tuple[str, dict[str, np.ndarray], np.ndarray]:
    """Silero's LSTM, and the features of the speech."""
    model = _detector()
    cell = model.lstm_cell
    seen = []

    class Watched(nn.Module):
        def forward(self, x: np.ndarray, state: Any) -> Any:
            seen.append(x[0])
            return cell(x, state)

    watched = model.with_children({**dict(model.named_children()), "lstm_cell": Watched()})
    _probabilities(watched, _speech())
    weights = {f"{name}_l0": array for name, array in cell.state_dict().items()}
    return "Silero's LSTM, speech", weights, np.stack(seen)[:, None]


def _speller() -> tuple[Any, list[str]]:
    """examples/g2p.py's model with its weights, and words from Python's documentation."""
    import importlib.util
    import re
    from pydoc_data.topics import topics

    from tests.registry import registry_file

    path = Path(__file__).parents[1] / "examples" / "g2p.py"
    spec = importlib.util.spec_from_file_location("example_g2p", path)
    assert spec is not None
    assert spec.loader is not None
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    weights = registry_file("g2p_en==2.1.0", "g2p_en/checkpoint20.npz")
    words = sorted(set(re.findall(r"\b[a-z]{3,14}\b", " ".join(topics.values()))))
    return example.Speller.from_npz(weights), words[:: max(1, len(words) // 1000)][:1000]
