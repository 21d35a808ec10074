//! Rotary embedding: seeing that entries were turned by their positions, and by which frequencies.

use super::array::Array;
use super::error::{Refusal, Step};
use super::value::{Entry, Term, TermId, Terms, Value};

/// How far a cosine or sine may be off, per position: a table stored in f32 is off by the rounding of its angles.
const TOLERANCE: f64 = 2e-6;

/// Where the tokens at hand stand, and what is known of the frequencies.
pub(super) struct Positions<'p> {
    /// Position of the first token.
    pub(super) first: usize,
    /// The frequencies found in an evaluation at other positions.
    pub(super) known: Option<&'p [f64]>,
}

/// One pair of features of a token: feature j became c·x_j − s·x_{j+d/2}, feature j + d/2 became c·x_{j+d/2} + s·x_j.
struct Turn {
    token: u32,
    feature: usize,
    c: f64,
    s: f64,
}

/// The sum of x·cos and of x's halves exchanged, times sin: rotated heads. None if the operands do not look like that at all.
pub(super) fn rotated(
    terms: &mut Terms,
    node: usize,
    (a, b): (&Array<Entry>, &Array<Entry>),
    positions: &Positions<'_>,
) -> Option<Step<Value>> {
    let (a, b) = match exchanged(a, b) {
        true => (b, a),
        false => (a, b),
    };
    let x = a.data.first()?.term;
    let half = a.width() / 2;
    if a.shape != b.shape || half == 0 || a.width() % 2 == 1 {
        return None;
    }
    let mut turns = Vec::new();
    for (row_a, row_b) in a
        .data
        .chunks_exact(2 * half)
        .zip(b.data.chunks_exact(2 * half))
    {
        for j in 0..half {
            let place = |entry: &Entry| (entry.term, entry.token, entry.feature as usize);
            let (token, base) = (row_a[0].token, row_a[0].feature as usize);
            let low = (x, token, base + j);
            let high = (x, token, base + j + half);
            let pairs = [&row_a[j], &row_b[j], &row_a[j + half], &row_b[j + half]];
            if pairs.map(place) != [low, high, high, low] || !base.is_multiple_of(2 * half) {
                return None;
            }
            let [c, minus_s, c2, s] = pairs.map(|entry| entry.factor);
            if (c - c2).abs() > TOLERANCE || (s + minus_s).abs() > TOLERANCE {
                return Some(Err(not_rotary(
                    "the halves of a head are turned by different angles",
                )));
            }
            turns.push(Turn {
                token,
                feature: j,
                c,
                s,
            });
        }
    }
    Some(accept(terms, node, x, &turns, half, positions).map(|term| {
        Value::act(a.map(|entry| Entry {
            term,
            factor: 1.0,
            ..*entry
        }))
    }))
}

/// Whether the second operand is the one whose entries are in place.
fn exchanged(a: &Array<Entry>, b: &Array<Entry>) -> bool {
    let (Some(first), Some(second)) = (a.data.first(), b.data.first()) else {
        return false;
    };
    first.feature > second.feature
}

