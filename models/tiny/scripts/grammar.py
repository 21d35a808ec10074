"""Seeded grammar of short stories: the only text the bundled model has ever seen.

A story is a *world* (hero, friend, place, time of day) plus an opening, one or two episodes and an ending.
Episodes share the world, so names, pronouns and objects stay consistent from the first sentence to the last.
`story(seed)` is a pure function of its seed: the same seed gives the same text on every machine (Python's Mersenne Twister).

    python grammar.py 5          # print five stories
"""

import random
import sys

GIRLS = ["Anna", "Mia", "Lily", "Rosa", "Nora", "Ella", "Zoe", "Ivy"]
BOYS = ["Tom", "Ben", "Max", "Leo", "Sam", "Finn", "Hugo", "Jack"]
ANIMALS = ["fox", "bear", "rabbit", "mouse", "owl", "duck", "cat", "frog"]

PLACES = [  # (place with preposition, things that stand there)
    ("in the forest", ["tree", "bush", "rock"]),
    ("by the river", ["rock", "bridge", "tree"]),
    ("in the garden", ["bush", "wall", "gate"]),
    ("on the hill", ["rock", "tree", "wall"]),
    ("in the village", ["wall", "gate", "bridge"]),
    ("on the beach", ["rock", "boat", "wall"]),
    ("at the farm", ["gate", "barn", "wall"]),
]
TOYS = ["ball", "kite", "boat", "drum", "book", "hat", "lamp", "key", "bell", "box"]
COLORS = ["red", "blue", "green", "yellow", "white", "old", "shiny", "tiny"]
FOODS = ["bread", "cake", "soup", "honey", "cheese", "berries", "apples", "nuts"]
SMALL_ONES = ["bird", "puppy", "kitten", "lamb", "snail", "bee"]
HAPPY = ["happy", "glad", "proud", "cheerful"]
SAD = ["sad", "worried", "lonely", "upset"]
TRAITS = ["kind", "brave", "clever", "curious", "gentle", "shy"]
FIRST_TIMES = ["One morning", "One day", "One evening", "One sunny day", "One cold day", "One summer day"]
LATER_TIMES = ["The next day", "The next morning", "Another day", "A few days later", "Later that day"]
WEATHER = [
    ("The sun was warm", "the sky was blue"),
    ("The wind was cold", "the sky was gray"),
    ("The rain had stopped", "the grass was wet"),
    ("The snow was deep", "the air was still"),
    ("The birds were singing", "the air was sweet"),
]


class Someone:
    """A character: how to introduce it, its name and its pronouns."""

    def __init__(self, w, avoid=None):
        but = lambda options, used: [o for o in options if avoid is None or o != used]
        self.girl = w.of([True, False])
        self.name = w.of(but(GIRLS if self.girl else BOYS, avoid and avoid.name))
        self.trait = w.of(but(TRAITS, avoid and avoid.trait))
        if w.of([True, False]):
            self.kind = w.of(but(ANIMALS, avoid and avoid.kind))
        else:
            self.kind = "girl" if self.girl else "boy"
        self.he, self.him, self.his = ("she", "her", "her") if self.girl else ("he", "him", "his")
        self.He = self.he.capitalize()

    def introduced(self):
        return f"a {self.trait} {self.kind} named {self.name}"


class World:
    """What the sentences of one story agree on, and the dice they are thrown with."""

    def __init__(self, seed):
        self.rng = random.Random(f"sotto story {seed}")
        self.habit = 0
        self.hero = Someone(self)
        self.habit = (GIRLS + BOYS).index(self.hero.name)
        self.friend = Someone(self, avoid=self.hero)
        self.place, self.things = self.of(PLACES)
        self.toys = self.some(TOYS, 2)
        self.started = False

    def when(self):
        """How an episode begins: a first time of day, then times that follow it."""
        times = LATER_TIMES if self.started else FIRST_TIMES
        self.started = True
        return self.of(times)

    def of(self, options):
        """One of the options. Weights fall like 1, 1/2, 1/3, … from the hero's favourite on, and who the hero is decides which that is.

        So every choice has a clear front-runner (a language model trained on it has few near-ties), and yet stories differ.
        """
        first = self.habit % len(options)
        weights = [1 / (1 + (i - first) % len(options)) for i in range(len(options))]
        return self.rng.choices(options, weights)[0]

    def one(self, *options):
        return self.of(options)

    def some(self, options, count):
        """`count` different options, in order of choice."""
        left, chosen = list(options), []
        for _ in range(count):
            chosen.append(self.of(left))
            left.remove(chosen[-1])
        return chosen

    def maybe(self, text, chance=0.35):
        return [text] if self.rng.random() < chance else []

    def either(self, usual, other):
        """The two in this order two times out of three, else swapped."""
        return (usual, other) if self.rng.random() < 2 / 3 else (other, usual)


def an(word):
    return ("an " if word[0] in "aeiou" else "a ") + word


