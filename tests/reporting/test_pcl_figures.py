"""Figures of the pcl paper: what is drawn, from made files."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from made_run import made_paper, write_features, write_plane
from matplotlib.colors import to_rgba
from sklearn.manifold import trustworthiness

from pipeline.reporting.measurements import load_planes
from pipeline.reporting.pcl.embeddings import depth_rows, loss_rows, ten_classes, tsne, tsne_figure
from pipeline.reporting.pcl.figures import sweep_figure
from pipeline.reporting.pcl.planes import PAIRS, attacked_figure, progress_figure


@pytest.fixture(scope="module")
def planes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("planes")
    for method, centres in (("softmax_fs", False), ("pcl_deep", True)):
        write_plane(folder / "digits" / f"{method}.npz", 100, centres=centres, scale=4.0)
    return folder


def test_pgd_images_are_joined_to_the_clean_ones_and_hollow_where_wrong(planes: Path) -> None:
    loaded = load_planes(planes, datasets=["digits"], methods=["softmax_fs", "pcl_deep"])
    axes = attacked_figure(loaded, {"pcl_deep": "PCL", "softmax_fs": "SM"}).axes
    assert len(axes) == 2
    assert axes[1].get_title() == "PCL, digits\nclean 97.5 %, PGD eps 0.1: 66.0 %"  # 66 of 100 are no multiple of 3
    plane = loaded["digits"].methods["pcl_deep"]
    drawn = [line for line in axes[1].lines if len(line.get_xdata())]
    assert len(drawn) == 10 * PAIRS
    ends = {tuple(np.round(np.c_[line.get_xdata(), line.get_ydata()].ravel(), 4)) for line in drawn}
    for i in (0, 1, 10, 29):  # the first three of a class
        assert tuple(np.round([*plane.clean[-1][i], *plane.adversarial[i]], 4)) in ends
    pgd = axes[1].collections[10:]  # after one collection a class
    hollow = sum(tuple(point.get_facecolor()[0]) == to_rgba("white") for point in pgd)
    assert (len(pgd), hollow) == (30, 10)  # every third


def test_progress_shows_every_epoch_and_the_centres_of_those_that_have_them(planes: Path) -> None:
    loaded = load_planes(planes, datasets=["digits"], methods=["softmax_fs", "pcl_deep"])
    axes = progress_figure(loaded, {"pcl_deep": "PCL", "softmax_fs": "SM"}).axes
    assert len(axes) == 2 * 5
    assert axes[0].get_title() == "epoch 1, 60.0 %"
    assert axes[9].get_title() == "epoch 20, 97.5 %"
    assert len(axes[0].collections) == 10
    centres = axes[9].collections[10].get_offsets()
    np.testing.assert_allclose(centres[0], [4.0, 0.0])
    points = axes[6].collections[2].get_offsets()  # class 2 after epoch 3
    np.testing.assert_allclose(points, loaded["digits"].methods["pcl_deep"].clean[1][2::10])


def test_missing_planes_name_the_stage(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"digits/hcp.npz; run `dvc repro planes`"):
        load_planes(tmp_path, datasets=["digits"], methods=["hcp"])


def test_planes_of_another_method_or_data_set_are_refused(tmp_path: Path) -> None:
    write_plane(tmp_path / "digits/hcp.npz", 20, centres=False, scale=4.0)
    for dataset, method in (("digits", "pcl"), ("cifar10", "hcp")):
        (tmp_path / dataset).mkdir(exist_ok=True)
        shutil.copy(tmp_path / "digits/hcp.npz", tmp_path / dataset / f"{method}.npz")
        with pytest.raises(ValueError, match=rf"{dataset}/{method}\.npz is damaged \(it is of digits/hcp\)"):
            load_planes(tmp_path, datasets=[dataset], methods=[method])


def test_tsne_keeps_neighbours_and_is_repeatable() -> None:
    rng, label = np.random.default_rng(0), np.arange(150) % 5
    x = np.eye(8)[label] * 9 + rng.normal(size=(150, 8))
    z = tsne(x)
    assert z.shape == (150, 2)
    assert trustworthiness(x, z, n_neighbors=5) > 0.85  # share of neighbours in the plane that are neighbours, 1 is all
    centres = np.stack([z[label == name].mean(axis=0) for name in range(5)])
    nearest = np.linalg.norm(z[:, None] - centres, axis=2).argmin(axis=1)
    assert (nearest == label).all()
    np.testing.assert_array_equal(z, tsne(x))
    assert tsne(x[:6]).shape == (6, 2)  # fewer points than the usual perplexity


def test_ten_classes_are_picked_by_chance_and_always_the_same() -> None:
    y = np.arange(5000) % 100
    chosen = ten_classes(y)
    assert len(chosen) == 500
    classes = set(y[chosen])
    assert len(classes) == 10
    assert classes != set(range(10))
    np.testing.assert_array_equal(chosen, ten_classes(y))
    assert len(ten_classes(np.arange(110) % 11)) == 100  # none twice
    np.testing.assert_array_equal(ten_classes(np.arange(30) % 10), np.arange(30))
    assert len(ten_classes(np.zeros(5000))) == 1000


def test_tsne_figures_show_the_layers_that_there_are(tmp_path: Path) -> None:
    for method in ("pcl_deep", "triplet"):
        folder = tmp_path / "digits" / method / "0"
        folder.mkdir(parents=True)
        write_features(folder, 60, {"layer2": 1.0, "layer3": 1.0, "layer5": 3.0})
        clean = pd.DataFrame({"attack": "clean", "label": np.arange(60) % 10})
        clean.to_parquet(folder / "outcomes.parquet", index=False)
    rows = loss_rows(
        tmp_path, ["digits"], made_paper({"triplet": "triplet", "pcl_deep": "pcl_deep", "hcp": ""}, {"triplet": "T"}), 0
    )
    assert [title for title, *_ in rows["digits"]] == ["pcl_deep, layer5", "T, layer5"]
    figure = tsne_figure(depth_rows(tmp_path, ["digits"], made_paper({"pcl_deep": "pcl_deep"}), 0))
    assert [ax.get_title() for ax in figure.axes] == ["layer3", "layer5"]
    assert len(figure.axes[0].collections) == 10
    assert depth_rows(tmp_path, ["digits"], made_paper({"pcl_deep": ""}), 0) == {}
    assert "not in the run" in tsne_figure({}).texts[0].get_text()


def test_sweep_lines_start_at_clean_accuracy() -> None:
    values = [("clean", 0.0, 97.0), ("pgd", 0.2, 30.0), ("pgd", 0.1, 60.0), ("fgsm", 0.1, 70.0)]
    sweep = pd.DataFrame(
        [{"dataset": "d", "method": m, "label": m, "attack": a, "eps": e, "measured": v} for m in "ab" for a, e, v in values]
    )
    figure = sweep_figure(sweep)
    panel = figure.axes[1]
    assert panel.get_title() == "b, d"
    lines = {line.get_label(): line.get_xydata().tolist() for line in panel.lines}
    assert lines == {"FGSM": [[0, 97], [0.1, 70]], "PGD": [[0, 97], [0.1, 60], [0.2, 30]]}
    assert not any(ax.lines for ax in sweep_figure(sweep.head(0)).axes)  # a sentence


def test_without_planes_the_figures_say_so() -> None:
    for figure in (attacked_figure({}, {}), progress_figure({}, {})):
        assert "not in the run" in figure.texts[0].get_text()
