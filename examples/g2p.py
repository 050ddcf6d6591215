"""Spell English words as phonemes (ARPAbet), with the GRU encoder-decoder of g2p_en.

    pip install --no-deps g2p_en                # the weights; its package is not imported
    python examples/g2p.py vledge recurrent networks
    python examples/g2p.py < words.txt

Needs vledge alone, and gives the phonemes that the package's own NumPy code gives, for all words
at once: the encoder runs them packed, each at its own length, and a word leaves the decoder's
batch when its spelling is complete.
"""

import argparse
import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

import vledge
from vledge import nn

GRAPHEMES = ["<pad>", "<unk>", "</s>", *"abcdefghijklmnopqrstuvwxyz"]
PHONEMES = """<pad> <unk> <s> </s> AA0 AA1 AA2 AE0 AE1 AE2 AH0 AH1 AH2 AO0 AO1 AO2 AW0 AW1 AW2
    AY0 AY1 AY2 B CH D DH EH0 EH1 EH2 ER0 ER1 ER2 EY0 EY1 EY2 F G HH IH0 IH1 IH2 IY0 IY1 IY2 JH K
    L M N NG OW0 OW1 OW2 OY0 OY1 OY2 P R S SH T TH UH0 UH1 UH2 UW UW0 UW1 UW2 V W Y Z ZH""".split()  # noqa: SIM905
START, END = PHONEMES.index("<s>"), PHONEMES.index("</s>")
LONGEST = 20  # phonemes; the package stops there too


class Speller(nn.Module):
    """Letters in, phonemes out; the layers' names are ours, the file's are in `from_npz`."""

    def __init__(self) -> None:
        super().__init__()
        self.letters = nn.Embedding(len(GRAPHEMES), 256)
        self.encoder = nn.GRU(256, 256, batch_first=True)
        self.phonemes = nn.Embedding(len(PHONEMES), 256)
        self.decoder = nn.GRUCell(256, 256)
        self.logits = nn.Linear(256, len(PHONEMES))

    @classmethod
    def from_npz(cls, path: Path) -> "Speller":
        """Read checkpoint20.npz. Its GRUs are torch's: gates r, z, n, the reset after."""
        names = {"letters.weight": "enc_emb", "phonemes.weight": "dec_emb"}
        names |= {"logits.weight": "fc_w", "logits.bias": "fc_b"}
        for kind in ("w_ih", "w_hh", "b_ih", "b_hh"):
            parameter = kind.replace("w_", "weight_").replace("b_", "bias_")
            names |= {f"encoder.{parameter}_l0": f"enc_{kind}"}
            names |= {f"decoder.{parameter}": f"dec_{kind}"}
        weights = vledge.load_weights(path)
        speller = cls()
        speller.load_state_dict({name: weights[stored] for name, stored in names.items()})
        return speller

    def forward(self, words: Sequence[str]) -> list[list[str]]:
        """The phonemes of each word; letters other than a to z are read as unknown."""
        unknown = GRAPHEMES.index("<unk>")
        index = {letter: i for i, letter in enumerate(GRAPHEMES)}
        letters = [
            np.array([*(index.get(letter, unknown) for letter in word), index["</s>"]])
            for word in words
        ]
        packed = vledge.pack_sequence([self.letters(ids) for ids in letters], enforce_sorted=False)
        _, hidden = self.encoder(packed)

        spelled: list[list[str]] = [[] for _ in words]
        unfinished = np.arange(len(words))
        last = np.full(len(words), START)
        state = hidden[0]  # [words, 256]
        for _ in range(LONGEST):
            state = self.decoder(self.phonemes(last), state)
            last = self.logits(state).argmax(axis=1)
            going_on = last != END
            unfinished, last, state = unfinished[going_on], last[going_on], state[going_on]
            if not len(unfinished):
                break
            for word, phoneme in zip(unfinished, last, strict=True):
                spelled[word].append(PHONEMES[phoneme])
        return spelled


def packaged_weights() -> Path:
    """checkpoint20.npz of the installed g2p_en package, which is not imported."""
    package = importlib.util.find_spec("g2p_en")
    if package is None or not package.submodule_search_locations:
        sys.exit("no model: pip install --no-deps g2p_en, or give --model checkpoint20.npz")
    return Path(package.submodule_search_locations[0]) / "checkpoint20.npz"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("words", nargs="*", help="default: those on standard input")
    parser.add_argument("--model", type=Path, help="checkpoint20.npz (default: the package's)")
    arguments = parser.parse_args()
    words = [word.lower() for word in arguments.words or sys.stdin.read().split()]
    if not words:
        parser.error("no words")
    speller = Speller.from_npz(arguments.model or packaged_weights())
    for word, phonemes in zip(words, speller(words), strict=True):
        print(word, " ".join(phonemes), sep="\t")


if __name__ == "__main__":
    main()
