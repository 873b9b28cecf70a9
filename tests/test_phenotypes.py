"""`parfocal-train phenotypes`: planted phenotypes found again, their model, names and faults."""

import contextlib
import csv
import io
import json
import shutil
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from parfocal.card import DetectorRules
from parfocal.phenotypes import UNLIKE_ANY, Phenotyper
from parfocal.prepare import PixelRules
from parfocal_training import cli, cropset
from parfocal_training.augment import Augmentation
from parfocal_training.checkpoint import write_weights
from parfocal_training.cropset import CropIndex, CropRow, CropRules, CropSet
from parfocal_training.dataset import Row
from parfocal_training.model import config_of, initialized
from parfocal_training.networks import trained_networks, weights_sha256
from parfocal_training.phenotypes import command
from parfocal_training.phenotypes.report import report
from parfocal_training.phenotypes.store import PhenotypeModel, read_model, read_results
from parfocal_training.pixels.agreement import adjusted_rand
from parfocal_training.recipe import Recipe
from parfocal_training.reference import medoid_reference
from parfocal_training.report import canvas, drawn
from parfocal_training.selflabel.store import Repeat, SelfLabelled, write_selflabelled
from parfocal_training.train import answer

SIDE_PX, FLASKS, PER_FLASK = 80, 8, 8
QUICK = (
    *("--copies", "2", "--max-clusters", "6", "--starts", "3", "--repeats", "4"),
    *("--resamples", "5", "--threads", "1", "--device", "cpu"),
)


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "MORE", (command.add,))


def kind_of(i: int) -> int:
    """Kinds 0 and 1 everywhere; kind 2 takes the place of kind 1 where cells are dense."""
    flask, place = divmod(i, PER_FLASK)
    if place < 3:
        return 0
    dense = flask % 4 >= 2
    return 2 if place >= (4 if dense else 7) else 1


