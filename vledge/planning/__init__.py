"""Which strategy suits sequences of given lengths: a cost model, its constants, and plans."""

from vledge.planning.calibration import calibrate
from vledge.planning.costs import Costs
from vledge.planning.ranking import Plan, Prediction, plan
from vledge.planning.store import cache_path, costs, save
from vledge.recurrent.shape import LayerShape

__all__ = [
    "Costs",
    "LayerShape",
    "Plan",
    "Prediction",
    "cache_path",
    "calibrate",
    "costs",
    "plan",
    "save",
]
