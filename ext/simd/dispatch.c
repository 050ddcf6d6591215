#include "dispatch.h"

#include "simd/bytes/byte_products.h"

#include <string.h>

#if defined(__linux__) && (defined(__aarch64__) || defined(__arm__))
#include <sys/auxv.h>
#endif

#define VL_DECLARE(isa) extern const vl_kernels vl_table_##isa##_f32, vl_table_##isa##_f64;
VL_DECLARE(baseline)
VL_DECLARE(avx2)
VL_DECLARE(avx512)
VL_DECLARE(neon)

#if defined(__x86_64__)
static int has_avx2(void) { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }
#ifdef VLEDGE_EMULATE /* in instructions of AVX2 (sets/emulated.h): never chosen, but there to be forced */
static int has_avx512(void) { return has_avx2(); }
#else
static int has_avx512(void)
{
    return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq");
}
#endif
#elif defined(__aarch64__) || defined(__arm__)
/* What the kernel says by its auxiliary vector: /proc/cpuinfo can describe another CPU than the one we
 * run on (containers, emulation). A kernel too old to know a feature leaves its bit 0. */
static int has_all(unsigned long wanted)
{
#ifdef __linux__
    return (getauxval(AT_HWCAP) & wanted) == wanted;
#else
    return !wanted;
#endif
}
#ifdef __aarch64__
#define VL_HWCAP_FP16 (1ul << 9 | 1ul << 10) /* scalar and vector */
#define VL_HWCAP_DOTPROD (1ul << 20)
#else
#define VL_HWCAP_NEON (1ul << 12 | 1ul << 16) /* with VFPv4's FMA */
#define VL_HWCAP_FP16 (1ul << 22 | 1ul << 23)
#define VL_HWCAP_DOTPROD (1ul << 24)
#endif
#endif

#define VL_TABLES(isa) {&vl_table_##isa##_f32, &vl_table_##isa##_f64}

const vl_kernels *vl_runnable(int i, vl_arithmetic arithmetic)
{
    static const vl_kernels *const baseline[VL_ARITHMETICS] = VL_TABLES(baseline);
    const vl_kernels *runnable[4];
    int count = 0;
#if defined(__x86_64__)
    static const vl_kernels *const avx2[VL_ARITHMETICS] = VL_TABLES(avx2);
    static const vl_kernels *const avx512[VL_ARITHMETICS] = VL_TABLES(avx512);
#ifdef VLEDGE_EMULATE
    if (has_avx2())
        runnable[count++] = avx2[arithmetic];
#endif
    if (has_avx512())
        runnable[count++] = avx512[arithmetic];
#ifndef VLEDGE_EMULATE
    if (has_avx2())
        runnable[count++] = avx2[arithmetic];
#endif
#elif defined(__aarch64__)
    static const vl_kernels *const neon[VL_ARITHMETICS] = VL_TABLES(neon);
    runnable[count++] = neon[arithmetic];
#elif defined(__arm__)
    if (arithmetic == VL_IN_FLOAT32 && has_all(VL_HWCAP_NEON)) /* the unit has no double vectors */
        runnable[count++] = &vl_table_neon_f32;
#endif
    runnable[count++] = baseline[arithmetic];
    return i >= 0 && i < count ? runnable[i] : NULL;
}

const vl_cell_kernels *vl_cell_kernels_of(const vl_kernels *kernels, vl_cell cell, vl_storage storage, int way)
{
    for (int i = 0; i < kernels->cell_count; i++) {
        const vl_cell_kernels *run = &kernels->cells[i];
        if (run->cell == cell && run->storage == storage &&
            (!run->small || (run->small->way == way && vl_has_way(kernels, way))))
            return run;
    }
    return NULL;
}

int vl_has_way(const vl_kernels *kernels, int way)
{
    if (way != VL_BY_QUADS || !kernels->integers[way])
        return kernels->integers[way] != NULL;
#ifdef VLEDGE_EMULATE
    return 1;
#elif defined(__x86_64__)
    if (kernels == &vl_table_avx512_f32)
        return __builtin_cpu_supports("avx512vnni") != 0;
#if VL_HAVE_AVX_VNNI
    if (kernels == &vl_table_avx2_f32)
        return __builtin_cpu_supports("avxvnni") != 0;
#endif
#elif VL_HAVE_NEON_DOTS
    if (kernels == &vl_table_neon_f32)
        return has_all(VL_HWCAP_DOTPROD);
#endif
    return 0;
}

const char *vl_cpu_features(void)
{
    static char names[128];
    names[0] = 0;
#if defined(__x86_64__)
#define VL_NAME(feature)                                                                                               \
    if (__builtin_cpu_supports(feature))                                                                               \
        strcat(names, " " feature);
    /* clang-format off */
    VL_NAME("sse2") VL_NAME("avx") VL_NAME("avx2") VL_NAME("fma")
    VL_NAME("avx512f") VL_NAME("avx512bw") VL_NAME("avx512dq") VL_NAME("avx512vl")
    VL_NAME("avx512vnni")
#if VL_HAVE_AVX_VNNI
    VL_NAME("avxvnni")
#endif
/* clang-format on */
#elif defined(__aarch64__) || defined(__arm__)
#ifdef __aarch64__
    strcat(names, " neon");
#else
    if (has_all(VL_HWCAP_NEON))
        strcat(names, " neon vfpv4");
#endif
#ifdef __linux__
    if (has_all(VL_HWCAP_FP16))
        strcat(names, " fp16");
    if (has_all(VL_HWCAP_DOTPROD))
        strcat(names, " dotprod");
    const char *platform = (const char *)getauxval(AT_PLATFORM);
    if (sizeof(void *) == 4 && platform && !strncmp(platform, "v8", 2))
        strcat(names, " armv8");
#endif
#endif
                    return names[0]
        ? names + 1
        : "none";
}
