"""What onnxruntime's sessions can be asked and told of devices, of which there is one here."""

from __future__ import annotations

from collections.abc import Sequence

from vledge.graph.providers import CPU, check_providers

__all__ = ["OnnxruntimeHabits"]


class OnnxruntimeHabits:
    """The part of onnxruntime.InferenceSession that is about execution providers."""

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
