"""Float64 figures of the checkpoint: held-out perplexity, activation ranges, logit gaps, continuations.

    python evaluate.py [--model ..] [--stories 400] [--text ../calibration.txt]
"""

import argparse
import math
import random
from pathlib import Path

import torch

import checkpoint
import data
import grammar

PROMPTS = [
    "Once upon a time",
    "Once upon a time there was a brave mouse named",
    "There once was a shy girl named Zoe. She",
    "Long ago, a clever owl named Hugo",
    "One day, Mia lost her",
    "It was a little bird near the gate.",
    "Tom was very hungry. Lily had",
    '"Where is my kite?"',
    "A big storm came.",
    "From that day on,",
]


class Ranges:
    """Running extremes per (layer, site) over all positions of all stories."""

    def __init__(self):
        self.lines = {}
        self.logits = []

    def put(self, key, **values):
        kept = self.lines.setdefault(key, {})
        for name, (least, greatest) in values.items():
            low, high = kept.get(name, (math.inf, -math.inf))
            kept[name] = (min(low, float(least)), max(high, float(greatest)))

    def observe(self, layer, name, x):
        if name == "logits":
            self.logits.append(x[0])
        elif name == "scores":
            self.scores(layer, x)
        else:
            self.put((layer, name), value=(x.min(), x.max()))
            if name in ("silu_in", "k", "q"):
                return
            ms = x.square().mean(-1)
            self.put((layer, name), mean_square=(ms.min(), ms.max()), crest=((x.abs().amax(-1) / ms.sqrt()).min(), (x.abs().amax(-1) / ms.sqrt()).max()))

    def scores(self, layer, s):
        t = s.shape[-1]
        past = torch.ones(t, t, dtype=torch.bool).tril()
        kept = s[..., past]
        self.put((layer, "score"), value=(kept.min(), kept.max()))
        row = s.masked_fill(~past, -math.inf)
        low = s.masked_fill(~past, math.inf).amin(-1)
        self.put((layer, "score"), row_spread=(0, (row.amax(-1) - low).max()))
        mean_exp = (row.logsumexp(-1) - torch.arange(1, t + 1, dtype=s.dtype).log()).exp()
        heads = mean_exp.flatten(1, 2)
        for h in range(heads.shape[1]):
            self.put((layer, "mean exp(score)"), **{f"head {h}": (heads[:, h].min(), heads[:, h].max())})


def measure(model, rows):
    ranges, nll, count = Ranges(), 0.0, 0
    for row in rows:
        ids = torch.tensor([row])
        logits = model(ids, ranges.observe)[0, :-1]
        nll -= logits.log_softmax(-1).gather(1, ids[0, 1:, None]).sum().item()
        count += len(row) - 1
    return ranges, nll / count, count


def report(ranges, nats, count):
    print(f"{count} tokens, {nats:.6f} nats per token, perplexity {math.exp(nats):.4f}")
    for (layer, site), values in ranges.lines.items():
        print(f"{layer} {site}: " + ", ".join(f"{k} {a:.4g} … {b:.4g}" for k, (a, b) in values.items()))
    logits = torch.cat(ranges.logits)
    sigma = logits.std(-1)
    top = logits.topk(2, -1).values
    gap = (top[:, 0] - top[:, 1]) / sigma
    print(f"logits: min {logits.min():.3f} max {logits.max():.3f}; sigma per position {sigma.min():.3f} … {sigma.max():.3f}, over all {logits.std():.3f}")
    quantiles = torch.quantile(gap, torch.tensor([0.01, 0.05, 0.25, 0.5], dtype=gap.dtype)).tolist()
    print(f"top-1/top-2 gap in sigma: below 4 %: {(gap < 0.04).double().mean():.4f} of positions; quantiles 1 5 25 50 %: {[round(q, 4) for q in quantiles]}")


def sensitivity(model, rows):
    """Largest and rms logit error, in sigma of the position, that relative noise on every norm's output causes."""
    generator = torch.Generator().manual_seed(1)
    for size in (1e-3, 1e-2):
        noise = lambda x: x + size * torch.randn(x.shape, generator=generator, dtype=x.dtype)
        largest, rms = 0.0, 0.0
        for row in rows:
            ids = torch.tensor([row])
            exact = model(ids)[0]
            error = (model(ids, noise=noise)[0] - exact) / exact.std(-1, keepdim=True)
            largest, rms = max(largest, error.abs().max().item()), rms + error.square().mean().sqrt().item() / len(rows)
        print(f"noise {size}: logit error at most {largest:.4f} sigma, rms {rms:.5f}")


def continuation(model, ids, length, temperature, rng):
    ids = list(ids)
    while len(ids) < length:
        logits = model(torch.tensor([ids]))[0, -1]
        if temperature == 0:
            token = int(logits.argmax())
        else:
            p = (logits / temperature).softmax(-1).tolist()
            token = rng.choices(range(len(p)), p)[0]
        ids.append(token)
        if token == data.EOS:
            break
    return ids


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", type=Path, default=data.HOME)
    parser.add_argument("--text", type=Path, help="measure the stories of this file (one a line) in place of the held-out seeds, and stop")
    parser.add_argument("--stories", type=int, default=400)
    args = parser.parse_args()
    torch.set_num_threads(1)
    model, tok = checkpoint.load(args.model), data.tokenizer()
    if args.text:
        with torch.no_grad():
            report(*measure(model, data.encoded(args.text.read_text().splitlines())))
        return
    trained = set(map(grammar.story, grammar.TRAIN))
    seeds = [s for s in grammar.HELD_OUT if grammar.story(s) not in trained]
    with torch.no_grad():
        report(*measure(model, data.rows(seeds)[: args.stories]))
        sensitivity(model, data.encoded((data.HOME / "heldout.txt").read_text().splitlines()[:10]))
        rng = random.Random(7)
        for prompt in PROMPTS:
            for temperature in (0, 0.8):
                ids = continuation(model, tok.encode(prompt).ids, data.CONTEXT, temperature, rng)
                print(f"[{'greedy' if temperature == 0 else f'T={temperature}'}] {tok.decode(ids)}{'' if ids[-1] == data.EOS else ' …'}")


if __name__ == "__main__":
    main()
