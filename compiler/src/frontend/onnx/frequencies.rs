//! Rotary frequencies to the base and scaling they were made with.
//!
//! A graph holds only the frequencies, in f32; a configuration says theta and how it was scaled. Of all numbers that give the
//! frequencies to f32's precision the roundest are taken, for people write round numbers: the frequencies themselves agree with
//! the graph's to [`TOLERANCE`] whatever is taken.

use sotto_ir::decoder::{Rope, RopeScaling};

/// How far a frequency may be off, relative to itself: f32 stores it to 6e-8.
const TOLERANCE: f64 = 1e-6;

/// The embedding with these frequencies, if there is one of the known kinds.
pub(super) fn explain(frequencies: &[f64]) -> Option<Rope> {
    let width = 2 * frequencies.len();
    if frequencies.is_empty() || !frequencies.iter().all(|&f| f.is_finite() && f > 0.0) {
        return None;
    }
    [unscaled, linear, llama3]
        .iter()
        .filter_map(|guess| guess(frequencies, width))
        .find(|rope| gives(rope, frequencies, width))
}

fn gives(rope: &Rope, frequencies: &[f64], width: usize) -> bool {
    let ours = rope.frequencies(width);
    ours.iter()
        .zip(frequencies)
        .all(|(ours, theirs)| (ours - theirs).abs() <= TOLERANCE * theirs)
}

/// The decimal of fewest digits within a relative distance.
pub(super) fn roundest(x: f64, tolerance: f64) -> f64 {
    let close = |digits: usize| {
        let rounded: f64 = format!("{x:.digits$e}").parse().ok()?;
        ((rounded - x).abs() <= tolerance * x.abs()).then_some(rounded)
    };
    (0..17).find_map(close).unwrap_or(x)
}

/// theta, by the ratio of two frequencies that are `steps` apart.
fn theta(ratio: f64, steps: usize, width: usize) -> f64 {
    let exponent = width as f64 / (2.0 * steps as f64);
    // The ratio is known to twice a frequency's precision, which the exponent stretches.
    roundest(ratio.powf(exponent), TOLERANCE * exponent.max(1.0))
}

fn unscaled(frequencies: &[f64], width: usize) -> Option<Rope> {
    let steps = frequencies.len() - 1;
    let theta = match steps {
        // One frequency is 1 whatever theta is.
        0 => 10000.0,
        _ => theta(frequencies[0] / frequencies[steps], steps, width),
    };
    Some(Rope {
        theta,
        scaling: RopeScaling::None,
    })
}

fn linear(frequencies: &[f64], width: usize) -> Option<Rope> {
    let factor = roundest(frequencies[0].recip(), TOLERANCE);
    Some(Rope {
        scaling: RopeScaling::Linear { factor },
        ..unscaled(frequencies, width)?
    })
}

/// Llama 3's scaling: the first frequencies kept, the last divided by a factor, a blend between.
///
/// Low and high frequency factors and the original context only matter by their ratios: the low factor is taken to be 1, as
/// every Llama's is.
fn llama3(frequencies: &[f64], width: usize) -> Option<Rope> {
    let count = frequencies.len();
    let ratio = |i: usize| frequencies[i] / frequencies[i + 1];
    let alike = |a: f64, b: f64| (a - b).abs() <= 4.0 * TOLERANCE * b;
    // The unscaled ratio is found at both ends, or at least at one: a blend or jump comes between.
    let ratios: Vec<f64> = (0..count - 1).map(ratio).collect();
    let ends = [ratios.first()?, ratios.last()?];
    let candidates = ends.map(|&end| {
        let run =
            |list: &mut dyn Iterator<Item = &f64>| list.take_while(|&&r| alike(r, end)).count();
        let (front, back) = (run(&mut ratios.iter()), run(&mut ratios.iter().rev()));
        match front >= back {
            true => theta(frequencies[0] / frequencies[front], front.max(1), width),
            false => theta(
                frequencies[count - 1 - back] / frequencies[count - 1],
                back,
                width,
            ),
        }
    });
    candidates
        .into_iter()
        .flat_map(|theta| blends(frequencies, width, theta))
        .find(|rope| gives(rope, frequencies, width))
}

