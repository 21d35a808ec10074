//! The `sotto` program in processes of its own.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use tempfile::TempDir;

pub const SOTTO: &str = env!("CARGO_BIN_EXE_sotto");

/// A folder with a plan.
pub struct Folder(pub TempDir);

impl Folder {
    pub fn with_plan() -> Self {
        let folder = tempfile::tempdir().unwrap();
        super::write_plan(&folder.path().join("plan"));
        Self(folder)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn sotto(&self, args: &str) -> Output {
        Command::new(SOTTO)
            .args(args.split(' '))
            .current_dir(self.0.path())
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    pub fn keygen(&self) {
        let output = self.sotto("keygen --insecure --plan plan -o keys");
        assert!(output.status.success(), "{}", stderr(&output));
    }
}

pub fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

pub fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// A command failed with this exit code and an error that says this.
pub fn fails(output: &Output, code: i32, words: &[&str]) {
    let text = stderr(output);
    assert_eq!(output.status.code(), Some(code), "{text}");
    for word in words {
        assert!(text.contains(word), "`{word}` is not in: {text}");
    }
}

/// `sotto serve` in its own process; killed when dropped.
pub struct Server {
    pub child: Child,
    pub addr: String,
}

impl Server {
    pub fn start(folder: &Folder, more: &[&str]) -> Self {
        let mut child = Command::new(SOTTO)
            .args(["serve", "--insecure", "--plan", "plan"])
            .args(more)
            .current_dir(folder.0.path())
            // what a killed server leaves behind goes with the folder
            .env("TMPDIR", folder.0.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(fs::File::create(folder.path("serve.err")).unwrap())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let addr = line
            .trim()
            .strip_prefix("listening on ")
            .expect("an address");
        Self {
            child,
            addr: addr.into(),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _status = self.child.wait();
    }
}

pub fn generate(server: &Server, prompt: &str, tokens: u32) -> String {
    format!(
        "generate --insecure --plan plan --keys keys --server {} --prompt {prompt} --max-tokens {tokens}",
        server.addr
    )
}
