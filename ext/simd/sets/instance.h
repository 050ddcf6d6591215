/* All kernels of one instruction set and element type: what each table_*.c includes. */
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "simd/kernels.h"
#include "simd/micro.h"
#include "simd/vectors/vec.h"
#include "simd/vectors/vecmath.h"
#include "simd/products/tile.h"
#include "simd/products/products.h"
#include "simd/products/thin.h"
#include "simd/recurrent/independent.h"
#include "simd/vectors/functions.h"
#include "simd/vectors/bytes.h"
#include "simd/arrays/chain.h"
#include "simd/products/epilogue.h"
#include "simd/products/windows.h"
#include "simd/products/winograd.h"
#include "simd/products/taps.h"
#include "simd/vectors/transpose.h"
#include "simd/products/dots.h"
#include "simd/arrays/reduce.h"
#include "simd/arrays/fourier.h"
#include "simd/bytes/integer.h"
#include "simd/bytes/byte_taps.h"
#include "simd/bytes/quantise.h"
#include "simd/small/rows.h"
#include "simd/small/pairs.h"
#include "simd/recurrent/cells.h"
#include "simd/recurrent/one_gate.h"
#include "simd/recurrent/small.h"
#include "simd/arrays/activations.h"

/* ---- the table ----------------------------------------------------------------------------- */

#ifndef VL_INTEGERS_BY_DOTS
#define VL_INTEGERS_BY_DOTS NULL
#endif
#ifndef VL_INTEGERS_BY_BYTES
#define VL_INTEGERS_BY_BYTES NULL
#endif

/* A storage is a row for each cell that can run on it. */
#if VL_F64
enum { VL_ARITHMETIC = VL_IN_FLOAT64, VL_STORAGE = VL_STORED_FLOAT64 };
#else
enum { VL_ARITHMETIC = VL_IN_FLOAT32, VL_STORAGE = VL_STORED_FLOAT32 };
#endif
static const vl_cell_kernels vl_cells[] = {
    {VL_LSTM, VL_STORAGE, vl_kernel_product, vl_kernel_lstm, NULL, NULL, NULL},
    {VL_GRU, VL_STORAGE, vl_kernel_product, vl_kernel_gru, NULL, NULL, NULL},
    {VL_GRU_RESET_BEFORE, VL_STORAGE, vl_kernel_product, vl_kernel_gru_gates, vl_kernel_gru_candidate, NULL, NULL},
    {VL_RNN_TANH, VL_STORAGE, vl_kernel_product, vl_kernel_rnn_tanh, NULL, NULL, NULL},
    {VL_RNN_RELU, VL_STORAGE, vl_kernel_product, vl_kernel_rnn_relu, NULL, NULL, NULL},
    {VL_RNN, VL_STORAGE, vl_kernel_product, vl_kernel_rnn_tanh, NULL, NULL, NULL},
    {VL_INDRNN_TANH, VL_STORAGE, vl_kernel_product, NULL, NULL, vl_kernel_indrnn_tanh, NULL},
    {VL_INDRNN_RELU, VL_STORAGE, vl_kernel_product, NULL, NULL, vl_kernel_indrnn_relu, NULL},
#if !VL_F64
/* clang-format off */
#define VL_SMALL_CELLS(storage, small)                                                                                 \
    {VL_LSTM, storage, vl_kernel_small_product, vl_kernel_small_lstm, NULL, NULL, small},                              \
    {VL_GRU, storage, vl_kernel_small_product, vl_kernel_small_gru, NULL, NULL, small},                                \
    {VL_GRU_RESET_BEFORE, storage, vl_kernel_small_product, vl_kernel_small_gru_gates, vl_kernel_small_gru_candidate,  \
     NULL, small},                                                                                                     \
    {VL_RNN_TANH, storage, vl_kernel_small_product, vl_kernel_small_rnn_tanh, NULL, NULL, small},                      \
    {VL_RNN_RELU, storage, vl_kernel_small_product, vl_kernel_small_rnn_relu, NULL, NULL, small},                      \
    {VL_RNN, storage, vl_kernel_small_product, vl_kernel_small_rnn_tanh, NULL, NULL, small},                           \
    {VL_INDRNN_TANH, storage, vl_kernel_small_product, NULL, NULL, vl_kernel_indrnn_tanh, small},                      \
    {VL_INDRNN_RELU, storage, vl_kernel_small_product, NULL, NULL, vl_kernel_indrnn_relu, small},
    /* clang-format on */
    VL_SMALL_CELLS(VL_STORED_INT8, &vl_int8_by_pairs) VL_SMALL_CELLS(VL_STORED_INT16, &vl_int16_by_pairs)
        VL_SMALL_CELLS(VL_STORED_INT8_FAST, &vl_fast_by_pairs)
#ifdef VL_SMALL_BY_BYTES
            VL_SMALL_CELLS(VL_STORED_INT8_FAST, &vl_fast_by_bytes)
#endif
#ifdef VL_SMALL_BY_QUADS
                VL_SMALL_CELLS(VL_STORED_INT8_FAST, &vl_fast_by_quads) VL_SMALL_CELLS(VL_STORED_INT8, &vl_int8_by_quads)
#ifdef VL_SMALL_BY_WORDS
                    VL_SMALL_CELLS(VL_STORED_INT16, &vl_int16_by_quads)
#endif
#endif
#endif
};

const vl_kernels VL_TABLE = {
    .isa = VL_ISA,
    .arithmetic = VL_ARITHMETIC,
    .lanes = L,
    .max_rows = VL_TALLEST(4),
    .product = vl_kernel_product,
    .thin = vl_kernel_thin,
    .windows = vl_kernel_windows,
    .dots = vl_kernel_dots,
    .winograd = vl_kernel_winograd,
    .taps = vl_kernel_taps,
    .pool = vl_kernel_pool,
    .finish = vl_kernel_finish,
    .transpose = vl_kernel_transpose,
    .cells = vl_cells,
    .cell_count = sizeof vl_cells / sizeof *vl_cells,
    .exp = vl_kernel_exp,
    .tanh = vl_kernel_tanh,
    .sigmoid = vl_kernel_sigmoid,
    .chain = vl_kernel_chain,
    .reduce = vl_kernel_reduce,
    .softmax = vl_kernel_softmax,
    .norm = vl_kernel_norm,
    .fourier = vl_kernel_fourier,
#if !VL_F64
    .integers = {vl_kernel_integers, VL_INTEGERS_BY_DOTS, VL_INTEGERS_BY_BYTES},
    .byte_taps = vl_kernel_byte_taps,
    .quantise = vl_kernel_quantise,
    .range = vl_kernel_range,
    .dequantise = vl_kernel_dequantise,
#endif
    .lstm_cell = vl_kernel_lstm_cell,
    .gru_cell = vl_kernel_gru_cell,
};

#ifdef VL_CLANG_TARGET
#pragma clang attribute pop
#endif
