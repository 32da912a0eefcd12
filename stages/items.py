"""Stage items: params.yaml, pipeline/, stages/ -> data/items."""

from pipeline.runtime.cli import run_stage


def main() -> None:
    """Checks params.yaml and writes data/items: for each item of the other stages one file, with the values that it depends on and
    the checksums of the code that it uses. The item depends on this file."""
    from pipeline.params.lookups import LOOKUPS
    from pipeline.params.resolve import write_items
    from pipeline.params.schema import load_params

    write_items(load_params(lookups=LOOKUPS))


if __name__ == "__main__":
    run_stage(main)
