//! The processes that the demo starts: `sottoc`, and the server.

use super::Failure;
use crate::commands::engines::EngineArgs;
use sotto_ir::golden::Golden;
use std::env;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// What a ready server prints before its address.
const READY: &str = "listening on ";
/// How long a server may take to end before it is killed.
const PATIENCE: Duration = Duration::from_secs(5);

/// `sottoc`, in the directory of this program.
pub(super) struct Compiler {
    program: PathBuf,
}

impl Compiler {
    /// Finds it.
    pub fn beside_us() -> Result<Self, Failure> {
        let us = env::current_exe().map_err(|cause| {
            Failure::Input(format!("cannot tell where this program is: {cause}"))
        })?;
        let program = us.with_file_name(format!("sottoc{}", env::consts::EXE_SUFFIX));
        if !program.is_file() {
            return Err(Failure::Input(format!(
                "{} is missing: the demo needs the compiler beside it; build both with `cargo build --release`",
                program.display()
            )));
        }
        Ok(Self { program })
    }

    /// `sottoc compile MODEL -o PLAN`.
    pub fn compile(
        &self,
        model: &Path,
        plan: &Path,
        calibration: Option<&Path>,
    ) -> Result<(), Failure> {
        let mut command = Command::new(&self.program);
        command.arg("compile").arg(model).arg("-o").arg(plan);
        if let Some(file) = calibration {
            command.arg("--calibrate").arg(file);
        }
        finish(&mut command, "sottoc compile")
    }

    /// `sottoc reference` on token ids, with `generate` tokens after the first `prompt` ids.
    pub fn reference(
        &self,
        model: &Path,
        ids: &[u32],
        prompt: usize,
        generate: usize,
        work: &Path,
    ) -> Result<Golden, Failure> {
        let (input, output) = (
            work.join("ids.safetensors"),
            work.join("golden.safetensors"),
        );
        write_ids(&input, ids)?;
        let mut command = Command::new(&self.program);
        command.arg("reference").arg(model);
        command.arg("--input").arg(&input).arg("-o").arg(&output);
        command.arg("--prompt").arg(prompt.to_string());
        command.arg("--generate").arg(generate.to_string());
        finish(&mut command, "sottoc reference")?;
        Golden::read(&output).map_err(Failure::input)
    }
}

/// Writes `input_ids` [1, T].
fn write_ids(path: &Path, ids: &[u32]) -> Result<(), Failure> {
    let bytes: Vec<u8> = ids
        .iter()
        .flat_map(|&id| i64::from(id).to_le_bytes())
        .collect();
    let view =
        safetensors::tensor::TensorView::new(safetensors::Dtype::I64, vec![1, ids.len()], &bytes)
            .map_err(Failure::foreign)?;
    let file = safetensors::serialize([("input_ids", view)], None).map_err(Failure::foreign)?;
    fs::write(path, file)
        .map_err(|cause| Failure::Input(format!("writing {}: {cause}", path.display())))
}

/// Runs a command to its end. What it prints is shown as progress.
fn finish(command: &mut Command, name: &str) -> Result<(), Failure> {
    let status = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status()
        .map_err(|cause| Failure::Input(format!("cannot start {name}: {cause}")))?;
    if status.success() {
        return Ok(());
    }
    Err(Failure::Input(format!(
        "{name} failed ({status}); it says above what to do"
    )))
}

/// `sotto serve` in its own process; ended when dropped, and by itself when this process ends in any other way.
pub(super) struct ServerProcess {
    child: Child,
    address: String,
}

impl ServerProcess {
    /// Starts a server that is told where the plan and the evaluation keys are, and waits until it is ready.
    pub fn start(
        plan: &Path,
        evaluation_keys: &Path,
        trace: Option<&Path>,
        engine: EngineArgs,
    ) -> Result<Self, Failure> {
        let failed =
            |cause: std::io::Error| Failure::Remote(format!("cannot start the server: {cause}"));
        let us = env::current_exe().map_err(failed)?;
        let mut command = Command::new(us);
        command.arg("serve").arg("--plan").arg(plan);
        command.arg("--keys").arg(evaluation_keys);
        command.args(["--addr", "127.0.0.1:0", "--until-stdin-ends"]);
        command.arg("--backend").arg(engine.backend.name());
        command.args(engine.card.words());
        if let Some(file) = trace {
            command.arg("--trace").arg(file);
        }
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(failed)?;
        let output = child.stdout.take();
        let mut server = Self {
            child,
            address: String::new(),
        };
        let mut line = String::new();
        if let Some(output) = output {
            BufReader::new(output)
                .read_line(&mut line)
                .map_err(failed)?;
        }
        match line.trim().strip_prefix(READY) {
            Some(address) => {
                server.address = address.to_string();
                Ok(server)
            }
            None => Err(Failure::Remote(
                "the server ended before it was ready; it says above what to do".into(),
            )),
        }
    }

    /// Where it listens.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Most bytes of memory it has held.
    pub fn peak_memory(&self) -> Option<u64> {
        crate::process::peak_memory(self.child.id())
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        // It ends when its standard input does, and removes its own files then.
        drop(self.child.stdin.take());
        let asked = Instant::now();
        while asked.elapsed() < PATIENCE {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        // An error means that it has ended after all.
        let _ended = self.child.kill();
        let _status = self.child.wait();
    }
}
