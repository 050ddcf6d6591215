/* Vectors of numbers from bytes, and bytes from them. float only. */
#if !VL_F64

typedef uint8_t vl_bytes __attribute__((vector_size(VL_BYTES / 4), aligned(1), may_alias));

typedef int8_t vl_signed_bytes __attribute__((vector_size(VL_BYTES / 4), aligned(1), may_alias));

/* A vector's worth of bytes as 32-bit numbers, and back their low bytes. GCC's own conversions of vectors take element
 * by element before version 13. */
#if defined(__x86_64__) && VL_BYTES == 64
VL_INLINE veci vl_load_bytes(const uint8_t *from, int is_signed)
{
    const __m128i bytes = _mm_loadu_si128((const __m128i *)from);
    return (veci)(is_signed ? _mm512_cvtepi8_epi32(bytes) : _mm512_cvtepu8_epi32(bytes));
}
VL_INLINE void vl_store_lowest_bytes(uint8_t *to, veci v)
{
    _mm_storeu_si128((__m128i *)to, _mm512_cvtepi32_epi8((__m512i)v));
}
#elif defined(__x86_64__) && VL_BYTES == 32
VL_INLINE veci vl_load_bytes(const uint8_t *from, int is_signed)
{
    const __m128i bytes = _mm_loadl_epi64((const __m128i *)from);
    return (veci)(is_signed ? _mm256_cvtepi8_epi32(bytes) : _mm256_cvtepu8_epi32(bytes));
}
VL_INLINE void vl_store_lowest_bytes(uint8_t *to, veci v)
{
    const __m256i low = (__m256i)(v & 255);
    const __m128i halves = _mm_packs_epi32(_mm256_castsi256_si128(low), _mm256_extracti128_si256(low, 1));
    _mm_storel_epi64((__m128i *)to, _mm_packus_epi16(halves, halves));
}
#elif defined(__x86_64__)
VL_INLINE veci vl_load_bytes(const uint8_t *from, int is_signed)
{
    int32_t four;
    __builtin_memcpy(&four, from, 4);
    __m128i bytes = _mm_cvtsi32_si128(four); /* doubled twice: each number's high byte, and garbage below */
    bytes = _mm_unpacklo_epi8(bytes, bytes);
    bytes = _mm_unpacklo_epi16(bytes, bytes);
    return (veci)(is_signed ? _mm_srai_epi32(bytes, 24) : _mm_srli_epi32(bytes, 24));
}
VL_INLINE void vl_store_lowest_bytes(uint8_t *to, veci v)
{
    const __m128i halves = _mm_packs_epi32((__m128i)(v & 255), (__m128i)(v & 255));
    const int32_t four = _mm_cvtsi128_si32(_mm_packus_epi16(halves, halves));
    __builtin_memcpy(to, &four, 4);
}
#elif defined(VL_NEON)
VL_INLINE veci vl_load_bytes(const uint8_t *from, int is_signed)
{
    uint32_t four;
    __builtin_memcpy(&four, from, 4);
    if (is_signed)
        return (veci)vmovl_s16(vget_low_s16(vmovl_s8(vcreate_s8(four))));
    return (veci)vmovl_u16(vget_low_u16(vmovl_u8(vcreate_u8(four))));
}
VL_INLINE void vl_store_lowest_bytes(uint8_t *to, veci v)
{
    const uint16x4_t halves = vmovn_u32((uint32x4_t)v);
    const uint32_t four = vget_lane_u32(vreinterpret_u32_u8(vmovn_u16(vcombine_u16(halves, halves))), 0);
    __builtin_memcpy(to, &four, 4);
}
#else
VL_INLINE veci vl_load_bytes(const uint8_t *from, int is_signed)
{
    return is_signed ? __builtin_convertvector(*(const vl_signed_bytes *)from, veci)
                     : __builtin_convertvector(*(const vl_bytes *)from, veci);
}
VL_INLINE void vl_store_lowest_bytes(uint8_t *to, veci v) { *(vl_bytes *)to = __builtin_convertvector(v, vl_bytes); }
#endif

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
#elif defined(VL_NEON)
VL_INLINE void vl_store_bytes(uint8_t *to, const veci *v)
{
    const uint16x8_t low = vcombine_u16(vmovn_u32((uint32x4_t)v[0]), vmovn_u32((uint32x4_t)v[1]));
    const uint16x8_t high = vcombine_u16(vmovn_u32((uint32x4_t)v[2]), vmovn_u32((uint32x4_t)v[3]));
    vst1q_u8(to, vcombine_u8(vmovn_u16(low), vmovn_u16(high)));
}
#else
VL_INLINE void vl_store_bytes(uint8_t *to, const veci *v)
{
    for (int i = 0; i < 4; i++)
        vl_store_lowest_bytes(to + i * L, v[i]);
}
#endif

#endif