/// Candidates with this theta, the likeliest first.
fn blends(frequencies: &[f64], width: usize, theta: f64) -> Vec<Rope> {
    let base = Rope {
        theta,
        scaling: RopeScaling::None,
    };
    let base = base.frequencies(width);
    let Some((last, first)) = base.last().zip(frequencies.last()) else {
        return Vec::new();
    };
    let factor = roundest(last / first, TOLERANCE);
    if factor <= 1.0 + TOLERANCE {
        return Vec::new();
    }
    // How much of each frequency was kept: 1 above, 0 below, between them linear in the frequency.
    let kept = |i: usize| (frequencies[i] / base[i] - 1.0 / factor) / (1.0 - 1.0 / factor);
    let blended: Vec<usize> = (0..base.len())
        .filter(|&i| (1e-4..1.0 - 1e-4).contains(&kept(i)))
        .collect();
    let rope = |high: f64, original: usize| Rope {
        theta,
        scaling: RopeScaling::Llama3 {
            factor,
            low_freq_factor: 1.0,
            high_freq_factor: high,
            original_max_positions: original,
        },
    };
    let usual = [4.0, 2.0, 8.0, 3.0, 16.0, 32.0];
    let powers = (0..24).map(|log| 1usize << log);
    let mut found: Vec<Rope> = usual
        .iter()
        .flat_map(|&high| powers.clone().map(move |original| rope(high, original)))
        .collect();
    if let (Some(&i), Some(&j)) = (blended.first(), blended.last())
        && i != j
    {
        // kept = (turns − 1)/(high − 1), turns = original·frequency/2π: two points give the line.
        let slope = (kept(i) - kept(j)) / (base[i] - base[j]);
        let offset = kept(i) - slope * base[i];
        let high = 1.0 - 1.0 / offset;
        let original = slope * (high - 1.0) * std::f64::consts::TAU;
        found.push(rope(roundest(high, 1e-4), original.round() as usize));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(rope: &Rope, width: usize) -> Vec<f64> {
        let as_stored = |f: f64| f64::from(f as f32);
        rope.frequencies(width).into_iter().map(as_stored).collect()
    }

    #[test]
    fn what_models_are_made_with_is_found_again() {
        let llama3 = |factor, original_max_positions| RopeScaling::Llama3 {
            factor,
            low_freq_factor: 1.0,
            high_freq_factor: 4.0,
            original_max_positions,
        };
        for (theta, scaling, width) in [
            (10000.0, RopeScaling::None, 16),
            (10000.0, RopeScaling::None, 128),
            (500000.0, RopeScaling::None, 8),
            (1000000.0, RopeScaling::None, 64),
            (10000.0, RopeScaling::Linear { factor: 2.0 }, 64),
            (500000.0, llama3(8.0, 8192), 128),
            (500000.0, llama3(32.0, 8192), 64),
            (500000.0, llama3(4.0, 32), 16),
        ] {
            let rope = Rope { theta, scaling };
            let found = explain(&stored(&rope, width));
            assert_eq!(found, Some(rope), "{theta} {scaling:?} {width}");
        }
    }

    #[test]
    fn frequencies_of_no_known_kind_are_not_explained() {
        let rope = Rope {
            theta: 10000.0,
            scaling: RopeScaling::None,
        };
        let mut odd = stored(&rope, 32);
        odd[5] *= 1.01;
        assert_eq!(explain(&odd), None);
        assert_eq!(explain(&[]), None);
        assert_eq!(explain(&[1.0, f64::NAN]), None);
        assert_eq!(explain(&[1.0, 0.0]), None);
    }

    #[test]
    fn numbers_are_as_round_as_they_may_be() {
        assert_eq!(roundest(9999.9991, 1e-6), 10000.0);
        assert_eq!(roundest(0.000_001_000_000_01, 1e-6), 1e-6);
        assert_eq!(roundest(12345.678, 1e-9), 12345.678);
    }
}
