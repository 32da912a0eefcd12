"""What `dvc repro` would run now. `dvc status` alone does not say: it does not know what is in an item file before stage items has
written it, and names no stage whose inputs are only about to change."""

from hashlib import md5
from pathlib import Path

from pipeline.jobs.plan.tasks import Items
from pipeline.params.items import item_file, item_text


def stale_items(items: Items) -> set[str]:
    """items: of params.yaml as it is now. Stages of the working folder's dvc.yaml as DVC calls them. Nothing is written."""
    import networkx
    from dvc.repo import Repo

    repo = Repo()
    changed = set(repo.status())
    digests = {item_file(*path): md5(item_text(item).encode(), usedforsecurity=False).hexdigest() for path, item in items.items()}
    for stage in repo.index.stages:
        used = [(Path(dep.def_path), dep.hash_info.value) for dep in stage.deps]
        changed |= {stage.addressing for path, digest in used if path in digests and digests[path] != digest}
    graph = networkx.relabel_nodes(repo.index.graph, lambda stage: stage.addressing)
    graph.remove_node("items")  # which all depend on, but each only on its own file
    followers = [networkx.ancestors(graph, name) for name in changed if name in graph]  # an edge leads to what a stage needs
    return changed.union(*followers)
