"""Strategies that tell what runs by them."""

import functools
from dataclasses import replace

from vledge.lengths.strategies import STRATEGIES


def spied(monkeypatch, note):
    """``note(name, stack, options)`` at each call of a strategy, before it runs."""
    for name, strategy in STRATEGIES.items():

        @functools.wraps(strategy.run)
        def spy(stack, batch, hx, *, name=name, run=strategy.run, **options):
            note(name, stack, options)
            return run(stack, batch, hx, **options)

        monkeypatch.setitem(STRATEGIES, name, replace(strategy, run=spy))
