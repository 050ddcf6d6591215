#!/bin/sh
# An ONNX user with a microphone: Silero's voice detector out of its package, a recording through the pipe as
# arecord would fill it. The environment is bare: vledge's wheel and what reads ONNX files.
#
# usage: tests/paths/onnx_user.sh PYTHON WHEEL RECORDING.wav     16,000 samples a second, 16 bits, mono
set -eu
python=$(cd "$(dirname "$1")" && pwd)/$(basename "$1")
wheel=$(cd "$(dirname "$2")" && pwd)/$(basename "$2")
recording=$(cd "$(dirname "$3")" && pwd)/$(basename "$3")
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
say() { printf '\n== %s\n' "$*"; }
cd "$place"

say "install"
"$python" -m venv env
env/bin/python -m pip install --quiet "${wheel}[onnx]"
if env/bin/python -c "import onnxruntime" 2>/dev/null; then
    echo "there is an onnxruntime: this would prove nothing" >&2
    exit 1
fi

say "the model, out of its package"
env/bin/python -m pip download --quiet --no-deps silero-vad==6.2.3
env/bin/python -m zipfile -e silero_vad-6.2.3-*.whl package
cp package/silero_vad/data/silero_vad.onnx .

say "what is it?"
env/bin/vledge inspect silero_vad.onnx | head -12

# a WAV file without its header is what arecord -t raw writes
microphone() { tail -c +45 "$recording"; }

say "listen"
microphone | env/bin/vledge stream silero_vad.onnx --format int16 --set sr=16000 --hop 512 --context 64 >speech.csv
head -c 64000 /dev/zero |
    env/bin/vledge stream silero_vad.onnx --format int16 --set sr=16000 --hop 512 --context 64 >silence.csv
env/bin/vledge stream silero_vad.onnx --input "$recording" --set sr=16000 --hop 512 --context 64 >file.csv

env/bin/python - "$recording" <<'END'
import sys
import wave

import numpy as np

import vledge

with wave.open(sys.argv[1]) as file:
    assert (file.getframerate(), file.getsampwidth(), file.getnchannels()) == (16000, 2, 1)
    samples = np.frombuffer(file.readframes(file.getnframes()), "<i2") / np.float32(32768)
speech, silence, of_file = (np.loadtxt(f"{name}.csv") for name in ("speech", "silence", "file"))
assert len(speech) == len(samples) // 512, (len(speech), len(samples))
assert np.array_equal(speech, of_file), "a WAV file and its samples in a pipe differ"

# as Silero's own wrapper calls the model: 64 samples of before, 512 new ones, the state by hand
session = vledge.InferenceSession("silero_vad.onnx")
state, context, by_hand = np.zeros((2, 1, 128), np.float32), np.zeros(64, np.float32), []
for frame in samples[: len(speech) * 512].reshape(-1, 512):
    window = np.concatenate([context, frame])[None]
    chance, state = session.run(None, {"input": window, "state": state, "sr": np.array(16000)})
    by_hand.append(chance.item())
    context = frame[-64:]
error = np.abs(speech - by_hand).max()
heard = (speech > 0.5).mean()
print(f"{len(speech)} frames, speech in {heard:.0%}; in silence at most {silence.max():.3f}")
print(f"at most {error:.1e} from frames put together by hand")
assert error < 1e-5
assert heard > 0.5, "nothing was heard"
assert silence.max() < 0.5, "silence was taken for speech"
END