def say(w, who, words):
    """A line of dialogue, with the speaker before or after it. `words` ends in its own punctuation."""
    verb = "asked" if words.endswith("?") else w.one("said", "said", "cried")
    if w.rng.random() < 0.3:
        return f'{who.name} {verb}, "{words}"'
    closing = words[:-1] + "," if words.endswith(".") else words
    return f'"{closing}" {verb} {who.name}.'


def opening(w):
    h, f = w.hero, w.friend
    lines = [
        w.one(
            f"Once upon a time there was {h.introduced()}.",
            f"There once was {h.introduced()}.",
            f"Long ago, {h.introduced()} lived {w.place}.",
        )
    ]
    if " lived " in lines[0]:
        lines += w.maybe(f"{h.He} loved to play there.")
    else:
        lines.append(
            w.one(
                f"{h.He} lived {w.place}.",
                f"{h.He} lived {w.place} with {h.his} mother.",
                f"{h.He} loved to play {w.place}.",
            )
        )
    lines.append(
        w.one(
            f"{h.his.capitalize()} best friend was {f.introduced()}.",
            f"{h.He} had a friend, {f.introduced()}.",
            f"Every day {h.he} played with {f.introduced()}.",
        )
    )
    return lines


def weather(w):
    first, second = w.of(WEATHER)
    return f"{first} and {second}."


def finds(w, toy):
    h, f, color, thing = w.hero, w.friend, w.of(COLORS), w.of(w.things)
    spot = w.one("under", "behind", "near")
    lines = [
        f"{w.when()}, {h.name} found {an(color)} {toy} {spot} {w.one('a', 'the')} {thing}.",
        *w.maybe(f"It was very {w.one('pretty', 'small', 'strange')}."),
        say(w, h, w.one(f"Look, {f.name}! I found {an(toy)}.", f"What a lovely {toy}!", f"Whose {toy} is this?")),
        w.one(
            f"{f.name} looked at the {toy} and smiled.",
            f"{f.name} wanted to see the {toy} too.",
            f"{f.name} had never seen such {an(toy)}.",
        ),
        w.one(
            f"They played with the {toy} all day.",
            f"{h.name} gave the {toy} to {f.name}.",
            f"They took the {toy} home and showed it to {h.name}'s mother.",
        ),
    ]
    return lines + w.maybe(f"{w.one(h, f).name} was very {w.of(HAPPY)}.")


def loses(w, toy):
    h, f, color = w.hero, w.friend, w.of(COLORS)
    first, second = w.some(w.things, 2)
    return [
        f"{w.when()}, {h.name} lost {h.his} {color} {toy}.",
        f"{h.He} was very {w.of(SAD)}.",
        say(w, f, w.one("Do not cry.", f"Why are you so {w.of(SAD)}?", "I will help you.")),
        f"They looked behind the {first}, but the {toy} was not there.",
        *w.maybe(say(w, h, w.one(f"Where is my {toy}?", f"I want my {toy}."))),
        f"Then {f.name} looked under the {second}.",
        w.one(f"The {toy} was there!", f"There was the {color} {toy}!"),
        w.one(
            f"{h.name} hugged {h.his} friend.",
            f"{h.name} was {w.of(HAPPY)} again.",
            f"{h.name} thanked {f.name} and smiled.",
        ),
    ]


def shares(w, _toy):
    h, f, food = w.hero, w.friend, w.of(FOODS)
    hungry, giver = w.either(h, f)
    amount = w.one("some", "a lot of")
    return [
        f"{w.when()}, {hungry.name} was very hungry.",
        f"{giver.name} had {amount} {food} in {giver.his} {w.one('basket', 'bag')}.",
        say(w, hungry, w.one(f"May I have some {food}?", f"I like {food}.", "I am so hungry!")),
        say(w, giver, w.one(f"Here is some {food}.", "Of course you may.", "Let us eat together.")),
        w.one(
            f"They sat down {w.one('on the grass', 'in the sun')} and ate the {food}.",
            f"{giver.name} gave {hungry.him} half of the {food}.",
        ),
        w.one(
            f"{hungry.name} was not hungry anymore.",
            f"It was the best {food} {hungry.he} had ever eaten."
            if food not in ("berries", "apples", "nuts")
            else f"They were the best {food} {hungry.he} had ever eaten.",
        ),
    ]


def storm(w, _toy):
    h, f = w.hero, w.friend
    afraid, calm = w.either(h, f)
    return [
        f"{w.when()}, a big storm came.",
        w.one("The wind was strong and the rain was cold.", "The sky was dark and the wind was loud."),
        f"{afraid.name} was {w.one('afraid', 'scared')} of the {w.one('storm', 'wind', 'dark')}.",
        say(w, calm, w.one("Hold my hand.", "Do not be afraid.", "Let us run home!")),
        w.one(
            f"They ran to {calm.name}'s house and closed the door.",
            f"They hid in a {w.one('barn', 'cave')} until the storm was over.",
        ),
        w.one(
            f"{calm.name} made some hot {w.one('tea', 'soup')}.",
            f"{calm.name} told a funny story.",
            f"{calm.name} sang a little song.",
        ),
        f"Soon {afraid.name} was not {w.one('afraid', 'scared')} anymore.",
    ]


