//! `sottoc report`: one page that holds everything, agrees with its plan, and asks nobody for anything.

mod common;

use common::{copy, done, refusal};
use serde_json::{Value, json};
use sotto_ir::plan::Plan;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::LazyLock;

/// A name that would be markup if it were let.
const NAME: &str = "a<b>&c<!--<script>";

struct Compiled {
    dir: tempfile::TempDir,
}

/// A fixture of an odd name, compiled for an INSECURE test ring.
static COMPILED: LazyLock<Compiled> = LazyLock::new(|| {
    let dir = tempfile::tempdir().unwrap();
    let model = copy("llama-gqa");
    std::fs::rename(model.path(), dir.path().join(NAME)).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_sottoc"))
        .args(["compile", NAME, "--insecure-ring", "12", "--context", "24"])
        .args(["-o", "plan"])
        .current_dir(dir.path())
        .output()
        .unwrap();
    done(output);
    Compiled { dir }
});

fn path(name: &str) -> PathBuf {
    COMPILED.dir.path().join(name)
}

fn report(arguments: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sottoc"))
        .arg("report")
        .args(arguments.split(' '))
        .current_dir(COMPILED.dir.path())
        .output()
        .unwrap()
}

/// The page, and the data in it.
fn page(name: &str) -> (String, Value) {
    let html = std::fs::read_to_string(path(name)).unwrap();
    let (_, rest) = html.split_once("id=\"data\">").unwrap();
    let (data, _) = rest.split_once("</script>").unwrap();
    let data = serde_json::from_str(data).unwrap();
    (html, data)
}

fn plan() -> (Plan, String) {
    let (plan, digest) = Plan::open(&path("plan")).unwrap();
    (plan, digest.to_string())
}

/// As JSON, read back: a number may lose its last bit on the way.
fn read_back(values: &impl serde::Serialize) -> Value {
    serde_json::from_str(&serde_json::to_string(values).unwrap()).unwrap()
}

fn numbers(values: &Value) -> Vec<f64> {
    let list = values.as_array().unwrap().iter();
    list.map(|v| v.as_f64().unwrap()).collect()
}

#[test]
fn a_page_is_whole_safe_and_always_the_same() {
    done(report("plan -o one.html"));
    done(report("plan -o two.html"));
    let (html, data) = page("one.html");
    assert_eq!(html, page("two.html").0);
    assert_eq!(data["model"], NAME);
    // Names are in the data alone, where nothing is markup.
    assert!(!html.contains(NAME) && !html.contains("<b>"));
    assert_eq!(html.matches("</script>").count(), 2);
    let outside = html.replace("http://www.w3.org/2000/svg", "");
    for word in ["http://", "https://", "src=", "@import", "url(", "fetch("] {
        assert!(!outside.contains(word), "{word}");
    }
    for left in [
        "/* style */",
        "{{ data }}",
        "/* draw */",
        "/* course */",
        "/* script */",
    ] {
        assert!(!html.contains(left), "{left}");
    }
    assert!(html.len() < 1 << 20, "{} bytes", html.len());
}

