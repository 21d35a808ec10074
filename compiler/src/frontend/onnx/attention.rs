//! Attention: scores, mask, softmax and mix as separate operations, or ONNX's `Attention`.

use super::array::Array;
use super::call::Call;
use super::error::{Refusal, Step};
use super::rules::Rules;
use super::value::{Cached, Entry, Rows, Term, TermId, Terms, Value};
use sotto_ir::decoder::Architecture;

/// A masked score is below this; what f32 can hold of it vanishes in the softmax.
const MASKED: f64 = -1e4;

/// MatMul of two activations: scores, or values weighted by probabilities.
pub(super) fn multiplied(rules: &mut Rules<'_>, call: &Call<'_>) -> Step<Value> {
    let (a, b) = (call.act(0)?.clone(), call.act(1)?.clone());
    match rules.first(&a) {
        Some((_, Term::Probabilities(_))) => mixed(rules, call, &a, &b),
        _ => {
            let rank = b.shape.len();
            if rank < 3 {
                return Err(rules.misused(call));
            }
            let mut axes: Vec<usize> = (0..rank).collect();
            axes.swap(rank - 2, rank - 1);
            let keys = b.transpose(&axes).ok_or_else(|| call.misfit())?;
            scores(rules, call, &a, &keys).map(|(value, _)| value)
        }
    }
}

/// Extents of heads: [1, heads, tokens, features].
fn heads(array: &Array<Entry>) -> Option<[usize; 3]> {
    match array.shape[..] {
        [1, heads, tokens, features] | [heads, tokens, features]
            if heads * tokens * features > 0 =>
        {
            Some([heads, tokens, features])
        }
        _ => None,
    }
}

/// Whether attention scores are of such queries or keys: rotated ones in a Llama, projections as they are in a GPT-2.
fn is_scored(rules: &Rules<'_>, id: TermId) -> bool {
    match rules.terms.get(id) {
        Term::Rope { .. } => true,
        Term::Linear { .. } | Term::Part { .. } => rules.terms.family() == Some(Architecture::Gpt2),
        _ => false,
    }
}

/// Entries that are a stretch of a projection's features, as entries of a part of their own: queries, keys and values that are
/// computed side by side. Anything else stays as it is.
fn part(rules: &mut Rules<'_>, call: &Call<'_>, array: &Array<Entry>) -> Array<Entry> {
    // The last position is of the tokens at hand, whatever came before.
    let Some(x) = array.data.last().map(|entry| entry.term) else {
        return array.clone();
    };
    let features = || {
        let of_x = array.data.iter().filter(|entry| entry.term == x);
        of_x.map(|entry| entry.feature)
    };
    let (Some(first), Some(last)) = (features().min(), features().max()) else {
        return array.clone();
    };
    let width = (last - first) as usize + 1;
    if !matches!(rules.terms.get(x), Term::Linear { .. }) || width == rules.terms.width(x) {
        return array.clone();
    }
    let term = Term::Part {
        x,
        first: first as usize,
    };
    let term = rules.terms.add(term, width, call.number);
    array.map(|entry| match entry.term == x {
        true => Entry {
            term,
            feature: entry.feature - first,
            ..*entry
        },
        false => *entry,
    })
}

