//! The truth in float64: a golden file's content, computed on the `decoder` stage.

use sotto_ir::decoder::{InterpretError, Interpreter, KvCache, Pass, Rows};
use sotto_ir::fidelity::most_likely;
use sotto_ir::golden::{Array, Golden};

/// Interprets `input` in one pass and token by token, and continues its first `prompt` tokens (all of them if it has fewer) by
/// `generate` tokens, each the most likely; it does not stop at an end-of-text token. After the one pass, `done` hears how many
/// of the `input.len() + generate` single steps are through.
///
/// # Errors
/// Tokens outside the vocabulary, more positions than the model has, no tokens.
pub fn reference(
    interpreter: &Interpreter<'_>,
    input: &[u32],
    prompt: usize,
    generate: usize,
    done: &mut dyn FnMut(usize),
) -> Result<Golden, InterpretError> {
    let decoder = interpreter.decoder();
    let mut through = 0;
    let mut step = || {
        through += 1;
        done(through);
    };
    let mut cache = KvCache::new(decoder);
    let Pass { hidden, logits } = interpreter.pass(&mut cache, input, &mut |_| {})?;
    let heads = |rows: &Rows| heads(rows, decoder.model.kv_heads);
    let logits_stepwise = stepwise(interpreter, input, &mut step)?;
    let prompt = &input[..prompt.min(input.len())];
    let (greedy_ids, greedy_logits) = greedy(interpreter, prompt, generate, &mut step)?;
    Ok(Golden {
        checkpoint: Some(decoder.checkpoint.to_string()),
        input_ids: input.into(),
        logits: matrix(&logits),
        logits_stepwise,
        hidden: hidden.iter().map(matrix).collect(),
        keys: (0..decoder.model.layers)
            .map(|layer| heads(cache.keys(layer)))
            .collect(),
        values: (0..decoder.model.layers)
            .map(|layer| heads(cache.values(layer)))
            .collect(),
        greedy_ids,
        greedy_logits: Some(greedy_logits),
    })
}

fn matrix(rows: &Rows) -> Array {
    Array {
        shape: vec![rows.len(), rows.width()],
        data: rows.as_slice().into(),
    }
}

/// [tokens, heads · head_dim] to [heads, tokens, head_dim].
fn heads(rows: &Rows, heads: usize) -> Array {
    let head_dim = rows.width() / heads;
    let head = |head: usize| {
        rows.iter()
            .flat_map(move |row| &row[head * head_dim..(head + 1) * head_dim])
    };
    Array {
        shape: vec![heads, rows.len(), head_dim],
        data: (0..heads).flat_map(head).copied().collect(),
    }
}

fn stepwise(
    interpreter: &Interpreter<'_>,
    input: &[u32],
    step: &mut dyn FnMut(),
) -> Result<Array, InterpretError> {
    let mut cache = KvCache::new(interpreter.decoder());
    let mut data = Vec::new();
    for &token in input {
        let pass = interpreter.pass(&mut cache, &[token], &mut |_| {})?;
        data.extend_from_slice(pass.logits.as_slice());
        step();
    }
    Ok(Array {
        shape: vec![input.len(), interpreter.decoder().model.vocab],
        data,
    })
}

/// The prompt with its continuation, and the logits that each token of it was chosen by.
fn greedy(
    interpreter: &Interpreter<'_>,
    prompt: &[u32],
    generate: usize,
    step: &mut dyn FnMut(),
) -> Result<(Vec<u32>, Array), InterpretError> {
    let mut ids = prompt.to_vec();
    let mut cache = KvCache::new(interpreter.decoder());
    let mut fresh = 0;
    let mut chosen_by = Vec::new();
    for _ in 0..generate {
        let pass = interpreter.pass(&mut cache, &ids[fresh..], &mut |_| {})?;
        fresh = ids.len();
        let last = pass.logits.row(pass.logits.len() - 1);
        chosen_by.extend_from_slice(last);
        ids.push(most_likely(last));
        step();
    }
    let chosen_by = Array {
        shape: vec![generate, interpreter.decoder().model.vocab],
        data: chosen_by,
    };
    Ok((ids, chosen_by))
}
