"""What onnxruntime's sessions can be asked and told beside runs: devices, of which there is one
here, and other ways to say a run."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence

from numpy.typing import ArrayLike

from vledge.graph.io_binding import OrtValue
from vledge.graph.providers import CPU, check_providers
from vledge.graph.session_options import RunOptions
from vledge.graph.values import Result

__all__ = ["OnnxruntimeHabits"]


class OnnxruntimeHabits:
    """The part of onnxruntime.InferenceSession that is about execution providers, and what is said
    by ``run``."""

    def run(
        self,
        output_names: Sequence[str] | None,
        input_feed: Mapping[str, ArrayLike],
        run_options: RunOptions | None = None,
    ) -> list[Result]:
        """The session's own."""
        raise NotImplementedError

    def get_providers(self) -> list[str]:
        """Always ``["CPUExecutionProvider"]``."""
        return [CPU]

    def get_provider_options(self) -> dict[str, dict[str, str]]:
        """The CPU has none."""
        return {CPU: {}}

    def set_providers(
        self,
        providers: Sequence[str | tuple[str, dict[str, object]]] | None = None,
        provider_options: Sequence[dict[str, object]] | None = None,
    ) -> None:
        """Checked as at the start; the session stays on the CPU."""
        check_providers(providers, provider_options)

    def disable_fallback(self) -> None:
        """Nothing: a run that fails is never tried again on another device."""

    def enable_fallback(self) -> None:
        """Nothing: there is no other device to fall back to."""

    def end_profiling(self) -> str:
        """Always "": no profile is written; ``session.profile(feed)`` makes one."""
        return ""

    def run_with_ort_values(
        self,
        output_names: Sequence[str] | None,
        input_dict_ort_values: Mapping[str, OrtValue],
        run_options: RunOptions | None = None,
    ) -> list[OrtValue]:
        """`run` on an `OrtValue` for each input, giving one for each output."""
        if not isinstance(input_dict_ort_values, Mapping):
            raise TypeError(
                f"input_dict_ort_values is a {type(input_dict_ort_values).__name__}, expected a "
                "dict with an OrtValue for each input"
            )
        feed = {}
        for name, value in input_dict_ort_values.items():
            if not isinstance(value, OrtValue):
                raise TypeError(
                    f"input {name!r} is a {type(value).__name__}, expected an OrtValue: "
                    "vledge.OrtValue.ortvalue_from_numpy(array) is one, and run() takes arrays"
                )
            feed[name] = value.numpy()
        return [OrtValue(result) for result in self.run(output_names, feed, run_options)]

    def run_async(
        self,
        output_names: Sequence[str] | None,
        input_feed: Mapping[str, ArrayLike],
        callback: Callable[[list[Result], object, str], object],
        user_data: object,
        run_options: RunOptions | None = None,
    ) -> None:
        """`run` on a thread of its own, which then calls ``callback(results, user_data, error)``.

        ``error`` is "" after a run that went well; after one that did not, it is its message, and
        the results are an empty list.
        """
        if not callable(callback):
            raise TypeError(
                f"callback is {callback!r}, expected a function of results, user_data and error"
            )

        def work() -> None:
            try:
                results, error = self.run(output_names, input_feed, run_options), ""
            except Exception as problem:  # told to the callback, whatever it is
                results, error = [], str(problem) or type(problem).__name__
            callback(results, user_data, error)

        threading.Thread(target=work, name="vledge run_async").start()
