//! Each rule is broken once.

use super::check;
use crate::plan::{Buf, Encoding, KeyUse, OutputKind, Placement, Plan, Weights};
use crate::slot::tests::attention;
use crate::slot::{At, BootstrapKind, DataId, Op, StateId};
use crate::testing::{level, plan};

fn good() -> Plan {
    plan(&level(&attention()))
}

/// What the checker says of the good plan with one change.
fn broken(change: impl FnOnce(&mut Plan)) -> String {
    let mut plan = good();
    change(&mut plan);
    check(&plan)
        .expect_err("the change breaks no rule")
        .to_string()
}

#[track_caller]
fn reports(message: &str, change: impl FnOnce(&mut Plan)) {
    let report = broken(change);
    assert!(report.contains(message), "no `{message}` in\n{report}");
}

/// The first instruction of the layer template with this operation.
fn instr<'p>(plan: &'p mut Plan, op: &str) -> &'p mut crate::plan::Instr {
    let mut templates = plan.decode.templates.iter_mut();
    let found = templates.find_map(|t| t.instrs.iter_mut().find(|i| i.op.name() == op));
    found.expect("the plan has such an instruction")
}

#[test]
fn the_plan_of_the_attention_passes() {
    check(&good()).unwrap_or_else(|e| panic!("{e}"));
}

#[test]
fn a_plan_without_weights_has_none() {
    let without = |plan: &mut Plan| {
        plan.model.weights = Weights::None;
        plan.arrays.clear();
        plan.client.embedding_table = None;
    };
    let mut plan = good();
    without(&mut plan);
    check(&plan).unwrap_or_else(|e| panic!("{e}"));
    reports("nothing reads it", |p| {
        let arrays = p.arrays.clone();
        without(p);
        p.arrays = arrays;
    });
    reports("a table of 64 bytes; the plan needs no table", |p| {
        let table = p.client.embedding_table.clone();
        without(p);
        p.client.embedding_table = table;
    });
}

#[test]
fn parameters_and_security() {
    reports("format 99", |p| p.version = 99);
    reports("it says 128 bits", |p| p.security.bits = 128);
    reports("params: ", |p| p.params.levels[3].scale *= 1.01);
    reports("params: ", |p| p.params.insecure = false);
    reports("params: ", |p| p.params.q_primes[5] += 2);
    // Nothing else can be measured without levels.
    reports("params: ", |p| p.params.levels.clear());
}

#[test]
fn buffers() {
    reports("b0 is read when it is empty", |p| {
        p.decode.templates[0].instrs[0].free.push(Buf(0));
    });
    reports("b2 is freed when it is empty", |p| {
        p.decode.templates[0].instrs[0].free.push(Buf(2));
    });
    reports("is freed by the instruction that writes it", |p| {
        let i = &mut p.decode.templates[0].instrs[0];
        i.free.push(i.dst[0]);
    });
    reports("is written while it holds a value", |p| {
        let i = &mut p.decode.templates[0].instrs[0];
        i.dst[0] = Buf(0);
    });
    reports("b9 is beyond the 3 buffers stated", |p| {
        p.decode.templates[0].instrs[0].dst[0] = Buf(9);
    });
    reports("still hold values", |p| {
        instr(p, "bootstrap").free.clear();
    });
    reports("results [Buf(2)]", |p| {
        p.decode.templates[0].results = vec![Buf(2)]
    });
}

#[test]
fn levels_ranges_states_and_groups() {
    reports("the result is at 15/1", |p| {
        instr(p, "rescale").at[0] = At {
            level: 14,
            degree: 1,
        };
    });
    reports("%3 = neg %2", |p| {
        instr(p, "drop").op = Op::Neg { v: Buf(2) }
    });
    reports("range 1.5, more than 1", |p| {
        let template = &mut p.decode.templates[0];
        let drop = template.instrs.iter_mut().rfind(|i| i.op.name() == "drop");
        drop.unwrap().types[0].range = 1.5;
    });
    reports("the value is at 13/1, the state takes 12/1", |p| {
        p.decode.states[0].level = Some(12)
    });
    reports("`visit` takes 3 parameters", |p| {
        if let Op::SumGroups { states, .. } = &mut instr(p, "sum_groups").op {
            *states = vec![StateId(0)];
        }
    });
    reports("the capacity is 0", |p| p.capacity = 0);
    reports("layers beyond", |p| p.decode.steps[0].count = u32::MAX);
}

