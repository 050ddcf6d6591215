/* The activations on arrays. */

#define VL_MAP(NAME)                                                                                                   \
    static void vl_kernel_##NAME(ptrdiff_t n, const void *x, void *y)                                                  \
    {                                                                                                                  \
        ptrdiff_t i = 0;                                                                                               \
        for (; i + L <= n; i += L)                                                                                     \
            vl_store((real *)y + i, vl_##NAME(vl_load((const real *)x + i)));                                          \
        if (i < n) {                                                                                                   \
            vec tail = VL_SPLAT(0);                                                                                    \
            for (ptrdiff_t j = i; j < n; j++)                                                                          \
                tail[j - i] = ((const real *)x)[j];                                                                    \
            vl_store_first((real *)y + i, vl_##NAME(tail), n - i);                                                     \
        }                                                                                                              \
    }
VL_MAP(exp)
VL_MAP(tanh)
VL_MAP(sigmoid)
#undef VL_MAP
