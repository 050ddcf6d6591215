/* The handlers of all families, by name: a family is a file here and a line in the list. */
#include "program.h"

/* clang-format off */
#define VL_FAMILIES(F) \
    F(views) F(movement) F(indexing) F(rearrange) F(control) F(matrix) F(chain) F(typed) F(cast) F(convolution) F(pool) \
    F(reduce) F(along_axis) F(norm) F(sort) F(quantise) \
    F(integer) F(integer_convolution) F(quantised_recurrent) F(resize) F(fourier) F(local_norm) F(trees)
/* clang-format on */

#define VL_DECLARE_FAMILY(name) extern const vl_named_handler vl_##name##_handlers[];
VL_FAMILIES(VL_DECLARE_FAMILY)

#define VL_LIST_FAMILY(name) vl_##name##_handlers,
static const vl_named_handler *const families[] = {VL_FAMILIES(VL_LIST_FAMILY)};

vl_handler *vl_handler_named(const char *name)
{
    for (size_t k = 0; k < sizeof families / sizeof *families; k++)
        for (const vl_named_handler *h = families[k]; h->name; h++)
            if (!strcmp(h->name, name))
                return h->run;
    return NULL;
}
