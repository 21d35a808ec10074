"""Trains the model on the grammar's stories. One thread, seeded; see ../README.md for the exact command and its figures.

    nice -n 10 python train.py --steps 1300 --out ..
"""

import argparse
import math
import time
from pathlib import Path

import torch
from torch.nn import functional as F

import checkpoint
import data
import grammar
from llama import Config, Llama
from taming import Taming

SEED = 20
TOKENS_PER_STEP = 4096
MATRIX_LR, OTHER_LR = 0.02, 4e-3
MATRIX_DECAY, HEAD_DECAY = 0.05, 0.1
NOISE = 0.03  # relative noise on every norm's output: keeps the logits insensitive to small errors
WILD_ROWS = 16  # one row in this many is made of random tokens: no language loss there, only the penalties
WEIGHTS = {"norm": 0.5, "crest": 0.1, "mlp": 0.05, "floor": 1.0, "score": 0.05, "denominator": 0.3}
Z_LOSS = 1e-4


class Muon(torch.optim.Optimizer):
    """Momentum whose update is orthogonalised by a Newton-Schulz iteration (Jordan et al. 2024): no direction of a weight matrix outgrows the others."""

    def __init__(self, params, lr, momentum=0.95, weight_decay=0.0):
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for p in group["params"]:
                m = self.state[p].setdefault("m", torch.zeros_like(p))
                m.lerp_(p.grad, 1 - group["momentum"])
                update = orthogonalised(p.grad.lerp(m, group["momentum"]))
                p.mul_(1 - group["lr"] * group["weight_decay"])
                p.add_(update, alpha=-group["lr"] * max(1.0, p.shape[0] / p.shape[1]) ** 0.5)


def orthogonalised(g, steps=5):
    a, b, c = 3.4445, -4.7750, 2.0315  # quintic of Jordan et al., tuned for speed at zero
    x = g / (g.norm() + 1e-7)
    tall = x.shape[0] > x.shape[1]
    x = x.T if tall else x
    for _ in range(steps):
        s = x @ x.T
        x = a * x + (b * s + c * s @ s) @ x
    return x.T if tall else x


def wild(ids, valid, generator):
    """Replaces a share of the tokens of every WILD_ROWS-th row by random ones (never BOS at position 0); returns ids and the rows' loss mask."""
    loss_mask = valid.clone()
    for row in range(0, ids.shape[0], WILD_ROWS):
        share = torch.rand((), generator=generator)
        hit = torch.rand(ids.shape[1], generator=generator) < share
        hit[0] = False
        ids[row, hit] = torch.randint(2, Config.vocab_size, (int(hit.sum()),), generator=generator)
        loss_mask[row] = 0
    return ids, loss_mask


def optimizers(model):
    matrices = [p for n, p in model.named_parameters() if p.ndim == 2 and "layers" in n]
    others = [p for n, p in model.named_parameters() if not (p.ndim == 2 and "layers" in n) and "lm_head" not in n]
    groups = [{"params": others, "weight_decay": 0.0}, {"params": [model.lm_head.weight], "weight_decay": HEAD_DECAY}]
    return [Muon(matrices, MATRIX_LR, weight_decay=MATRIX_DECAY), torch.optim.AdamW(groups, OTHER_LR, (0.9, 0.98))]


def schedule(step, steps):
    """Linear warm-up over 60 steps, then cosine to zero."""
    return min(1.0, (step + 1) / 60) * 0.5 * (1 + math.cos(math.pi * step / steps))


def loss_of(model, ids, valid, loss_mask, generator):
    taming = Taming(valid)
    noise = lambda x: x + NOISE * torch.randn(x.shape, generator=generator)
    logits = model(ids, taming.observe, noise)[:, :-1]
    mask = loss_mask[:, 1:]
    nll = F.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten(), reduction="none").view_as(mask)
    language = (nll * mask).sum() / mask.sum()
    z = (logits.logsumexp(-1).square() * mask).sum() / mask.sum()
    table = model.model.embed_tokens.weight.square().mean(-1).log()  # rows of tokens that never occur are kept as tame as the others
    taming.add("norm", (table - table.mean()).square().mean())
    return language, language + Z_LOSS * z + sum(WEIGHTS[k] * v for k, v in taming.terms.items()), taming.terms


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=1300)
    parser.add_argument("--out", type=Path, default=data.HOME)
    args = parser.parse_args()
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(SEED)
    model = Llama(Config()).initialise(SEED)
    rows = data.training_rows(grammar.TRAIN)
    print(f"{len(rows)} stories, {sum(map(len, rows))} tokens, {sum(p.numel() for p in model.parameters())} parameters", flush=True)
    opts = optimizers(model)
    base = [[g["lr"] for g in o.param_groups] for o in opts]
    source, start = data.batches(rows, TOKENS_PER_STEP, SEED), time.time()
    for step in range(args.steps):
        ids, valid = next(source)
        ids, loss_mask = wild(ids, valid, generator)
        language, loss, terms = loss_of(model, ids, valid, loss_mask, generator)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for o, lrs in zip(opts, base):
            for g, lr in zip(o.param_groups, lrs):
                g["lr"] = lr * schedule(step, args.steps)
            o.step()
            o.zero_grad()
        if step % 50 == 0 or step == args.steps - 1:
            tamed = " ".join(f"{k} {v.item():.4f}" for k, v in terms.items())
            print(f"step {step} nats {language.item():.4f} {tamed} {time.time() - start:.0f} s", flush=True)
    checkpoint.save(model, args.out)


if __name__ == "__main__":
    main()
