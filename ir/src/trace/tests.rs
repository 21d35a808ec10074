//! Traces as they come: whole, cut, saved again, and of other plans.

use super::*;
use crate::plan::{Plan, Prices};
use crate::slot::Op;
use crate::slot::tests::attention;
use crate::testing::{level, plan};
use std::path::PathBuf;

/// A plan whose every instruction is priced at two milliseconds, by a machine twice as fast as the trace's.
fn priced() -> Plan {
    let mut plan = plan(&level(&attention()));
    let prices = |t: &crate::plan::PlanTemplate| Prices {
        seconds: vec![0.002; t.instrs.len()],
        key_switches: vec![0; t.instrs.len()],
        loops: vec![],
    };
    plan.estimate.prices = plan.decode.templates.iter().map(prices).collect();
    plan.estimate.yardstick_seconds = 1e-4;
    plan
}

/// One token's events, loops of two groups, four milliseconds an instruction.
fn events(plan: &Plan) -> Vec<String> {
    let event = |name: &str, cat: &str, ph: &str, ts: f64, dur: f64, args: &str| {
        format!(
            r#"{{"name":"{name}","cat":"{cat}","ph":"{ph}","ts":{ts},"dur":{dur},"pid":1,"tid":1,"args":{args}}}"#
        )
    };
    let mut list = vec![
        event(
            "plan",
            "",
            "i",
            0.0,
            0.0,
            r#"{"plan":"p","model":"m","threads":2}"#,
        ),
        event("yardstick", "", "C", 0.0, 0.0, r#"{"milliseconds":0.2}"#),
    ];
    let mut now = 0.0;
    let mut op = |template: usize,
                  index: usize,
                  layer: u32,
                  group: Option<u32>,
                  since: Option<f64>| {
        let body = &plan.decode.templates[template];
        let instr = &body.instrs[index];
        let group = group.map_or("null".into(), |g| g.to_string());
        let args = format!(
            r#"{{"program":"decode","template":"{}","index":{index},"layer":{layer},"group":{group},"position":9,"level":3}}"#,
            body.name
        );
        let from = since.unwrap_or(now);
        now += 4000.0;
        (
            event(&instr.site, instr.op.name(), "X", from, now - from, &args),
            now,
        )
    };
    let mut end = 0.0;
    for section in plan.decode.sections() {
        let body = &plan.decode.templates[section.template];
        for (index, instr) in body.instrs.iter().enumerate() {
            let before = end;
            let mut since = None;
            if let Op::SumGroups { template, .. } = instr.op {
                since = Some(before);
                for group in 0..2 {
                    for inner in 0..plan.decode.templates[template].instrs.len() {
                        list.push(op(template, inner, section.layer, Some(group), None).0);
                    }
                }
            }
            let (line, now) = op(section.template, index, section.layer, None, since);
            list.push(line);
            end = now;
        }
    }
    list.push(event(
        "token 9",
        RUN,
        "X",
        0.0,
        end,
        r#"{"program":"decode","position":9,"tokens":1}"#,
    ));
    list
}

fn written(text: &str) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("trace.json");
    std::fs::write(&path, text).unwrap();
    (dir, path)
}

#[test]
fn whole_cut_and_saved_traces_say_the_same() {
    let events = events(&priced());
    let whole = format!("[\n{}\n]\n", events.join(",\n"));
    let open = format!("[\n{}", events.join(",\n"));
    let cut = format!("{open},\n{{\"name\":\"layers.0.at");
    let saved = format!("{{\"traceEvents\":[{}]}}", events.join(","));
    let all: Vec<Trace> = [whole, open, cut, saved]
        .iter()
        .map(|text| {
            let (_dir, path) = written(text);
            read(&path).unwrap()
        })
        .collect();
    assert!(all[2].cut && !all[0].cut);
    for trace in &all {
        assert_eq!((&trace.ops, &trace.runs), (&all[0].ops, &all[0].runs));
        assert_eq!(trace.plan.as_ref().unwrap().plan, "p");
    }
}

#[test]
fn damage_before_the_end_is_named_by_its_line() {
    let mut events = events(&priced());
    events[3] = "{\"name\": oh".into();
    let (_dir, path) = written(&format!("[\n{}", events.join(",\n")));
    let error = read(&path).unwrap_err().to_string();
    assert!(error.contains("line 5"), "{error}");
    let (_dir, path) = written("[]");
    assert!(matches!(read(&path), Err(TraceError::Empty { .. })));
}

#[test]
fn every_operation_is_held_against_its_price_at_the_speed_of_the_table() {
    let plan = priced();
    let (_dir, path) = written(&events(&plan).join(",\n"));
    let trace = read(&path).unwrap();
    let found = measured(&trace, &plan, "p").unwrap();
    assert_eq!(found.left_out, 0);
    let decode = &found.programs[0];
    assert_eq!((decode.runs, decode.tokens), (1, 1));
    // four milliseconds on a machine half as fast are the two that were predicted, but for what a loop adds up
    for times in decode.sections.iter().flat_map(|s| &s.classes) {
        if times.class != crate::plan::SUM_CLASS {
            let ratio = times.ratio().unwrap();
            assert!((ratio - 1.0).abs() < 1e-9, "{times:?}");
        }
    }
    let total = &decode.total;
    assert!((total.measured - decode.seconds).abs() < 1e-9, "{total:?}");
    assert!(matches!(
        measured(&trace, &plan, "q"),
        Err(TraceError::Foreign { .. })
    ));
    let mut unfinished = trace.clone();
    unfinished.runs.clear();
    assert!(matches!(
        measured(&unfinished, &plan, "p"),
        Err(TraceError::Unfinished)
    ));
    let mut other = trace;
    other.ops[0].args.template = "elsewhere".into();
    assert!(matches!(
        measured(&other, &plan, "p"),
        Err(TraceError::Unknown { .. })
    ));
}

#[test]
fn an_operation_belongs_to_one_run_however_short_runs_are() {
    let plan = priced();
    let (_dir, path) = written(&events(&plan).join(",\n"));
    let mut trace = read(&path).unwrap();
    // 20 nanoseconds an operation: both runs are far shorter than what clocks may disagree by
    for op in &mut trace.ops {
        (op.ts, op.dur) = (op.ts * 5e-6, op.dur * 5e-6);
    }
    trace.runs[0].dur *= 5e-6;
    let shift = trace.runs[0].dur;
    let mut second = trace.clone();
    for op in &mut second.ops {
        op.ts += shift;
    }
    second.runs[0].ts += shift;
    let each = trace.ops.len();
    trace.ops.extend(second.ops);
    trace.runs.extend(second.runs);
    let found = measured(&trace, &plan, "p").unwrap();
    assert_eq!((found.left_out, found.programs[0].runs), (0, 2));
    let classes = found.programs[0].sections.iter().flat_map(|s| &s.classes);
    // means of the runs
    assert_eq!(classes.map(|c| c.count).sum::<f64>(), each as f64);
}
