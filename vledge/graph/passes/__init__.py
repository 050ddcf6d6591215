"""What is done to a graph before it is compiled: each pass in its module, and their order here.

Passes work on one mutable `Program`, in which every value has a name of its own, so that a pass
needs no scopes: constants, types and aliases are each one dictionary for all nested graphs.
"""

from vledge.graph.passes.batch_norm import fold_batch_norms
from vledge.graph.passes.byte_tables import make_byte_tables
from vledge.graph.passes.carried import simplify_carried
from vledge.graph.passes.cells import recognize_cells
from vledge.graph.passes.dead_nodes import remove_dead_nodes
from vledge.graph.passes.folding import fold
from vledge.graph.passes.functions import expand_functions
from vledge.graph.passes.fusion import fuse
from vledge.graph.passes.gelus import join_gelus
from vledge.graph.passes.halves import widen_halves
from vledge.graph.passes.hoisting import hoist_steps
from vledge.graph.passes.negations import subtract_negatives
from vledge.graph.passes.pads import join_pads
from vledge.graph.passes.program import Program
from vledge.graph.passes.quantised_moves import move_bytes
from vledge.graph.passes.quantised_operators import expand_quantised_operators
from vledge.graph.passes.quantised_pairs import has_pairs, join_quantised_pairs
from vledge.graph.passes.single_steps import recognize_single_steps
from vledge.graph.passes.small_weights import keep_small_weights
from vledge.graph.passes.unrolled import join_unrolled
from vledge.graph.passes.well_formed import is_well_formed
from vledge.graph.passes.widths import fold_widths

__all__ = ["Program", "simplify"]


def simplify(program: Program) -> None:
    """Run every pass, in place."""
    keep_small_weights(program)
    if has_pairs(program.graph):
        fold(program, real_weights=False)
        if is_well_formed(program):
            move_bytes(program)
            join_quantised_pairs(program)
    fold(program)
    remove_dead_nodes(program)
    if not is_well_formed(program):
        return
    if expand_functions(program) | widen_halves(program):  # which is to round no constant between
        fold(program)
        remove_dead_nodes(program)
    make_byte_tables(program)
    expand_quantised_operators(program)
    remove_dead_nodes(program)
    if fold_widths(program) | subtract_negatives(program) | simplify_carried(program):
        fold(program)
        remove_dead_nodes(program)
    if recognize_single_steps(program) | recognize_cells(program):
        fold(program)
        remove_dead_nodes(program)
    if hoist_steps(program) | join_unrolled(program):
        fold(program)
        remove_dead_nodes(program)
    join_pads(program)
    fold_batch_norms(program)
    join_gelus(program)
    remove_dead_nodes(program)
    fuse(program)
