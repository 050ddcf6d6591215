#define VL_F64 1
#define VL_TABLE vl_table_baseline_f64
#include "isa_baseline.h"
#include "instance.h"
