"""What a user sees of a run first: a model's figures under short names, and what the model is in words. Both from its record."""

import re
from collections.abc import Mapping
from typing import Any

HEADLINE = ("clean", "paper_attack", "adaptive", "autoattack", "robust")  # accuracy in %, as the columns of the report's verdict
PAPERS = ("fgsm", "bim", "mim", "pgd")  # the l-inf attacks of the two papers
AUTOATTACK = re.compile(r"accuracy/autoattack_([\d.e-]+)")


def headline(metrics: Mapping[str, float]) -> dict[str, float]:
    """metrics: what stage attack logs, accuracy/<attack>_<eps> -> those of `HEADLINE` at the strength of AutoAttack, rounded as in
    metrics/summary.json; none where AutoAttack did not run. paper_attack: the strongest of the papers'. robust: the least of the
    others, which the worst case by image is at most; the report has that one, and puts it in its place."""
    eps = next((found[1] for found in map(AUTOATTACK.fullmatch, metrics) if found), None)
    if eps is None:
        return {}
    papers = [metrics[name] for attack in PAPERS if (name := f"accuracy/{attack}_{eps}") in metrics]
    attacked = {"paper_attack": min(papers)} if papers else {}
    attacked |= {attack: metrics[name] for attack in ("adaptive", "autoattack") if (name := f"accuracy/{attack}_{eps}") in metrics}
    clean = {"clean": metrics["accuracy/clean"]} if "accuracy/clean" in metrics else {}
    return {name: round(value, 2) for name, value in (clean | attacked | {"robust": min(attacked.values())}).items()}


def description(params: Mapping[str, Any]) -> str:
    """params: of a record -> a sentence or two; nothing for one without a recipe."""
    recipe = params.get("recipe")
    if not isinstance(recipe, Mapping) or "loss" not in recipe:
        return ""
    about = f"{params['method']} on {params['dataset']}, seed {params['seed']}"
    if recipe.get("given"):
        return f"{about}: a model from elsewhere."
    start = "the softmax model" if recipe["init"] == "softmax" else "random weights"
    epochs = f"{recipe['epochs']} epoch{'' if recipe['epochs'] == 1 else 's'}"
    return f"{about}: {recipe['network']['name']}, {epochs} from {start}. Loss: {_loss(recipe)}.{_adversary(recipe['adversary'])}"


def _loss(recipe: Mapping[str, Any]) -> str:
    parts = {
        "cross entropy": recipe["cross_entropy"],
        f"{(recipe['loss'] or {}).get('name')} on {', '.join(recipe['layers'])}": recipe["loss"],
        f"classifiers on {', '.join(recipe['auxiliary'])}": recipe["auxiliary"],
        "input gradient": recipe["input_gradient"],
        "TRADES": recipe["trades"],
    }
    return ", ".join(name for name, there in parts.items() if there)


def _adversary(adversary: Mapping[str, Any] | None) -> str:
    if adversary is None:
        return ""
    low, high = adversary["eps"]
    return f" Adversarial training: {adversary['attack']['name']}, eps {f'{low:g}' if low == high else f'{low:g} to {high:g}'}."