/// The RotaryEmbedding operation on heads [batch, heads, tokens, head_dim] with tables [tokens, head_dim/2].
pub(super) fn operated(
    terms: &mut Terms,
    node: usize,
    x: &Array<Entry>,
    (cos, sin): (&Array<f64>, &Array<f64>),
    positions: &Positions<'_>,
) -> Step<Value> {
    let &[_, _, tokens, width] = &x.shape[..] else {
        return Err(Refusal::new(
            format!("heads of shape {:?}", x.shape),
            "[batch, heads, tokens, head_dim]",
        ));
    };
    let half = width / 2;
    let table = |table: &Array<f64>| {
        (table.data.len() == tokens * half && table.width() == half).then_some(())
    };
    if half == 0 || table(cos).and(table(sin)).is_none() {
        return Err(Refusal::new(
            format!("tables of shapes {:?} and {:?}", cos.shape, sin.shape),
            format!("[{tokens}, {half}]: a row for each token, all features turned"),
        ));
    }
    let Some(term) = x.data.first().map(|entry| entry.term) else {
        return Err(not_rotary("there are no heads"));
    };
    let mut turns = Vec::new();
    for (row, entries) in x.data.chunks_exact(width).enumerate() {
        let (token, base) = (entries[0].token, entries[0].feature as usize);
        let whole = entries.iter().enumerate().all(|(j, entry)| {
            (
                entry.term,
                entry.token,
                entry.feature as usize,
                entry.factor,
            ) == (term, token, base + j, 1.0)
        });
        if !whole || base % width != 0 {
            return Err(not_rotary("the operand is not a projection's heads"));
        }
        turns.extend((0..half).map(|feature| {
            let place = row % tokens * half + feature;
            Turn {
                token,
                feature,
                c: cos.data[place],
                s: sin.data[place],
            }
        }));
    }
    let term = accept(terms, node, term, &turns, half, positions)?;
    Ok(Value::act(x.map(|entry| Entry { term, ..*entry })))
}

fn not_rotary(found: impl Into<String>) -> Refusal {
    Refusal::new(
        found,
        "rotary embedding: feature j of a head turned with feature j + head_dim/2 by the token's position times a frequency",
    )
}

/// Finds the frequencies, checks every turn against them and defines the rotated term.
fn accept(
    terms: &mut Terms,
    node: usize,
    x: TermId,
    turns: &[Turn],
    half: usize,
    positions: &Positions<'_>,
) -> Step<TermId> {
    if !matches!(terms.get(x), Term::Linear { .. }) {
        let found = format!("{} is rotated", terms.get(x).describe());
        return Err(not_rotary(found));
    }
    let frequencies = match positions.known {
        Some(known) if known.len() == half => known.to_vec(),
        _ => frequencies(turns, half, positions.first)?,
    };
    for turn in turns {
        let position = (positions.first + turn.token as usize) as f64;
        let (s, c) = (position * frequencies[turn.feature]).sin_cos();
        let off = (turn.c - c).abs().max((turn.s - s).abs());
        // A NaN is off, too.
        if off.is_nan() || off > TOLERANCE * (1.0 + position) {
            return Err(not_rotary(format!(
                "position {position} turns feature {} by cosine {} and sine {}, where its frequency {} gives {c} and {s}",
                turn.feature, turn.c, turn.s, frequencies[turn.feature]
            )));
        }
    }
    let width = terms.width(x);
    Ok(terms.add(Term::Rope { x, frequencies }, width, node))
}

/// The angle per position of every feature, by the tokens at hand.
fn frequencies(turns: &[Turn], half: usize, first: usize) -> Step<Vec<f64>> {
    let find = |feature: usize| {
        let at = |position: usize| {
            let token = position.checked_sub(first)? as u32;
            turns
                .iter()
                .find(|turn| (turn.token, turn.feature) == (token, feature))
        };
        // At position 1 the angle is the frequency, which is below half a turn.
        if let Some(turn) = at(1) {
            return Some(turn.s.atan2(turn.c));
        }
        // Else the difference of two neighbours says roughly how many turns the first has made.
        let (one, two) = (at(first)?, at(first + 1)?);
        let step = (two.s * one.c - two.c * one.s).atan2(two.c * one.c + two.s * one.s);
        let angle = one.s.atan2(one.c);
        let turns = (step * first as f64 - angle) / std::f64::consts::TAU;
        Some((angle + turns.round() * std::f64::consts::TAU) / first as f64)
    };
    let found: Option<Vec<f64>> = (0..half).map(find).collect();
    found.ok_or_else(|| {
        not_rotary("the graph is for one token at one position, so the frequencies cannot be seen; export with a dynamic number of tokens")
    })
}
