"""Writes config.json and ranges.json of every preset. Standard library only; deterministic.

    python make_ranges.py

What is published, derived or assumed is in README.md; every number below carries one of those words.
"""

import json
import math
from pathlib import Path

HERE = Path(__file__).resolve().parent

LLAMA = {
    "architectures": ["LlamaForCausalLM"],
    "attention_bias": False,
    "hidden_act": "silu",
    "mlp_bias": False,
    "model_type": "llama",
    "rms_norm_eps": 1e-5,
    "rope_scaling": None,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "use_cache": True,
}
CONFIGS = {  # published with the checkpoints
    "llama-3-8b": LLAMA
    | {
        "bos_token_id": 128000,
        "eos_token_id": 128001,
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "max_position_embeddings": 8192,
        "num_attention_heads": 32,
        "num_hidden_layers": 32,
        "num_key_value_heads": 8,
        "rope_theta": 500000.0,
        "vocab_size": 128256,
    },
    "tinyllama-1.1b": LLAMA
    | {
        "bos_token_id": 1,
        "eos_token_id": 2,
        "hidden_size": 2048,
        "intermediate_size": 5632,
        "max_position_embeddings": 2048,
        "num_attention_heads": 32,
        "num_hidden_layers": 22,
        "num_key_value_heads": 4,
        "rope_theta": 10000.0,
        "vocab_size": 32000,
    },
    "gpt2-small": {
        "activation_function": "gelu_new",
        "architectures": ["GPT2LMHeadModel"],
        "bos_token_id": 50256,
        "eos_token_id": 50256,
        "layer_norm_epsilon": 1e-5,
        "model_type": "gpt2",
        "n_embd": 768,
        "n_head": 12,
        "n_inner": None,
        "n_layer": 12,
        "n_positions": 1024,
        "tie_word_embeddings": True,
        "vocab_size": 50257,
    },
}

MASSIVE = 200.0  # published for Llama-3-8B: largest residual channel over the median one
MEDIAN = 0.6745  # derived: median |x| of a unit normal
SPREAD = 2.0  # assumed: mean squares of ordinary positions lie within this factor of the bulk
CREST = 5.5  # assumed: largest of some 10^4 to 10^5 near-normal values over their rms, with head room
FIRST_MS, LAST_MS = 4e-4, 1.0  # assumed: mean square of the embedding (init 0.02 squared) and of the last residual
SCORE_TOP = 25.0  # assumed: largest attention score; the published span then fixes the smallest

# assumed: the logarithm of a head's mean exponential is that of one score at the top among 512, and 2 more or less over positions
LOG_MEAN, LOG_SPREAD = SCORE_TOP - math.log(512), 2.0


def site(name, low, high, ms_low, ms_high):
    numbers = {"min": low, "max": high, "mean_square_min": ms_low, "mean_square_max": ms_high}
    return {"site": name} | {k: float(f"{v:.4g}") for k, v in numbers.items()}


def normal(name, ms):
    """A near-normal value of mean square `ms`."""
    reach = CREST * math.sqrt(ms * SPREAD)
    return site(name, -reach, reach, ms / SPREAD, ms * SPREAD)


def residual(name, bulk, width):
    """A residual stream of bulk mean square `bulk` with one massive channel."""
    massive = MASSIVE * MEDIAN * math.sqrt(bulk)
    return site(name, -massive, massive, bulk / SPREAD, SPREAD * bulk + massive**2 / width)


def layer(depth, width, activation, activation_reach, span):
    """`depth` runs from 0 (first layer) to 1 (last)."""
    bulk = FIRST_MS * (LAST_MS / FIRST_MS) ** depth
    sites = [
        residual("attention_norm_in", bulk, width),
        normal("q", 4.0),
        normal("k", 4.0),
        normal("v", 0.25),
        site("log_mean_exp", LOG_MEAN - LOG_SPREAD, LOG_MEAN + LOG_SPREAD, LOG_MEAN**2, LOG_MEAN**2 + LOG_SPREAD**2),
        site("scores", SCORE_TOP - span, SCORE_TOP, 1.0, (span / 2) ** 2),
        normal("attended", 0.1),
        residual("mlp_norm_in", bulk, width),
        site(activation, -activation_reach, activation_reach, 0.25, 4.0),
    ]
    if activation == "silu_in":
        sites += [normal("up", 1.0), site("gated", -activation_reach * CREST, activation_reach * CREST, 0.05, 4.0)]
    else:
        sites += [site("activated", -0.17, activation_reach, 0.05, 4.0)]
    return sites


def profile(name, layers, width, activation, context):
    stack = []
    for i in range(layers):
        depth = i / (layers - 1)
        reach = 40.0 if i == layers - 1 else 11.0  # published for Llama-3-8B (30 to 40 in the last layer, 11 elsewhere); assumed for the others
        span = 80.0 + (135.0 - 80.0) * depth  # published ends; assumed to grow evenly with depth
        stack.append(layer(depth, width, activation, reach, span))
    head = [residual("norm_in", LAST_MS, width), normal("logits", 9.0)]
    return {"model": name, "weights": "none: an assumed profile, see ../README.md", "context": context, "layers": stack, "head": head}


def dump(path, value):
    """One site per line."""
    rows = json.dumps({k: v for k, v in value.items() if k not in ("layers", "head")}, indent=2)[:-2]
    line = lambda s: "      " + json.dumps(s)
    stack = ",\n".join("    [\n" + ",\n".join(map(line, sites)) + "\n    ]" for sites in value["layers"])
    text = f'{rows},\n  "layers": [\n{stack}\n  ],\n  "head": [\n' + ",\n".join(map(line, value["head"])) + "\n  ]\n}\n"
    assert json.loads(text) == value
    path.write_text(text)


def main():
    for name, config in CONFIGS.items():
        folder = HERE / name
        folder.mkdir(exist_ok=True)
        (folder / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
        llama = config["model_type"] == "llama"
        layers = config["num_hidden_layers"] if llama else config["n_layer"]
        width = config["hidden_size"] if llama else config["n_embd"]
        dump(folder / "ranges.json", profile(name, layers, width, "silu_in" if llama else "gelu_in", 512))


if __name__ == "__main__":
    main()
