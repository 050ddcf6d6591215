/* Fourier transforms, one in each lane: of length n = p m s, factor p by factor p,
 *
 *   y[r + s (p q + j)] = w(n/s)^(j q) sum over k < p of x[r + s (q + m k)] w(p)^(j k),   w(n) = exp(sign 2 pi i / n)
 *
 * with q < m, r < s; then x and y change places, m is what is left of n, and s has grown by the factor (Stockham's order,
 * in which nothing has to be sorted). An element is one vector, so lanes never meet, and what a transform comes to does
 * not depend on its neighbours. Bound by the second-level cache, where the two arrays lie: some 2 cycles a vector moved.
 */

typedef struct {
    ptrdiff_t m, s, root; /* root: from one of n/s-th roots of unity to the next, in elements of roots */
    ptrdiff_t turn; /* the same for p-th ones */
    const real *roots, *xr, *xi;
    real *yr, *yi, sign;
} vl_fourier_pass;

VL_INLINE void vl_turned(vec *re, vec *im, const real *root)
{
    const vec a = *re, b = *im, c = VL_SPLAT(root[0]), d = VL_SPLAT(root[1]);
    *re = a * c - b * d;
    *im = a * d + b * c;
}

VL_INLINE void vl_fourier_by_2(const vl_fourier_pass *pass)
{
    const ptrdiff_t m = pass->m, s = pass->s;
    for (ptrdiff_t q = 0; q < m; q++)
        for (ptrdiff_t r = 0; r < s; r++) {
            const ptrdiff_t from = (r + s * q) * L, to = (r + s * 2 * q) * L, far = s * m * L;
            const vec ar = vl_load(pass->xr + from), ai = vl_load(pass->xi + from);
            const vec br = vl_load(pass->xr + from + far), bi = vl_load(pass->xi + from + far);
            vec cr = ar - br, ci = ai - bi;
            vl_turned(&cr, &ci, pass->roots + 2 * q * pass->root);
            vl_store(pass->yr + to, ar + br);
            vl_store(pass->yi + to, ai + bi);
            vl_store(pass->yr + to + s * L, cr);
            vl_store(pass->yi + to + s * L, ci);
        }
}

VL_INLINE void vl_fourier_by_4(const vl_fourier_pass *pass)
{
    const ptrdiff_t m = pass->m, s = pass->s, far = s * m * L;
    const vec sign = VL_SPLAT(pass->sign);
    for (ptrdiff_t q = 0; q < m; q++)
        for (ptrdiff_t r = 0; r < s; r++) {
            const real *xr = pass->xr + (r + s * q) * L, *xi = pass->xi + (r + s * q) * L;
            real *yr = pass->yr + (r + s * 4 * q) * L, *yi = pass->yi + (r + s * 4 * q) * L;
            vec ar[4], ai[4];
#pragma GCC unroll 4
            for (int k = 0; k < 4; k++) {
                ar[k] = vl_load(xr + k * far);
                ai[k] = vl_load(xi + k * far);
            }
            const vec sr = ar[0] + ar[2], si = ai[0] + ai[2], dr = ar[0] - ar[2], di = ai[0] - ai[2];
            const vec tr = ar[1] + ar[3], ti = ai[1] + ai[3];
            const vec ur = (ai[3] - ai[1]) * sign, ui = (ar[1] - ar[3]) * sign; /* times sign i */
            vec zr[4] = {sr + tr, dr + ur, sr - tr, dr - ur}, zi[4] = {si + ti, di + ui, si - ti, di - ui};
#pragma GCC unroll 4
            for (int j = 0; j < 4; j++) {
                if (j)
                    vl_turned(&zr[j], &zi[j], pass->roots + 2 * j * q * pass->root);
                vl_store(yr + j * s * L, zr[j]);
                vl_store(yi + j * s * L, zi[j]);
            }
        }
}

