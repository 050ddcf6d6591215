"""Record what torch computes with the shipped classifier, as the reference of ``vledge validate``.

    pip install torch==2.13.0 onnx
    python -m models.japanese_vowels.record   # in the repository's root

Writes, beside this script, ``classifier.safetensors``, the whole model out of model.pt, and
``classifier.reference.safetensors``: torch's results for the first two test series of each speaker
and for four more sizes of batch and length. ``vledge validate`` repeats them without torch.
"""

from pathlib import Path

import numpy as np
import torch

import vledge
from models.japanese_vowels.train import SPEAKERS, SpeakerClassifier

HERE = Path(__file__).resolve().parent
SERIES_OF_EACH = 2


def main() -> None:
    torch.set_num_threads(1)
    network = SpeakerClassifier()
    network.load_state_dict(torch.load(HERE / "model.pt", weights_only=True))
    with np.load(HERE / "test.npz") as test:
        series = np.split(test["series"], np.cumsum(test["lengths"])[:-1])
        chosen = [np.flatnonzero(test["labels"] == s)[:SERIES_OF_EACH] for s in range(SPEAKERS)]
    tensors = [torch.from_numpy(series[place]) for place in np.concatenate(chosen)]
    packed = torch.nn.utils.rnn.pack_sequence(tensors, enforce_sorted=False)
    path = HERE / "classifier.safetensors"
    report = vledge.export(network, (packed,), path, output_names=["logits"])
    for written in (path, Path(report.reference)):
        print(f"{written.name}: {written.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
