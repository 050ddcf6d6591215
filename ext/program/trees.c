/* Forests of decision trees: what the leaves that rows end in come to. */
#include "program.h"

/* As `Trees.packed` of vledge/graph/trees.py lays them out. A leaf's children are its first weight and the one behind
 * its last. */
typedef struct {
    float split;
    int32_t feature;     /* -1 of a leaf */
    int32_t children[2]; /* where the comparison is not true, and where it is */
    int32_t strict;      /* x < split, else x <= split */
    int32_t missing;     /* which child gets what is no number */
} vl_tree_node;

#define VL_TREE_SUMS 1024 /* of rows that go through the trees together */

/* x [rows, features] → [rows, targets]; ints: roots, features that are asked for, targets; floats: what each sum is
 * multiplied by; objects: nodes, roots, weights (double), their targets */
static int trees(vl_frame *f, const vl_instruction *i)
{
    const vl_tensor *x = vl_in(f, i, 0);
    const int64_t roots = i->ints[0], targets = i->ints[2];
    if (!x || x->type != VL_F32 || x->axes != 2 || x->shape[1] < i->ints[1])
        return VL_DECLINED;
    vl_tensor from = *x;
    int64_t shape[2] = {from.shape[0], targets};
    if (vl_count(2, shape) < 0)
        return VL_DECLINED;
    const vl_tree_node *nodes = i->objects[0];
    const int32_t *root = i->objects[1], *weight_targets = i->objects[3];
    const double *weights = i->objects[2];
    const int64_t most = targets < VL_TREE_SUMS ? VL_TREE_SUMS / targets : 1, rows = shape[0] < most ? shape[0] : most;
    vl_block *scratch = vl_block_new(f, (size_t)(rows * targets) * sizeof(double));
    vl_tensor *out = vl_new(f, i, 0, VL_F32, 2, shape);
    if (!scratch || !out) {
        vl_block_drop(f, scratch);
        return VL_NO_MEMORY;
    }
    double *sums = (double *)scratch->data;
    vl_pace pace = vl_pace_of(f);
    for (int64_t r = 0; r < shape[0]; r += rows) {
        const int64_t count = shape[0] - r < rows ? shape[0] - r : rows;
        memset(sums, 0, (size_t)(count * targets) * sizeof(double));
        int ended = 0;
        for (int64_t t = 0; t < roots && !ended; t++) /* a tree's nodes stay in the cache while rows go through it */
            for (int64_t n = 0; n < count; n++) {
                const vl_tree_node *node = nodes + root[t];
                const char *row = from.data + (r + n) * from.strides[0];
                while (vl_goes_on(&pace, 8) && node->feature >= 0) { /* about what a level costs */
                    float value = *(const float *)(row + node->feature * from.strides[1]);
                    int taken = node->strict ? value < node->split : value <= node->split;
                    if (value != value)
                        taken = node->missing;
                    node = nodes + node->children[taken];
                }
                ended = node->feature >= 0;
                if (ended)
                    break;
                for (int32_t w = node->children[0]; w < node->children[1]; w++)
                    sums[n * targets + weight_targets[w]] += weights[w];
            }
        if (ended)
            break;
        float *result = (float *)out->data + r * targets;
        for (int64_t k = 0; k < count * targets; k++)
            result[k] = (float)(sums[k] * i->floats[0]);
    }
    vl_block_drop(f, scratch);
    return VL_DONE;
}

const vl_named_handler vl_trees_handlers[] = {
    {"trees", trees},
    {NULL, NULL},
};
