/* Integer products by instructions for bytes, which not every CPU of a table has. */
#ifndef VLEDGE_BYTE_PRODUCTS_H
#define VLEDGE_BYTE_PRODUCTS_H

#include "simd/kernels.h"

/* The VEX-coded form for CPUs without AVX-512 is younger than some compilers. */
#if defined(__x86_64__) && (defined(__clang__) ? __clang_major__ >= 12 : __GNUC__ >= 11)
#define VL_HAVE_AVX_VNNI 1
#endif

/* Older Clangs have the intrinsics only in files that are wholly for such a CPU. */
#if defined(__aarch64__) && (defined(__clang__) ? __clang_major__ >= 17 : __GNUC__ >= 8)
#define VL_HAVE_NEON_DOTS 1
#endif

void vl_integers_avx512vnni(const vl_byte_product *p);
void vl_integers_avxvnni(const vl_byte_product *p);
void vl_integers_avx512bytes(const vl_byte_product *p);
void vl_integers_avx2bytes(const vl_byte_product *p);

void vl_small_avx512vnni_product(const vl_small_product *p);
void vl_small_avx512planes_product(const vl_small_product *p);
void vl_small_avx512words_product(const vl_small_product *p);
void vl_small_avxvnni_product(const vl_small_product *p);
void vl_small_avxplanes_product(const vl_small_product *p);
void vl_small_avxwords_product(const vl_small_product *p);
void vl_small_avx512bytes_product(const vl_small_product *p);
void vl_small_avx2bytes_product(const vl_small_product *p);

#if VL_HAVE_NEON_DOTS
void vl_integers_neondots(const vl_byte_product *p);
void vl_small_neondots_product(const vl_small_product *p);
void vl_small_neonplanes_product(const vl_small_product *p);
#endif

#endif
