"""params.yaml is refused with every problem, its path and what is allowed, and accepted as it is shipped."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import ROOT

from pipeline.params.lookups import LOOKUPS
from pipeline.params.merge import ParamsError
from pipeline.params.schema import load_params

Edit = Callable[[dict[str, Any]], object]


def problems(tmp_path: Path, edit: Edit) -> str:
    raw = yaml.safe_load((ROOT / "params.yaml").read_text())
    edit(raw)
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(json.loads(json.dumps(raw))))  # the same part twice, not by reference
    with pytest.raises(ParamsError) as error:
        load_params(path, LOOKUPS)
    return str(error.value)


def test_the_shipped_params_are_valid_and_the_ablation_differs_from_hcp_in_one_weight() -> None:
    params = load_params(ROOT / "params.yaml", LOOKUPS)
    full, without = params.methods["hcp"].loss, params.methods["hcp_m_p"].loss
    assert full is not None
    assert without is not None
    assert {name for name, value in full.options.items() if without.options[name] != value} == {"negative"}


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (lambda p: p["methods"]["hcp"]["loss"].update(e=-1), ["methods.hcp.loss.e", "greater than 0", "-1"]),
        (
            lambda p: p["methods"]["hcp"]["loss"].update(distance="manhattan"),
            ["methods.hcp.loss.distance", "'euclidean' or 'squared'"],
        ),
        (
            lambda p: p["methods"]["hcp"]["loss"].update(radius=1),
            ["methods.hcp.loss.radius: is not a parameter here", "centre_init"],
        ),
        (lambda p: p["methods"]["hcp"]["loss"].pop("e"), ["methods.hcp.loss.e: is missing"]),
        (
            lambda p: p["methods"]["hcp"]["loss"].update(name="hpc"),
            ["methods.hcp.loss.name: unknown 'hpc', choose from adp, atda, center, contrastive, hcp, pcl"],
        ),
        (lambda p: p["methods"]["hcp"]["loss"].update(e="high"), ["methods.hcp.loss.e", "valid number"]),
        (lambda p: p["attacks"]["bim"].update(steps=0), ["attacks.bim.steps", "greater than or equal to 1"]),
        (
            lambda p: p["attacks"]["bim"].update(name="nothing"),
            ["attacks.bim.name: unknown 'nothing', choose from apgd, apgd_targeted, bim"],
        ),
        (lambda p: p["methods"]["at"]["adversary"]["attack"].update(stepsize=1), ["methods.at.adversary.attack.stepsize"]),
        (lambda p: p["methods"]["at"]["adversary"].update(clean_share=1.5), ["methods.at.adversary.clean_share", "less than 1"]),
        (
            lambda p: p["datasets"]["digits"]["evaluation"]["linf"].update(eps=[-0.1]),
            ["datasets.digits.evaluation.linf.eps.0", "greater than 0"],
        ),
        (
            lambda p: p["datasets"]["digits"]["evaluation"]["headline"].update(eps=0.2),
            ["headline.eps: must be one of", "[0.05, 0.1, 0.15]"],
        ),
        (lambda p: p["datasets"]["digits"]["evaluation"].update(images="some"), ["datasets.digits.evaluation.images"]),
        (
            lambda p: p["datasets"]["digits"]["training"]["adversary_eps"].update(drawn=[0.3, 0.1]),
            ["adversary_eps.drawn: must be [low, high], got [0.3, 0.1]"],
        ),
        (
            lambda p: p["datasets"]["digits"]["networks"]["main"].update(name="resnet"),
            ["datasets.digits.networks.main.name: unknown 'resnet'", "small_cnn"],
        ),
        (lambda p: p["datasets"]["digits"]["source"].update(test_fraction=0), ["datasets.digits.source.test_fraction"]),
        (
            lambda p: p["datasets"]["digits"]["source"].update(name="mnist"),
            ["datasets.digits.source.name: unknown 'mnist'", "parquet"],
        ),
        (lambda p: p["run"].update(datasets=["digit"]), ["run.datasets: unknown 'digit', choose from cifar10, cifar100, digits"]),
        (lambda p: p["run"].update(seeds=[0, 0]), ["run.seeds: has duplicates"]),
        (
            lambda p: p["datasets"]["digits"]["evaluation"]["linf"].update(eps=[0.15, 0.1500001]),
            ["evaluation.linf.eps: has duplicates"],
        ),
        (lambda p: p["statistics"].update(compare=["at", "at", "hcp"]), ["statistics.compare: has duplicates"]),
        (lambda p: p["attacks"].update(clean={"name": "fgsm"}), ["attacks.clean: this name is reserved"]),
        (lambda p: p["methods"]["hcp"].update(label="AT (SM)"), ["methods: label 'AT (SM)' stands for more than one of the run"]),
        (lambda p: p["methods"]["hcp"].update(label="H|CP"), ["methods.hcp.label", "H|CP"]),
        (lambda p: p["methods"]["hcp"].update(published="hpc"), ["methods.hcp.published: unknown 'hpc', choose from", "hcp_fs"]),
        (lambda p: p["methods"]["trades"].update(published="hcp"), ["methods: more than one of the run has published: hcp"]),
        (lambda p: p["methods"]["hcp"].update(papers=["hpc"]), ["methods.hcp.papers.0", "'hcp' or 'pcl'"]),
        (
            lambda p: p["methods"]["hcp"].update(layers=["layer4", "conv9"]),
            ["methods.hcp.layers: small_cnn has no 'conv9'"],
        ),
        (lambda p: p["methods"]["hcp"].update(layers=[]), ["methods.hcp: loss and layers go together"]),
        (lambda p: p["methods"]["hcp"]["prototypes"].pop("radii"), ["methods.hcp.prototypes: must be centres, radii"]),
        (lambda p: p["methods"]["softmax"].update(init="softmax"), ["methods.softmax: must be there with init: random"]),
        (lambda p: p["datasets"]["digits"]["networks"]["main"].update(widths=[]), ["datasets.digits.networks.main.widths"]),
        (
            lambda p: p["methods"]["hcp"].update(optimizer="adam"),
            ["methods.hcp.optimizer: 'adam' is not in datasets.digits.training.optimizers (default, "],
        ),
        (
            lambda p: p["datasets"]["digits"]["networks"]["main"].update(branch=0),
            ["datasets.digits.networks.main.branch", "greater than or equal to 1"],
        ),
        (
            lambda p: p["methods"]["hcp"].update(network="big"),
            ["methods.hcp.network: 'big' is not in datasets.digits.networks (main"],
        ),
        (lambda p: p["methods"]["hcp"].update(network="source"), ["methods.hcp.init: softmax needs the network"]),
        (
            lambda p: p["methods"]["at"]["adversary"].update(eps="wide"),
            ["methods.at.adversary.eps: 'wide' is not in", "drawn, fixed"],
        ),
        (lambda p: p["methods"]["hcp"].update(auxiliary=["layer9"]), ["methods.hcp.auxiliary: small_cnn has no 'layer9'"]),
        (lambda p: p["methods"]["adp"].update(ensemble=1), ["methods.adp.layers: small_cnn has no 'members'"]),
        (lambda p: p["methods"]["at"].update(cross_entropy=0.0), ["methods.at.cross_entropy: is 0, and without a loss on logits"]),
        (lambda p: p["methods"]["center"].update(cross_entropy=0.0), ["methods.center.cross_entropy: is 0"]),
        (lambda p: p["methods"]["adp"].update(layers=["layer5"]), ["methods.adp.cross_entropy: is 0"]),
        (
            lambda p: p["methods"]["adp"].update(layers=["layer5"], cross_entropy=1.0),
            ["methods.adp.layers: loss adp goes on [members] of an ensemble of 2 or more"],
        ),
        (
            lambda p: p["methods"]["at"]["adversary"].update(attack=p["attacks"]["cw"]),
            ["methods.at.adversary.attack: cw takes no eps"],
        ),
        (
            lambda p: p["methods"]["triplet"].update(measure=["adaptive"]),
            ["methods.triplet.measure: adaptive needs", "center, hcp, pcl"],
        ),
        (lambda p: p["methods"]["atda"].update(measure=["adaptive"]), ["methods.atda.measure: adaptive needs"]),
        (lambda p: p["attacks"].pop("pgd"), ["attacks.pgd: is missing or another attack; stages planes and attack run it"]),
        (lambda p: p["cost"].update(methods=["softmax_fs", "vgg"]), ["cost.methods: must all have the same network"]),
        (lambda p: p["methods"]["atda"].update(adversary=None), ["methods.atda.adversary: loss atda compares clean with attacked"]),
        (
            lambda p: p["methods"]["hcp"].update(measure=["noize"]),
            ["methods.hcp.measure.0", "'noise', 'cw', 'sweep', 'adaptive' or 'l2'"],
        ),
        (lambda p: p["methods"]["trades"].update(adversary=None), ["methods.trades.trades: compares clean with attacked images"]),
        (lambda p: p["methods"]["madry"].update(trades=6.0), ["methods.madry.trades: compares", "clean_share above 0"]),
        (
            lambda p: p["methods"]["adp"].update(trades=6.0, adversary=p["methods"]["trades"]["adversary"]),
            ["methods.adp.trades: compares", "a cross_entropy above 0"],
        ),
        (
            lambda p: p["methods"]["trades"]["adversary"].update(attack=p["attacks"]["bim"]),
            ["methods.trades.adversary.labels: soft needs attack pgd", "got bim"],
        ),
        (lambda p: p["methods"]["at_fgsm"].update(keep="best"), ["methods.at_fgsm.keep: best is by the accuracy", "got fgsm"]),
        (lambda p: p["methods"]["ema"].update(keep="first"), ["methods.ema.keep", "'last' or 'best'"]),
        (lambda p: p["methods"]["ema"].update(ema=1.0), ["methods.ema.ema", "less than 1"]),
        (lambda p: p["methods"]["hcp_awp"]["awp"].update(gamma=0.0), ["methods.hcp_awp.awp.gamma", "greater than 0"]),
        (lambda p: p["methods"]["softmax"].pop("ema"), ["methods.softmax.ema: is missing"]),
        (
            lambda p: p["methods"]["at"].update(measure=["adaptive"]),
            ["methods.at.measure: adaptive needs one of the losses center, hcp, pcl"],
        ),
        (lambda p: p["attacks"].pop("cw"), ["attacks.cw: is missing or another attack"]),
        (lambda p: p["run"].update(attacks=["fgsm", "cw"]), ["run.attacks: cw takes no eps"]),
        (lambda p: p["verdict"].update(autoattack="fast"), ["verdict.autoattack: unknown 'fast', choose from rapid, standard"]),
        (lambda p: p["verdict"].update(steps=[10]), ["verdict.steps", "at least 2 items"]),
        (lambda p: p["autoattack"].update(none={}), ["autoattack.none", "at least 1 item"]),
        (
            lambda p: p["autoattack"]["rapid"]["square"].update(queries=1, p=0.8),
            ["autoattack.rapid.square.queries", "greater than or equal to 2", "autoattack.rapid.square.p: is not a parameter here"],
        ),
        (
            lambda p: p["autoattack"]["rapid"].update(cw=p["attacks"]["cw"]),
            ["autoattack.rapid.cw.name: must be one of apgd, apgd_targeted, fab, square"],
        ),
        (lambda p: p["datasets"]["digits"]["evaluation"]["headline"].update(l2=-1.0), ["evaluation.headline.l2", "greater than 0"]),
        (lambda p: p["attacks"].update(robust={"name": "fgsm"}), ["attacks.robust: this name is reserved"]),
        (lambda p: p["datasets"]["digits"]["evaluation"]["table"].update(c=3.0), ["table.c: must be one of", "[0.01, 0.1, 1.0]"]),
        (lambda p: p["datasets"]["digits"]["evaluation"]["linf"].update(sweep=[0.1]), ["evaluation.linf.sweep: has [0.1]"]),
        (lambda p: p["transfer"].update(sources=["vgg16"]), ["transfer.sources: unknown 'vgg16'"]),
        (lambda p: p["planes"].update(methods=["adp"]), ["planes.methods: methods.adp is an ensemble"]),
        (lambda p: p["noise"].update(eps=float("inf")), ["noise.eps", "finite"]),
        (lambda p: p["compute"].update(threads=True), ["compute.threads", "integer"]),
        (lambda p: p["datasets"]["digits"]["training"].update(batch_size="64"), ["training.batch_size", "integer"]),
        (lambda p: p["run"]["methods"].append("softmax"), ["run.methods, transfer.sources: softmax is trained by stage pretrain"]),
        (lambda p: p["run"].update(methods=["hpc"]), ["run.methods: unknown 'hpc', choose from adp, at, at_fgsm"]),
        (lambda p: p["run"].update(attacks=["apgd"]), ["run.attacks: unknown 'apgd'"]),
        (lambda p: p["transfer"].update(sources=["hcp_trades"]), ["transfer.sources: takes methods with init: random"]),
        (lambda p: p["transfer"].update(sources=["softmax_fs"]), ["softmax_fs is in run.methods too; name it in transfer.methods"]),
        (lambda p: p["statistics"].update(compare=["at", "hcp", "ours"]), ["statistics.compare: unknown 'ours'"]),
        (lambda p: p["methods"].pop("softmax"), ["methods.softmax_fs.base: unknown 'softmax', choose from"]),
        (
            lambda p: p["methods"]["hcp"].update(epochs="long"),
            ["methods.hcp.epochs: 'long' is not in datasets.digits.training.epochs"],
        ),
        (
            lambda p: p["methods"]["hcp"]["prototypes"]["radii"].update(momentum=1),
            ["methods.hcp.prototypes.radii.momentum", "less than 1"],
        ),
        (lambda p: p["compute"].update(device="tpu"), ["compute.device", "'auto', 'cpu' or 'cuda'"]),
        (lambda p: p["datasets"].update({"CIFAR-10": p["datasets"]["digits"]}), ["datasets.CIFAR-10", "pattern"]),
        (lambda p: p.pop("noise"), ["noise: is missing"]),
        (lambda p: p.update(nois=1), ["nois: is not a parameter here"]),
    ],
)
def test_a_bad_value_is_named_with_what_is_allowed(tmp_path: Path, edit: Edit, said: list[str]) -> None:
    message = problems(tmp_path, edit)
    for part in said:
        assert part in message


def test_all_problems_are_reported_at_once(tmp_path: Path) -> None:
    def edit(p: dict[str, Any]) -> None:
        p["methods"]["hcp"]["loss"].update(e=-1)
        p["methods"]["hcp"]["loss"].update(c=-2)
        p["attacks"]["bim"]["name"] = "nothing"
        p["compute"]["precision"] = "fp16"

    message = problems(tmp_path, edit)
    assert all(
        path in message for path in ("methods.hcp.loss.e:", "methods.hcp.loss.c:", "attacks.bim.name:", "compute.precision:")
    )

    def edit_option_and_name(p: dict[str, Any]) -> None:
        p["methods"]["hcp"]["loss"].update(e=-1)
        p["run"]["datasets"] = ["nothing"]

    message = problems(tmp_path, edit_option_and_name)
    assert all(path in message for path in ("methods.hcp.loss.e:", "run.datasets:"))

    def edit_names(p: dict[str, Any]) -> None:
        p["run"]["datasets"] = ["nothing"]
        p["statistics"]["compare"] = ["at", "hcp", "ours"]

    assert "2 problems" in problems(tmp_path, edit_names)


def test_a_missing_and_a_broken_file_are_named(tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match=r"params\.yaml cannot be read: No such file"):
        load_params(tmp_path / "params.yaml")
    (tmp_path / "params.yaml").write_text("run: [")
    with pytest.raises(ParamsError, match="not valid YAML"):
        load_params(tmp_path / "params.yaml")
    (tmp_path / "params.yaml").write_text("")
    with pytest.raises(ParamsError, match="must hold a mapping"):
        load_params(tmp_path / "params.yaml")
