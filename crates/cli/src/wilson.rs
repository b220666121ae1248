//! How sure a success rate is.

/// The Wilson score interval of `successes` in `trials` at 95 %, as shares of 1.
/// Source: E. B. Wilson, "Probable inference, the law of succession, and statistical inference", 1927.
pub fn interval(successes: u64, trials: u64) -> (f64, f64) {
    if trials == 0 {
        return (0.0, 1.0);
    }
    const Z: f64 = 1.959_963_984_540_054;
    let n = trials as f64;
    let p = successes as f64 / n;
    let centre = p + Z * Z / (2.0 * n);
    let half = Z * (p * (1.0 - p) / n + Z * Z / (4.0 * n * n)).sqrt();
    let scale = 1.0 + Z * Z / n;
    (((centre - half) / scale).max(0.0), ((centre + half) / scale).min(1.0))
}

#[cfg(test)]
mod tests {
    use super::interval;

    #[test]
    fn agrees_with_published_values() {
        // R: prop.test(81, 263, correct = FALSE)$conf.int, and the textbook case of no success in ten.
        let (low, high) = interval(81, 263);
        assert!((low - 0.2553).abs() < 1e-4 && (high - 0.3662).abs() < 1e-4, "{low} {high}");
        let (low, high) = interval(0, 10);
        assert!(low == 0.0 && (high - 0.2775).abs() < 1e-4, "{low} {high}");
        assert_eq!(interval(0, 0), (0.0, 1.0));
    }
}
