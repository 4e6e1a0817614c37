//! Linear algebra on row-major slices of f64: products by matrixmultiply, by way of ndarray, which nothing
//! else calls.

use ndarray::linalg::general_mat_mul;
use ndarray::{ArrayView2, ArrayViewMut2, ShapeBuilder};
use rayon::prelude::*;

/// Rows and columns that are factored one by one.
const SMALL: usize = 64;
/// Rows, or columns, that are one task.
const BAND: usize = 256;

/// Whether to go on. Where not, what is computed has no meaning, and who began it asks again.
pub(super) type GoOn<'a> = &'a (dyn Fn() -> bool + Sync);

/// Some rows and columns of a row-major matrix.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part {
    /// Rows, and columns, from the start of the slice.
    pub rows: usize,
    pub columns: usize,
    /// Columns of the whole matrix.
    pub stride: usize,
}

impl Part {
    pub fn new(rows: usize, columns: usize, stride: usize) -> Self {
        Self {
            rows,
            columns,
            stride,
        }
    }

    pub fn whole(rows: usize, columns: usize) -> Self {
        Self::new(rows, columns, columns)
    }

    fn view(self, of: &[f64]) -> ArrayView2<'_, f64> {
        let shape = (self.rows, self.columns).strides((self.stride, 1));
        ArrayView2::from_shape(shape, of).expect("a part of the matrix")
    }

    fn view_mut(self, of: &mut [f64]) -> ArrayViewMut2<'_, f64> {
        let shape = (self.rows, self.columns).strides((self.stride, 1));
        ArrayViewMut2::from_shape(shape, of).expect("a part of the matrix")
    }
}

/// Adds `factor · a · b` to `to`.
pub(super) fn add_product(
    to: (&mut [f64], Part),
    a: (&[f64], Part),
    b: (&[f64], Part),
    factor: f64,
) {
    let (a, b) = (a.1.view(a.0), b.1.view(b.0));
    general_mat_mul(factor, &a, &b, 1.0, &mut to.1.view_mut(to.0));
}

/// Adds `aᵀ · b` to `to`.
pub(super) fn add_product_of_columns(to: (&mut [f64], Part), a: (&[f64], Part), b: (&[f64], Part)) {
    let (a, b) = (a.1.view(a.0), b.1.view(b.0));
    general_mat_mul(1.0, &a.t(), &b, 1.0, &mut to.1.view_mut(to.0));
}

/// Adds `factor · a · bᵀ` to `to`.
fn add_product_of_rows(to: (&mut [f64], Part), a: (&[f64], Part), b: (&[f64], Part), factor: f64) {
    let (a, b) = (a.1.view(a.0), b.1.view(b.0));
    general_mat_mul(factor, &a, &b.t(), 1.0, &mut to.1.view_mut(to.0));
}

/// The upper triangular `U` with `Uᵀ U` the inverse of a symmetric matrix; `None` if this is not
/// positive definite.
///
/// With the order of rows and columns turned round, the matrix is `L Lᵀ`; turned back, `L` is an upper
/// triangle `R` with `R Rᵀ` the matrix, and `U` is its inverse.
pub(super) fn upper_of_inverse(matrix: &[f64], n: usize, go_on: GoOn<'_>) -> Option<Vec<f64>> {
    let mut lower: Vec<f64> = matrix.iter().rev().copied().collect();
    factor(&mut lower, n, go_on)?;
    let mut upper = inverse(&lower, n, go_on);
    upper.reverse();
    upper.iter().all(|value| value.is_finite()).then_some(upper)
}

/// Makes the lower factor of a symmetric matrix of it, of which only the lower triangle is read; what is
/// above the diagonal is of no meaning afterwards. `None` if the matrix is not positive definite.
fn factor(matrix: &mut [f64], n: usize, go_on: GoOn<'_>) -> Option<()> {
    for first in (0..n).step_by(SMALL) {
        if !go_on() {
            return None;
        }
        let last = (first + SMALL).min(n);
        let width = last - first;
        // The rows of this block, which already lack what earlier columns stand for.
        for row in first..last {
            let (above, below) = matrix.split_at_mut(row * n);
            divide(&mut below[first..row], |column| {
                &above[(first + column) * n + first..(first + column) * n + last]
            });
            let squares: f64 = below[first..row].iter().map(|value| value * value).sum();
            let pivot = below[row] - squares;
            if pivot.is_nan() || pivot <= 0.0 {
                return None;
            }
            below[row] = pivot.sqrt();
        }
        let (above, rest) = matrix.split_at_mut(last * n);
        rest.par_chunks_mut(n).for_each(|row| {
            divide(&mut row[first..last], |column| {
                &above[(first + column) * n + first..(first + column) * n + last]
            });
        });
        let panel = rest.chunks(n).flat_map(|row| &row[first..last]);
        let panel: Vec<f64> = panel.copied().collect();
        // Rows in bands, up to the diagonal.
        rest.par_chunks_mut(BAND * n)
            .enumerate()
            .filter(|_| go_on())
            .for_each(|(band, rows)| {
                let count = rows.len() / n;
                let columns = band * BAND + count;
                add_product_of_rows(
                    (&mut rows[last..], Part::new(count, columns, n)),
                    (&panel[band * BAND * width..], Part::whole(count, width)),
                    (&panel, Part::whole(columns, width)),
                    -1.0,
                );
            });
    }
    Some(())
}

