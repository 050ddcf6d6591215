"""Write the files of this folder: a dynamically quantised net in three forms, and what it answers.

Run by hand with torch: ``python tests/golden/dynamic/make.py``.
"""

import warnings
from pathlib import Path

import numpy as np
import torch

HERE = Path(__file__).parent


class Net(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = torch.nn.LSTM(3, 4, 2, bidirectional=True)
        self.gru = torch.nn.GRU(8, 5)
        self.out = torch.nn.Linear(5, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(self.gru(self.lstm(x)[0])[0])


def main() -> None:
    warnings.simplefilter("ignore")
    torch.manual_seed(0)
    torch.backends.quantized.engine = "x86"
    kinds = {torch.nn.LSTM, torch.nn.GRU, torch.nn.Linear}
    net = torch.ao.quantization.quantize_dynamic(Net().eval(), kinds)
    torch.save(net.state_dict(), HERE / "state.pt")
    torch.save(net, HERE / "module.pt")
    torch.jit.script(net).save(str(HERE / "scripted.pt"))
    x = torch.randn(7, 2, 3)
    np.savez(HERE / "expected.npz", x=x.numpy(), y=net(x).detach().numpy())


if __name__ == "__main__":
    main()
