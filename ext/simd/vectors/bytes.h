/* Vectors of numbers from bytes, and bytes from them. float only. */
#if !VL_F64

typedef uint8_t vl_bytes __attribute__((vector_size(VL_BYTES / 4), aligned(1), may_alias));

typedef int8_t vl_signed_bytes __attribute__((vector_size(VL_BYTES / 4), aligned(1), may_alias));

/* Bytes as 32-bit numbers. */
VL_INLINE veci vl_load_bytes(const uint8_t *from, int is_signed)
{
    return is_signed ? __builtin_convertvector(*(const vl_signed_bytes *)from, veci)
                     : __builtin_convertvector(*(const vl_bytes *)from, veci);
}

/* Whole numbers below 2^22 as integers; NaN becomes 0. */
VL_INLINE veci vl_whole(vec x)
{
    vec lifted = x + VL_SPLAT(VL_ROUNDER);
    VL_KEEP(lifted);
    return ((veci)lifted - (veci)VL_SPLAT(VL_ROUNDER)) & (x == x);
}

/* The bytes of four vectors */
#if defined(__x86_64__) && VL_BYTES <= 32
typedef uint8_t vl_four_of_bytes __attribute__((vector_size(VL_BYTES), aligned(1), may_alias));
VL_INLINE vl_four_of_bytes vl_narrow(const veci *v)
{
#if VL_BYTES == 32
    __m256i low = _mm256_packs_epi32((__m256i)(v[0] & 255), (__m256i)(v[1] & 255));
    __m256i high = _mm256_packs_epi32((__m256i)(v[2] & 255), (__m256i)(v[3] & 255));
    __m256i in_halves = _mm256_packus_epi16(low, high);
    return (vl_four_of_bytes)_mm256_permutevar8x32_epi32(in_halves, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
#else
    __m128i low = _mm_packs_epi32((__m128i)(v[0] & 255), (__m128i)(v[1] & 255));
    __m128i high = _mm_packs_epi32((__m128i)(v[2] & 255), (__m128i)(v[3] & 255));
    return (vl_four_of_bytes)_mm_packus_epi16(low, high);
#endif
}
VL_INLINE void vl_store_bytes(uint8_t *to, const veci *v) { *(vl_four_of_bytes *)to = vl_narrow(v); }
#else
VL_INLINE void vl_store_bytes(uint8_t *to, const veci *v)
{
    for (int i = 0; i < 4; i++)
        *(vl_bytes *)(to + i * L) = __builtin_convertvector(v[i], vl_bytes);
}
#endif

#endif