/// Products of queries [heads, tokens, head_dim] and keys [heads, positions, head_dim], with the factor both have together.
fn scores(
    rules: &mut Rules<'_>,
    call: &Call<'_>,
    queries: &Array<Entry>,
    keys: &Array<Entry>,
) -> Step<(Value, TermId)> {
    let expected = "queries of all heads times the keys of all positions";
    let (queries, keys) = (&part(rules, call, queries), &part(rules, call, keys));
    let Some(([count, tokens, head_dim], [same, positions, same_dim])) =
        heads(queries).zip(heads(keys))
    else {
        return Err(Refusal::new(
            format!(
                "operands of shapes {:?} and {:?}",
                queries.shape, keys.shape
            ),
            expected,
        ));
    };
    if (count, head_dim) != (same, same_dim) {
        return Err(call.misfit());
    }
    let q = match rules.first(queries) {
        Some((q, _)) if is_scored(rules, q) => q,
        _ => return Err(rules.misused(call)),
    };
    let in_place = queries.data.iter().enumerate().all(|(i, entry)| {
        let (head, token, j) = (i / head_dim / tokens, i / head_dim % tokens, i % head_dim);
        (entry.term, entry.token as usize, entry.feature as usize)
            == (q, token, head * head_dim + j)
    });
    if !in_place || rules.terms.width(q) != count * head_dim {
        return Err(Refusal::new(
            "the left operand is not the queries, head by head",
            expected,
        ));
    }
    let (k, key_factor) = cached(rules, keys, tokens)?;
    if !is_scored(rules, k.now) {
        return Err(Refusal::new(
            format!("the keys are {}", rules.terms.get(k.now).describe()),
            match rules.terms.family() {
                Some(Architecture::Gpt2) => "the key projection",
                _ => "keys after rotary embedding",
            },
        ));
    }
    let query_factor = queries.factor().ok_or_else(|| call.misfit())?;
    let scale = query_factor * key_factor;
    let heads = count;
    let width = heads * positions;
    let term = rules
        .terms
        .add(Term::Scores { q, k, heads }, width, call.number);
    let shape = [1, heads, tokens, positions];
    let array = Array::from_fn(&shape, |index| Entry {
        term,
        token: index[2] as u32,
        feature: (index[1] * positions + index[3]) as u32,
        factor: scale,
    });
    let shape = match queries.shape.len() {
        4 => shape.to_vec(),
        _ => shape[1..].to_vec(),
    };
    let array = array.and_then(|array| array.reshape(&shape));
    Ok((Value::act(array.ok_or_else(|| call.misfit())?), term))
}

/// Sees that an array [heads, positions, head_dim] is the cache's keys (or values) and then the new ones, each head repeated for
/// the query heads it serves.
fn cached(rules: &Rules<'_>, array: &Array<Entry>, tokens: usize) -> Step<(Cached, f64)> {
    let wrong = |found: &str| {
        Refusal::new(
            found,
            "keys and values of earlier tokens, then of these, each head repeated for its group of query heads",
        )
    };
    let Some([count, positions, head_dim]) = heads(array) else {
        return Err(wrong("the cached operand has not the extents of heads"));
    };
    let Some(past) = positions.checked_sub(tokens) else {
        return Err(wrong("there are fewer positions than tokens"));
    };
    if past != rules.past {
        return Err(wrong("not all positions are attended to"));
    }
    let now = array.data[past * head_dim].term;
    let width = rules.terms.width(now);
    let kv_heads = width / head_dim;
    if !width.is_multiple_of(head_dim) || kv_heads == 0 || !count.is_multiple_of(kv_heads) {
        return Err(wrong("the heads do not divide the features"));
    }
    let earlier = (past > 0).then(|| array.data[0].term);
    if let Some(earlier) = earlier
        && (!matches!(rules.terms.get(earlier), Term::Past(_))
            || rules.terms.width(earlier) != width)
    {
        return Err(wrong(
            "what comes before the new keys or values is no input of the graph",
        ));
    }
    let group = count / kv_heads;
    let in_place = array.data.iter().enumerate().all(|(i, entry)| {
        let (head, position, j) = (
            i / head_dim / positions,
            i / head_dim % positions,
            i % head_dim,
        );
        let (term, token) = match position.checked_sub(past) {
            Some(token) => (Some(now), token),
            None => (earlier, position),
        };
        Some(entry.term) == term
            && entry.token as usize == token
            && entry.feature as usize == head / group * head_dim + j
    });
    let factor = array.factor();
    match (in_place, factor) {
        (true, Some(factor)) => Ok((
            Cached {
                past: earlier,
                now,
                kv_heads,
            },
            factor,
        )),
        _ => Err(wrong("heads, positions or features are in another order")),
    }
}

/// Add of a mask to scores.
pub(super) fn masked(
    rules: &mut Rules<'_>,
    call: &Call<'_>,
    act: usize,
    constant: usize,
) -> Step<Value> {
    let scores = call.act(act)?.clone();
    let mask = call.floats(constant)?;
    let mask = mask.expand(&scores.shape).ok_or_else(|| call.misfit())?;
    accept_mask(rules, call, &scores, &mask)
}

