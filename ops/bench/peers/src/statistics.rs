//! Medians, and ratios within a round. Pure.

/// The middle of some figures; of an even number the mean of the two in the middle; none of nothing.
#[must_use]
pub fn median(figures: &[f64]) -> Option<f64> {
    let mut sorted: Vec<f64> = figures.iter().copied().filter(|figure| figure.is_finite()).collect();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        even if even % 2 == 0 => Some(f64::midpoint(sorted[middle - 1], sorted[middle])),
        _ => Some(sorted[middle]),
    }
}

/// What one system did over what another did in the same round, for each round in which both did something.
#[must_use]
pub fn ratios(ours: &[Option<f64>], theirs: &[Option<f64>]) -> Vec<f64> {
    let pairs = ours.iter().zip(theirs);
    pairs.filter_map(|(ours, theirs)| Some((*ours)? / (*theirs)?)).filter(|ratio| ratio.is_finite() && *ratio > 0.0).collect()
}

/// The least and the greatest; none of nothing.
pub(crate) fn range(figures: &[f64]) -> Option<(f64, f64)> {
    let least = figures.iter().copied().min_by(f64::total_cmp)?;
    let greatest = figures.iter().copied().max_by(f64::total_cmp)?;
    Some((least, greatest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_whatever_the_order() {
        for (figures, middle) in [
            (&[][..], None),
            (&[7.0], Some(7.0)),
            (&[9.0, 1.0], Some(5.0)),
            (&[3.0, 1000.0, 1.0], Some(3.0)),
            (&[4.0, 1.0, 3.0, 2.0], Some(2.5)),
            (&[f64::NAN, 2.0], Some(2.0)),
        ] {
            assert_eq!(median(figures), middle, "{figures:?}");
        }
    }

    #[test]
    fn ratios_are_taken_within_a_round_and_only_where_both_have_a_figure() {
        let ours = [Some(10.0), None, Some(30.0), Some(8.0), Some(1.0)];
        let theirs = [Some(5.0), Some(1.0), None, Some(16.0), Some(0.0)];
        assert_eq!(ratios(&ours, &theirs), [2.0, 0.5]);
        // The median of ratios is not the ratio of medians: a slow minute hits both.
        let (ours, theirs) = ([Some(100.0), Some(10.0), Some(20.0)], [Some(50.0), Some(5.0), Some(10.0)]);
        assert_eq!(median(&ratios(&ours, &theirs)), Some(2.0));
    }

    #[test]
    fn the_range_is_from_the_least_to_the_greatest() {
        assert_eq!(range(&[3.0, 1.0, 2.0]), Some((1.0, 3.0)));
        assert_eq!(range(&[]), None);
    }
}