#[test]
fn a_page_has_every_site_and_agrees_with_its_plan() {
    done(report("plan -o agrees.html"));
    let (_, data) = page("agrees.html");
    let (plan, digest) = plan();
    assert_eq!(data["digest"], digest.as_str());
    let estimates = [
        Some(&plan.estimate),
        plan.prefill.as_ref().map(|p| &p.estimate),
    ];
    for ((program, estimate), part) in plan
        .programs()
        .zip(estimates.into_iter().flatten())
        .zip(data["programs"].as_array().unwrap())
    {
        let course = &part["course"];
        let shown: BTreeSet<&str> = (course["sites"].as_array().unwrap().iter())
            .map(|s| s.as_str().unwrap())
            .collect();
        let instrs = || program.templates.iter().flat_map(|t| &t.instrs);
        let there: BTreeSet<&str> = instrs().map(|i| i.site.as_str()).collect();
        assert_eq!(shown, there);
        let sections = course["sections"].as_array().unwrap();
        assert_eq!(sections.len(), program.sections().len());
        let total: f64 = sections.iter().flat_map(|s| numbers(&s["seconds"])).sum();
        assert!((total / estimate.seconds - 1.0).abs() < 1e-9, "{total}");
        for (template, told) in program
            .templates
            .iter()
            .zip(course["templates"].as_array().unwrap())
        {
            assert_eq!(told["name"], template.name.as_str());
            assert_eq!(told["ops"].as_array().unwrap().len(), template.instrs.len());
            let levels = || {
                told["values"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(|v| v[0].as_u64().unwrap())
            };
            let made = template
                .instrs
                .iter()
                .flat_map(|i| &i.at)
                .map(|at| at.level);
            let received = template.params.iter().map(|(_, at, _)| at.level);
            let there: Vec<u64> = received.chain(made).map(u64::from).collect();
            assert_eq!(levels().collect::<Vec<_>>(), there);
        }
        let memory = &part["memory"];
        let parts = ["keys", "states", "transforms", "live", "matrix", "pool"];
        let peak: u64 = parts.iter().map(|p| memory[p].as_u64().unwrap()).sum();
        assert!(peak <= plan.estimate.peak_memory_bytes);
    }
    let keys = data["keys"].as_array().unwrap();
    assert_eq!(keys.len(), plan.keys.galois.len() + 2);
    let bytes: u64 = keys.iter().map(|k| k["bytes"].as_u64().unwrap()).sum();
    assert_eq!(bytes, plan.estimate.key_bytes);
    assert_eq!(data["ranges"], read_back(&plan.sites));
    assert_eq!(data["approximations"], read_back(&plan.approximations));
    assert_eq!(data["programs"][0]["decisions"], read_back(&plan.decisions));
    let priced: Vec<&str> = data["sites"]
        .as_array()
        .unwrap()
        .iter()
        .map(|s| s["cost"]["name"].as_str().unwrap())
        .collect();
    let sites: Vec<&str> = plan
        .estimate
        .sites
        .iter()
        .map(|s| s.name.as_str())
        .collect();
    assert_eq!(priced, sites);
    assert_eq!(data["measured"], Value::Null);
}

/// A trace of one token in which every operation takes a millisecond.
fn trace(plan: &Plan, digest: &str, to: &Path) {
    let mark = json!({"name": "plan", "cat": "", "ph": "i", "ts": 0.0, "dur": 0.0, "pid": 1, "tid": 1,
        "args": {"plan": digest, "model": "m", "threads": 1}});
    let mut lines = vec![format!("[\n{mark}")];
    let mut now = 0.0;
    for section in plan.decode.sections() {
        let template = &plan.decode.templates[section.template];
        for (index, instr) in template.instrs.iter().enumerate() {
            let event = json!({"name": instr.site, "cat": instr.op.name(), "ph": "X", "ts": now, "dur": 1000.0,
                "pid": 1, "tid": 1, "args": {"program": "decode", "template": template.name, "index": index,
                "layer": section.layer, "group": null, "position": 0, "level": 1}});
            lines.push(event.to_string());
            now += 1000.0;
        }
    }
    let run = json!({"name": "token 0", "cat": "run", "ph": "X", "ts": 0.0, "dur": now, "pid": 1, "tid": 1,
        "args": {"program": "decode", "position": 0, "tokens": 1}});
    lines.push(run.to_string());
    // The server was killed in the middle of an event.
    std::fs::write(to, format!("{},\n{{\"name\": \"lay", lines.join(",\n"))).unwrap();
}

#[test]
fn what_was_measured_stands_beside_what_was_predicted() {
    let (plan, digest) = plan();
    trace(&plan, &digest, &path("trace.json"));
    done(report("plan --trace trace.json -o measured.html"));
    let (_, data) = page("measured.html");
    let decode = &data["measured"]["programs"][0];
    let ran: usize = (plan.decode.sections().iter())
        .map(|s| plan.decode.templates[s.template].instrs.len())
        .sum();
    let measured = decode["total"]["measured"].as_f64().unwrap();
    assert!((measured - ran as f64 / 1e3).abs() < 1e-9, "{measured}");
    let names: Vec<&str> = decode["sections"]
        .as_array()
        .unwrap()
        .iter()
        .map(|s| s["name"].as_str().unwrap())
        .collect();
    let sections: Vec<String> = plan.decode.sections().into_iter().map(|s| s.name).collect();
    assert_eq!(names, sections);
    trace(&plan, "blake3:0", &path("foreign.json"));
    let said = refusal(report("plan --trace foreign.json -o x.html"));
    assert!(said.contains("give the plan that ran"), "{said}");
}

#[test]
fn what_cannot_be_shown_or_written_is_named() {
    let said = refusal(report("nowhere -o x.html"));
    assert!(said.contains("nowhere"), "{said}");
    let said = refusal(report("plan -o no/such/folder.html"));
    assert!(
        said.contains("no/such/folder.html") && said.contains("another place"),
        "{said}"
    );
    let said = refusal(report("plan --trace plan/plan.ron -o x.html"));
    assert!(
        said.contains("no trace event") && said.contains("line 1"),
        "{said}"
    );
    assert!(!path("x.html").exists());
}
