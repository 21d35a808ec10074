"""The Llama decoder as trained here: the architecture of Hugging Face's LlamaForCausalLM, parameters under the same names.

One forward pass serves training (float32), measuring (float64) and sampling. It can also hand out what it computed on the way:
every place where the encrypted evaluation has a nonlinearity, so that training can keep it tame and evaluation can report it.
"""

import math
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F


@dataclass
class Config:
    vocab_size: int = 512
    hidden_size: int = 128
    num_hidden_layers: int = 2
    num_attention_heads: int = 4
    num_key_value_heads: int = 2
    head_dim: int = 32
    intermediate_size: int = 256
    max_position_embeddings: int = 256
    rope_theta: float = 10000.0
    rms_norm_eps: float = 1e-5


class Norm(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(c.hidden_size))
        self.eps = c.rms_norm_eps

    def forward(self, x):
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.eps) * self.weight


def rope_tables(c, length, dtype):
    """cos and sin of position × frequency, [length, head_dim / 2]."""
    inv = c.rope_theta ** (-torch.arange(0, c.head_dim, 2, dtype=torch.float64) / c.head_dim)
    angle = torch.arange(length, dtype=torch.float64)[:, None] * inv
    return angle.cos().to(dtype), angle.sin().to(dtype)


def rotate(x, cos, sin):
    """Rotates lane i with lane i + head_dim/2 (the pairing of Hugging Face checkpoints)."""
    a, b = x.chunk(2, -1)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), -1)


class Attention(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.c = c
        q, kv = c.num_attention_heads * c.head_dim, c.num_key_value_heads * c.head_dim
        self.q_proj = nn.Linear(c.hidden_size, q, bias=False)
        self.k_proj = nn.Linear(c.hidden_size, kv, bias=False)
        self.v_proj = nn.Linear(c.hidden_size, kv, bias=False)
        self.o_proj = nn.Linear(q, c.hidden_size, bias=False)

    def forward(self, x, cos, sin, future, seen):
        c, (b, t, _) = self.c, x.shape
        group = c.num_attention_heads // c.num_key_value_heads
        q = rotate(self.q_proj(x).view(b, t, -1, c.head_dim).transpose(1, 2), cos, sin)
        k = rotate(self.k_proj(x).view(b, t, -1, c.head_dim).transpose(1, 2), cos, sin)
        v = self.v_proj(x).view(b, t, -1, c.head_dim).transpose(1, 2)
        q = q.reshape(b, c.num_key_value_heads, group, t, c.head_dim)
        scores = q @ k[:, :, None].transpose(-1, -2) / math.sqrt(c.head_dim)  # [b, kv, group, t, t]
        p = scores.masked_fill(future, float("-inf")).softmax(-1)
        y = (p @ v[:, :, None]).reshape(b, c.num_attention_heads, t, c.head_dim).transpose(1, 2).reshape(b, t, -1)
        seen(scores=scores, q=q, k=k, v=v, attended=y)
        return self.o_proj(y)


class MLP(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.gate_proj = nn.Linear(c.hidden_size, c.intermediate_size, bias=False)
        self.up_proj = nn.Linear(c.hidden_size, c.intermediate_size, bias=False)
        self.down_proj = nn.Linear(c.intermediate_size, c.hidden_size, bias=False)

    def forward(self, x, seen):
        gate, up = self.gate_proj(x), self.up_proj(x)
        gated = F.silu(gate) * up
        seen(silu_in=gate, up=up, gated=gated)
        return self.down_proj(gated)


class Layer(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.input_layernorm = Norm(c)
        self.self_attn = Attention(c)
        self.post_attention_layernorm = Norm(c)
        self.mlp = MLP(c)

    def forward(self, x, cos, sin, future, seen, noise):
        seen(attention_norm_in=x)
        x = x + self.self_attn(noise(self.input_layernorm(x)), cos, sin, future, seen)
        seen(mlp_norm_in=x)
        return x + self.mlp(noise(self.post_attention_layernorm(x)), seen)


class Body(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.embed_tokens = nn.Embedding(c.vocab_size, c.hidden_size)
        self.layers = nn.ModuleList(Layer(c) for _ in range(c.num_hidden_layers))
        self.norm = Norm(c)


class Llama(nn.Module):
    """`state_dict()` has exactly the tensor names of a Hugging Face Llama checkpoint."""

    def __init__(self, c):
        super().__init__()
        self.c = c
        self.model = Body(c)
        self.lm_head = nn.Linear(c.hidden_size, c.vocab_size, bias=False)

    def forward(self, ids, observe=None, noise=lambda x: x):
        """Logits [b, t, vocab]. `observe(layer, name, tensor)` sees the values on the way; `noise` is applied to every norm's output."""
        observe = observe or (lambda layer, name, value: None)
        t = ids.shape[1]
        x = self.model.embed_tokens(ids)
        cos, sin = rope_tables(self.c, t, x.dtype)
        future = torch.ones(t, t, dtype=torch.bool).triu(1)
        for i, layer in enumerate(self.model.layers):

            def seen(i=i, **values):
                for name, value in values.items():
                    observe(i, name, value)

            x = layer(x, cos, sin, future, seen, noise)
        observe("final", "norm_in", x)
        logits = self.lm_head(noise(self.model.norm(x)))
        observe("final", "logits", logits)
        return logits

    def initialise(self, seed):
        generator = torch.Generator().manual_seed(seed)
        for name, p in self.named_parameters():
            if name == "model.embed_tokens.weight":
                p.data.normal_(0, 1, generator=generator)
            elif p.ndim == 2:
                p.data.normal_(0, 0.5 * p.shape[1] ** -0.5, generator=generator)
        return self
