"""vledge.export of modules that something wraps, or whose weights are functions of parameters."""

import numpy as np
import pytest

import vledge
from tests.peers import peer
from vledge.integrations.torch_reference import recorded_layer
from vledge.validation import validate
from vledge.validation.running.model_file import read_any_model

torch = peer("torch")
peer("onnx")
norms = peer("torch.nn.utils.parametrizations")
prune = peer("torch.nn.utils.prune")


class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn = torch.nn.LSTM(3, 4)
        self.module = torch.nn.Linear(4, 4)  # a name that wrappers use

    def forward(self, x):
        return self.module(self.rnn(x)[0])


def compiled_in_place(model):
    model.compile()
    model.rnn.compile()
    model.module.forward = torch.compile(model.module.forward)
    return model


def compiled_children(model):
    model.rnn = torch.compile(model.rnn)
    model.module = torch.nn.DataParallel(torch.compile(model.module))
    return torch.optim.swa_utils.AveragedModel(model)


def parametrized(model):
    norms.weight_norm(model.rnn, "weight_hh_l0")
    norms.spectral_norm(model.rnn, "weight_ih_l0")
    norms.orthogonal(model.module)
    return torch.compile(model)


def old_norms(model):
    torch.nn.utils.weight_norm(model.module)
    prune.l1_unstructured(model.rnn, "weight_hh_l0", 0.3)
    model(torch.randn(2, 2, 3)).sum().backward()
    return torch.nn.DataParallel(model)


WRAPPED = [torch.compile, compiled_in_place, compiled_children, parametrized, old_norms]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("wrap", WRAPPED)
def test_the_graph_is_the_bare_modules_and_the_module_stays_as_it_was(wrap, tmp_path):
    torch.manual_seed(2)
    path = tmp_path / "model.safetensors"
    module = wrap(Model())
    kinds = {name: type(part) for name, part in module.named_modules()}
    attributes = {name: sorted(part.__dict__) for name, part in module.named_modules()}
    state = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    x = torch.randn(5, 2, 3)
    assert vledge.export(module, (x,), path, layers=True).passed
    assert {name: type(part) for name, part in module.named_modules()} == kinds
    assert {n: sorted(part.__dict__) for n, part in module.named_modules()} == attributes
    assert list(module.state_dict()) == list(state)
    assert all(torch.equal(module.state_dict()[name], state[name]) for name in state)
    with torch.no_grad(), torch.compiler.set_stance("force_eager"):
        expected = module.eval()(x).numpy()
    session = vledge.InferenceSession(path)
    assert [given.name for given in session.get_inputs()] == ["x"]
    np.testing.assert_allclose(session.run(None, {"x": x.numpy()})[0], expected, atol=2e-6)


@pytest.mark.filterwarnings("ignore")
def test_a_compiled_layer_is_a_bare_layer(tmp_path):
    path = tmp_path / "model.safetensors"
    assert vledge.export(torch.compile(torch.nn.GRU(3, 4)), torch.randn(5, 2, 3), path).passed
    outputs = [made.name for made in vledge.InferenceSession(path).get_outputs()]
    assert outputs == ["output", "h_n"]


@pytest.mark.filterwarnings("ignore")
def test_the_module_is_put_back_after_an_error(tmp_path):
    module = compiled_children(Model())
    before = type(module.module.rnn)
    with pytest.raises(ValueError, match="output_names"):
        vledge.export(
            module, torch.randn(5, 2, 3), tmp_path / "m.safetensors", output_names=["a", "b"]
        )
    assert type(module.module.rnn) is before


@pytest.mark.filterwarnings("ignore")
def test_a_file_of_a_wrapped_layers_weights_is_recorded_and_validated(tmp_path):
    path = tmp_path / "averaged.pt"
    layer = torch.nn.LSTM(3, 4, bidirectional=True)
    norms.weight_norm(layer, "weight_hh_l0")
    averaged = torch.optim.swa_utils.AveragedModel(torch.nn.ModuleDict({"rnn": layer}))
    torch.save(averaged.state_dict(), path)
    reference = recorded_layer(path)
    assert validate(read_any_model(path, reference), reference).passed
