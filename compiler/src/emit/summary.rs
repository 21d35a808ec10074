//! A plan in a page: what `sottoc` prints after compiling.

use super::Counts;
use sotto_ir::plan::{ArrayEntry, Cost, Encoding, Plan, Weights};
use std::fmt::Write;

/// Op classes and sites listed.
const LISTED: usize = 8;

/// The plan's figures in words and tables.
pub fn summary(plan: &Plan) -> String {
    let mut out = String::new();
    // Writing to a string does not fail.
    let _ = write(plan, &mut out);
    out
}

fn write(plan: &Plan, out: &mut String) -> std::fmt::Result {
    let e = &plan.estimate;
    let m = &plan.model;
    writeln!(
        out,
        "model        {} ({} layers, hidden {}, {} heads on {} key/value heads, vocabulary {})",
        m.name, m.layers, m.hidden, m.heads, m.kv_heads, m.vocab
    )?;
    match m.weights {
        Weights::Checkpoint => {}
        Weights::Synthetic(seed) => writeln!(
            out,
            "weights      drawn from seed {seed}: the model has a known one's shape and ranges, and says nothing"
        )?,
        Weights::None => writeln!(
            out,
            "weights      none: a plan to read, to price and to make keys by, not to run"
        )?,
    }
    packed(&plan.arrays, out)?;
    let p = &plan.params;
    let insecure = if p.insecure {
        ", INSECURE: for tests only"
    } else {
        ""
    };
    writeln!(
        out,
        "parameters   {}: N = 2^{}, log QP = {:.0}, {} bits of security{insecure}",
        p.name,
        p.log_n,
        p.log_qp(),
        plan.security.bits
    )?;
    for (name, modulus, bound, source) in &plan.security.secrets {
        let bound = bound.map_or("no known bound".into(), |b| format!("bound {b:.0}"));
        writeln!(
            out,
            "             {name}: {modulus:.0} bits, {bound} ({source})"
        )?;
    }
    writeln!(out, "capacity     {} tokens", plan.capacity)?;
    let levels = plan.decode.templates.iter().map(|t| {
        let entry: Vec<String> = t
            .params
            .iter()
            .map(|(_, at, _)| at.level.to_string())
            .collect();
        format!("{} takes {}", t.name, entry.join(", "))
    });
    writeln!(
        out,
        "levels       {}",
        levels.collect::<Vec<_>>().join("; ")
    )?;
    for state in &plan.decode.states {
        let level = state.level.unwrap_or(0);
        writeln!(
            out,
            "             state {} is stored at level {level}",
            state.name
        )?;
    }
    let keys = plan.keys.galois.len();
    let bootstrapping = match plan.keys.ephemeral_level {
        Some(_) => ", and two around ModRaise",
        None => "",
    };
    writeln!(
        out,
        "keys         {keys} rotations, the relinearisation key (level {}){bootstrapping}: {} in memory, about half of it on disk",
        plan.keys.relinearise_level,
        bytes(e.key_bytes)
    )?;
    // Of a plan that breaks rules there may be nothing to count; whoever cares has run the checker.
    if let Ok(c) = Counts::of_token(&plan.decode, plan.capacity) {
        writeln!(
            out,
            "operations   {} matrix products a token, {} mask products, {} products, {} rotations, {} key switches, {} encodings",
            c.matrix_products,
            c.mask_products,
            c.products,
            c.rotations,
            c.key_switches,
            c.encodings
        )?;
    }
    for b in &e.bootstraps {
        let part = if b.kind.complex { "complex" } else { "real" };
        writeln!(
            out,
            "bootstraps   {} a token on {} {part} slots",
            b.count, b.kind.slots
        )?;
    }
    writeln!(
        out,
        "memory       {}: keys, {} KV state at capacity, {} ciphertexts at most; {} more keep every plaintext encoded",
        bytes(e.peak_memory_bytes),
        bytes(e.state_bytes),
        e.peak_ciphertexts,
        bytes(e.plaintext_bytes)
    )?;
    writeln!(
        out,
        "time         {:.1} s a token, by the cost table `{}`",
        e.seconds, e.cost_table
    )?;
    if let Some(prefill) = &plan.prefill {
        let (block, p) = (prefill.program.block, &prefill.estimate);
        let bootstraps: u32 = p.bootstraps.iter().map(|b| b.count).sum();
        writeln!(
            out,
            "prefill      {block} tokens of a prompt together: {:.1} s and {bootstraps} bootstraps for the first ones, {} KV state at capacity",
            p.seconds,
            bytes(p.state_bytes)
        )?;
    }
    costs(out, "operation", &e.op_classes)?;
    let mut sites = e.sites.clone();
    sites.sort_by(|a, b| b.seconds.total_cmp(&a.seconds));
    costs(out, "site", &sites)?;
    for line in &plan.disclosures {
        writeln!(out, "discloses    {line}")?;
    }
    Ok(())
}

/// Size of the matrices on disk, and how far the worst of their integers is off.
fn packed(arrays: &[ArrayEntry], out: &mut String) -> std::fmt::Result {
    let matrices = || arrays.iter().filter(|a| a.encoding == Encoding::I16);
    let relative = matrices().map(|a| a.error / (a.scale * a.encoding.limit()));
    let worst = relative.fold(0.0, f64::max);
    if worst == 0.0 {
        return Ok(());
    }
    writeln!(
        out,
        "packed       {} matrices as 16-bit integers, {}; no entry of one is off by more than 2^{:.1} of its largest entry",
        matrices().count(),
        bytes(matrices().map(|a| a.file.bytes).sum()),
        worst.log2()
    )
}

fn costs(out: &mut String, title: &str, costs: &[Cost]) -> std::fmt::Result {
    for c in costs.iter().take(LISTED) {
        writeln!(
            out,
            "  {title:<10} {:<44} {:>5} times {:>9.3} s",
            c.name, c.count, c.seconds
        )?;
    }
    if costs.len() > LISTED {
        let rest: f64 = costs[LISTED..].iter().map(|c| c.seconds).sum();
        writeln!(
            out,
            "  {title:<10} {:<44} {:>11} {rest:>9.3} s",
            "all others", ""
        )?;
    }
    Ok(())
}

fn bytes(n: u64) -> String {
    let n = n as f64;
    match n {
        _ if n >= 1e8 => format!("{:.2} GiB", n / f64::from(1 << 30)),
        _ => format!("{:.1} MiB", n / f64::from(1 << 20)),
    }
}
