"""Softmax, and the norms of rows, channels and groups: handlers of ``ext/program/norm.c``; those of
an axis and of channels around: of ``local_norm.c``.

BatchNormalization is an element-wise chain's.
"""

from __future__ import annotations

from vledge.graph.native.lowering import Lowered, Site, lowering
from vledge.model.definition import INTERNAL_DOMAIN


@lowering("Softmax", "LogSoftmax")
def softmax(site: Site) -> Lowered:
    flattened = int(site.opset < 13)
    log = int(site.node.op_type == "LogSoftmax")
    return Lowered("softmax", [site.attribute("axis", 1 if flattened else -1), flattened, log])


@lowering("LayerNormalization", "RMSNormalization", domain=INTERNAL_DOMAIN)
@lowering("LayerNormalization", "RMSNormalization")
def row_norm(site: Site) -> Lowered:
    centred = int(site.node.op_type == "LayerNormalization")
    return Lowered(
        "row_norm", [site.attribute("axis", -1), centred], [site.attribute("epsilon", 1e-5)]
    )


@lowering("InstanceNormalization")
def instance_norm(site: Site) -> Lowered:
    return Lowered("channel_norm", [0, 0], [site.attribute("epsilon", 1e-5)])


@lowering("GroupNormalization")
def group_norm(site: Site) -> Lowered:
    ints = [site.attribute("num_groups"), int(site.opset < 21)]
    return Lowered("channel_norm", ints, [site.attribute("epsilon", 1e-5)])


@lowering("LpNormalization")
def lp_normalization(site: Site) -> Lowered:
    return Lowered("lp_normalization", [site.attribute("axis", -1), site.attribute("p", 2)])


@lowering("LRN")
def lrn(site: Site) -> Lowered:
    size = site.attribute("size")
    factor = site.attribute("alpha", 1e-4) / size
    return Lowered(
        "lrn", [size], [factor, site.attribute("beta", 0.75), site.attribute("bias", 1.0)]
    )