/// Scores of which `mask` (0, or far below) leaves what a causal decoder attends to.
fn accept_mask(
    rules: &mut Rules<'_>,
    call: &Call<'_>,
    scores: &Array<Entry>,
    mask: &Array<f64>,
) -> Step<Value> {
    let Some((id, Term::Scores { .. })) = rules.first(scores) else {
        return Err(rules.misused(call));
    };
    let scale = scores.factor().ok_or_else(|| call.misfit())?;
    if mask.shape != scores.shape || !whole_rows(rules, scores) {
        return Err(call.misfit());
    }
    let positions = scores.width();
    for (entry, &mask) in scores.data.iter().zip(&mask.data) {
        let position = entry.feature as usize % positions.max(1);
        let sees = position <= rules.past + entry.token as usize;
        let fits = match sees {
            true => mask == 0.0,
            false => mask <= MASKED,
        };
        if !fits {
            let token = rules.past + entry.token as usize;
            return Err(Refusal::new(
                format!("the mask at position {token} looking at position {position} is {mask}"),
                "a causal mask: 0 up to the token's own position, far below 0 beyond it (no padding, no sliding window)",
            ));
        }
    }
    let width = rules.terms.width(id);
    let term = rules.terms.add(Term::Masked(id, scale), width, call.number);
    Ok(Value::act(scores.map(|entry| Entry {
        term,
        factor: 1.0,
        ..*entry
    })))
}

/// How many positions scores are of.
fn positions(rules: &Rules<'_>, id: TermId) -> Option<usize> {
    let scores = match *rules.terms.get(id) {
        Term::Masked(scores, _) => scores,
        _ => id,
    };
    match rules.terms.get(scores) {
        Term::Scores { heads, .. } => rules.terms.width(id).checked_div(*heads),
        _ => None,
    }
}

/// Whether every row is one head's scores of one token, all positions in order: else a softmax mixes what does not belong together.
fn whole_rows(rules: &Rules<'_>, array: &Array<Entry>) -> bool {
    let Some(positions) = rules
        .first(array)
        .and_then(|(id, _)| positions(rules, id))
        .filter(|&positions| positions > 0 && positions == array.width())
    else {
        return false;
    };
    let (term, factor) = (array.data[0].term, array.data[0].factor);
    array.data.chunks_exact(positions).all(|row| {
        let (token, base) = (row[0].token, row[0].feature as usize);
        base.is_multiple_of(positions)
            && row.iter().enumerate().all(|(position, entry)| {
                (entry.term, entry.token, entry.factor) == (term, token, factor)
                    && entry.feature as usize == base + position
            })
    })
}

/// Softmax over the positions.
pub(super) fn softmax(rules: &mut Rules<'_>, call: &Call<'_>) -> Step<Value> {
    let array = call.act(0)?.clone();
    let rank = array.shape.len();
    if rank == 0 || call.axis(-1, rank)? != rank - 1 {
        return Err(rules.misused(call));
    }
    if !whole_rows(rules, &array) {
        return Err(rules.misused(call));
    }
    let masked = match rules.first(&array) {
        Some((id, Term::Masked(..))) if array.factor() == Some(1.0) => id,
        Some((_, Term::Scores { .. })) => {
            // One token sees all positions: there is nothing to mask, and any other number of tokens is refused here.
            let open = Array::filled(&array.shape, 0.0).ok_or_else(|| call.misfit())?;
            let value = accept_mask(rules, call, &array, &open)?;
            match &value {
                Value::Act(array) => array.data[0].term,
                _ => return Err(call.misfit()),
            }
        }
        _ => return Err(rules.misused(call)),
    };
    let width = rules.terms.width(masked);
    let term = rules
        .terms
        .add(Term::Probabilities(masked), width, call.number);
    Ok(Value::act(array.map(|entry| Entry {
        term,
        factor: 1.0,
        ..*entry
    })))
}

/// IsNaN of probabilities: exporters guard against rows that are masked as a whole.
pub(super) fn nan_test(rules: &mut Rules<'_>, call: &Call<'_>) -> Step<Value> {
    let array = call.act(0)?.clone();
    let Some((id, Term::Probabilities(_))) = rules.first(&array) else {
        return Err(rules.misused(call));
    };
    let width = rules.terms.width(id);
    let term = rules.terms.add(Term::NanTest(id), width, call.number);
    Ok(Value::act(array.map(|entry| Entry { term, ..*entry })))
}