/// Divides a row by a lower triangle whose rows are given.
fn divide<'r>(row: &mut [f64], triangle: impl Fn(usize) -> &'r [f64]) {
    for column in 0..row.len() {
        let of = triangle(column);
        let products = row[..column].iter().zip(of).map(|(a, b)| a * b);
        row[column] = (row[column] - products.sum::<f64>()) / of[column];
    }
}

/// The inverse of a lower triangle.
fn inverse(lower: &[f64], n: usize, go_on: GoOn<'_>) -> Vec<f64> {
    let starts: Vec<usize> = (0..n).step_by(BAND).collect();
    let strips: Vec<Vec<f64>> = starts
        .par_iter()
        .map(|&start| strip(lower, n, start, go_on))
        .collect();
    let mut found = vec![0.0; n * n];
    for (strip, &start) in strips.iter().zip(&starts) {
        let width = BAND.min(n - start);
        for (row, values) in strip.chunks(width).enumerate() {
            found[(start + row) * n + start..][..width].copy_from_slice(values);
        }
    }
    found
}

/// Some columns of the inverse, from `start` on, without the zeros above the diagonal.
fn strip(lower: &[f64], n: usize, start: usize, go_on: GoOn<'_>) -> Vec<f64> {
    let width = BAND.min(n - start);
    let mut found = vec![0.0; (n - start) * width];
    for first in (start..n).step_by(SMALL) {
        if !go_on() {
            break;
        }
        let last = (first + SMALL).min(n);
        let (done, rows) = found.split_at_mut((first - start) * width);
        if first > start {
            add_product(
                (rows, Part::whole(last - first, width)),
                (
                    &lower[first * n + start..],
                    Part::new(last - first, first - start, n),
                ),
                (done, Part::whole(first - start, width)),
                -1.0,
            );
        }
        for row in first..last {
            let (above, below) = rows.split_at_mut((row - first) * width);
            if row - start < width {
                below[row - start] += 1.0;
            }
            let factors = &lower[row * n..(row + 1) * n];
            for (above, factor) in above.chunks(width).zip(&factors[first..row]) {
                let pairs = below[..width].iter_mut().zip(above);
                pairs.for_each(|(value, above)| *value -= factor * above);
            }
            below[..width]
                .iter_mut()
                .for_each(|value| *value /= factors[row]);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::upper_of_inverse;

    #[test]
    fn the_factor_is_that_of_the_inverse() {
        // Sizes around those of the blocks.
        for n in [1, 2, 63, 64, 65, 150, 330] {
            let value = |i: usize, j: usize| ((i * 31 + j * 17) % 23) as f64 / 23.0 - 0.4;
            let sum =
                |i: usize, j: usize| (0..n + 3).map(|k| value(i, k) * value(j, k)).sum::<f64>();
            let mut matrix = vec![0.0; n * n];
            for i in 0..n {
                for j in 0..n {
                    matrix[i * n + j] = sum(i, j) + if i == j { 1.0 } else { 0.0 };
                }
            }
            let upper = upper_of_inverse(&matrix, n, &|| true).expect("positive definite");
            // H · Uᵀ U is the identity.
            for j in (0..n).step_by(7) {
                let dot = |i| (0..n).map(|k| upper[k * n + i] * upper[k * n + j]).sum();
                let inverse: Vec<f64> = (0..n).map(dot).collect();
                for i in 0..n {
                    let row = matrix[i * n..].iter();
                    let product: f64 = row.zip(&inverse).map(|(h, u)| h * u).sum();
                    let wanted = f64::from(u8::from(i == j));
                    assert!((product - wanted).abs() < 1e-9, "{n} {i} {j} {product}");
                }
            }
            for i in 0..n {
                assert!((0..i).all(|j| upper[i * n + j] == 0.0), "a triangle");
            }
        }
        assert_eq!(upper_of_inverse(&[1.0, 2.0, 2.0, 1.0], 2, &|| true), None);
        assert_eq!(upper_of_inverse(&[f64::NAN], 1, &|| true), None);
    }
}
