//! Products of whole numbers against exact arithmetic, on each instruction set of this CPU.

use proptest::prelude::*;

use super::*;

const MOST: f32 = 127.0;

fn packed(isa: Isa, w: Matrix<'_>, bias: &[f32]) -> Packed {
    let Ok(packed) = Packed::read(isa, &[w], Some(bias), Form::Integers);
    packed
}

/// The scale of a column of weights or a row of inputs, and its values in it.
fn rounded(values: &[f32], round: impl Fn(f32, f32) -> f32) -> (f32, Vec<i64>) {
    let largest = values.iter().fold(0f32, |most, x| most.max(x.abs()));
    let code = |x: &f32| if largest == 0.0 { 0 } else { round(*x, largest).round_ties_even() as i64 };
    (largest / MOST, values.iter().map(code).collect())
}

/// `relu(x Wᵀ + b + residual)` in exact sums of whole numbers.
fn expected(x: Matrix<'_>, w: Matrix<'_>, bias: &[f32], residual: Option<&[f32]>) -> Vec<f32> {
    let columns: Vec<_> = (0..w.rows).map(|row| rounded(w.row(row), |w, largest| w / (largest / MOST))).collect();
    let mut out = Vec::new();
    for row in 0..x.rows {
        let (of_row, inputs) = rounded(x.row(row), |x, largest| x * (MOST / largest));
        for (column, ((of_column, weights), bias)) in columns.iter().zip(bias).enumerate() {
            let sum: i64 = inputs.iter().zip(weights).map(|(x, w)| x * w).sum();
            let y = sum as f32 * (of_row * of_column) + bias + residual.map_or(0.0, |residual| residual[row * w.rows + column]);
            out.push(if y > 0.0 { y } else { 0.0 });
        }
    }
    out
}

