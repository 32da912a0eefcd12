"""python -m stages.show METHOD: a method with all that it builds on."""

from pipeline.runtime.cli import run_stage


def main(method: str) -> None:
    """Prints a method of params.yaml with what it builds on, each value with the file and line that it comes from."""
    from pipeline.params.lookups import LOOKUPS
    from pipeline.params.merge import explain, merged, pick
    from pipeline.params.schema import load_params

    pick(load_params(lookups=LOOKUPS).methods, method, "method")
    print("\n".join(explain({method: merged()["methods"][method]})))


if __name__ == "__main__":
    run_stage(main, method="a name in params.yaml, methods")
