"""What kills, full disks and damaged files do to a run: see __main__.py."""