#[test]
fn bootstraps_and_keys() {
    reports("no such bootstrap", |p| p.bootstraps.clear());
    reports("the key list has", |p| p.keys.bootstraps.clear());
    reports("the key list has", |p| {
        let kind = BootstrapKind {
            slots: 8,
            complex: true,
        };
        p.keys.bootstraps.push(kind);
    });
    reports("bootstrap of 4 real slots: ", |p| {
        // The same rotation modulo the slots, but not one that a backend has a key for.
        let slots = p.bootstraps[0].stc[0].bsgs.slots;
        p.bootstraps[0].stc[0].bsgs.giants[0].step += slots;
    });
    reports("2 StC factors from level", |p| {
        let factor = p.bootstraps[0].stc[0].clone();
        p.bootstraps[0].stc.push(factor);
    });
    reports("descend from level", |p| p.bootstraps[0].cts[0].level -= 1);
    reports("does not follow", |p| p.bootstraps[0].evalmod.level -= 1);
    reports("its trace sums 16 copies", |p| {
        p.bootstraps[0].trace.pop();
    });
    reports("it fails with probability", |p| {
        p.bootstraps[0].evalmod.bound = 2
    });
    reports("bootstrap of 4 real slots: ", |p| {
        p.bootstraps[0].evalmod.margin *= 2.0
    });
    reports("it counts bootstraps", |p| {
        p.estimate.bootstraps[0].count = 3
    });
    reports("its prices are not one for each instruction", |p| {
        p.estimate.prices = vec![Default::default()]
    });

    reports(
        "the rotation by 254 is not listed; `fold`, layers.{i}.attention needs it at level 11",
        |p| {
            p.keys.galois.retain(|k| k.step != Some(254));
        },
    );
    reports("conjugation is not listed", |p| {
        p.keys.galois.retain(|k| k.step.is_some())
    });
    reports("the rotation by 255 is listed at level 10", |p| {
        p.keys
            .galois
            .iter_mut()
            .for_each(|k| k.level = k.level.min(10));
    });
    reports("nothing uses the rotation by 5", |p| {
        let key = KeyUse {
            step: Some(5),
            level: 3,
        };
        let at = p.keys.galois.partition_point(|k| *k < key);
        p.keys.galois.insert(at, key);
    });
    reports("out of order or listed twice", |p| p.keys.galois.swap(1, 2));
    reports("relinearisation is at level 5", |p| {
        p.keys.relinearise_level = 5
    });
    reports("the ephemeral key is at level None", |p| {
        p.keys.ephemeral_level = None
    });
}

#[test]
fn arrays_and_client() {
    reports("there is none for d0 `w`, layer 1", |p| {
        p.arrays.pop();
    });
    reports("nothing reads it", |p| p.arrays[1].data = DataId(3));
    reports("there are two", |p| p.arrays[1].layer = 0);
    reports("its file has 32 bytes, its declaration needs 64", |p| {
        p.arrays[0].encoding = Encoding::I32;
    });
    reports("its scale or error", |p| p.arrays[0].scale = 0.0);
    reports("the embedding is with the Client, with no table", |p| {
        p.client.embedding_table = None
    });
    reports("the head is with the Client", |p| {
        p.client.head = Placement::Client
    });
    reports("the output is Hidden", |p| {
        p.client.output_kind = OutputKind::Hidden
    });
    reports("5 features, 4 are needed", |p| p.client.input.count = 5);
    reports("5 features at width 4", |p| p.client.outputs[0].count = 5);
    reports("unit 2.0, the program's is 1.0", |p| {
        p.client.outputs[0].unit = 2.0
    });
    reports("it is at 15/1, in the program at 16/1", |p| {
        p.client.input.level = 15
    });
    reports("2 are expected, the program has 1", |p| {
        let output = p.client.outputs[0];
        p.client.outputs.push(output);
    });
    reports("outside the vocabulary", |p| p.client.eos.push(4));
}
