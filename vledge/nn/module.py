"""Module: a tree of layers with named weights, as torch.nn.Module names and nests them.

What a module declares (names, shapes, dtypes) exists from construction; its arrays only once they
are loaded. A layer without weights refuses to run: vledge runs trained models, it never makes up
numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from copy import copy
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import DTypeLike

from vledge.array_like import possible_shape
from vledge.nn.loading import Declared, LoadResult, fitting, load
from vledge.nn.parameter import Parameter, Tie, UnloadedError, UnloadedWeight
from vledge.nn.printed import Printed
from vledge.nn.torch_habits import TorchHabits
from vledge.shown import Weights
from vledge.small_matrix import SmallMatrix, Weight
from vledge.weights.plain import plain_name

if TYPE_CHECKING:
    from vledge.streaming import Stream

__all__ = ["LoadResult", "Module", "Parameter"]


class Module(Printed, TorchHabits):
    """Base class of all layers and models.

    Sub-modules and :class:`Parameter` arrays assigned to attributes are registered under the
    attribute's name, so a model written for torch keeps its weight names when it is written again
    with ``from vledge import nn``. Source: torch.nn.Module, in ``eval()`` mode only.
    """

    def __init__(self) -> None:
        self.__dict__["_declared"] = {}
        self.__dict__["_arrays"] = {}
        self.__dict__["_modules"] = {}
        self.__dict__["_tied"] = {}

    # ---- registration

    def declare(
        self,
        name: str,
        shape: tuple[int, ...],
        dtype: DTypeLike = np.float32,
        *,
        buffer: bool = False,
        optional: bool = False,
        small: bool = False,
    ) -> None:
        """Announce a weight that load_state_dict is to bring; for layers and for user modules.

        ``small``: the module takes it as a :class:`vledge.small_matrix.SmallMatrix`, too.

        TypeError and ValueError for a shape that no array has.
        """
        dtype = np.dtype(dtype)
        shape = possible_shape(f"{type(self).__name__}: {name}", shape, dtype)
        self._make_room(name)
        self._declared[name] = Declared(shape, dtype, buffer, optional, small)

    def register_parameter(self, name: str, param: np.ndarray | None) -> None:
        """Register an array as a weight; None takes the name and holds nothing.

        A layer that lays out its weights takes it in the place of the one that it has declared.
        """
        if param is None:
            self.__dict__[name] = None
            return
        param = np.asarray(param)
        if name in self._declared and type(self)._load_own is not Module._load_own:
            self._replace(name, param)
            return
        self._tied.pop(name, None)
        self.declare(name, param.shape, param.dtype)
        self._arrays[name] = param

    def _replace(self, name: str, array: np.ndarray) -> None:
        """Take an array for a declared weight, which from then on is no other one."""
        self._load_own({name: fitting(name, array, self._declared[name])})
        self._make_room(name)
        self._tied.pop(name, None)

    def _make_room(self, name: str) -> None:
        """Let a weight be found at an attribute: what stood there, None or a module, is gone."""
        self.__dict__.pop(name, None)
        self._modules.pop(name, None)

    def _forget(self, name: str) -> None:
        """No longer have a weight that is kept as it was given; a layer's own stays declared."""
        if type(self)._load_own is Module._load_own:
            for held in (self._declared, self._arrays, self._tied):
                held.pop(name, None)

    def _tie(self, name: str, to: UnloadedWeight) -> None:
        """Make a weight the same as another one, which is still to be loaded."""
        if name not in self._declared:
            self.declare(name, to.shape, to.dtype)
        elif to.shape != (shape := self._declared[name].shape):
            raise ValueError(
                f"{name} of {type(self).__name__} is {list(shape)}, and cannot be {to.name} of "
                f"{type(to.owner).__name__}, which is {list(to.shape)}"
            )
        self._make_room(name)
        self._tied[name] = to.owner._tied.setdefault(to.name, Tie())

    def register_buffer(
        self, name: str, tensor: np.ndarray | None, persistent: bool = True
    ) -> None:
        """Register an array that is part of the state but was not trained."""
        if tensor is None or not persistent:
            self.__dict__[name] = tensor
            return
        tensor = np.asarray(tensor)
        self.declare(name, tensor.shape, tensor.dtype, buffer=True)
        self._arrays[name] = tensor

    def register_module(self, name: str, module: Module | None) -> None:
        """Register a sub-module under a name."""
        self.add_module(name, module)

    def add_module(self, name: str, module: Module | None) -> None:
        """Register a sub-module under a name."""
        if module is not None and not isinstance(module, Module):
            raise TypeError(f"{type(module).__name__} is not a Module")
        if module is None:
            self.__dict__[name] = None
        else:
            self._forget(name)
            self._make_room(name)
            self._modules[name] = module

    def __setattr__(self, name: str, value: object) -> None:
        if "_modules" not in self.__dict__:
            if isinstance(value, (Module, Parameter)):
                raise AttributeError(
                    f"cannot assign {type(value).__name__} before Module.__init__() call"
                )
            self.__dict__[name] = value
        elif isinstance(value, Module):
            self.add_module(name, value)
        elif isinstance(value, Parameter):
            self.register_parameter(name, np.asarray(value))
        elif isinstance(value, UnloadedWeight):
            self._tie(name, value)
        elif name in self._declared and isinstance(value, np.ndarray):
            self._replace(name, value)
        else:
            if value is None:
                self._forget(name)
            self._modules.pop(name, None)
            self.__dict__[name] = value

    def __getattr__(self, name: str) -> Any:
        own = self.__dict__
        if name in own.get("_modules", ()):
            return own["_modules"][name]
        if name in own.get("_declared", ()):
            try:
                array: Weight = self._array(name)
            except UnloadedError:
                return UnloadedWeight(self, name)
            if isinstance(array, SmallMatrix):  # what it stands for, as it is declared
                return np.asarray(array).reshape(own["_declared"][name].shape)
            return array
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def _array(self, name: str) -> np.ndarray:
        try:
            return self._arrays[name]
        except KeyError:
            raise UnloadedError(self) from None

    # ---- what a layer with a storage of its own overrides

    def _own_state(self) -> dict[str, np.ndarray]:
        """This module's loaded arrays by local name, without its children's."""
        return dict(self._arrays)

    def _load_own(self, arrays: dict[str, np.ndarray]) -> None:
        """Take arrays of declared names, already of the declared shapes and dtypes."""
        self._arrays.update(arrays)

    # ---- the tree

    def children(self) -> Iterator[Module]:
        """The direct sub-modules."""
        yield from self._modules.values()

    def with_children(self, children: Mapping[str, Module]) -> Module:
        """A copy that shares all but its sub-modules, which are these."""
        twin = copy(self)
        twin.__dict__["_modules"] = dict(children)
        twin.__dict__["_arrays"] = dict(self._arrays)  # what it loads is its own
        twin.__dict__["_tied"] = dict(self._tied)
        return twin

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """The direct sub-modules with their names."""
        yield from self._modules.items()

    def named_modules(self, prefix: str = "") -> Iterator[tuple[str, Module]]:
        """This module and all below it with their dotted names."""
        seen: set[int] = set()
        stack = [(prefix, self)]
        while stack:
            path, module = stack.pop()
            if id(module) in seen:
                continue
            seen.add(id(module))
            yield path, module
            dot = "." if path else ""
            stack.extend((f"{path}{dot}{n}", m) for n, m in reversed(module._modules.items()))

    def modules(self) -> Iterator[Module]:
        """This module and all below it."""
        for _, module in self.named_modules():
            yield module

    def get_submodule(self, target: str) -> Module:
        """The module of a dotted name."""
        module = self
        for part in target.split(".") if target else ():
            if part not in module._modules:
                raise AttributeError(f"{type(module).__name__} has no sub-module {part!r}")
            module = module._modules[part]
        return module

    def _named_declared(self, prefix: str = "") -> Iterator[tuple[str, Module, str, Declared]]:
        """(full name, module, local name, declaration); a shared module under each of its names."""
        for name, declared in self._declared.items():
            yield prefix + name, self, name, declared
        for name, module in self._modules.items():
            yield from module._named_declared(f"{prefix}{name}.")

    def get_parameter(self, target: str) -> np.ndarray:
        """The trained array of a dotted name; AttributeError where there is none, as in torch."""
        for name, array in self.named_parameters():
            if name == target:
                return array
        raise AttributeError(f"{type(self).__name__} has no parameter {target!r}")

    def named_parameters(
        self, prefix: str = "", recurse: bool = True
    ) -> Iterator[tuple[str, np.ndarray]]:
        """Trained arrays with their dotted names; those not loaded yet are left out."""
        yield from self._named_state(prefix, recurse, buffers=False)

    def parameters(self, recurse: bool = True) -> Iterator[np.ndarray]:
        """Trained arrays."""
        for _, array in self.named_parameters(recurse=recurse):
            yield array

    def named_buffers(
        self, prefix: str = "", recurse: bool = True
    ) -> Iterator[tuple[str, np.ndarray]]:
        """Arrays of the state that were not trained, with their dotted names."""
        yield from self._named_state(prefix, recurse, buffers=True)

    def buffers(self, recurse: bool = True) -> Iterator[np.ndarray]:
        """Arrays of the state that were not trained."""
        for _, array in self.named_buffers(recurse=recurse):
            yield array

    def _named_state(
        self, prefix: str, recurse: bool, buffers: bool
    ) -> Iterator[tuple[str, np.ndarray]]:
        for path, module in self.named_modules(prefix) if recurse else ((prefix, self),):
            dot = "." if path else ""
            for name, array in module._own_state().items():
                if module._declared[name].buffer == buffers:
                    yield f"{path}{dot}{name}", array

    # ---- state

    def state_dict(self, prefix: str = "", keep_vars: bool = False) -> dict[str, np.ndarray]:
        """All loaded arrays by dotted name, as torch's state_dict names them.

        ``keep_vars`` is torch's and does nothing.
        """
        state = Weights({prefix + name: array for name, array in self._own_state().items()})
        for name, module in self._modules.items():
            state.update(module.state_dict(f"{prefix}{name}."))
        return state

    def load_state_dict(
        self,
        state_dict: Mapping[str, np.ndarray],
        strict: bool = True,
        assign: bool = False,
        *,
        prefix: str = "",
    ) -> LoadResult:
        """Load weights by name; nothing is changed unless everything fits.

        Parameters
        ----------
        state_dict : mapping of str to ndarray
            For example of :func:`vledge.load_weights`. What wrappers put into names
            (DataParallel's ``module``, torch.compile's ``_orig_mod``, …) is taken out, and weights
            in pieces (weight norm, spectral norm, pruning masks, weight drop) are folded, but a
            name that the module itself has is taken as it stands. Values are converted to the
            module's dtype.
        strict : bool
            Whether missing and unexpected names are errors.
        assign : bool
            torch's; does nothing: a layer keeps its dtype, and weights are laid out anew.
        prefix : str
            What stands before the module's names, with its dot, such as Lightning's ``model.``;
            names without it are not looked at.

        Raises
        ------
        RuntimeError
            One error that lists every missing, unexpected and mis-shaped name, and whatever has no
            one value: names that contradict each other, pieces that cannot be put together.
        """
        prefix = plain_name(prefix)
        declared = self._named_declared(prefix)
        return load(type(self).__name__, declared, state_dict, strict, prefix)

    def _converted(self, dtype: np.dtype) -> Module:
        for module in self.modules():
            for name, declared in module._declared.items():
                if declared.dtype.kind == "f":
                    module._declared[name] = declared._replace(dtype=dtype)
            state = module._own_state()
            if state:
                module._load_own({n: fitting(n, a, module._declared[n]) for n, a in state.items()})
        return self

    def apply(self, fn: Callable[[Module], object]) -> Module:
        """Call a function with every module below this one, and then with this one."""
        for child in self.children():
            child.apply(fn)
        fn(self)
        return self

    # ---- calling

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the module computes; sub-classes define it."""
        raise NotImplementedError(f"{type(self).__name__} defines no forward()")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """``forward(*args, **kwargs)``, its recurrent layers by a strategy where one is named.

        With ``strategy=`` ("auto", or a name in ``vledge.lengths.STRATEGIES``) and its options,
        ``model(x, lengths, strategy="bucketed", rows=32)``, every recurrent layer that forward()
        calls with lengths, a mask, a PackedSequence or a list of sequences runs by it; "auto" makes
        a plan for each. A layer that is called with a strategy of its own keeps that, and keywords
        that forward() has as parameters stay its own. Threads that forward() starts do not see it.

        Raises ValueError for an unknown strategy, naming the layer for one that it cannot run by,
        and where there was no layer to run; TypeError for options that the strategy has not.
        """
        if "strategy" in kwargs:
            # imported by who names one: a stream on a board has none
            from vledge.nn.model_strategy import call_by_strategy

            return call_by_strategy(self.forward, args, kwargs, type(self).__name__, self._name_of)
        return self.forward(*args, **kwargs)

    def _name_of(self, part: object) -> str:
        """A sub-module's dotted name; another's class."""
        names = (name for name, module in self.named_modules() if module is part)
        return next(names, type(part).__name__)

    def stream(self, batch: int = 1, **options: int | None) -> Stream:
        """Run the model frame by frame, its state carried from call to call.

        Parameters
        ----------
        batch : int
            How many independent streams run side by side.
        time_axis : int, optional
            For modules made of layers: the axis of forward()'s input that is time. By default that
            of its first recurrent layer or convolution.
        lookahead : int, optional
            For models that look ahead (bidirectional layers, convolutions with padding "same"): run
            all the same, each output when so many frames have come after its own. The stream is a
            :class:`vledge.streaming.LookaheadStream`, which says what is computed.

        Raises
        ------
        UnsupportedError
            An output needs frames that are still to come, and no ``lookahead`` is given; or it is,
            and nothing looks ahead. The message says of which layer.
        """
        from vledge.streaming.modules import stream

        return stream(self, batch, **options)
