"""Stories as token rows, and batches of rows of similar length."""

import random
from pathlib import Path

import torch
from tokenizers import Tokenizer

import grammar

HOME = Path(__file__).resolve().parent.parent
BOS, EOS, CONTEXT = 0, 1, 256


def tokenizer():
    return Tokenizer.from_file(str(HOME / "tokenizer.json"))


def rows(seeds):
    """BOS + story + EOS for every seed whose story fits the context."""
    return encoded(map(grammar.story, seeds))


def training_rows(seeds):
    """Like `rows`, but every fourth story begins at a random sentence, so that the model also continues prompts without an opening."""

    def text(seed):
        lines = grammar.sentences(seed)
        start = random.Random(seed).randrange(1, len(lines) - 2) if seed % 4 == 0 else 0
        return " ".join(lines[start:])

    return encoded(map(text, seeds))


def encoded(stories):
    encodings = tokenizer().encode_batch(list(stories))
    return [r for e in encodings if len(r := e.ids + [EOS]) <= CONTEXT]


def batches(all_rows, tokens, seed):
    """Endless [b, t] batches of about `tokens` tokens, padded with EOS; `valid` marks real positions."""
    rng = random.Random(seed)
    while True:
        order = sorted(range(len(all_rows)), key=lambda i: (len(all_rows[i]), rng.random()))
        groups, start = [], 0
        while start < len(order):
            n = max(1, tokens // len(all_rows[order[start]]))
            groups.append(order[start : start + n])
            start += n
        rng.shuffle(groups)
        for group in groups:
            yield pad([all_rows[i] for i in group])


def pad(some_rows):
    t = max(map(len, some_rows))
    ids = torch.full((len(some_rows), t), EOS)
    valid = torch.zeros(len(some_rows), t)
    for i, r in enumerate(some_rows):
        ids[i, : len(r)] = torch.tensor(r)
        valid[i, : len(r)] = 1
    return ids, valid
