"""Writes ../calibration.txt (held-in stories) and ../heldout.txt (stories never trained on), one story per line.

    python write_texts.py
"""

import data
import grammar

CALIBRATION_STORIES = 40
HELD_OUT_STORIES, HELD_OUT_TOKENS = 24, 200  # long ones only: each is enough for 128 teacher-forced positions and a continuation


def main():
    count = data.tokenizer().encode
    fits = lambda s: len(count(s).ids) + 1 <= data.CONTEXT
    held_in = [s for s in map(grammar.story, grammar.TRAIN[:200]) if fits(s)][:CALIBRATION_STORIES]
    trained = set(map(grammar.story, grammar.TRAIN))
    new = [s for s in map(grammar.story, grammar.HELD_OUT) if fits(s) and s not in trained]
    long = [s for s in new if len(count(s).ids) >= HELD_OUT_TOKENS][:HELD_OUT_STORIES]
    for name, stories in (("calibration.txt", held_in), ("heldout.txt", long)):
        (data.HOME / name).write_text("".join(s + "\n" for s in stories))
        print(name, len(stories), "stories", sum(len(count(s).ids) for s in stories), "tokens")
    print(len(trained), "distinct training stories;", len(new), "of", len(grammar.HELD_OUT), "held-out ones fit the context and are new")


if __name__ == "__main__":
    main()
