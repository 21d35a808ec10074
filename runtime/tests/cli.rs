//! The `sotto` program as a user meets it: what it prints, its exit codes, and what it leaves behind.

mod common;

use common::process::*;
use sotto_ir::fidelity::most_likely;
use sotto_ir::golden::{Array, Golden};
use sotto_ir::plan::PLAN_VERSION;
use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

#[test]
fn a_server_given_only_evaluation_keys_continues_a_prompt() {
    let folder = Folder::with_plan();
    folder.keygen();
    // The server's folder holds what the server is given; the secret key is elsewhere.
    let server = Server::start(
        &folder,
        &["--keys", "keys/evaluation", "--trace", "trace.json"],
    );
    let output = folder.sotto(&generate(&server, "aa", 2));
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(stdout(&output), "aabb\n");
    let trace = fs::read_to_string(folder.path("trace.json")).unwrap();
    assert!(trace.contains(r#""cat":"bootstrap""#), "{trace}");
}

#[test]
fn a_server_without_keys_is_sent_them_and_capacity_ends_the_text() {
    let folder = Folder::with_plan();
    folder.keygen();
    let server = Server::start(&folder, &[]);
    let output = folder.sotto(&generate(&server, "aa", 9));
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(stdout(&output).starts_with("aabb"), "{}", stdout(&output));
    assert!(stderr(&output).contains("the session is full"));
    // Gigabytes take their time: both ends say what they do.
    assert!(stderr(&output).contains("of evaluation keys"));
    let said = fs::read_to_string(folder.path("serve.err")).unwrap();
    for words in ["receiving ", "received ", "loading keys"] {
        assert!(said.contains(words), "`{words}` is not in: {said}");
    }
}

#[test]
fn bad_input_is_named_before_anything_is_sent() {
    let folder = Folder::with_plan();
    folder.keygen();
    let server = Server::start(&folder, &[]);
    let long = folder.sotto(&generate(&server, "aaaaa", 1));
    fails(&long, 2, &["5 tokens", "holds 4", "--context"]);
    assert_eq!(stdout(&long), "");
    let none = folder.sotto(&generate(&server, "", 1));
    fails(&none, 2, &["--prompt is empty"]);
    let zero = folder.sotto(&generate(&server, "a", 0));
    fails(&zero, 2, &["--max-tokens"]);
    let hot = format!("{} --temperature -1", generate(&server, "a", 1));
    fails(&folder.sotto(&hot), 2, &["--temperature"]);
    let nucleus = format!("{} --top-p 0", generate(&server, "a", 1));
    fails(&folder.sotto(&nucleus), 2, &["--top-p 0"]);
    let nowhere = folder.sotto("keygen --plan nowhere -o keys2");
    fails(&nowhere, 2, &["nowhere", "sottoc compile"]);
    assert_eq!(folder.sotto("generate").status.code(), Some(2));
}

#[test]
fn no_server_is_exit_code_3() {
    let folder = Folder::with_plan();
    folder.keygen();
    let mut server = Server::start(&folder, &["--keys", "keys/evaluation"]);
    let command = generate(&server, "a", 1);
    server.child.kill().unwrap();
    server.child.wait().unwrap();
    let output = folder.sotto(&command);
    fails(&output, 3, &[&server.addr, "sotto serve"]);
    // What was typed stays on the screen, and nothing sticks to it.
    assert_eq!(stdout(&output), "a\n");
}

fn send(signal: &str, child: &Child) {
    let kill = format!("kill -{signal} {}", child.id());
    let status = Command::new("bash").args(["-c", &kill]).status().unwrap();
    assert!(status.success());
}

fn spawn(folder: &Folder, command: &str) -> Child {
    Command::new(SOTTO)
        .args(command.split(' '))
        .current_dir(folder.0.path())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Sends a signal after the first letter on standard output: that letter, and what else came.
fn interrupted(mut child: Child, signal: &str) -> ([u8; 1], Output) {
    let mut typed = [0];
    let out = child.stdout.as_mut().unwrap();
    out.read_exact(&mut typed).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(100));
    send(signal, &child);
    (typed, child.wait_with_output().unwrap())
}

#[test]
fn an_interrupted_generation_keeps_its_text_and_exits_130() {
    let folder = Folder::with_plan();
    folder.keygen();
    let server = Server::start(&folder, &["--keys", "keys/evaluation"]);
    // A server that does not answer, so that there is something to interrupt.
    send("STOP", &server.child);
    for signal in ["INT", "TERM"] {
        let child = spawn(&folder, &generate(&server, "a", 9));
        let (typed, output) = interrupted(child, signal);
        fails(&output, 130, &["interrupted"]);
        assert!(!stderr(&output).contains("error"), "{}", stderr(&output));
        assert_eq!((typed, stdout(&output).as_str()), (*b"a", "\n"));
    }
}

#[test]
fn an_interrupted_keygen_leaves_nothing() {
    let folder = Folder::with_plan();
    let being_made = || {
        let all = names(folder.0.path());
        all.iter().any(|name| name.starts_with(".keys-"))
    };
    let mut interrupted = 0;
    for signal in ["INT", "TERM"].iter().cycle().take(60) {
        let mut child = spawn(&folder, "keygen --insecure --plan plan -o keys");
        while !being_made() && child.try_wait().unwrap().is_none() {
            std::thread::yield_now();
        }
        send(signal, &child);
        let output = child.wait_with_output().unwrap();
        if output.status.success() {
            // The keys were faster.
            fs::remove_dir_all(folder.path("keys")).unwrap();
            continue;
        }
        fails(&output, 130, &["interrupted"]);
        assert_eq!(names(folder.0.path()), ["plan"]);
        interrupted += 1;
        if interrupted == 4 {
            break;
        }
    }
    assert!(interrupted > 0, "keys are made too fast to interrupt");
}

#[test]
fn a_reader_that_goes_early_is_no_failure() {
    let folder = Folder::with_plan();
    folder.keygen();
    golden(&folder, None);
    let server = Server::start(&folder, &[]);
    for command in [
        "check --plan plan --golden golden --backend clear".to_string(),
        "eval --plan plan --golden golden --backend clear".to_string(),
        "keygen --insecure --plan plan -o others --json".to_string(),
        generate(&server, "a", 3),
    ] {
        // The reader has gone before anything is written.
        let script = format!("set -o pipefail; (sleep 0.2; {SOTTO} {command}) | true");
        let output = Command::new("bash")
            .args(["-c", &script])
            .current_dir(folder.0.path())
            .output()
            .unwrap();
        let said = stderr(&output);
        assert!(output.status.success(), "{command}: {said}");
        assert!(!said.contains("error") && !said.contains("panic"), "{said}");
    }
}

/// Writes the plan's function on two tokens as a golden file.
fn golden(folder: &Folder, checkpoint: Option<&str>) {
    let ids = vec![0, 1];
    let array = |shape: &[usize], data: Vec<f64>| Array {
        shape: shape.into(),
        data,
    };
    let rows = [common::expected(&ids[..1]), common::expected(&ids)].concat();
    let next = most_likely(&rows[8..]);
    let logits = array(&[2, 8], rows);
    let cache = vec![array(&[1, 2, 8], vec![0.0; 16])];
    let golden = Golden {
        checkpoint: checkpoint.map(str::to_string),
        logits_stepwise: logits.clone(),
        logits,
        hidden: vec![array(&[2, 8], vec![0.0; 16]); 2],
        keys: cache.clone(),
        values: cache,
        greedy_ids: vec![0, 1, next],
        greedy_logits: None,
        input_ids: ids,
    };
    golden.write(&folder.path("golden")).unwrap();
}

#[test]
fn a_check_compares_with_the_golden_and_asks_for_one() {
    let folder = Folder::with_plan();
    golden(&folder, None);
    let output = folder.sotto("check --plan plan --golden golden --backend clear --noise");
    assert!(output.status.success(), "{}", stderr(&output));
    let nowhere = folder.sotto("check --plan plan --golden nowhere --backend clear");
    fails(&nowhere, 2, &["nowhere", "sottoc reference"]);
    golden(&folder, Some("another"));
    let foreign = folder.sotto("check --plan plan --golden golden --backend clear");
    fails(&foreign, 2, &["checkpoint another", "sottoc reference"]);
}

#[test]
fn an_evaluation_judges_by_what_is_allowed_and_names_what_left_its_range() {
    let folder = Folder::with_plan();
    golden(&folder, None);
    let eval = "eval --plan plan --golden golden --backend clear --noise";
    let output = folder.sotto(&format!("{eval} --json"));
    assert!(output.status.success(), "{}", stderr(&output));
    let line: serde_json::Value = serde_json::from_str(&stdout(&output)).unwrap();
    let forced = &line["teacher_forced"];
    assert_eq!(forced["positions"], 2);
    assert!(forced["kl_nats"]["mean"].as_f64().unwrap() < 1e-3, "{line}");
    // one token has a next one; two make no trend
    assert!(forced["perplexity"]["plan"].as_f64().unwrap() >= 1.0);
    assert!(forced["trend"].is_null());
    assert_eq!(line["free_running"]["prompt"], 2);
    let strict = folder.sotto(&format!("{eval} --max-kl 1e-300"));
    fails(&strict, 1, &["KL is", "1.00e-300 are allowed"]);
    let nowhere = folder.sotto("eval --plan plan --golden nowhere --backend clear");
    fails(&nowhere, 2, &["nowhere", "sottoc reference"]);
    fs::remove_dir_all(folder.path("plan")).unwrap();
    common::write_plan_with(&folder.path("plan"), 1e9);
    let output = folder.sotto(eval);
    fails(&output, 1, &["position 0 cannot be computed", "--margin"]);
    assert!(stdout(&output).contains("out of range: test"));
}

#[test]
fn an_evaluation_that_can_judge_nothing_is_no_success() {
    let folder = Folder::with_plan();
    golden(&folder, None);
    let eval = "eval --plan plan --golden golden --backend clear";
    let ties = folder.sotto(&format!("{eval} --tolerance 1e6"));
    fails(&ties, 2, &["golden: float64's first two", "--tolerance"]);
    let short = folder.sotto(&format!("{eval} --positions 1"));
    fails(
        &short,
        2,
        &["leaves no room", "--positions", "--forced-only"],
    );
    let path = folder.path("golden");
    let mut alone = Golden::read(&path).unwrap();
    alone.greedy_ids = alone.input_ids.clone();
    alone.write(&path).unwrap();
    let output = folder.sotto(eval);
    fails(
        &output,
        2,
        &["no continuation", "sottoc reference", "--forced-only"],
    );
    let output = folder.sotto(&format!("{eval} --forced-only --json"));
    assert!(output.status.success(), "{}", stderr(&output));
    let line: serde_json::Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert!(line["free_running"].is_null() && line["teacher_forced"]["positions"] == 2);
}

#[test]
fn a_trace_is_for_ciphertexts_and_for_the_plan_that_ran() {
    let folder = Folder::with_plan();
    golden(&folder, None);
    let check = "check --plan plan --golden golden --insecure --trace trace.json --backend";
    let clear = folder.sotto(&format!("{check} clear"));
    fails(&clear, 2, &["trace.json", "--backend cpu"]);
    let output = folder.sotto(&format!("{check} cpu"));
    assert!(output.status.success(), "{}", stderr(&output));
    let table = folder.sotto("trace trace.json --plan plan");
    let said = stdout(&table);
    for word in ["decode", "mean of 2 runs", "bootstrap", "yardstick"] {
        assert!(said.contains(word), "{word}: {said}");
    }
    let json = folder.sotto("trace trace.json --plan plan --json");
    let line: serde_json::Value = serde_json::from_str(&stdout(&json)).unwrap();
    assert_eq!(line["programs"][0]["runs"], 2);
    assert_eq!(line["left_out"], 0);
    // It is whole JSON once the process has ended, and names nothing but the plan.
    let text = fs::read_to_string(folder.path("trace.json")).unwrap();
    let events: Vec<serde_json::Value> = serde_json::from_str(&text).unwrap();
    assert_eq!(events[0]["name"], "plan");
    fails(&folder.sotto("trace nowhere --plan plan"), 2, &["nowhere"]);
    fs::write(folder.path("odd.json"), "[\n{\"x\": oh},\n{}").unwrap();
    fails(
        &folder.sotto("trace odd.json --plan plan"),
        2,
        &["line 2", "no trace event"],
    );
}

#[test]
fn a_bound_that_nothing_could_miss_is_no_bound() {
    let folder = Folder::with_plan();
    golden(&folder, None);
    for wrong in [
        "check --plan plan --golden golden.safetensors --backend clear --tolerance nan",
        "eval --plan plan --golden golden.safetensors --backend clear --tolerance nan",
        "eval --plan plan --golden golden.safetensors --backend clear --max-kl inf",
        "eval --plan plan --golden golden.safetensors --backend clear --min-top1 2",
    ] {
        fails(&folder.sotto(wrong), 2, &["give a number"]);
    }
}

#[test]
fn values_that_escape_until_nothing_can_be_computed_are_reported() {
    let folder = Folder::with_plan();
    fs::remove_dir_all(folder.path("plan")).unwrap();
    common::write_plan_with(&folder.path("plan"), 1e9);
    golden(&folder, None);
    let check = "check --plan plan --golden golden --backend clear --noise";
    let output = folder.sotto(check);
    fails(&output, 1, &["step 0 cannot be computed", "--margin"]);
    let text = stdout(&output);
    assert!(text.contains("out of range: test"), "{text}");
    assert!(text.contains("first at step 0"), "{text}");
    let output = folder.sotto(&format!("{check} --json"));
    assert_eq!(output.status.code(), Some(1));
    let line: serde_json::Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!(line["stopped"]["step"], 0);
    assert_eq!(line["out_of_range"][0]["first_step"], 0);
}

#[test]
fn the_two_key_folders_are_told_apart() {
    let folder = Folder::with_plan();
    folder.keygen();
    let whole = folder.sotto("serve --insecure --plan plan --keys keys");
    fails(&whole, 2, &["--keys keys/evaluation"]);
    let command =
        "generate --insecure --plan plan --server 127.0.0.1:1 --prompt a --keys keys/evaluation";
    fails(
        &folder.sotto(command),
        2,
        &["secret.key in keys/evaluation", "pass --keys keys"],
    );
    let nowhere = command.replace("keys/evaluation", "nowhere");
    fails(&folder.sotto(&nowhere), 2, &["nowhere", "sotto keygen"]);
}

#[test]
fn keys_are_never_overwritten() {
    let folder = Folder::with_plan();
    folder.keygen();
    let secret = fs::read(folder.path("keys/secret.key")).unwrap();
    fails(
        &folder.sotto("keygen --insecure --plan plan -o keys"),
        2,
        &["exists"],
    );
    assert_eq!(fs::read(folder.path("keys/secret.key")).unwrap(), secret);
}

#[test]
fn a_disk_that_fills_up_while_writing_keys_leaves_nothing() {
    let folder = Folder::with_plan();
    // A file size limit stands in for the full disk: writing fails half-way through the evaluation keys.
    let script =
        format!("trap '' XFSZ; ulimit -f 200; exec {SOTTO} keygen --insecure --plan plan -o keys");
    let output = Command::new("bash")
        .args(["-c", &script])
        .current_dir(folder.0.path())
        .output()
        .unwrap();
    fails(&output, 2, &["writing keys", "nothing was left behind"]);
    assert_eq!(names(folder.0.path()), ["plan"]);
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap();
    entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}

#[test]
fn a_damaged_or_newer_plan_is_refused_by_every_command() {
    let folder = Folder::with_plan();
    folder.keygen();
    let path = folder.path("plan/plan.ron");
    let text = fs::read_to_string(&path).unwrap();
    let commands = [
        "serve --plan plan",
        "keygen --plan plan -o other",
        "generate --plan plan --keys keys --server 127.0.0.1:1 --prompt a",
    ];
    let refused = |damaged: String, words: &[&str]| {
        fs::write(&path, damaged).unwrap();
        for command in commands {
            fails(&folder.sotto(command), 2, words);
        }
    };
    refused(
        text.replacen("capacity: 4", "capacity: 5", 1),
        &["plan.ron", "damaged"],
    );
    refused(text[..text.len() / 2].into(), &["plan.ron", "damaged"]);
    let header = format!("plan {PLAN_VERSION} ");
    refused(text.replacen(&header, "plan 99 ", 1), &["plan.ron", "99"]);
}

#[test]
fn a_server_refuses_an_address_that_others_can_reach() {
    let folder = Folder::with_plan();
    let output = folder.sotto("serve --insecure --plan plan --addr 0.0.0.0:0");
    fails(&output, 2, &["0.0.0.0", "--allow-remote"]);
}

#[test]
fn a_server_refuses_keys_that_lack_one() {
    let folder = Folder::with_plan();
    folder.keygen();
    let manifest = folder.path("keys/evaluation/keys.json");
    let text = fs::read_to_string(&manifest).unwrap();
    fs::write(&manifest, text.replacen("relinearise", "rotate 7777", 1)).unwrap();
    let output = folder.sotto("serve --insecure --plan plan --keys keys/evaluation");
    fails(&output, 2, &["lack `relinearise`"]);
}

/// Rewrites the plan with another text and the digest that belongs to it.
fn forge(path: &Path, from: &str, to: &str) {
    let text = fs::read_to_string(path).unwrap();
    let (head, body) = text.split_once('\n').unwrap();
    let (words, _) = head.rsplit_once(' ').unwrap();
    let forged = body.replacen(from, to, 1);
    assert_ne!(forged, body, "`{from}` is not in the plan");
    let digest = blake3::hash(forged.as_bytes()).to_hex();
    fs::write(path, format!("{words} blake3:{digest}\n{forged}")).unwrap();
}

#[test]
fn a_plan_that_breaks_rules_is_refused_by_every_command() {
    let folder = Folder::with_plan();
    folder.keygen();
    forge(
        &folder.path("plan/plan.ron"),
        "width: 8",
        "width: 4294967288",
    );
    for command in [
        "serve --insecure --plan plan",
        "keygen --insecure --plan plan -o other",
        "generate --insecure --plan plan --keys keys --server 127.0.0.1:1 --prompt a",
    ] {
        fails(&folder.sotto(command), 2, &["breaks the plan's rules"]);
    }
    assert!(!folder.path("other").exists());
}

#[test]
fn an_insecure_plan_needs_consent() {
    let folder = Folder::with_plan();
    folder.keygen();
    for command in [
        "keygen --plan plan -o other",
        "serve --plan plan",
        "generate --plan plan --keys keys --server 127.0.0.1:1 --prompt a",
        "check --plan plan --golden none --backend cpu",
    ] {
        let refused = folder.sotto(command);
        fails(&refused, 2, &["INSECURE", "0 bits", "--insecure"]);
    }
    assert!(!folder.path("other").exists());
    // Nothing is encrypted here: the golden file is what is missing.
    let clear = folder.sotto("check --plan plan --golden none --backend clear");
    fails(&clear, 2, &["INSECURE", "none"]);
    assert!(!stderr(&clear).contains("--insecure"));

    let output = folder.sotto("keygen --insecure --plan plan -o other --json");
    assert!(stdout(&output).contains(r#""security_bits":0"#));
}

#[test]
fn a_client_that_is_done_or_interrupted_makes_way_for_another() {
    let folder = Folder::with_plan();
    folder.keygen();
    let other = folder.sotto("keygen --insecure --plan plan -o other");
    assert!(other.status.success(), "{}", stderr(&other));
    let server = Server::start(&folder, &[]);
    for keys in ["keys", "other", "keys"] {
        let command = generate(&server, "a", 1).replace("--keys keys", &format!("--keys {keys}"));
        let output = folder.sotto(&command);
        assert!(output.status.success(), "{}", stderr(&output));
    }

    // An interrupt before the first token: whatever it comes upon, no session stays behind.
    interrupted(spawn(&folder, &generate(&server, "aaa", 9)), "INT");
    let next = generate(&server, "a", 1).replace("--keys keys", "--keys other");
    let output = folder.sotto(&next);
    assert!(output.status.success(), "{}", stderr(&output));
}

#[test]
fn a_server_started_for_keys_serves_those_alone() {
    let folder = Folder::with_plan();
    folder.keygen();
    let other = folder.sotto("keygen --insecure --plan plan -o other");
    assert!(other.status.success(), "{}", stderr(&other));
    let server = Server::start(&folder, &["--keys", "keys/evaluation"]);
    let command = generate(&server, "a", 1).replace("--keys keys", "--keys other");
    fails(&folder.sotto(&command), 3, &["alone", "without --keys"]);
    assert!(folder.sotto(&generate(&server, "a", 1)).status.success());
}

#[test]
fn a_secret_key_that_others_may_read_is_refused() {
    let folder = Folder::with_plan();
    folder.keygen();
    let file = folder.path("keys/secret.key");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    let command = "generate --insecure --plan plan --keys keys --server 127.0.0.1:1 --prompt a";
    fails(&folder.sotto(command), 2, &["secret.key", "chmod 600"]);
}

#[test]
fn a_plan_is_timed_whatever_its_tokens_mean() {
    let folder = Folder::with_plan();
    let asked = folder.sotto("bench plan --plan plan --tokens 2 --json");
    fails(&asked, 2, &["INSECURE", "--insecure"]);
    let blocks = folder.sotto("bench plan --plan plan --blocks 1 --insecure");
    fails(&blocks, 2, &["--blocks 1", "token by token"]);
    let output = folder.sotto("bench plan --plan plan --tokens 2 --insecure --json");
    assert!(output.status.success(), "{}", stderr(&output));
    let line: serde_json::Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!(line["seconds"].as_array().unwrap().len(), 2);
    assert!(line["predicted_seconds"].is_number());
    assert_eq!(line["block_seconds"].as_array().unwrap().len(), 0);
    assert_eq!(line["engine"], "the processor");
}

/// Machines with a card are for other tests.
#[test]
fn without_a_card_the_gpu_backend_says_what_is_missing() {
    if sotto_gpu::Cuda::open(0).is_ok() {
        return;
    }
    let folder = Folder::with_plan();
    golden(&folder, None);
    for command in [
        "check --plan plan --golden golden --insecure",
        "eval --plan plan --golden golden --insecure --forced-only",
        "serve --plan plan --insecure",
        "bench engine --insecure-ring 9 --rows rotate",
        "bench plan --plan plan --insecure",
        "bench --cost-table table.ron --insecure-ring 9",
    ] {
        let output = folder.sotto(&format!("{command} --backend gpu"));
        fails(&output, 2, &["NVIDIA card 0", "--backend cpu"]);
        let output = folder.sotto(&format!("{command} --backend gpu --card 7"));
        fails(&output, 2, &["NVIDIA card 7", "--backend cpu"]);
    }
    assert!(!folder.path("table.ron").exists());
}
