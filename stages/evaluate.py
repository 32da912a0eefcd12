"""python -m stages.evaluate: the verdict on any classifier; no DVC stage. As installed: judge-defence."""

from pipeline.runtime.cli import one_line_errors


def main() -> None:
    """Judges a classifier that takes images in [0, 1] and answers with logits: AutoAttack, attacks that know its features, and
    signs of masked gradients. Writes outcomes by image, checks and a report into a folder."""
    from pipeline.jobs.evaluate_command import arguments, evaluate_command
    from pipeline.reporting.page.given import write_report
    from pipeline.runtime.distributed import process_group

    args = arguments(main.__doc__)
    with one_line_errors(), process_group():
        print(evaluate_command(args, write_report))


if __name__ == "__main__":
    main()
