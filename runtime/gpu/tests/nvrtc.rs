//! The kernels as NVRTC takes them, for every architecture that is supported: no card is needed, the compiler's library is.
//!
//! Where it is missing the test says so and passes, unless SOTTO_NVRTC=required is in the environment.

use sotto_gpu::{Kernel, Source, nvrtc};

const ARCHITECTURES: [&str; 4] = ["sm_80", "sm_90", "sm_100", "sm_120"];

/// A kernel's registers, and bytes spilled or on a stack, as ptxas tells them.
struct Usage {
    kernel: String,
    registers: u32,
    spilled: u32,
}

/// Reads "Compiling entry function 'name'", "0 bytes spill stores" and "Used 40 registers".
fn usages(log: &str) -> Vec<Usage> {
    let mut found: Vec<Usage> = Vec::new();
    for line in log.lines() {
        if let Some((_, rest)) = line.split_once("Compiling entry function '") {
            found.push(Usage {
                kernel: rest.split('\'').next().unwrap_or_default().into(),
                registers: 0,
                spilled: 0,
            });
        }
        let Some(last) = found.last_mut() else {
            continue;
        };
        for (number, what) in numbers(line) {
            match what {
                "registers" => last.registers = number,
                "bytes stack frame" | "bytes spill stores" | "bytes spill loads" => {
                    last.spilled += number;
                }
                _ => (),
            }
        }
    }
    found
}

/// Numbers of a line of ptxas with what they count.
fn numbers(line: &str) -> Vec<(u32, &str)> {
    let parts = line.split([',', ':']);
    let number = |part: &'_ str| -> Option<u32> { part.parse().ok() };
    parts
        .filter_map(|part| {
            let part = part.trim().trim_start_matches("Used ");
            let (first, what) = part.split_once(' ')?;
            Some((number(first)?, what))
        })
        .collect()
}

#[test]
fn every_kernel_compiles_for_every_architecture_and_spills_nothing() {
    if !nvrtc::present() {
        let required = std::env::var("SOTTO_NVRTC").is_ok_and(|v| v == "required");
        assert!(!required, "NVRTC is required and was not found");
        eprintln!("NVRTC is not on this machine: kernels were not compiled");
        return;
    }
    for arch in ARCHITECTURES {
        let mut kernels = Vec::new();
        for &source in Source::ALL {
            let compiled = nvrtc::compile(source, arch).unwrap();
            assert!(compiled.cubin.starts_with(b"\x7fELF"), "{arch}");
            let warned = compiled.log.lines().any(|l| l.contains("warning"));
            assert!(!warned, "{}", compiled.log);
            kernels.extend(usages(&compiled.log));
        }
        for usage in &kernels {
            println!(
                "{arch} {:<24} {:>3} registers",
                usage.kernel, usage.registers
            );
            assert!(usage.registers > 0, "{arch}: {}", usage.kernel);
            assert_eq!(usage.spilled, 0, "{arch}: {} spills", usage.kernel);
        }
        let mut names: Vec<&str> = kernels.iter().map(|u| u.kernel.as_str()).collect();
        let mut all: Vec<&str> = Kernel::ALL.iter().map(|k| k.name()).collect();
        names.sort_unstable();
        all.sort_unstable();
        assert_eq!(names, all, "{arch}");
    }
}

#[test]
fn without_a_driver_the_error_says_so() {
    if let Err(error) = sotto_gpu::Cuda::open(0) {
        let error = error.to_string();
        assert!(
            error.contains("NVIDIA") && error.contains("--backend cpu"),
            "{error}"
        );
    }
}
