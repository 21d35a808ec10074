"""The checkpoint directory in Hugging Face layout: config.json, generation_config.json, model.safetensors."""

import json
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

import data
from llama import Config, Llama


def save(model, out):
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    shape = asdict(model.c)
    theta = shape.pop("rope_theta")
    config = {
        "architectures": ["LlamaForCausalLM"],
        "attention_bias": False,
        "attention_dropout": 0.0,
        "bos_token_id": data.BOS,
        "dtype": "float32",
        "eos_token_id": data.EOS,
        "hidden_act": "silu",
        "initializer_range": 0.02,
        "mlp_bias": False,
        "model_type": "llama",
        "pad_token_id": None,
        "pretraining_tp": 1,
        "rope_parameters": {"rope_theta": theta, "rope_type": "default"},
        "tie_word_embeddings": False,
        "use_cache": True,
        **shape,
    }
    generation = {"bos_token_id": data.BOS, "eos_token_id": data.EOS, "use_cache": True}
    for name, value in (("config.json", config), ("generation_config.json", generation)):
        (out / name).write_text(json.dumps(value, indent=2, sort_keys=True) + "\n")
    tensors = {k: v.detach().contiguous() for k, v in model.state_dict().items()}
    save_file(tensors, str(out / "model.safetensors"), metadata={"format": "pt"})


def load(directory, dtype=torch.float64):
    model = Llama(Config())
    model.load_state_dict(load_file(str(Path(directory) / "model.safetensors")))
    return model.to(dtype).eval()
