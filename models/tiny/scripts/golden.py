"""Golden of the bundled model for tests: what the transformers library computes from the checkpoint, in float64 throughout.

    python golden.py ../../../tests/fixtures/tiny-golden

The library's RMSNorm and rotary angles drop to float32 whatever the model's type, so both are restated in float64 here; everything
else is the library's own code. Tensors are those of tests/fixtures/README.md.
"""

import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM
from transformers.models.llama import modeling_llama as library

import checkpoint
import data

STEPS, PROMPT, GREEDY = 24, 3, 8


def norm(self, x):
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.variance_epsilon) * self.weight


def rotary(self, x, position_ids):
    c = self.config
    inv = c.rope_parameters["rope_theta"] ** (-torch.arange(0, c.head_dim, 2, dtype=torch.float64) / c.head_dim)
    angle = position_ids[..., None].double() * inv
    angle = torch.cat((angle, angle), -1)
    return angle.cos(), angle.sin()


@torch.no_grad()
def golden(model, ids):
    out = {"input_ids": ids}
    whole = model(ids, output_hidden_states=True, use_cache=True)
    out["logits"] = whole.logits[0]
    out |= {f"hidden.{i}": h[0] for i, h in enumerate(whole.hidden_states)}
    for i, layer in enumerate(whole.past_key_values.layers):
        out |= {f"keys.{i}": layer.keys[0], f"values.{i}": layer.values[0]}
    past, steps = None, []
    for t in range(ids.shape[1]):
        step = model(ids[:, t : t + 1], past_key_values=past, use_cache=True)
        past = step.past_key_values
        steps.append(step.logits[0, -1])
    out["logits.stepwise"] = torch.stack(steps)
    greedy = ids[:, :PROMPT]
    for _ in range(GREEDY):
        greedy = torch.cat((greedy, model(greedy).logits[:, -1].argmax(-1, keepdim=True)), 1)
    out["greedy_ids"] = greedy
    return {k: v.contiguous() for k, v in out.items()}


def main():
    torch.set_num_threads(1)
    library.LlamaRMSNorm.forward, library.LlamaRotaryEmbedding.forward = norm, rotary
    model = AutoModelForCausalLM.from_pretrained(data.HOME, dtype=torch.float64, attn_implementation="sdpa").eval()
    story = (data.HOME / "heldout.txt").read_text().splitlines()[0]
    ids = torch.tensor([data.tokenizer().encode(story).ids[:STEPS]])
    out = golden(model, ids)
    own = checkpoint.load(data.HOME)(ids)[0]
    for name in ("logits", "logits.stepwise"):
        print(name, "against this project's own float64 forward pass: largest difference", (out[name] - own).abs().max().item())
    target = Path(sys.argv[1])
    target.mkdir(parents=True, exist_ok=True)
    save_file(out, str(target / "golden.safetensors"))


if __name__ == "__main__":
    main()
