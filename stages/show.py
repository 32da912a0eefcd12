"""python -m stages.show METHOD: a method with all that it builds on."""

from pipeline.runtime.cli import run_stage


def main(method: str) -> None:
    """Prints a method of params.yaml with what it builds on, and what its names stand for in each data set of the run: each value
    with the file and line that it comes from."""
    from pipeline.params.lookups import LOOKUPS
    from pipeline.params.merge import behind_names, explain, merged
    from pipeline.params.schema import load_params

    params = load_params(lookups=LOOKUPS)
    if method not in params.methods:
        raise ValueError(f"unknown method {method!r}, choose from {', '.join(sorted(params.methods))}")
    tree = merged()
    own = tree["methods"][method]
    named = {name: behind_names(own, tree["datasets"][name]) for name in params.run.datasets}
    print("\n".join(explain({"methods": {method: own}, "datasets": named})))


if __name__ == "__main__":
    run_stage(main, method="a name in params.yaml, methods")
