/* Flush-to-zero for the length of a kernel call: a decaying state is full of subnormals, each of
 * which costs a hundred cycles. The caller's mode comes back with vl_restore_mode. */
#ifndef VLEDGE_CPU_MODE_H
#define VLEDGE_CPU_MODE_H

#include <stdint.h>

#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

static inline uint64_t vl_flush_subnormals(void)
{
#if defined(__x86_64__)
    unsigned mode = _mm_getcsr();
    _mm_setcsr(mode | 0x8040); /* FTZ for results, DAZ for operands */
    return mode;
#elif defined(__aarch64__)
    uint64_t mode;
    __asm__ volatile("mrs %0, fpcr" : "=r"(mode));
    __asm__ volatile("msr fpcr, %0" : : "r"(mode | (1u << 24)));
    return mode;
#elif defined(__arm__)
    uint32_t mode;
    __asm__ volatile("vmrs %0, fpscr" : "=r"(mode));
    __asm__ volatile("vmsr fpscr, %0" : : "r"(mode | (1u << 24)));
    return mode;
#else
    return 0;
#endif
}

/* The other way, for what runs in between. */
static inline uint64_t vl_keep_subnormals(void)
{
#if defined(__x86_64__)
    unsigned mode = _mm_getcsr();
    _mm_setcsr(mode & ~0x8040u);
    return mode;
#elif defined(__aarch64__)
    uint64_t mode;
    __asm__ volatile("mrs %0, fpcr" : "=r"(mode));
    __asm__ volatile("msr fpcr, %0" : : "r"(mode & ~(UINT64_C(1) << 24)));
    return mode;
#elif defined(__arm__)
    uint32_t mode;
    __asm__ volatile("vmrs %0, fpscr" : "=r"(mode));
    __asm__ volatile("vmsr fpscr, %0" : : "r"(mode & ~(1u << 24)));
    return mode;
#else
    return 0;
#endif
}

static inline void vl_restore_mode(uint64_t mode)
{
#if defined(__x86_64__)
    _mm_setcsr((unsigned)mode);
#elif defined(__aarch64__)
    __asm__ volatile("msr fpcr, %0" : : "r"(mode));
#elif defined(__arm__)
    __asm__ volatile("vmsr fpscr, %0" : : "r"((uint32_t)mode));
#else
    (void)mode;
#endif
}

#endif