def drawn_cell(kind: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """A small round cell, a large long one, or a heap of grains, on a noisy ground."""
    y, x = np.indices((SIDE_PX, SIDE_PX)) - (SIDE_PX - 1) / 2
    turn = rng.uniform(0, np.pi)
    along, across = np.cos(turn) * x + np.sin(turn) * y, np.cos(turn) * y - np.sin(turn) * x
    level = 150 + rng.normal(0, 4, x.shape)
    if kind < 2:
        long_px, wide_px = ((7, 7), (30, 11))[kind]
        level[np.hypot(along / long_px, across / wide_px) < 1] -= 80
    else:
        for _ in range(20):
            row, column = rng.uniform(-25, 25, 2)
            level[np.hypot(x - column, y - row) < 3] += 90
    crop: NDArray[np.uint8] = np.clip(np.rint(level), 0, 255).astype(np.uint8)
    return crop


def drawn_set() -> CropSet:
    """64 cells of two lines at two densities, two flasks of each."""
    rng = np.random.default_rng(3)
    n = FLASKS * PER_FLASK
    crops = np.stack([drawn_cell(kind_of(i), rng) for i in range(n)])
    rows = tuple(
        CropRow(
            image=Row(
                path=f"{i // PER_FLASK}-{i % 2}.png",
                cell_line="AB"[i // PER_FLASK // 4],
                flask=f"F{i // PER_FLASK}",
                group=f"F{i // PER_FLASK}",
                density=("low", "low", "high", "high")[i // PER_FLASK % 4],
            ),
            sha256=f"{i:064d}",
        )
        for i in range(n)
    )
    rules = CropRules(
        um_per_px=0.5,
        crop_px=SIDE_PX,
        margin_px=0,
        flat_field_um=0.0,
        detector=DetectorRules(name="external"),
    )
    index = CropIndex(data="drawn", classes=("A", "B"), group_kind="flask", rules=rules, rows=rows)
    return CropSet(crops, index)


def untrained(folder: Path, crop_set: CropSet, repeats: int = 2) -> None:
    """A self-label training of networks with random weights, which tell such cells apart too."""
    reference = medoid_reference(crop_set.crops)
    config = config_of("compact", None, len(crop_set), SIDE_PX, 140.0, 20.0)
    kept = []
    for number in range(repeats):
        path = folder / f"repeat-{number}" / "model.safetensors"
        path.parent.mkdir(parents=True)
        write_weights(initialized(config, seed=number), path)
        kept.append(
            Repeat(
                name=path.parent.name,
                seed=number,
                epochs=0,
                copies_seen=0,
                accuracy=0.0,
                loss=0.0,
                seconds=0.0,
                reached=False,
                weights_sha256=weights_sha256(path),
            )
        )
    done = SelfLabelled(
        created_at="2026-01-01T00:00:00+00:00",
        code_version="0",
        device="cpu",
        config=config,
        recipe=Recipe(vary="view", augmentation=Augmentation(blobs=0, shift_px=4, flips=True)),
        copies=0,
        held_out=0,
        target_accuracy=1.0,
        seed=0,
        n_cells=len(crop_set),
        crops_sha256=crop_set.digest,
        pixels=PixelRules(
            um_per_px=0.5,
            crop_px=SIDE_PX,
            reference=tuple(int(count) for count in reference.counts),
        ),
        detector=crop_set.index.rules.detector,
        data="drawn",
        repeats=tuple(kept),
    )
    (folder / "curves.png").write_bytes(drawn(canvas(1, 1)))
    write_selflabelled(done, folder)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    folder = tmp_path_factory.mktemp("inputs")
    crop_set = drawn_set()
    cropset.save(crop_set, folder / "crops")
    untrained(folder / "network", cropset.load(folder / "crops"))
    return str(folder / "network"), str(folder / "crops")


@pytest.fixture(scope="module")
def told(inputs: tuple[str, str], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A finished phenotyping, and what it printed."""
    out, printed = tmp_path_factory.mktemp("out") / "phenotypes", io.StringIO()
    asked = ["phenotypes", *inputs, "-o", str(out), "--clusters", "3", "--json", *QUICK]
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(printed):
        patch.setattr(cli, "MORE", (command.add,))
        assert cli.main(asked) == 0
    return out, printed.getvalue()


@pytest.fixture
def found(told: tuple[Path, str]) -> Path:
    return told[0]


def rows_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "cells.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def column(folder: Path, name: str) -> NDArray[np.int64]:
    return np.array([int(row[name]) for row in rows_of(folder)])


def figures_of(folder: Path) -> dict[str, object]:
    read: dict[str, object] = json.loads((folder / "phenotypes-figures.json").read_text())
    return read


def test_planted_phenotypes_are_found_again(found: Path) -> None:
    kinds = np.array([kind_of(i) for i in range(FLASKS * PER_FLASK)])
    labels = column(found, "phenotype") - 1
    assert adjusted_rand(kinds.astype(np.intp), labels) > 0.9
    sizes = np.bincount(labels)
    assert list(sizes) == sorted(sizes, reverse=True)
    shown = msgspec.convert(figures_of(found), dict)
    assert (shown["k"], shown["k_asked"], shown["networks"], shown["other_crops"]) == (
        *(3, True),
        *(2, False),
    )
    assert [one["k"] for one in shown["sweep"]] == [2, 3, 4, 5, 6]
    assert shown["spread"]["cells"] > 1.5 * shown["spread"]["copies"]
    assert [one["what"] for one in shown["stability"]] == [
        "start of the clustering",
        "network (repeat of the training)",
        "flasks drawn with replacement",
        "method (k-medoids instead)",
    ]
    assert all(one["low"] <= one["mean"] <= one["high"] for one in shown["stability"])
    assert shown["stability"][2]["mean"] > 0.8
    medoids = column(found, "k_medoids") - 1
    assert shown["stability"][3]["mean"] == pytest.approx(
        adjusted_rand(labels.astype(np.intp), medoids)
    )
    assert shown["medoids"]["rand"] > 0.9 and shown["medoids"]["n"] == len(labels)
    assert set(column(found, "pixels")) == {1, 2, 3}


def test_a_phenotype_that_comes_with_density_is_told_at_the_flask_level(found: Path) -> None:
    kinds = np.array([kind_of(i) for i in range(FLASKS * PER_FLASK)])
    labels = column(found, "phenotype")
    dense_kind = int(np.bincount(labels[kinds == 2]).argmax())
    shown = msgspec.convert(figures_of(found), dict)
    assert len(shown["differences"]) == 2 * 3  # two lines, three phenotypes
    for one in shown["differences"]:
        assert (one["first"], one["second"], one["flasks"]) == ("high", "low", [2, 2])
        assert one["p"] <= one["p_holm"] and one["p_permutation"] >= 1 / 3
        assert one["low"] <= one["difference"] <= one["high"]
    of_kind = [one for one in shown["differences"] if one["phenotype"] == dense_kind]
    assert all(one["difference"] == pytest.approx(-3 / 8, abs=0.1) for one in of_kind)
    assert shown["trends"] == [] and shown["untested"] == "Passages are not compared: not recorded."
    flasks = [one for one in shown["shares"] if one["attribute"] == "flask"]
    assert len(flasks) == FLASKS * 3 and all(one["units"] == 2 for one in flasks)
    assert sum(one["k"] for one in flasks) == FLASKS * PER_FLASK


def test_many_densities_are_tested_for_a_trend(inputs: tuple[str, str], tmp_path: Path) -> None:
    """One line, eight flasks with a density each; the third kind comes with density."""
    whole = cropset.load(Path(inputs[1]))
    rows = []
    for i, row in enumerate(whole.index.rows):
        flask = i // PER_FLASK
        density, passage = str(10 * flask + 100 * (flask % 4 >= 2)), str(flask % 2)
        image = msgspec.structs.replace(row.image, cell_line="A", density=density, passage=passage)
        rows.append(msgspec.structs.replace(row, image=image))
    index = msgspec.structs.replace(whole.index, classes=("A",), rows=tuple(rows))
    cropset.save(CropSet(whole.crops, index), tmp_path / "crops")
    out = tmp_path / "out"
    asked = ["phenotypes", inputs[0], str(tmp_path / "crops"), "-o", str(out), "--clusters", "3"]
    assert cli.main([*asked, "--beside", inputs[0], *QUICK]) == 0
    assert figures_of(out)["networks"] == 4  # two of either folder
    kinds = np.array([kind_of(i) for i in range(FLASKS * PER_FLASK)])
    dense_kind = int(np.bincount(column(out, "phenotype")[kinds == 2]).argmax())
    shown = msgspec.convert(figures_of(out), dict)
    assert [one["attribute"] for one in shown["trends"]] == ["density"] * 3
    assert {one["attribute"] for one in shown["differences"]} == {"passage"}
    (of_kind,) = [one for one in shown["trends"] if one["phenotype"] == dense_kind]
    assert of_kind["rho"] > 0.7 and of_kind["p"] < 0.05 and of_kind["p"] <= of_kind["p_holm"]
    low, _, high = of_kind["thirds"]
    assert (low["first"], high["last"], low["flasks"]) == (0, 170, 3)
    assert low["low"] <= low["fraction"] < high["fraction"] <= high["high"]
    page = (out / "report.html").read_text()
    assert "trained on other crops than these" in page
    assert "Trend with density" in page and "passage 1 (4) less 0 (4)" in page
    assert (out / "figures" / "trend-density.png").exists()


def test_the_model_assigns_what_the_table_says(found: Path, inputs: tuple[str, str]) -> None:
    model = read_model(found)
    assert model.phenotypes.names == ("phenotype 1", "phenotype 2", "phenotype 3")
    assert sum(model.phenotypes.cells) == FLASKS * PER_FLASK
    network, crop_set = trained_networks(Path(inputs[0]))[0], cropset.load(Path(inputs[1]))
    assert (model.weights_sha256, model.crops_sha256) == (network.weights_sha256, crop_set.digest)
    reference = network.pixels.reference_distribution()
    lca = answer(network.model, torch.from_numpy(crop_set.crops), reference)[1].numpy()
    phenotyper = Phenotyper(model.phenotypes, lca.shape[1])
    number = {name: j for j, name in enumerate(model.phenotypes.names)} | {UNLIKE_ANY: -1}
    told = np.array([number[name] for name in phenotyper(lca)])
    near, beyond = column(found, "single_view") - 1, column(found, "unlike_any") == 1
    np.testing.assert_array_equal(told, np.where(beyond, -1, near))
    shown = msgspec.convert(figures_of(found), dict)["single_view"]
    assert shown["accuracy"] == pytest.approx((near == column(found, "phenotype") - 1).mean())
    assert shown["left_out"]["low"] <= shown["left_out"]["value"] <= shown["left_out"]["high"]
    far = lca.mean(0, keepdims=True) + 1e3 * lca.std()
    assert phenotyper(far) == [UNLIKE_ANY]
    unlike = model.phenotypes.unlike_any
    assert unlike.n == FLASKS * PER_FLASK and "left-out flasks" in unlike.how
    assert unlike.low is not None and unlike.low <= unlike.value < 0.5
    again = msgspec.json.decode((found / "phenotypes.json").read_bytes(), type=PhenotypeModel)
    assert again == model


def test_a_mixture_reaches_model_cells_and_report(inputs: tuple[str, str], tmp_path: Path) -> None:
    out = tmp_path / "out"
    asked = ["--method", "mixture", "--components", "2", "--clusters", "3"]
    assert cli.main(["phenotypes", *inputs, "-o", str(out), *asked, *QUICK]) == 0
    kinds = np.array([kind_of(i) for i in range(FLASKS * PER_FLASK)])
    assert adjusted_rand(kinds.astype(np.intp), column(out, "phenotype") - 1) > 0.9
    known = read_model(out).phenotypes
    assert known.precisions is not None and known.weights is not None
    assert sum(known.weights) == pytest.approx(1) and "Gaussian mixture, k = 3" in known.how
    shown = msgspec.convert(figures_of(out), dict)
    assert shown["method"] == "mixture" and shown["single_view"]["accuracy"] > 0.8
    assert all(one["bic"] is not None for one in shown["sweep"])
    page = (out / "report.html").read_text()
    assert "a Gaussian mixture" in page and "the BIC is lowest at k" in page
    assert "elbow" not in page and "k-means" not in page


def test_the_report_shows_every_figure_and_compares_with_pixels(found: Path) -> None:
    page = (found / "report.html").read_text()
    pictures = {path.stem for path in (found / "figures").iterdir()}
    assert pictures >= {"montage", "curves", "matrices", "distances", "spread", "tsne", "groups"}
    assert {"density-cells", "training"} <= pictures
    assert page.count("<img") == len(pictures)
    assert "pixels (PCA)" in page and "These clusters have no names yet" in page
    assert (found / "montage.png").read_bytes()[:4] == b"\x89PNG"
    shown = msgspec.convert(figures_of(found), dict)
    assert {one["method"] for one in shown["orientation"]} == {
        *("LCA", "LCA, k-medoids", "pixels (PCA)")
    }
    assert {one["attribute"] for one in shown["attributes"]} == {"cell line", "flask", "density"}


def test_a_program_is_told_every_k_and_the_phenotypes(told: tuple[Path, str]) -> None:
    lines = [json.loads(line) for line in told[1].splitlines()]
    assert [line["k"] for line in lines[:-1]] == [2, 3, 4, 5, 6]
    assert all(line["silhouette"] <= 1 and line["inertia"] > 0 for line in lines[:-1])
    model = read_model(told[0]).phenotypes
    assert (lines[-1]["k"], lines[-1]["names"]) == (3, list(model.names))
    assert lines[-1]["unlike_any"]["value"] == model.unlike_any.value


def test_a_rerun_uses_the_activations_that_are_there(
    found: Path, inputs: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "again"
    shutil.copytree(found, out)
    times = {path: path.stat().st_mtime_ns for path in (out / "lca").iterdir()}
    names = ["repeat-0.safetensors", "repeat-1.safetensors", "sweep.json"]
    assert sorted(path.name for path in times) == names
    assert cli.main(["phenotypes", *inputs, "-o", str(out), "--json", *QUICK]) == 0
    *every, line = (json.loads(text) for text in capsys.readouterr().out.splitlines())
    assert [one["k"] for one in every] == [2, 3, 4, 5, 6]
    assert {path: path.stat().st_mtime_ns for path in (out / "lca").iterdir()} == times
    shown = msgspec.convert(figures_of(out), dict)
    best = max(shown["sweep"], key=lambda one: one["silhouette"])["k"]
    assert (line["k"], shown["k"], shown["k_asked"]) == (best, best, False)
    assert len(read_model(out).phenotypes.limits) == best


def test_the_report_tells_the_number_that_was_asked_for(found: Path) -> None:
    results, known = read_results(found), read_model(found).phenotypes
    assert results.k_sought == 3
    page = report(msgspec.structs.replace(results, k_sought=5), known, found).html()
    assert "k = 5 was asked for" in page and "Of these 5 components 2 hold no cell" in page


def test_damaged_activations_are_not_said_to_need_training(
    found: Path, inputs: tuple[str, str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    out = tmp_path / "again"
    (out / "lca").mkdir(parents=True)
    cut = (found / "lca" / "repeat-0.safetensors").read_bytes()[:-9]
    (out / "lca" / "repeat-0.safetensors").write_bytes(cut)
    assert cli.main(["phenotypes", *inputs, "-o", str(out), *QUICK]) == 65
    assert "delete it to compute these LCAs again" in caplog.text


def test_names_reach_model_cells_and_report(
    found: Path, inputs: tuple[str, str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    out = tmp_path / "copy"
    shutil.copytree(found, out)
    before = read_model(out)
    name = ["phenotypes", "-o", str(out), "--name", "1=round", "3=grainy heap", "--by", "M. Curie"]
    assert cli.main(name) == 0
    after = read_model(out)
    assert after.phenotypes.names == ("round", "phenotype 2", "grainy heap")
    assert after.phenotypes.named_by == "M. Curie"
    plain = msgspec.structs.replace(after.phenotypes, names=before.phenotypes.names, named_by="")
    assert msgspec.structs.replace(after, phenotypes=plain) == before
    for more, by in (("2=phenotype 2", []), ("3=grainy heap", ["--by", "P. Curie"])):
        assert cli.main(["phenotypes", "-o", str(out), "--name", more, *by]) == 0
    assert read_model(out).phenotypes.named_by == "M. Curie, P. Curie"
    names = {row["phenotype"]: row["name"] for row in rows_of(out)}
    assert names == {"1": "round", "2": "phenotype 2", "3": "grainy heap"}
    page = (out / "report.html").read_text()
    assert "grainy heap" in page and "Names by M. Curie" in page and "no names yet" not in page
    assert page.count("<img") == (found / "report.html").read_text().count("<img")
    assert cli.main(["phenotypes", *inputs, "-o", str(out), *QUICK]) == 2
    assert "have been named by a person" in caplog.text


@pytest.mark.parametrize(
    ("pairs", "said"),
    [
        (["4=round"], "--name takes N=NAME with N from 1 to 3, got '4=round'"),
        (["round"], "--name takes N=NAME"),
        (["1="], "a name has 1 to 40 printable characters"),
        (["1=" + "x" * 41], "a name has 1 to 40 printable characters"),
        (["1=a\nb"], "a name has 1 to 40 printable characters"),
        (["1=Round", "2=round"], "names must differ"),
        (["1=phenotype 2"], "names must differ"),
        (["2=Unlike any"], "is what cells beyond every limit are called"),
    ],
)
def test_names_that_cannot_be_are_refused(
    found: Path, pairs: list[str], said: str, caplog: pytest.LogCaptureFixture
) -> None:
    before = (found / "phenotypes.json").read_bytes()
    assert cli.main(["phenotypes", "-o", str(found), "--name", *pairs]) == 2
    assert said in caplog.text
    assert (found / "phenotypes.json").read_bytes() == before


def test_what_cannot_be_clustered_is_refused(
    inputs: tuple[str, str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    out = str(tmp_path / "out")

    def refused(code: int, *argv: str) -> str:
        caplog.clear()
        assert cli.main(["phenotypes", "-o", out, *argv]) == code
        return caplog.text

    assert "give NETWORK and CROPS" in refused(2, inputs[0])
    assert "takes no NETWORK" in refused(2, *inputs, "--name", "1=round")
    assert "holds no phenotypes (no phenotypes.json)" in refused(65, "--name", "1=round")
    assert "neither selflabel.json nor checkpoint.json" in refused(65, inputs[1], inputs[1])
    assert "64 cells allow 2 to 12 clusters" in refused(2, *inputs, "--clusters", "13")
    assert "64 cells allow 2 to 12 clusters" in refused(2, *inputs, "--clusters", "1")
    assert "--shrink 7 does not divide the 80 px" in refused(2, *inputs, "--shrink", "7")
    assert "a mixture needs few axes" in refused(
        2, *inputs, "--method", "mixture", "--space", "lca"
    )
    whole = cropset.load(Path(inputs[1]))
    cropset.save(whole.of(np.arange(9)), tmp_path / "nine")
    assert "9 cells are too few" in refused(65, inputs[0], str(tmp_path / "nine"))
    rules = msgspec.structs.replace(whole.index.rules, um_per_px=0.6)
    other = CropSet(whole.crops, msgspec.structs.replace(whole.index, rules=rules))
    cropset.save(other, tmp_path / "other")
    assert "other crops than these (um_per_px 0.6 instead of 0.5)" in refused(
        2, inputs[0], str(tmp_path / "other")
    )
    first = whole.index.rows[0].image.group
    rows = tuple(
        msgspec.structs.replace(row, image=msgspec.structs.replace(row.image, group=first))
        for row in whole.index.rows
    )
    one = CropSet(whole.crops, msgspec.structs.replace(whole.index, rows=rows))
    cropset.save(one, tmp_path / "one")
    assert "all 64 cells are of one flask" in refused(65, inputs[0], str(tmp_path / "one"))
    assert not Path(out).exists()
