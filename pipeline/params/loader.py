"""YAML as params.yaml is written."""

import re

import yaml

DIGITS = r"(\d+\.?\d*|\.\d+)"


class Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]  # the first needs libyaml
    """With numbers as DVC writes them (1e-05, which YAML 1.1 takes for text), and fractions such as 8/255."""


def _fraction(loader: Loader, node: yaml.ScalarNode) -> float:
    over, under = node.value.split("/")
    return float(over) / float(under)


Loader.add_implicit_resolver("tag:yaml.org,2002:float", re.compile(rf"[-+]?{DIGITS}[eE][-+]?\d+$"), list("-+.0123456789"))
Loader.add_implicit_resolver("!fraction", re.compile(rf"[-+]?{DIGITS} ?/ ?{DIGITS}$"), list("-+.0123456789"))
Loader.add_constructor("!fraction", _fraction)
