#!/usr/bin/env python3
"""Everything that wants an NVIDIA card, from a release build made elsewhere, as one JSON.

Where the project is built:

    python3 tests/gpu/run.py pack gpu-run           # builds, and copies what is needed into the folder gpu-run

Where the card is (nothing but Python, the driver and NVRTC; no Rust, no network):

    python3 gpu-run/run.py run --out card.json      # --layers 0 leaves the Llama-3-8B layer out

It runs the tests of bit-exactness on the card, the small ones under compute-sanitizer where that is installed (memcheck, racecheck, initcheck),
the engine's table on card and processor, the card's with measured bandwidth and rate of multiplications and every kernel held against them,
the demo, a cost table of the card, and one synthetic Llama-3-8B layer. Table and layer keep matrices by their coefficients, as the whole
model's must be. A step that fails is in the JSON with its output; the exit status is 1 if one did.
"""

import argparse
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
TESTS = {"operations": "sotto-gpu-host", "circuits": "sotto-gpu-host", "profile": "sotto-gpu-host", "gpu": "sotto-tests"}
PROGRAMS = ["sotto", "sottoc"]


def pack(folder):
    """Builds programs and test binaries, and copies them with the bundled model and a fixture."""
    root = HERE.parent.parent
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(["cargo", "build", "--release"], cwd=root, check=True)
    for program in PROGRAMS:
        shutil.copy2(root / "target/release" / program, folder)
    for test, package in TESTS.items():
        command = ["cargo", "test", "--release", "--no-run", "--message-format=json", "-p", package, "--test", test]
        lines = subprocess.run(command, cwd=root, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()
        built = [json.loads(line) for line in lines]
        binary = [b["executable"] for b in built if b.get("executable") and b["target"]["name"] == test]
        shutil.copy2(binary[-1], folder / f"test-{test}")
    shutil.copytree(root / "models/tiny", folder / "models/tiny", dirs_exist_ok=True)
    # where the tests of whole plans look for their fixtures is part of their binary
    (folder / "root").write_text(str(root))
    fixture = "tests/fixtures/llama-variants"
    shutil.copytree(root / fixture, folder / fixture, dirs_exist_ok=True)
    shutil.copy2(__file__, folder / "run.py")
    print(f"{folder}: carry it to the card, and run {folder}/run.py run")


class Steps:
    """What was run, and what came of it."""

    def __init__(self, env):
        self.env, self.steps = env, []

    def run(self, name, command, line=False):
        """Runs a command; `line` says that its last line is JSON. Returns that, or None."""
        started = time.time()
        print(f"{name}: {' '.join(map(str, command))}", file=sys.stderr, flush=True)
        done = subprocess.run(list(map(str, command)), env=self.env, cwd=HERE, capture_output=True, text=True)
        step = {"name": name, "exit": done.returncode, "seconds": round(time.time() - started, 1)}
        found = None
        if done.returncode:
            step["output"] = (done.stdout + done.stderr)[-4000:]
        elif line:
            try:
                found = json.loads(done.stdout.strip().splitlines()[-1])
                step["result"] = found
            except (IndexError, ValueError):
                step["exit"], step["output"] = 1, done.stdout[-4000:]
        self.steps.append(step)
        return found

    def failed(self):
        return [s["name"] for s in self.steps if s["exit"]]


def card(number):
    """Name, clocks and memory, as nvidia-smi tells them."""
    fields = "name,driver_version,clocks.sm,clocks.mem,clocks.max.sm,memory.total,memory.used,power.limit"
    query = ["nvidia-smi", f"--id={number}", f"--query-gpu={fields}", "--format=csv,noheader"]
    try:
        text = subprocess.run(query, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError) as error:
        return {"error": str(error)}
    return dict(zip(fields.split(","), (part.strip() for part in text.split(","))))


def run(args):
    # one order of cards for everything: nvidia-smi's
    order = {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
    env = dict(os.environ, **order, SOTTO_CARD=str(args.card), RUST_BACKTRACE="1")
    steps = Steps(env)
    # the tests look for fixtures where they were built
    root = pathlib.Path((HERE / "root").read_text())
    if not root.exists():
        root.parent.mkdir(parents=True, exist_ok=True)
        root.symlink_to(HERE)
    gpu = ["--backend", "gpu", "--card", args.card]
    sotto, sottoc = HERE / "sotto", HERE / "sottoc"
    before = card(args.card)
    for test in TESTS:
        steps.run(f"bit-exact: {test}", [HERE / f"test-{test}", "--test-threads=1"])
    sanitizer = shutil.which("compute-sanitizer")
    for tool in ["memcheck", "racecheck", "initcheck"] if sanitizer else []:
        small = [HERE / "test-circuits", "--test-threads=1"]
        steps.run(f"compute-sanitizer {tool}", [sanitizer, "--tool", tool, "--error-exitcode", "9", *small])
    if not sanitizer:
        print("compute-sanitizer is not installed: memory and races were not checked", file=sys.stderr)
    with tempfile.TemporaryDirectory() as work:
        work = pathlib.Path(work)
        steps.run("engine, card", [sotto, "bench", "engine", "--json", *gpu], line=True)
        steps.run("engine, processor", [sotto, "bench", "engine", "--json"], line=True)
        table = work / "card.ron"
        compact = [*gpu, "--matrices", "compact"]
        steps.run("cost table", [sotto, "bench", "--cost-table", table, "--name", "the card", *compact])
        demo = [sotto, "demo", "--model", HERE / "models/tiny", "--json", *gpu]
        steps.run("demo", demo, line=True)
        if args.layers:
            layer = [sottoc, "compile", "--preset", "llama-3-8b", "--layers", args.layers]
            layer += ["--weights", "synthetic:7", "--context", "512", "-o", work / "layer.plan"]
            layer += ["--cost-table", table] if table.exists() else []
            steps.run("Llama-3-8B layer, compile", layer)
            timed = [sotto, "bench", "plan", "--plan", work / "layer.plan", "--tokens", "3"]
            steps.run("Llama-3-8B layer", [*timed, "--json", *compact], line=True)
            beside = [*gpu, "--matrices", "beside"]
            steps.run("Llama-3-8B layer, matrices beside the card", [*timed, "--json", *beside], line=True)
            # operations one at a time, for their own times
            timed += ["--trace", work / "layer.json", "--json", *compact]
            steps.run("Llama-3-8B layer, traced", timed, line=True)
            by_kind = [sotto, "trace", work / "layer.json", "--plan", work / "layer.plan", "--json"]
            steps.run("Llama-3-8B layer, by operation", by_kind, line=True)
    report = {"card": before, "after": card(args.card), "sanitizer": sanitizer, "steps": steps.steps}
    pathlib.Path(args.out).write_text(json.dumps(report, indent=1))
    for name in steps.failed():
        print(f"failed: {name}", file=sys.stderr)
    return 1 if steps.failed() else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    packing = commands.add_parser("pack", help="build, and gather what is to be carried")
    packing.add_argument("folder")
    packing.set_defaults(act=lambda args: pack(args.folder))
    running = commands.add_parser("run", help="run everything on a card")
    running.add_argument("--out", default="card.json", help="the JSON to write")
    running.add_argument("--card", type=int, default=0, help="which card, as the driver counts")
    running.add_argument("--layers", type=int, default=1, help="layers of the Llama-3-8B plan; 0 leaves it out")
    running.set_defaults(act=run)
    args = parser.parse_args()
    sys.exit(args.act(args))


if __name__ == "__main__":
    main()