/// Where: a guard against NaN, or a mask.
pub(super) fn chosen(rules: &mut Rules<'_>, call: &Call<'_>) -> Step<Value> {
    match (call.value(0)?, call.value(1)?, call.value(2)?) {
        (Value::Act(test), _, Value::Act(x)) => {
            let guards = |(test, x): (&Entry, &Entry)| {
                *rules.terms.get(test.term) == Term::NanTest(x.term)
                    && (test.token, test.feature) == (x.token, x.feature)
            };
            let whole = test.shape == x.shape && test.data.iter().zip(&x.data).all(guards);
            match whole && call.scalar(1) == Some(0.0) {
                true => Ok(Value::Act(x.clone())),
                false => Err(rules.misused(call)),
            }
        }
        (Value::Bool(test), Value::Act(scores), _) => {
            let fill = call.scalar(2).ok_or_else(|| call.misfit())?;
            let mask = test.map(|&kept| if kept { 0.0 } else { fill });
            let mask = mask.expand(&scores.shape).ok_or_else(|| call.misfit())?;
            accept_mask(rules, call, &scores.clone(), &mask)
        }
        (Value::Bool(test), _, Value::Act(scores)) => {
            let fill = call.scalar(1).ok_or_else(|| call.misfit())?;
            let mask = test.map(|&cut| if cut { fill } else { 0.0 });
            let mask = mask.expand(&scores.shape).ok_or_else(|| call.misfit())?;
            accept_mask(rules, call, &scores.clone(), &mask)
        }
        _ => Err(rules.misused(call)),
    }
}

/// Probabilities [heads, tokens, positions] times values [heads, positions, head_dim].
fn mixed(
    rules: &mut Rules<'_>,
    call: &Call<'_>,
    probabilities: &Array<Entry>,
    values: &Array<Entry>,
) -> Step<Value> {
    let values = &part(rules, call, values);
    let shapes = heads(probabilities).zip(heads(values));
    let Some(([count, tokens, positions], [same, same_positions, head_dim])) = shapes else {
        return Err(call.misfit());
    };
    if (count, positions) != (same, same_positions) {
        return Err(call.misfit());
    }
    let id = probabilities.data[0].term;
    let in_place = probabilities.data.iter().enumerate().all(|(i, entry)| {
        let (head, token, position) = (
            i / positions / tokens,
            i / positions % tokens,
            i % positions,
        );
        *entry
            == Entry {
                term: id,
                token: token as u32,
                feature: (head * positions + position) as u32,
                factor: 1.0,
            }
    });
    let (v, value_factor) = cached(rules, values, tokens)?;
    if !in_place || value_factor != 1.0 {
        return Err(Refusal::new(
            "probabilities or values are scaled or in another order",
            "the softmax of the scores times the values of all positions",
        ));
    }
    if !matches!(
        rules.terms.get(v.now),
        Term::Linear { .. } | Term::Part { .. }
    ) {
        return Err(Refusal::new(
            format!("{} are mixed", rules.terms.get(v.now).describe()),
            "the value projection",
        ));
    }
    let term = Term::Attend {
        probabilities: id,
        v,
    };
    let term = rules.terms.add(term, count * head_dim, call.number);
    let shape = [count, tokens, head_dim];
    let array = Array::from_fn(&shape, |index| Entry {
        term,
        token: index[1] as u32,
        feature: (index[0] * head_dim + index[2]) as u32,
        factor: 1.0,
    });
    let shape = match probabilities.shape.len() {
        4 => vec![1, count, tokens, head_dim],
        _ => shape.to_vec(),
    };
    let array = array.and_then(|array| array.reshape(&shape));
    array.map(Value::act).ok_or_else(|| call.misfit())
}

