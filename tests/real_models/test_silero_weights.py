"""Silero's voice activity detector built of vledge.nn's layers, with weights out of two files.

The safetensors file runs against the same network in torch, the TorchScript archive against
torch.jit itself. Two files of one network need not hold the same weights: the archive holds those
of silero_vad.onnx, the safetensors file others.
"""

import numpy as np
import pytest

import vledge
from tests.peers import peer
from tests.real_models.speech import spoken_minute
from tests.registry import registry_file
from vledge import nn

torch = peer("torch")

PACKAGE = "silero-vad==6.2.3"
FRAME = {16_000: 512, 8_000: 256}  # samples; the context in front of a frame is an eighth
JIT_PART = {16_000: "_model.", 8_000: "_model_8k."}


class SileroVAD(nn.Module):
    """One frame and its context [batch, 9/8 frame] to the probability of speech [batch]."""

    def __init__(self, rate: int):
        super().__init__()
        window = FRAME[rate] // 2
        self.stft_conv = nn.Conv1d(1, window + 2, window, stride=window // 2, bias=False)
        self.conv1 = nn.Conv1d(window // 2 + 1, 128, 3, padding=1)
        self.conv2 = nn.Conv1d(128, 64, 3, stride=2, padding=1)
        self.conv3 = nn.Conv1d(64, 64, 3, stride=2, padding=1)
        self.conv4 = nn.Conv1d(64, 128, 3, padding=1)
        self.lstm_cell = nn.LSTMCell(128, 128)
        self.final_conv = nn.Conv1d(128, 1, 1)
        self.relu = nn.ReLU()
        self.sigmoid = nn.Sigmoid()

    def forward(self, samples, state=None):
        padding = self.stft_conv.kernel_size[0] // 4
        reflected = np.pad(samples, ((0, 0), (0, padding)), mode="reflect")
        real, imaginary = np.split(self.stft_conv(reflected[:, None]), 2, axis=1)
        features = np.sqrt(real**2 + imaginary**2)
        for convolution in (self.conv1, self.conv2, self.conv3, self.conv4):
            features = self.relu(convolution(features))
        h, c = self.lstm_cell(features[:, :, 0], state)
        probability = self.sigmoid(self.final_conv(self.relu(h)[:, :, None]))
        return probability[:, 0, 0], (h, c)


class SileroVADInTorch(torch.nn.Module):
    """The same in torch, as silero_vad's tinygrad_model.py writes it."""

    def __init__(self):
        super().__init__()
        self.stft_conv = torch.nn.Conv1d(1, 258, 256, stride=128, bias=False)
        self.conv1 = torch.nn.Conv1d(129, 128, 3, padding=1)
        self.conv2 = torch.nn.Conv1d(128, 64, 3, stride=2, padding=1)
        self.conv3 = torch.nn.Conv1d(64, 64, 3, stride=2, padding=1)
        self.conv4 = torch.nn.Conv1d(64, 128, 3, padding=1)
        self.lstm_cell = torch.nn.LSTMCell(128, 128)
        self.final_conv = torch.nn.Conv1d(128, 1, 1)

    def forward(self, samples, state=None):
        x = torch.nn.functional.pad(samples[:, None], (0, 64), mode="reflect")
        x = self.stft_conv(x)
        x = (x[:, :129] ** 2 + x[:, 129:] ** 2).sqrt()
        for convolution in (self.conv1, self.conv2, self.conv3, self.conv4):
            x = convolution(x).relu()
        h, c = self.lstm_cell(x.squeeze(-1), state)
        return self.final_conv(h.relu().unsqueeze(-1)).sigmoid()[:, 0, 0], (h, c)


def silero_file(name: str):
    return registry_file(PACKAGE, f"silero_vad/data/{name}")


def jit_weights(rate: int) -> dict[str, np.ndarray]:
    """The weights of one rate's network in silero_vad.jit, under SileroVAD's names."""
    part = JIT_PART[rate]
    names = {f"encoder.{i}.reparam_conv": f"conv{i + 1}" for i in range(4)}
    names |= {"decoder.rnn": "lstm_cell", "decoder.decoder.2": "final_conv"}
    weights = {}
    for name, array in vledge.load_weights(silero_file("silero_vad.jit")).items():
        if not name.startswith(part):
            continue
        if name == f"{part}stft.forward_basis_buffer":
            weights["stft_conv.weight"] = array
        else:
            layer, _, parameter = name.removeprefix(part).rpartition(".")
            weights[f"{names[layer]}.{parameter}"] = array
    return weights


def frames_with_context(rate: int, batch: int) -> np.ndarray:
    """A minute of speech as ``batch`` streams of frames: [frames, batch, 9/8 frame]."""
    frame = FRAME[rate]
    context = frame // 8
    speech = spoken_minute(rate)
    streams = speech[: len(speech) // (batch * frame) * batch * frame].reshape(batch, -1)
    padded = np.pad(streams, ((0, 0), (context, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, frame + context, axis=1)
    return np.ascontiguousarray(windows[:, ::frame].swapaxes(0, 1))


def test_safetensors_weights_match_torch():
    path = silero_file("silero_vad_16k.safetensors")
    weights = vledge.load_weights(path)
    ours, twin = SileroVAD(16_000), SileroVADInTorch()
    ours.load_state_dict(weights)
    twin.load_state_dict({name: torch.from_numpy(np.array(a)) for name, a in weights.items()})
    frames = frames_with_context(16_000, batch=3)
    assert frames.shape[0] * frames.shape[1] * 512 > 59 * 16_000
    state = twin_state = None
    error = 0.0
    with torch.inference_mode():
        for frame in frames:
            probability, state = ours(frame, state)
            expected, twin_state = twin(torch.from_numpy(frame), twin_state)
            error = max(error, float(np.abs(probability - expected.numpy()).max()))
    assert error < 1e-5


@pytest.mark.parametrize("rate", [16_000, 8_000])
def test_torchscript_weights_match_torch_jit(rate):
    """torch runs the archive itself; it keeps state and context inside."""
    ours = SileroVAD(rate)
    ours.load_state_dict(jit_weights(rate))
    scripted = torch.jit.load(str(silero_file("silero_vad.jit"))).eval()
    frames = frames_with_context(rate, batch=2)
    context = FRAME[rate] // 8
    state = None
    error = 0.0
    spoken = 0
    with torch.inference_mode():
        for frame in frames:
            probability, state = ours(frame, state)
            expected = scripted(torch.from_numpy(frame[:, context:]), rate).numpy()[:, 0]
            error = max(error, float(np.abs(probability - expected).max()))
            spoken += int((expected > 0.5).sum())
    assert error < 1e-5
    assert 0.3 < spoken / frames[..., 0].size < 0.95, "the test's speech should sound like speech"


def test_the_files_hold_different_weights():
    """One network, trained twice: comparing across files would look like an error of ours."""
    tensors = vledge.load_weights(silero_file("silero_vad_16k.safetensors"))
    scripted = jit_weights(16_000)
    assert tensors.keys() == scripted.keys()
    assert not np.allclose(tensors["conv1.weight"], scripted["conv1.weight"], atol=1e-3)
