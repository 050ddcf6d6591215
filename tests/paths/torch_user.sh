#!/bin/sh
# A torch user with a Pi: train a tiny model, export it, copy two files, validate and stream them where there is
# no torch. The Pi is an environment of its own with vledge's wheel and what that brings, nothing else.
#
# usage: tests/paths/torch_user.sh PYTHON WHEEL    PYTHON: the PC's, which has torch, onnx and vledge
set -eu
pc=$(cd "$(dirname "$1")" && pwd)/$(basename "$1")
wheel=$(cd "$(dirname "$2")" && pwd)/$(basename "$2")
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
say() { printf '\n== %s\n' "$*"; }
mkdir "$place/pc" "$place/pi"

say "on the PC: train, export"
cd "$place/pc"
cat >train.py <<'END'
import numpy as np
import torch

import vledge


class Alarm(torch.nn.Module):
    """Three sensors: has their sum so far been above zero?"""

    def __init__(self):
        super().__init__()
        self.rnn = torch.nn.GRU(3, 16, batch_first=True)
        self.out = torch.nn.Linear(16, 1)

    def forward(self, sensors):
        return torch.sigmoid(self.out(self.rnn(sensors)[0]))


def draw(batch):
    sensors = torch.randn(batch, 30, 3)
    return sensors, (sensors.sum(2, keepdim=True).cumsum(1) > 0).float()


torch.manual_seed(0)
torch.set_num_threads(1)  # so small a network is trained no faster by more
network = Alarm()
optimizer = torch.optim.Adam(network.parameters(), 0.01)
for _ in range(200):
    sensors, above = draw(32)
    loss = torch.nn.functional.binary_cross_entropy(network(sensors), above)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
sensors, above = draw(200)
right = ((network(sensors) > 0.5) == (above > 0.5)).float().mean()
print(f"right at {right:.1%} of the steps")
assert right > 0.9, "it has not learnt"

report = vledge.export(network, sensors[:2], "alarm.safetensors", output_names=["alarm"])
assert report.passed

# a day of the sensors, and what torch says to it: to compare with, later
day = torch.randn(1, 500, 3)
np.savetxt("sensors.csv", day[0].numpy(), "%.9g", ",")
np.savetxt("torch.csv", network(day)[0].detach().numpy(), "%.9g", ",")
END
"$pc" -W ignore train.py

say "copy"
cp alarm.safetensors alarm.reference.safetensors sensors.csv torch.csv "$place/pi" # scp

say "on the Pi: install"
cd "$place/pi"
"$pc" -m venv board
board/bin/python -m pip install --quiet "$wheel"
for absent in torch onnx onnxruntime google.protobuf; do
    if board/bin/python -c "import $absent" 2>/dev/null; then
        echo "the Pi has $absent: this would prove nothing" >&2
        exit 1
    fi
done

say "on the Pi: is it the model that was trained?"
board/bin/vledge validate alarm.safetensors | tee validated.txt
grep -qx passed validated.txt

say "on the Pi: live"
board/bin/vledge stream alarm.safetensors --input sensors.csv --state alarm.state.safetensors >streamed.csv
board/bin/python - <<'END'
import numpy as np

streamed, torchs = (np.loadtxt(name, delimiter=",") for name in ("streamed.csv", "torch.csv"))
assert streamed.shape == torchs.shape == (500,), (streamed.shape, torchs.shape)
error = np.abs(streamed - torchs).max()
print(f"500 steps, frame by frame: at most {error:.1e} from what torch says to the whole day")
assert error < 1e-5
END
test -s alarm.state.safetensors
