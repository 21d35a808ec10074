"""Penalties that keep activations in ranges where low-degree polynomials do well.

Under encryption every nonlinearity is a polynomial fitted on a calibrated interval, and every value must fit the window of a bootstrap.
A model whose ranges are narrow needs lower degrees, fewer levels and fewer bootstraps. None of this changes the architecture: the
checkpoint is an ordinary Llama.
"""

import torch

SCORE_LIMIT = 5.0  # |q·k/sqrt(head_dim)|
SILU_LIMIT = 4.0  # |gate_proj output|, and the same for up_proj
CREST_LIMIT = 4.0  # max|x| of a position / rms over the batch, of the residual stream and the attention output
MLP_FLOOR = 0.5  # rms of gate and up projection: without a floor the other penalties can switch a whole MLP off
DENOMINATOR_LIMIT = 0.6  # |ln mean exp(score) - its mean over positions|, per head


class Taming:
    """Collects the penalties of one forward pass; pass `observe` to the model. `valid` [b, t] marks positions that are not padding."""

    def __init__(self, valid):
        self.valid = valid
        self.terms = {}

    def add(self, name, value):
        self.terms[name] = self.terms.get(name, 0.0) + value

    def over(self, x):
        """Mean over valid positions of a per-position penalty [b, t]."""
        return (x * self.valid).sum() / self.valid.sum()

    def observe(self, layer, name, x):
        if name.endswith("norm_in"):
            log_ms = x.square().mean(-1).add(1e-8).log()
            self.add("norm", self.over((log_ms - self.over(log_ms)).square()))
            self.crest(x)
        elif name == "attended":
            self.crest(x, 1.5)
        elif name in ("silu_in", "up"):
            rms = self.over(x.square().mean(-1)).sqrt()
            self.add("floor", (MLP_FLOOR - rms).relu().square())
            self.add("mlp", self.over((x.abs() - SILU_LIMIT).relu().square().sum(-1)))
        elif name == "scores":
            self.scores(x)

    def crest(self, x, slack=1.0):
        """Per position, how far the largest entry stands above the typical size *of the whole batch*: that size sets the scale under encryption."""
        rms = self.over(x.square().mean(-1)).sqrt().detach()
        self.add("crest", self.over((x.abs().amax(-1) / rms - slack * CREST_LIMIT).relu().square()))

    def scores(self, s):
        t = s.shape[-1]
        past = torch.ones(t, t, dtype=torch.bool).tril()
        rows = self.valid[:, None, None]
        excess = ((s.abs() - SCORE_LIMIT).relu().square() * past).amax(-1)
        count = rows.expand_as(excess).sum()
        self.add("score", (excess * rows).sum() / count)
        length = torch.arange(1, t + 1, dtype=s.dtype)
        log_mean = s.masked_fill(~past, float("-inf")).logsumexp(-1) - length.log()  # [b, kv, group, t]
        per_head = (log_mean * rows).sum((0, 3), keepdim=True) / self.valid.sum()
        off = ((log_mean - per_head).abs() - DENOMINATOR_LIMIT).relu().square()
        self.add("denominator", (off * rows).sum() / count)
