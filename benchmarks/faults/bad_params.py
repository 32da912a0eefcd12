"""params.yaml with one mistake each, drawn: of the kinds that a hand or a program makes in such a file."""

import random
import re
from collections.abc import Callable

import yaml

NAMES = ("base", "network", "init", "epochs", "optimizer", "labels", "name", "autoattack", "device", "precision", "keep")
NUMBER = re.compile(r"(?<=: )-?\d[\d.e+-]*(?=$|[,}\] ])")
WORDS = ("zzz", "[]", "{a: 1}", "'12'", "[1, [2]]", "~~", "none at all")
Lines = list[str]


def wrong_type(lines: Lines, rng: random.Random) -> str:
    return _replace_number(lines, rng, rng.choice(WORDS))


def no_number(lines: Lines, rng: random.Random) -> str:
    return _replace_number(lines, rng, rng.choice((".nan", ".inf", "-.inf", "1e999")))


def negative(lines: Lines, rng: random.Random) -> str:
    return _replace_number(lines, rng, f"-{rng.randint(1, 9)}{rng.choice(('', '.5'))}")


def unknown_key(lines: Lines, rng: random.Random) -> str:
    number = rng.choice([number for number, line in enumerate(lines) if re.match(r" *[a-z_0-9]+: ?\S?", line)])
    indent = re.match(" *", lines[number])[0]  # type: ignore[index]
    lines.insert(number, f"{indent}{_word(rng)}: {rng.choice(('1', 'x', '[1]', '{a: 1}'))}")
    return f"a key {lines[number].strip()!r}"


def twice(lines: Lines, rng: random.Random) -> str:
    number = rng.choice([number for number, line in enumerate(lines) if re.match(r" +[a-z_0-9]+: \S", line)])
    lines.insert(number, lines[number])
    return f"{lines[number].strip()!r} twice"


def misspelt(lines: Lines, rng: random.Random) -> str:
    """A name, where names are."""
    item = [number for number, line in enumerate(lines) if re.match(r" +- [a-z][a-z_0-9]+$", line)]
    named = [number for number, line in enumerate(lines) if re.match(rf" +({'|'.join(NAMES)}): [a-z_0-9]+( |$)", line)]
    number = rng.choice(item + named)
    head, name = re.match(r"( +(?:- |[a-z_]+: ))([a-z_0-9]+)", lines[number]).groups()  # type: ignore[union-attr]
    place = rng.randrange(len(name))
    lines[number] = head + name[:place] + rng.choice("qxzj") + name[place + rng.randint(0, 1) :] + lines[number][len(head + name) :]
    return lines[number].strip()


def broken_yaml(lines: Lines, rng: random.Random) -> str:
    number = rng.choice([number for number, line in enumerate(lines) if re.match(r" +[a-z_0-9]+:", line)])
    line = lines[number]
    lines[number] = rng.choice(
        [f"\t{line}", f" {line}", line.replace(":", "", 1), f"{line} ]", f"{line} : x", f"{line} \x00", f"@{line}"]
    )
    return f"line {number + 1}: {lines[number].strip()!r}"


def cut_off(lines: Lines, rng: random.Random) -> str:
    number = rng.randrange(1, len(lines))
    cut = rng.randrange(len(lines[number]))
    lines[number:] = [lines[number][:cut]]
    return f"line {number + 1}, after {cut} characters"


def wrong_shape(lines: Lines, rng: random.Random) -> str:
    """A whole section in place of which stands something else."""
    tree = yaml.safe_load("\n".join(lines))
    path, node = [], tree
    for _ in range(rng.randint(1, 3)):
        inner = [key for key, value in node.items() if isinstance(value, dict) and value]
        if not inner:
            break
        path.append(rng.choice(inner))
        node, parent = node[path[-1]], node
    parent[path[-1]] = rng.choice(["x", 3, ["a"], True, [[]]])
    lines[:] = yaml.safe_dump(tree, sort_keys=False).splitlines()
    return f"{'.'.join(map(str, path))}: {parent[path[-1]]}"


MISTAKES: dict[str, Callable[[Lines, random.Random], str]] = {
    kind.__name__: kind
    for kind in (wrong_type, no_number, negative, unknown_key, twice, misspelt, broken_yaml, cut_off, wrong_shape)
}


def mistake(text: str, kind: str, rng: random.Random) -> tuple[str, str]:
    """The text with it, and what it is. text: the shipped params.yaml."""
    lines = text.rstrip("\n").split("\n")
    what = MISTAKES[kind](lines, rng)
    return "\n".join(lines) + "\n", f"{kind.replace('_', ' ')}: {what}"


def _replace_number(lines: Lines, rng: random.Random, by: str) -> str:
    places = [(number, found) for number, line in enumerate(lines) for found in NUMBER.finditer(line.partition(" #")[0])]
    number, found = rng.choice(places)
    lines[number] = lines[number][: found.start()] + by + lines[number][found.end() :]
    return f"line {number + 1}: {lines[number].strip()}"


def _word(rng: random.Random) -> str:
    return "".join(rng.choice("abcdefghijklmnopqrstuvwxyz") for _ in range(rng.randint(3, 9)))