/* Any factor, by its definition. */
VL_INLINE void vl_fourier_by(ptrdiff_t p, const vl_fourier_pass *pass)
{
    const ptrdiff_t m = pass->m, s = pass->s, far = s * m * L;
    for (ptrdiff_t q = 0; q < m; q++)
        for (ptrdiff_t r = 0; r < s; r++) {
            const real *xr = pass->xr + (r + s * q) * L, *xi = pass->xi + (r + s * q) * L;
            real *yr = pass->yr + (r + s * p * q) * L, *yi = pass->yi + (r + s * p * q) * L;
#pragma GCC unroll 8
            for (ptrdiff_t j = 0; j < p; j++) {
                vec sr = vl_load(xr), si = vl_load(xi);
                ptrdiff_t turn = 0;
#pragma GCC unroll 8
                for (ptrdiff_t k = 1; k < p; k++) {
                    turn = turn + j < p ? turn + j : turn + j - p;
                    vec ar = vl_load(xr + k * far), ai = vl_load(xi + k * far);
                    vl_turned(&ar, &ai, pass->roots + 2 * turn * pass->turn);
                    sr += ar;
                    si += ai;
                }
                vl_turned(&sr, &si, pass->roots + 2 * j * q * pass->root);
                vl_store(yr + j * s * L, sr);
                vl_store(yi + j * s * L, si);
            }
        }
}

/* Of n real numbers, x[2j] + i x[2j + 1] of which went in: Z[k] for k < h = n / 2 to X[k] for k <= h, in place.
 *
 *   X[k] = E + w(n)^k O,  X[h - k] = conj(E - w(n)^k O),
 *   E = (Z[k] + conj Z[h - k]) / 2,  O = (Z[k] - conj Z[h - k]) / 2i
 */
VL_INLINE void vl_fourier_of_reals(const vl_fourier *f, real *re, real *im)
{
    const ptrdiff_t h = f->n;
    const real *roots = f->roots;
    const vec r0 = vl_load(re), i0 = vl_load(im), zero = VL_SPLAT(0), half = VL_SPLAT((real)0.5);
    vl_store(re, r0 + i0);
    vl_store(im, zero);
    vl_store(re + h * L, r0 - i0);
    vl_store(im + h * L, zero);
    for (ptrdiff_t k = 1; k <= h - k; k++) {
        real *ar = re + k * L, *ai = im + k * L, *br = re + (h - k) * L, *bi = im + (h - k) * L;
        const vec zr = vl_load(ar), zi = vl_load(ai), yr = vl_load(br), yi = vl_load(bi);
        const vec er = (zr + yr) * half, ei = (zi - yi) * half;
        vec or = (zi + yi) * half, oi = (yr - zr) * half;
        vl_turned(&or, &oi, roots + 2 * k);
        vl_store(br, er - or);
        vl_store(bi, oi - ei);
        vl_store(ar, er + or);
        vl_store(ai, ei + oi);
    }
}

static void vl_kernel_fourier(const vl_fourier *f)
{
    real *re[2] = {f->re, f->other_re}, *im[2] = {f->im, f->other_im};
    ptrdiff_t s = 1, left = f->n;
    int now = 0, number = 0;
    for (; f->factors[number] && number < f->last; number++, now = !now) {
        const ptrdiff_t p = f->factors[number];
        left /= p;
        if (number < f->first) {
            s *= p;
            continue;
        }
        const vl_fourier_pass pass = {.m = left,
                                      .s = s,
                                      .root = s * f->root_step,
                                      .turn = f->n / p * f->root_step,
                                      .roots = f->roots,
                                      .sign = (real)f->sign,
                                      .xr = re[now],
                                      .xi = im[now],
                                      .yr = re[!now],
                                      .yi = im[!now]};
        switch (p) {
        case 2: vl_fourier_by_2(&pass); break;
        case 3: vl_fourier_by(3, &pass); break;
        case 4: vl_fourier_by_4(&pass); break;
        case 5: vl_fourier_by(5, &pass); break;
        default: vl_fourier_by(p, &pass); break;
        }
        s *= p;
    }
    if (f->of_reals && !f->factors[number])
        vl_fourier_of_reals(f, re[now], im[now]);
}