#[track_caller]
fn assert_same(ours: &[f32], expected: &[f32], what: &str) {
    assert_eq!(ours.len(), expected.len(), "{what}");
    for (at, (ours, expected)) in ours.iter().zip(expected).enumerate() {
        // A zero may have either sign.
        assert!(ours == expected, "{what}: {ours} at {at}, expected {expected}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    /// The same answers to the bit, whichever instructions the sums are made by.
    #[test]
    fn products_are_those_of_the_whole_numbers(
        m in 1usize..120, n in 1usize..100, depth in prop_oneof![1usize..70, 1000usize..1100, 2040usize..2060],
        (margin, has_residual) in (0usize..9, any::<bool>()), seed in any::<u64>(),
    ) {
        let mut x = tests::values(m * (depth + margin), seed);
        let mut w = tests::values(n * depth, seed ^ 1);
        // Rows of nothing, rows of nearly nothing, rows of very different sizes.
        for (row, x) in x.chunks_exact_mut(depth + margin).enumerate() {
            x.iter_mut().for_each(|x| *x *= [1.0, 0.0, 1e20, 1e-20, 100.0][row % 5]);
        }
        w[..depth].fill(0.0);
        let (bias, residual) = (tests::values(n, seed ^ 2), has_residual.then(|| tests::values(m * n, seed ^ 3)));
        let (x, w) = (Matrix { values: &x, rows: m, width: depth, stride: depth + margin }, Matrix::dense(&w, depth));
        let expected = expected(x, w, &bias, residual.as_deref());
        for isa in Isa::available() {
            let packed = packed(isa, w, &bias);
            prop_assert!(packed.is_finite && packed.weight_bytes() == 1.0);
            assert_same(&linear(x, &packed, residual.as_deref(), Activation::Relu), &expected, &format!("{isa:?} {m}x{n}x{depth}"));
        }
    }

    /// Each product is off by at most half a scale of either side times the other side.
    #[test]
    fn products_are_near_those_of_the_values(m in 1usize..20, n in 1usize..60, depth in 1usize..700, seed in any::<u64>()) {
        let (x, w, up) = (tests::values(m * depth, seed), tests::values(n * depth, seed ^ 1), tests::values(n * depth, seed ^ 2));
        let [x, w, up] = [&x, &w, &up].map(|values| Matrix::dense(values, depth));
        let largest = |row: &[f32]| f64::from(row.iter().fold(0f32, |most, x| most.max(x.abs())));
        let exact = |row: usize, column: usize, w: Matrix<'_>| {
            let (x, w) = (x.row(row), w.row(column));
            let sum: f64 = x.iter().zip(w).map(|(x, w)| f64::from(*x) * f64::from(*w)).sum();
            let [half_x, half_w] = [x, w].map(|values| largest(values) / 253.9);
            let off: f64 = x.iter().zip(w).map(|(x, w)| half_x * f64::from(w.abs()) + half_w * f64::from(x.abs()) + half_x * half_w).sum();
            (sum, off)
        };
        for isa in Isa::available() {
            let ours = linear(x, &packed(isa, w, &vec![0.0; n]), None, Activation::Identity);
            let Ok(both) = Packed::gated(isa, [&w, &up], [&vec![0.0; n], &vec![0.0; n]], Form::Integers);
            let gated = linear(x, &both, None, Activation::Identity);
            for at in 0..m * n {
                let (row, column) = (at / n, at % n);
                let ((gate, gate_off), (up, up_off)) = (exact(row, column, w), exact(row, column, up));
                prop_assert!((f64::from(ours[at]) - gate).abs() <= gate_off + 1e-5, "{:?}: {} at {}, expected {}", isa, ours[at], at, gate);
                let off = gate_off * up.abs() + up_off * gate.abs() + gate_off * up_off;
                prop_assert!((f64::from(gated[at]) - gate * up).abs() <= off + 1e-3, "{:?}: {} at {}, expected {}", isa, gated[at], at, gate * up);
            }
        }
    }
}

/// Sums as large as they can be, of pairs that have no room in 16 bits.
#[test]
fn nothing_is_cut_off() {
    let (m, n, depth) = (7, 40, integers_depth());
    for (x, w) in [(1.0, 1.0), (1.0, -1.0), (-1.0, -1.0), (-1.0, 1.0)] {
        let (x, w) = (vec![x; m * depth], vec![w; n * depth]);
        let (x, w) = (Matrix::dense(&x, depth), Matrix::dense(&w, depth));
        let (bias, residual) = (vec![0.0; n], vec![depth as f32; m * n]);
        let expected = expected(x, w, &bias, Some(&residual));
        for isa in Isa::available() {
            assert_same(&linear(x, &packed(isa, w, &bias), Some(&residual), Activation::Relu), &expected, &format!("{isa:?}"));
        }
    }
}

/// As many inputs as there may be, and with one more the weights stay as they are.
fn integers_depth() -> usize {
    let depth = integers::Integers::MOST_DEPTH;
    let w = vec![0.1; depth + 1];
    let bytes = |depth: usize| packed(Isa::Portable, Matrix::dense(&w[..depth], depth), &[0.0]).weight_bytes();
    assert_eq!((bytes(depth), bytes(depth + 1)), (1.0, 4.0));
    depth
}

#[test]
fn what_is_not_a_number_stays_in_its_row_or_column() {
    let (m, n, depth) = (14, 40, 130);
    for wrong in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let (clean, mut x) = (tests::values(n * depth, 1), tests::values(m * depth, 2));
        let (mut w, zeros) = (clean.clone(), vec![0.0; n]);
        x[3 * depth + 17] = wrong;
        w[38 * depth + 129] = wrong;
        let [clean, x, w] = [&clean, &x, &w].map(|values| Matrix::dense(values, depth));
        for isa in Isa::available() {
            let broken = packed(isa, w, &zeros);
            assert!(!broken.is_finite, "{isa:?}");
            let is_nan = |answer: Vec<f32>| (0..answer.len()).filter(|at| answer[*at].is_nan()).collect::<Vec<_>>();
            let row: Vec<usize> = (3 * n..4 * n).collect();
            assert_eq!(is_nan(linear(x, &packed(isa, clean, &zeros), None, Activation::Relu)), row, "{isa:?} {wrong}");
            let column: Vec<usize> = (0..n).map(|row| row * n + 38).collect();
            assert_eq!(is_nan(linear(clean, &broken, None, Activation::Relu)), column, "{isa:?} {wrong}");
        }
    }
}

#[test]
fn no_rows_have_no_answer() {
    let w = tests::values(8 * 20, 1);
    for isa in Isa::available() {
        let none = Matrix { values: &[], rows: 0, width: 20, stride: 20 };
        assert!(linear(none, &packed(isa, Matrix::dense(&w, 20), &[0.0; 8]), None, Activation::Relu).is_empty());
    }
}
