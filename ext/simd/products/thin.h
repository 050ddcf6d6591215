/* A few rows times a matrix that is not packed: packing it would cost more than the product, which is bound by
 * reading it once.
 *
 * A matrix with its columns side by side is read a row at a time, eight vectors wide for one row of x and four for
 * two: each sum is made as a tile makes it (tile.h), so its bits are the same. One with its rows side by side is read
 * a column at a time; L sums over every L-th term are added in the end, in parts as well. */

VL_INLINE void vl_thin_block(int rows, int vectors, const vl_thin *thin, ptrdiff_t row, ptrdiff_t column,
                             ptrdiff_t last)
{
    vec total[2][8], sum[2][8];
    const real *x[2], *w = (const real *)thin->w + column;
    for (int r = 0; r < rows; r++)
        x[r] = (const real *)thin->x + thin->x_rows[row + r];
#pragma GCC unroll 16
    for (int i = 0; i < rows * vectors; i++)
        total[i / vectors][i % vectors] = VL_SPLAT(0);
    for (ptrdiff_t k = 0; k < thin->depth;) {
        ptrdiff_t end = thin->depth - k < VL_TERMS ? thin->depth : k + VL_TERMS;
#pragma GCC unroll 16
        for (int i = 0; i < rows * vectors; i++)
            sum[i / vectors][i % vectors] = VL_SPLAT(0);
        for (; k < end; k++) {
            const real *from = w + k * thin->w_row;
            vec xs[2];
#pragma GCC unroll 2
            for (int r = 0; r < rows; r++)
                xs[r] = VL_SPLAT(x[r][k]);
#pragma GCC unroll 8
            for (int v = 0; v < vectors; v++) {
                vec own = vectors == 1 ? vl_load_first(from, last) : vl_load(from + v * L);
#pragma GCC unroll 2
                for (int r = 0; r < rows; r++)
                    sum[r][v] = VL_FMA(xs[r], own, sum[r][v]);
            }
        }
#pragma GCC unroll 16
        for (int i = 0; i < rows * vectors; i++)
            total[i / vectors][i % vectors] += sum[i / vectors][i % vectors];
    }
#pragma GCC unroll 2
    for (int r = 0; r < rows; r++) {
        real *out = (real *)thin->out + (row + r) * thin->ld_out + column;
#pragma GCC unroll 8
        for (int v = 0; v < vectors; v++)
            vl_store_first(out + v * L, total[r][v], vectors == 1 ? last : L);
    }
}

/* One or two rows of x, all columns of [first, last): the widest blocks first. */
VL_INLINE void vl_thin_rows(int rows, const vl_thin *thin, ptrdiff_t row)
{
    ptrdiff_t column = thin->first;
    enum { ONE = 8, TWO = 4 };
    if (rows == 1)
        for (; column + ONE * L <= thin->last; column += ONE * L)
            vl_thin_block(1, ONE, thin, row, column, L);
    for (; column + TWO * L <= thin->last; column += TWO * L)
        vl_thin_block(rows, TWO, thin, row, column, L);
    for (; column < thin->last; column += L)
        vl_thin_block(rows, 1, thin, row, column, thin->last - column < L ? thin->last - column : L);
}

VL_INLINE real vl_thin_total(vec v)
{
    real total = 0;
    for (int i = 0; i < L; i++)
        total += v[i];
    return total;
}

/* `columns` neighbouring columns of a matrix with its rows side by side. */
VL_INLINE void vl_thin_dots(int columns, const vl_thin *thin, ptrdiff_t row, ptrdiff_t column)
{
    const real *x = (const real *)thin->x + thin->x_rows[row], *w = (const real *)thin->w + column * thin->w_column;
    vec total[4], sum[4];
    for (int c = 0; c < columns; c++)
        total[c] = VL_SPLAT(0);
    for (ptrdiff_t k = 0; k < thin->depth;) {
        ptrdiff_t end = thin->depth - k < VL_TERMS * L ? thin->depth : k + VL_TERMS * L;
#pragma GCC unroll 4
        for (int c = 0; c < columns; c++)
            sum[c] = VL_SPLAT(0);
        for (; k + L <= end; k += L) {
            vec own = vl_load(x + k);
#pragma GCC unroll 4
            for (int c = 0; c < columns; c++)
                sum[c] = VL_FMA(own, vl_load(w + c * thin->w_column + k), sum[c]);
        }
        if (k < end) {
            vec own = vl_load_first(x + k, end - k);
#pragma GCC unroll 4
            for (int c = 0; c < columns; c++)
                sum[c] = VL_FMA(own, vl_load_first(w + c * thin->w_column + k, end - k), sum[c]);
            k = end;
        }
#pragma GCC unroll 4
        for (int c = 0; c < columns; c++)
            total[c] += sum[c];
    }
    for (int c = 0; c < columns; c++)
        ((real *)thin->out)[row * thin->ld_out + column + c] = vl_thin_total(total[c]);
}

static void vl_kernel_thin(const vl_thin *thin)
{
    if (thin->w_column == 1) {
        ptrdiff_t row = 0;
        for (; row + 2 <= thin->rows; row += 2)
            vl_thin_rows(2, thin, row);
        if (row < thin->rows)
            vl_thin_rows(1, thin, row);
        return;
    }
    for (ptrdiff_t row = 0; row < thin->rows; row++) {
        ptrdiff_t column = thin->first;
        for (; column + 4 <= thin->last; column += 4)
            vl_thin_dots(4, thin, row, column);
        for (; column < thin->last; column++)
            vl_thin_dots(1, thin, row, column);
    }
}
