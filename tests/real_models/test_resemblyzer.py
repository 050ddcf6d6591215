"""Resemblyzer's speaker encoder (3-layer LSTM, Linear, ReLU) against the same network in torch.

Its checkpoint is of torch's legacy layout, with an optimiser's state beside the weights.
"""

import numpy as np
import pytest

import vledge
from tests.peers import peer
from tests.real_models.speech import RECORDINGS, read_recording
from tests.registry import registry_file

torch = peer("torch")


@pytest.fixture(scope="module")
def checkpoint():
    return registry_file("Resemblyzer==0.1.4", "resemblyzer/pretrained.pt")


@pytest.fixture(scope="module")
def speaker(example):
    return example("speaker_embedding")


@pytest.fixture(scope="module")
def encoder(speaker, checkpoint):
    return speaker.SpeakerEncoder.from_checkpoint(checkpoint)


@pytest.fixture(scope="module")
def twin(checkpoint):
    """The network as the package defines it, in torch."""

    class Encoder(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.lstm = torch.nn.LSTM(40, 256, 3, batch_first=True)
            self.linear = torch.nn.Linear(256, 256)

        def forward(self, mels):
            _, (hidden, _) = self.lstm(mels)
            raw = torch.relu(self.linear(hidden[-1]))
            return raw / torch.norm(raw, dim=1, keepdim=True)

    network = Encoder()
    state = torch.load(checkpoint, map_location="cpu", weights_only=True)["model_state"]
    report = network.load_state_dict(state, strict=False)
    assert sorted(report.unexpected_keys) == ["similarity_bias", "similarity_weight"]
    assert not report.missing_keys
    return network.eval()


@pytest.fixture(scope="module")
def mels(speaker):
    """Mel frames of the two recordings: a list of [frames, 40]."""
    return [speaker.mel_spectrogram(read_recording(path)) for path in RECORDINGS]


def test_weights_are_found_without_a_key(checkpoint):
    """The optimiser's state is no candidate for the weights."""
    named = vledge.load_weights(checkpoint, key="model_state")
    found = vledge.load_weights(checkpoint)
    assert named.keys() == found.keys()
    expected = torch.load(checkpoint, map_location="cpu", weights_only=True)["model_state"]
    assert named.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(named[name], array.numpy())
        np.testing.assert_array_equal(found[name], array.numpy())


def test_clips_of_the_package_s_length_match_torch(encoder, twin, mels):
    clips = np.stack([mel[start : start + 160] for mel in mels for start in range(0, 400, 77)])
    with torch.inference_mode():
        expected = twin(torch.from_numpy(clips)).numpy()
    np.testing.assert_allclose(encoder(clips), expected, rtol=0, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(expected, axis=1), 1, rtol=1e-5)


def test_packed_clips_match_torch_and_each_clip_alone(encoder, twin, mels):
    lengths = [160, 7, 93, 1, 93, 160, 240, 31]
    clips = [mels[i % 2][20 * i : 20 * i + length] for i, length in enumerate(lengths)]
    embeddings = encoder(vledge.pack_sequence(clips, enforce_sorted=False))
    with torch.inference_mode():
        packed = torch.nn.utils.rnn.pack_sequence(
            [torch.from_numpy(clip) for clip in clips], enforce_sorted=False
        )
        expected = twin(packed).numpy()
    np.testing.assert_allclose(embeddings, expected, rtol=0, atol=1e-6)
    for clip, embedding in zip(clips, embeddings, strict=True):
        np.testing.assert_allclose(encoder(clip[None])[0], embedding, rtol=0, atol=1e-6)


def test_example_tells_the_two_voices_apart(speaker, encoder):
    halves = [half for path in RECORDINGS for half in np.array_split(speaker.read_wav(path), 2)]
    embeddings = np.stack([speaker.embed(encoder, half) for half in halves])
    cosines = embeddings @ embeddings.T
    same_voice = min(cosines[0, 1], cosines[2, 3])
    other_voice = cosines[:2, 2:].max()
    assert same_voice > other_voice + 0.1, cosines


def test_example_runs_from_the_command_line(run_example, checkpoint):
    lines = run_example("speaker_embedding", "--model", checkpoint)
    assert [line.split("  ")[0] for line in lines] == [
        f"{name}, {half} half" for name in ("station", "weather") for half in ("1st", "2nd")
    ]
