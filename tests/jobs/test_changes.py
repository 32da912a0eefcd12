"""Which methods differ in one entry of their recipes, on a run whose methods are picked by hand."""

from conftest import ROOT

from pipeline.jobs.changes import Change, single_changes
from pipeline.params.lookups import LOOKUPS
from pipeline.params.schema import load_params


def test_one_entry_of_the_recipe() -> None:
    params = load_params(ROOT / "params.yaml", LOOKUPS)
    params.run.methods[:] = ["softmax_fs", "hcp", "hcp_fs", "hcp_m_np", "pcl", "pcl_deep", "pcl_at_fgsm", "madry", "at"]
    assert single_changes(params) == {
        "digits": [
            Change("hcp_fs", "hcp", "init softmax → random"),
            Change("hcp_m_np", "hcp", "loss.proximity 1 → 0"),
            Change("pcl_deep", "pcl", "layers (layer4, layer5) → (layer3, layer4, layer5)"),
            Change("pcl_at_fgsm", "pcl_deep", "adversary none → clean_share 0.5, labels true, attack fgsm, eps (0.05, 0.25)"),
            Change("at", "madry", "adversary.clean_share 0 → 0.5, adversary.eps (0.15, 0.15) → (0.05, 0.25)"),
        ]
    }


def test_epochs_may_differ_alone_or_besides() -> None:
    params = load_params(ROOT / "profiles/pcl/params.yaml", LOOKUPS)
    params.run.datasets[:], params.run.methods[:] = ["mnist"], ["contrastive", "triplet", "softmax_fs", "softmax", "pcl", "pcl_5"]
    params.methods["pcl_5"] = params.methods["pcl_5"].model_copy(update={"epochs": "pretrain"})
    params.methods["softmax"] = params.methods["softmax"].model_copy(update={"optimizer": "default"})
    assert single_changes(params) == {
        "mnist": [
            Change("triplet", "contrastive", "loss contrastive → triplet"),
            Change("softmax", "softmax_fs", "epochs 300 → 50"),
            Change("pcl_5", "pcl", "layers (layer4, layer5) → (layer5), epochs 300 → 50"),
        ]
    }