def mends(w, toy):
    h, f = w.hero, w.friend
    tool = w.one("some glue", "a rope", "a nail", "some paper")
    return [
        f"{w.when()}, {h.name} broke {w.one(f.name + chr(39) + 's', 'the')} {toy}.",
        w.one(f"{h.He} did not know what to do.", f"{h.He} was {w.of(SAD)} and wanted to hide."),
        say(w, h, w.one(f"I am sorry, {f.name}.", f"I am sorry about the {toy}.")),
        f"{f.name} was not angry.",
        say(w, f, w.one("We can fix it.", "Let us fix it together.", "It is only a little broken.")),
        f"They found {tool} and fixed the {toy}.",
        w.one(f"Now the {toy} was as good as new.", f"Now the {toy} was even better than before."),
    ]


def rescues(w, _toy):
    h, f, small = w.hero, w.friend, w.of(SMALL_ONES)
    where = w.of(w.things)
    return [
        f"{w.when()}, {h.name} heard a little sound.",
        f"It was {an(small)} {w.one('behind', 'near')} the {where}.",
        w.one(f"The {small} was lost and cold.", f"The {small} could not find its mother.", f"The {small} had hurt its leg."),
        say(w, h, w.one(f"Poor little {small}!", "We must help it.", f"Can you help, {f.name}?")),
        w.one(
            f"{f.name} gave the {small} some water.",
            f"{f.name} put the {small} in a warm box.",
            f"{f.name} carried the {small} home.",
        ),
        w.one(
            f"In the morning the {small} was well again.",
            f"Soon the {small} found its mother.",
            f"The {small} became their friend.",
        ),
    ]


def builds(w, toy):
    h, f = w.hero, w.friend
    thing, stuff, result = w.one(
        ("a boat", "wood", "It went down the river like a duck."),
        ("a kite", "paper", "It went up and up into the sky."),
        ("a house", "wood", "It had a door and two windows."),
        ("a snowman", "snow", "It had a long nose and a big hat."),
        ("a castle", "sand", "It had four walls and a gate."),
    )
    return [
        f"{w.when()}, {h.name} and {f.name} made {thing}.",
        f"{h.name} found some {stuff} and {f.name} {w.one('did the rest', 'helped ' + h.him)}.",
        *w.maybe(f"It was hard work, but they did not stop."),
        result,
        say(w, w.one(h, f), w.one("It is so beautiful!", "We did it!", "This is the best day.")),
        *(w.maybe(f"They put the {toy} inside.") if thing in ("a boat", "a house", "a castle") else []),
        f"{h.name} and {f.name} were very {w.of(HAPPY)}.",
    ]


def plays(w, _toy):
    h, f = w.hero, w.friend
    winner, loser = w.either(h, f)
    thing = w.of(w.things)
    if w.of([True, False]):
        return [
            f"{w.when()}, they played hide and seek {w.place}.",
            f"{loser.name} hid behind the {thing}.",
            f"{winner.name} looked and looked.",
            say(w, winner, w.one(f"I will find you, {loser.name}!", "Where are you?", f"Come out, {loser.name}!")),
            f"At last {winner.he} found {loser.name}, and they both laughed.",
        ]
    return [
        f"{w.when()}, {h.name} and {f.name} had a race.",
        say(w, w.one(h, f), w.one(f"Run to the {thing}!", "I am very fast!", "One, two, three, go!")),
        f"They ran as fast as they could.",
        f"{winner.name} came to the {thing} first.",
        w.one(
            f"{loser.name} was not {w.one('sad', 'upset')}, because it was fun.",
            f"{loser.name} wanted to run again.",
        ),
    ]


EPISODES = [finds, loses, shares, storm, mends, rescues, builds, plays]


def ending(w):
    h, f = w.hero, w.friend
    return [
        *w.maybe(
            w.one(
                f"In the evening they went home.",
                f"When the moon came up, {h.name} went to bed.",
                f"Then it was time to go home.",
            )
        ),
        w.one(
            f"{h.name} and {f.name} were friends for ever.",
            f"From that day on, {h.name} and {f.name} played together every day.",
            f"{h.name} learned that a good friend is better than {w.one('gold', 'a toy', 'anything')}.",
            f"{h.name} slept well and had sweet dreams.",
            f"And they all lived happily ever after.",
        ),
    ]


def sentences(seed):
    """The sentences of one story; a line of dialogue counts as one."""
    w = World(seed)
    lines = opening(w)
    for i, episode in enumerate(w.some(EPISODES, w.either(2, 1)[0])):
        lines += w.maybe(weather(w), 0.25)
        lines += episode(w, w.toys[i])
    return lines + ending(w)


def story(seed):
    """One story as one line of text."""
    return " ".join(sentences(seed))


# Seeds: two disjoint ranges, so held-out text is never trained on (write_texts.py also drops those that coincide with a training story).
TRAIN = range(0, 60_000)
HELD_OUT = range(1_000_000, 1_000_400)


if __name__ == "__main__":
    for s in range(int(sys.argv[1]) if len(sys.argv) > 1 else 3):
        print(story(s) + "\n")
