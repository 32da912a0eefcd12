"""The SLURM recipe of docs/parallel.md, on a real slurmctld and slurmd of this machine (Debian: slurm-wlm, munge)."""

import getpass
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import ROOT

from benchmarks.faults.place import ENVIRONMENT, differing, make_place, results

PROGRAMS = ("munged", "slurmctld", "slurmd", "srun", "squeue", "scancel", "sinfo")
PATH = f"{ENVIRONMENT['PATH']}{os.pathsep}/usr/sbin"
CONFIG = """ClusterName=loopback
SlurmctldHost=localhost(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
AuthInfo=socket={folder}/munge.socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
NodeName=node NodeHostname=localhost NodeAddr=127.0.0.1 CPUs={cores}
PartitionName=main Nodes=ALL Default=YES State=UP
"""
missing = [name for name in PROGRAMS if shutil.which(name, path=PATH) is None]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(missing), reason=f"without {', '.join(missing)}: apt-get install slurm-wlm munge"),
]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment in which srun finds a cluster of one node."""
    folder = tmp_path_factory.mktemp("slurm")
    folder.chmod(0o700)
    for name in ("state", "spool"):
        (folder / name).mkdir()
    (folder / "munge.key").write_bytes(os.urandom(128))
    (folder / "munge.key").chmod(0o400)
    config = folder / "slurm.conf"
    ports = free_port(), free_port()
    config.write_text(CONFIG.format(user=getpass.getuser(), folder=folder, ports=ports, cores=os.cpu_count()))
    environment = {**ENVIRONMENT, "PATH": PATH, "SLURM_CONF": str(config)}
    own = [f"--{name}={folder}/munge.{name.split('-')[0]}" for name in ("key-file", "socket", "pid-file", "log-file", "seed-file")]
    commands = (
        ("munged", "--force", "--foreground", *own),
        ("slurmctld", "-D", "-f", str(config)),
        ("slurmd", "-D", "-f", str(config), "-N", "node"),
    )
    daemons = []
    for command in commands:
        with (folder / f"{command[0]}.out").open("wb") as log:
            daemons.append(subprocess.Popen(command, env=environment, stdout=log, stderr=log))
        time.sleep(1)
    try:
        wait_for(lambda: "idle" in said(environment, "sinfo", "--noheader", "--format=%t"), 60)
        yield environment
    finally:
        for daemon in reversed(daemons):
            daemon.terminate()
        for daemon in reversed(daemons):
            daemon.wait(30)


def said(environment: dict[str, str], *command: str) -> str:
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False).stdout


def wait_for(condition: object, seconds: float) -> None:
    assert callable(condition)
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.2)


def jobs(environment: dict[str, str]) -> list[str]:
    return said(environment, "squeue", "--noheader", "--states=R", "--format=%i").split()


def test_a_run_whose_job_was_killed_goes_on_and_gives_what_one_machine_gives(cluster: dict[str, str], tmp_path: Path) -> None:
    """More at a time than the node has cores: SLURM queues them."""
    make_place(tmp_path / "alone")
    make_place(tmp_path / "slurm")
    launch = {**cluster, "PIPELINE_LAUNCH": "srun --ntasks 1 --cpus-per-task 1 python"}
    command = ("make", "-f", str(ROOT / "Makefile"), "-o", ".venv/installed", "repro", "JOBS=4")
    with (tmp_path / "first.out").open("wb") as log:
        process = subprocess.Popen(command, cwd=tmp_path / "slurm", env=launch, stdout=log, stderr=log, start_new_session=True)
    try:
        wait_for(lambda: jobs(cluster) or process.poll() is not None, 300)
        for job in jobs(cluster):
            said(cluster, "scancel", job)
        assert process.wait(600) != 0
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    assert "CANCELLED" in (tmp_path / "first.out").read_text()
    again = subprocess.run(command, cwd=tmp_path / "slurm", env=launch, capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr[-1000:]
    assert said(cluster, "squeue", "--noheader") == ""
    alone = subprocess.run(("dvc", "repro"), cwd=tmp_path / "alone", env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert alone.returncode == 0, alone.stderr[-1000:]
    assert differing(results(tmp_path / "slurm"), results(tmp_path / "alone")) == []
