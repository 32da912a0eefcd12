"""What the reporting stages are told of the run."""

from collections.abc import Iterable
from typing import Any

from pipeline.params.agreement import LOGITS, MEMBERS, published_keys
from pipeline.params.choices import AttackChoice
from pipeline.params.schema import Method, Params


def describe(params: Params) -> dict[str, Any]:
    """Plain values, see pipeline/reporting/run.py."""
    run, methods, transfer = params.run, params.methods, params.transfer
    reported = {name: _reported(methods[name]) for name in run.methods}
    version = params.verdict.autoattack
    parts = params.autoattack[version] | confirmed_by(params)
    return {
        "root": params.root,
        "seeds": run.seeds,
        "datasets": {name: _described(params, name) for name in run.datasets},
        "methods": reported,
        "sources": {name: {"label": methods[name].label, "published": _published(methods[name])} for name in transfer.sources},
        "transfer": [*transfer.sources, *of_run(params, transfer.methods)],
        "noise_stop": params.noise.stop,
        "cw": params.attacks["cw"].options,
        "autoattack": {"version": version, "parts": {part: choice.name for part, choice in parts.items()}},
        "statistics": params.statistics.model_dump(),
        "planes": of_run(params, params.planes.methods),
        "cost": of_run(params, params.cost.methods),
        "lacks": lacks(params),
    }


def lacks(params: Params) -> list[str]:
    """What the run leaves out because a method is not picked."""
    parts = {"transfer": params.transfer.methods, "planes": params.planes.methods, "cost": params.cost.methods}
    missing = [
        f"{part}: {name} is not in run.methods" for part, names in parts.items() for name in names if name not in params.run.methods
    ]
    keys = {params.methods[name].published for name in params.run.methods}
    return missing + [f"statistics: no method of the run is {key}" for key in params.statistics.compare if key not in keys]


def _reported(method: Method) -> dict[str, Any]:
    other = bool(method.input_gradient) or method.ensemble > 1 or method.given is not None
    features = bool({*method.layers, *method.auxiliary} - {LOGITS, MEMBERS}) and not other
    adversarial = method.adversary is not None
    if not features and not adversarial:  # what remains is softmax, or softmax and something that is on no feature layer
        other = other or bool(method.layers or method.awp or method.ema)
    kind = {"features": features, "adversarial": adversarial, "other": other}
    return {"label": method.label, "papers": method.papers, "published": _published(method), "kind": kind}


def _published(method: Method) -> str | None:
    return method.published if method.published in published_keys() else None


def _described(params: Params, dataset: str) -> dict[str, Any]:
    data = params.datasets[dataset]
    own, trained = data.evaluation, [method for name in params.run.methods if (method := params.methods[name]).given is None]
    return {
        **{"eps": own.linf.eps, "sweep": own.linf.sweep, "c": own.l2.c, "table_eps": own.table.eps, "table_c": own.table.c},
        **{"headline_eps": own.headline.eps, "epochs": data.training.epochs},
        "network": ", ".join(dict.fromkeys(data.networks[method.network].text for method in trained)) or "given models",
    }


def of_run(params: Params, names: Iterable[str]) -> list[str]:
    return [name for name in names if name in params.run.methods]


def confirmed_by(params: Params) -> dict[str, AttackChoice]:
    """Parts of the second version of AutoAttack, by version/part; none where it is the first."""
    version = params.verdict.confirm
    if not version or version == params.verdict.autoattack:
        return {}
    return {f"{version}/{part}": choice for part, choice in params.autoattack[version].items()}