/// ONNX's Attention: queries, keys, values, and optionally a mask and earlier keys and values.
pub(super) fn operation(rules: &mut Rules<'_>, call: &Call<'_>) -> Step<Vec<Value>> {
    if call.float_attribute("softcap", 0.0) != 0.0 || call.has(6) || call.node.outputs.len() > 3 {
        return Err(Refusal::new(
            "softcap, lengths without padding, or scores as an output",
            "Attention without them",
        ));
    }
    let queries = split_heads(call, 0, "q_num_heads")?;
    let mut keys = split_heads(call, 1, "kv_num_heads")?;
    let mut values = split_heads(call, 2, "kv_num_heads")?;
    for (present, past) in [(&mut keys, 4), (&mut values, 5)] {
        if call.has(past) {
            let joined = Array::concat(&[&**call.act(past)?, present], 2);
            *present = joined.ok_or_else(|| call.misfit())?;
        }
    }
    let (many_keys, many_values) = match (heads(&queries), heads(&keys), heads(&values)) {
        (Some([q, ..]), Some([k, ..]), Some([v, ..])) if k == v && q % k == 0 => {
            let places: Vec<usize> = (0..q).map(|head| head / (q / k)).collect();
            (keys.pick(1, &places), values.pick(1, &places))
        }
        _ => (None, None),
    };
    let (Some(many_keys), Some(many_values)) = (many_keys, many_values) else {
        return Err(call.misfit());
    };
    let (scores, _) = scores(rules, call, &queries, &many_keys)?;
    let Value::Act(scores) = scores else {
        return Err(call.misfit());
    };
    let usual = 1.0 / (queries.width() as f64).sqrt();
    let scale = f64::from(call.float_attribute("scale", usual as f32));
    let scaled = scores.map(|entry| Entry {
        factor: entry.factor * scale,
        ..*entry
    });
    let mask = attention_mask(rules, call, &scaled)?;
    let Value::Act(masked) = accept_mask(rules, call, &scaled, &mask)? else {
        return Err(call.misfit());
    };
    let id = masked.data[0].term;
    let width = rules.terms.width(id);
    let term = rules.terms.add(Term::Probabilities(id), width, call.number);
    let probabilities = masked.map(|entry| Entry { term, ..*entry });
    let Value::Act(out) = mixed(rules, call, &probabilities, &many_values)? else {
        return Err(call.misfit());
    };
    let out = match call.act(0)?.shape.len() {
        4 => Value::Act(out),
        _ => Value::act(joined_heads(&out).ok_or_else(|| call.misfit())?),
    };
    Ok(vec![out, Value::act(keys), Value::act(values)])
}

/// Operand `i` as [1, heads, tokens, head_dim].
fn split_heads(call: &Call<'_>, i: usize, attribute: &str) -> Step<Array<Entry>> {
    let array = call.act(i)?;
    match array.shape[..] {
        [_, _, _, _] => Ok((**array).clone()),
        [batch, tokens, width] => {
            let heads = usize::try_from(call.int_attribute(attribute, 0)).unwrap_or(0);
            let split = width
                .checked_div(heads)
                .and_then(|head_dim| array.reshape(&[batch, tokens, heads, head_dim]))
                .and_then(|split| split.transpose(&[0, 2, 1, 3]));
            split.ok_or_else(|| call.misfit())
        }
        _ => Err(call.misfit()),
    }
}

/// [1, heads, tokens, head_dim] as [1, tokens, features].
fn joined_heads(array: &Array<Entry>) -> Option<Array<Entry>> {
    let [heads, tokens, head_dim] = heads(array)?;
    array
        .transpose(&[0, 2, 1, 3])?
        .reshape(&[1, tokens, heads * head_dim])
}

/// What is added to the scores by the mask operand and `is_causal`.
fn attention_mask(rules: &Rules<'_>, call: &Call<'_>, scores: &Array<Entry>) -> Step<Array<f64>> {
    let cut = f64::NEG_INFINITY;
    let given = match call.inputs.get(3) {
        None | Some(Value::Absent) => None,
        Some(Value::Bool(mask)) => Some(mask.map(|&kept| if kept { 0.0 } else { cut })),
        Some(_) => Some((*call.floats(3)?).clone()),
    };
    let open = || Array::filled(&scores.shape, 0.0);
    let mask = match given {
        Some(mask) => mask.expand(&scores.shape),
        None => open(),
    };
    let mut mask = mask.filter(|mask| mask.shape == scores.shape);
    if call.int_attribute("is_causal", 0) != 0 {
        if rules.past > 0 {
            return Err(Refusal::new(
                "is_causal together with earlier keys",
                "an explicit mask where there are earlier tokens",
            ));
        }
        for (entry, mask) in scores
            .data
            .iter()
            .zip(mask.iter_mut().flat_map(|m| &mut m.data))
        {
            if entry.feature as usize % scores.width() > entry.token as usize {
                *mask = cut;
            }
        }
    }
    mask.ok_or_else(|| call.misfit())
}

/// The scores that probabilities are of: their term, and what they are scaled by.
pub(super) fn scores_of(terms: &Terms, probabilities: TermId) -> Option<(&Term, f64)> {
    let Term::Probabilities(masked) = *terms.get(probabilities) else {
        return None;
    };
    match *terms.get(masked) {
        Term::Masked(scores, scale) => Some((terms.get(scores), scale)),
        _ => None,
    }
}

/// Rows of an activation that must be logits: of which tokens is not asked, the last must be among them.
pub(super) fn logits(rows: &Rows, tokens: usize) -> bool {
    rows.tokens.last().map(|&token| token as usize + 1) == Some(tokens)
}
