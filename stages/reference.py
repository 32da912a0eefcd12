"""python -m stages.reference: docs/params.md; no DVC stage."""

from pipeline.runtime.cli import run_stage


def main() -> None:
    """Writes docs/params.md: every value of params.yaml, and the options of every network, loss, attack and source."""
    from pipeline.params.lookups import LOOKUPS
    from pipeline.params.reference import write_reference
    from pipeline.params.schema import load_params

    write_reference(load_params(lookups=LOOKUPS), LOOKUPS)


if __name__ == "__main__":
    run_stage(main)
