/* All kernels of one instruction set and element type: what each table_*.c includes. */
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "kernels.h"
#include "named_limits.h"
#include "micro.h"
#include "vec.h"
#include "vecmath.h"
#include "tile.h"
#include "products.h"
#include "thin.h"
#include "independent.h"
#include "functions.h"
#include "chain.h"
#include "epilogue.h"
#include "windows.h"
#include "winograd.h"
#include "taps.h"
#include "transpose.h"
#include "dots.h"
#include "reduce.h"
#include "integer.h"
#include "quantise.h"
#include "cells.h"

#ifdef VL_CLANG_TARGET
#pragma clang attribute pop
#endif
