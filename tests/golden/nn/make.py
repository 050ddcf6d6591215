"""Make layers.npz: small torch layers with their inputs and outputs, for machines without torch.

python -m tests.golden.nn.make        (torch 2.13.0)
"""

from pathlib import Path

import numpy as np

CASES = [
    # kind, input_size, hidden_size, options
    ("RNN", 3, 5, {}),
    ("RNN", 4, 9, {"nonlinearity": "relu", "num_layers": 2, "bidirectional": True}),
    ("GRU", 3, 7, {}),
    ("GRU", 4, 17, {"num_layers": 2, "bidirectional": True, "batch_first": True}),
    ("GRU", 2, 3, {"bias": False}),
    ("LSTM", 3, 7, {}),
    ("LSTM", 4, 17, {"num_layers": 2, "bidirectional": True, "batch_first": True}),
    ("LSTM", 4, 6, {"proj_size": 2, "num_layers": 2, "bidirectional": True}),
    ("LSTM", 2, 33, {"bias": False}),
]
LENGTHS = [3, 6, 1, 6]


def main() -> None:
    import torch
    from torch.nn.utils.rnn import pack_padded_sequence

    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    arrays: dict[str, np.ndarray] = {}
    for i, (kind, input_size, hidden_size, options) in enumerate(CASES):
        torch.manual_seed(i)
        layer = getattr(torch.nn, kind)(input_size, hidden_size, **options).eval()
        axes = (4, 6) if layer.batch_first else (6, 4)
        x = torch.randn(*axes, input_size)
        count = layer.num_layers * (2 if layer.bidirectional else 1)
        h_0 = torch.rand(count, 4, layer.proj_size or hidden_size)
        c_0 = torch.rand(count, 4, hidden_size)
        hx = (h_0, c_0) if kind == "LSTM" else h_0
        padded, state = layer(x, hx)
        packed = pack_padded_sequence(x, torch.tensor(LENGTHS), layer.batch_first, False)
        packed_output, packed_state = layer(packed, hx)
        found = {"x": x, "h_0": h_0, "c_0": c_0, "padded": padded, "packed": packed_output.data}
        for name, value in (("state", state), ("packed_state", packed_state)):
            parts = value if kind == "LSTM" else (value,)
            found.update({f"{name}{n}": part for n, part in enumerate(parts)})
        found.update({f"weights.{n}": t for n, t in layer.state_dict().items()})
        arrays.update({f"{i}.{name}": tensor.numpy() for name, tensor in found.items()})
    np.savez_compressed(Path(__file__).with_name("layers.npz"), **arrays)


if __name__ == "__main__":
    main()
