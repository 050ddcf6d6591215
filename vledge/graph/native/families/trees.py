"""TreeScores, which forests are made of: the handler of ``ext/program/trees.c``."""

from __future__ import annotations

from vledge.graph.native.lowering import Lowered, Site, lowering
from vledge.model.definition import INTERNAL_DOMAIN


@lowering("TreeScores", domain=INTERNAL_DOMAIN)
def tree_scores(site: Site) -> Lowered | None:
    trees, aggregate = site.attribute("trees"), site.attribute("aggregate")
    packed = trees.packed() if aggregate in ("SUM", "AVERAGE") else None
    if packed is None:
        return None
    roots = len(trees.roots)
    factor = 1 / roots if aggregate == "AVERAGE" else 1.0
    return Lowered("trees", [roots, trees.columns, trees.targets], [factor], packed)
