#define VL_F64 0
#define VL_TABLE vl_table_baseline_f32
#include "isa_baseline.h"
#include "instance.h"
