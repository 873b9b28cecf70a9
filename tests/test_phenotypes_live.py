"""Phenotypes on the rig: the nearest one, none beyond its limit, and wherever they are told."""

import csv
import json
import re
import shutil
import zipfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import numpy as np
import onnx
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from onnx import helper
from rich.console import Console
from rigs import (
    LCA_SIZE,
    Rig,
    card_text,
    save_frame,
    save_model,
    tiny_bundle_at,
    tiny_card,
    tiny_graph,
    tiny_weights,
    until,
)
from test_follow import frame, received
from test_notebook import eln_faults, write

from parfocal import schema
from parfocal.bench import phenotypes_row
from parfocal.bundle import BundleError, load
from parfocal.calibrate import from_base64, to_base64
from parfocal.card import Metric, Phenotypes
from parfocal.cli import main
from parfocal.console import add_frame, frame_table
from parfocal.follow import one_line
from parfocal.intervals import clustered, composition, wilson
from parfocal.modelcard import model_sections
from parfocal.notebook import eln
from parfocal.notebook.entry import Entry, ScoredFrame
from parfocal.phenotypes import MAX_NAME, UNLIKE_ANY, Phenotyper, phenotypes_text
from parfocal.types import FlaskRef, FlaskVerdict, Fraction, FrameResult
from parfocal.verdict import Totals

Floats = NDArray[np.float32]
WEIGHTS = tiny_weights()


def phenotypes(mean: Any, axes: Any, centroids: Any, limits: Any, **more: Any) -> Phenotypes:
    """A card of these numbers; names are p0, p1 and so on unless given."""
    packed = [to_base64(np.asarray(values, np.float32)) for values in (mean, axes, centroids)]
    k = len(limits)
    given = {
        "names": tuple(f"p{i}" for i in range(k)), "cells": (7,) * k, "group_kind": "flask",
        "unlike_any": Metric(value=0.04, low=0.02, high=0.09, n=400),
        "stability": Metric(value=0.8, low=0.7, high=0.9, n=5), "d": len(np.asarray(mean)),
    }  # fmt: skip
    return Phenotypes(
        mean=packed[0], axes=packed[1], centroids=packed[2],
        limits=tuple(map(float, limits)), **{**given, **more},
    )  # fmt: skip


# ----------------------------------------------------------------------------------- one by one

CORNERS = phenotypes([1, 1, 1], np.eye(3)[:, :2], [[0, 0], [4, 0], [0, 4]], [1, 1, 2])


@pytest.mark.parametrize(
    ("lca", "name"),
    [
        ((1, 1, 1), "p0"),
        ((1, 1, 999), "p0"),  # what is off the axes does not count
        ((4.5, 1, 1), "p1"),
        ((6, 1, 0), "p1"),  # at the limit is within it
        ((6.1, 1, 0), UNLIKE_ANY),
        ((1, 6.9, 0), "p2"),  # its own limit, not that of others
        ((2.5, 1, 0), UNLIKE_ANY),  # between two
        ((1, 3.1, 0), "p2"),
        ((1, 2.9, 0), UNLIKE_ANY),  # within the limit of p2, but nearer to p0
    ],
)
def test_a_cell_has_the_nearest_phenotype_or_none(lca: tuple[float, ...], name: str) -> None:
    assert Phenotyper(CORNERS, 3)(np.array([lca], np.float32)) == [name]


def test_no_cells_have_no_phenotypes() -> None:
    assert Phenotyper(CORNERS, 3)(np.empty((0, 3), np.float32)) == []


@st.composite
def spaces(draw: st.DrawFn, whole: bool) -> tuple[dict[str, NDArray[Any]], Floats]:
    """Numbers of a card, and cells; whole numbers are computed with exactly, whatever the order."""
    d, q, k, n = (draw(st.integers(low, 5)) for low in (1, 1, 1, 0))
    number: Any = st.integers(-20, 20) if whole else st.floats(-20, 20, width=32)
    above: Any = st.integers(1, 40) if whole else st.floats(0.125, 40, width=32)

    def drawn(shape: tuple[int, ...], element: Any = number) -> Floats:
        return draw(arrays(np.float32, shape, elements=element))

    made = {"mean": drawn((d,)), "axes": drawn((d, q)), "centroids": drawn((k, q)),
            "limits": drawn((k,), above)}  # fmt: skip
    return made, drawn((n, d))


@given(spaces(whole=False))
def test_the_answer_is_that_of_the_definition(
    drawn: tuple[dict[str, NDArray[Any]], Floats],
) -> None:
    space, lca = drawn
    exact = {name: values.astype(np.float64) for name, values in space.items()}
    position = (lca - exact["mean"]) @ exact["axes"]
    apart = np.linalg.norm(position[:, None] - exact["centroids"][None], axis=2)  # (n, k)
    for name, distances in zip(
        Phenotyper(phenotypes(**space), lca.shape[1])(lca), apart, strict=True
    ):
        near = np.flatnonzero(distances <= distances.min() + 1e-6)
        if name == UNLIKE_ANY:
            assert (distances[near] > exact["limits"][near] - 1e-6).any()
        else:
            i = int(name[1:])
            assert i in near and distances[i] <= exact["limits"][i] + 1e-6


@given(spaces(whole=False), st.integers(0, 2**32 - 1))
def test_a_mixture_answers_by_the_highest_posterior(
    drawn: tuple[dict[str, NDArray[Any]], Floats], seed: int
) -> None:
    space, lca = drawn
    (k, q), rng = space["centroids"].shape, np.random.default_rng(seed)
    factors = np.triu(rng.normal(0, 1, (k, q, q))).astype(np.float32)
    factors[:, range(q), range(q)] = rng.uniform(0.25, 4, (k, q))
    weights = tuple(map(float, rng.dirichlet(np.ones(k)) * 0.9 + 0.1 / k))
    card = phenotypes(**space, precisions=to_base64(factors), weights=weights)
    exact = {name: values.astype(np.float64) for name, values in space.items()}
    position = (lca - exact["mean"]) @ exact["axes"]
    for z, name in zip(position, Phenotyper(card, lca.shape[1])(lca), strict=True):
        log_posterior, apart = [], []
        for centroid, factor, weight in zip(exact["centroids"], factors, weights, strict=True):
            inverse = factor.astype(np.float64) @ factor.astype(np.float64).T
            squared = (z - centroid) @ inverse @ (z - centroid)
            log_posterior.append(np.log(weight) + 0.5 * (np.linalg.slogdet(inverse)[1] - squared))
            apart.append(np.sqrt(max(squared, 0)))
        near = np.flatnonzero(np.array(log_posterior) >= max(log_posterior) - 1e-3)
        if name == UNLIKE_ANY:
            assert any(apart[i] > exact["limits"][i] - 1e-3 for i in near)
        else:
            i = int(name[1:])
            assert i in near and apart[i] <= exact["limits"][i] + 1e-3


@given(spaces(whole=True), st.randoms(use_true_random=False))
def test_neither_the_order_of_cells_nor_that_of_phenotypes_matters(
    drawn: tuple[dict[str, NDArray[Any]], Floats], chance: Any
) -> None:
    space, lca = drawn
    k, d = len(space["limits"]), lca.shape[1]
    position = (lca - space["mean"]) @ space["axes"]
    squared = ((position[:, None] - space["centroids"][None]) ** 2).sum(2)
    assume(all(len(set(row)) == k for row in squared.tolist()))  # no cell is between two
    found = Phenotyper(phenotypes(**space), d)(lca)
    cells, kinds = list(range(len(lca))), list(range(k))
    chance.shuffle(cells)
    chance.shuffle(kinds)
    assert Phenotyper(phenotypes(**space), d)(lca[cells]) == [found[i] for i in cells]
    mixed = {**space, "centroids": space["centroids"][kinds], "limits": space["limits"][kinds]}
    other = Phenotyper(phenotypes(**mixed, names=tuple(f"p{i}" for i in kinds)), d)
    assert other(lca) == found
    assert [name for i in cells for name in other(lca[i : i + 1])] == [found[i] for i in cells]


def test_naming_a_frames_cells_is_timed_with_or_without_phenotypes_in_the_model(
    tmp_path: Path,
) -> None:
    without = phenotypes_row(load(str(tiny_bundle_at(tmp_path / "t.onnx"))), 3)
    assert "11 phenotypes in 32 dimensions, drawn" in without["note"]
    row = phenotypes_row(load(str(with_phenotypes(tmp_path / "m.onnx", GOOD))), 3)
    assert row["note"] == "60 cells of 9 activations, 2 phenotypes in 2 dimensions, of 'tiny'"
    assert 0 < row["low_ms"] <= row["median_ms"]


# ------------------------------------------------------------------------------------ bad cards

AXES = np.eye(LCA_SIZE, 2, dtype=np.float32)
GOOD = phenotypes(np.zeros(LCA_SIZE), AXES, [[0, 0], [9, 9]], [5, 5])
NAN = to_base64(np.full((LCA_SIZE, 2), np.nan, np.float32))
SHORT = to_base64(np.zeros(5, np.float32))
ROUND = to_base64(np.stack([np.eye(2, dtype=np.float32)] * 2))
MIXED: dict[str, Any] = {"precisions": ROUND, "weights": (0.5, 0.5)}


def with_phenotypes(path: Path, known: Phenotypes) -> Path:
    """The tiny bundle with these phenotypes."""
    card = msgspec.structs.replace(tiny_card(WEIGHTS), phenotypes=known)
    return save_model(path, tiny_graph(WEIGHTS), card_text(card))


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"names": ()}, "has no names"),
        ({"names": ("a", "")}, "printable, without margins"),
        ({"names": ("a", " b")}, "printable, without margins"),
        ({"names": ("a", "b\x1b[2J")}, "printable, without margins"),
        ({"names": ("a", "b\u202e")}, "printable, without margins"),
        ({"names": ("a", "x" * (MAX_NAME + 1))}, "has 61 characters, not up to 60"),
        ({"names": ("a", "Unlike any")}, "means none of them"),
        ({"names": ("a", "a")}, "the same name"),
        ({"names": ("\u00e9", "e\u0301")}, "the same name"),
        ({"names": ("a", "b", "c")}, "limits has 2 values for 3 names"),
        ({"limits": (5.0,)}, "limits has 1 values for 2 names"),
        ({"limits": (5.0, 0.0)}, "limits has 0.0, not a finite number above 0"),
        ({"limits": (-1.0, 1.0)}, "limits has -1.0, not"),
        ({"cells": (3, 4, 5)}, "cells has 3 values for 2 names"),
        ({"cells": (0, 9)}, "cells has 0, not"),
        ({"d": 288}, "of 288 activations, the network has 9"),
        ({"mean": SHORT}, "mean has 5 values, not 1 x 9"),
        ({"axes": SHORT}, "axes has 5 values, not 9 x 1"),
        ({"axes": ""}, "axes has 0 values, not 9 x 1"),
        ({"centroids": SHORT}, "centroids has 5 values, not 2 x 2"),
        ({"weights": (0.5, 0.5)}, "one of precisions and weights"),
        ({"precisions": ROUND}, "one of precisions and weights"),
        ({**MIXED, "weights": (0.5, 0.0)}, "weights has 0.0, not a finite number above 0"),
        ({**MIXED, "weights": (1.0,)}, "weights has 1 values for 2 names"),
        ({**MIXED, "precisions": SHORT}, "precisions has 5 values, not 4 x 2"),
        (
            {**MIXED, "precisions": to_base64(-np.stack([np.eye(2, dtype=np.float32)] * 2))},
            "not above 0",
        ),
        ({**MIXED, "precisions": to_base64(np.ones((2, 2, 2), np.float32))}, "not triangular"),
        ({"axes": NAN}, "axes holds numbers that are not finite"),
        ({"mean": "#"}, "mean has 0 values"),
        ({"mean": "AAA"}, "contradicts itself"),
        ({"unlike_any": Metric(value=1.2)}, "unlike_any is 1.2, not between 0 and 1"),
        ({"stability": Metric(value=0.5, low=-2.0)}, "stability is -2.0, not between -1 and 1"),
    ],
)
def test_phenotypes_that_cannot_be_are_refused_before_the_first_frame(
    change: dict[str, Any], why: str, tmp_path: Path
) -> None:
    spoilt = msgspec.structs.replace(GOOD, **change)
    with pytest.raises(BundleError, match=why):
        load(str(with_phenotypes(tmp_path / "m.onnx", spoilt)))


@pytest.mark.parametrize(
    "name", ["elongated, 1 process", "紡錘形", "Größe < 20 µm | rund", "e" * 60]
)
def test_a_person_may_name_them_freely(name: str, tmp_path: Path) -> None:
    known = msgspec.structs.replace(GOOD, names=("plain", name))
    card = load(str(with_phenotypes(tmp_path / "m.onnx", known))).card
    assert card.phenotypes is not None and card.phenotypes.names[1] == name


# -------------------------------------------------------------------------------- where it is told


def test_a_line_names_the_most_frequent_and_never_hides_what_is_unlike_any() -> None:
    counts = {"a": 1, "b": 20, "c": 9, "d": 12, "e": 0, "f": 2, UNLIKE_ANY: 4}
    text = phenotypes_text(composition(counts))
    assert text.startswith("phenotypes: b 20 = 42% (29%-56%)  d 12 = 25% (")
    assert "  2 rarer: 3  unlike any 4 = 8% (3%-20%)" in text
    assert phenotypes_text(None) == phenotypes_text(composition({"a": 0, UNLIKE_ANY: 0})) == ""


def with_shares(counts: dict[str, int] | None, sha256: str = "now") -> FrameResult:
    result = frame("a.tif", sum((counts or {}).values()))
    model = msgspec.structs.replace(result.model, sha256=sha256)
    shares = None if counts is None else composition(counts)
    return msgspec.structs.replace(result, model=model, phenotypes=shares)


def test_a_flasks_phenotypes_take_frames_as_clusters_and_one_model_only() -> None:
    totals, flask = Totals(), FlaskRef(id="F", session="s")
    names = ("a", "b", UNLIKE_ANY)
    for counts, sha256 in (
        ({"a": 9, "b": 1, UNLIKE_ANY: 0}, "now"),
        ({"a": 2, "b": 7, UNLIKE_ANY: 1}, "now"),
        ({"z": 50, UNLIKE_ANY: 50}, "before"),
        (None, "without"),
    ):
        totals.add(with_shares(counts, sha256))
    found = totals.verdict(flask, None, "now", names).phenotypes
    assert found is not None and tuple(found) == names
    low, high = clustered([(9, 10), (2, 10)])
    assert found["a"] == Fraction(n=11, fraction=0.55, low=low, high=high)
    alone = wilson(11, 20)
    assert high - low > alone[1] - alone[0]
    assert [f.n for f in found.values()] == [11, 8, 1]
    assert totals.verdict(flask, None, "without").phenotypes is None
    unseen = totals.verdict(flask, None, "after", names).phenotypes
    assert unseen is not None
    assert all((f.n, f.low, f.high) == (0, 0, 1) for f in unseen.values())
    told = one_line(received(1, totals.verdict(flask, None, "now", names)))
    assert "phenotypes: a 11 = 55% (" in told


def test_a_frames_phenotypes_are_in_its_row_and_its_line() -> None:
    result, without = with_shares({"spindle": 2, UNLIKE_ANY: 1}), with_shares(None)
    wanted = "phenotypes: spindle 2 = 67% (21%-94%)  unlike any 1 = 33% (6%-79%)"
    for one, told in ((result, True), (without, False)):
        console, table = Console(width=200), frame_table()
        add_frame(table, "1", one)
        with console.capture() as caught:
            console.print(table)
        assert (wanted in caught.get()) == told
        assert (wanted in one_line(received(1, one))) == told


@pytest.mark.parametrize("width", range(60, 110, 7))
def test_a_name_in_any_script_hides_no_number(width: int) -> None:
    console, table = Console(width=width), frame_table()
    add_frame(table, "1", with_shares({"紡錘形": 8, "rund": 5, UNLIKE_ANY: 2}))
    with console.capture() as caught:
        console.print(table)
    text = "".join(caught.get().split())
    assert "…" not in text.partition("a.tif")[2]
    assert all(share in text for share in ("8=53%", "5=33%", "2=13%"))


@pytest.mark.parametrize(
    ("names", "named_by", "sentence"),
    [
        (("round <b>", "spindle"), "A. Biologist", "of each gave them their names: A. Biologist."),
        (("round <b>", "spindle"), "", "gave them their names; who that was is not recorded."),
        (
            ("round <b>", "phenotype 2"),
            "A. Bio",
            "of round <b> gave these names: A. Bio. The others",
        ),
        (("phenotype 1", "phenotype 2"), "", "Nobody has looked at them"),
    ],
)
def test_a_card_says_who_named_them_and_how_far_to_believe_them(
    names: tuple[str, str],
    named_by: str,
    sentence: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    known = msgspec.structs.replace(
        GOOD, names=names, named_by=named_by, how="k-means, k by silhouette"
    )
    path = with_phenotypes(tmp_path / "m.onnx", known)
    (section,) = [s for s in model_sections(load(str(path))) if "shapes of cell" in s.title]
    text = " ".join(section.sentences)
    for words in (
        sentence, "14 cells", "k-means, k by silhouette", "4.0% (2.0% to 9.0%)",
        "0.80 (0.70 to 0.90)", "flasks left out",
    ):  # fmt: skip
        assert words in text
    assert section.rows == tuple((name, "7") for name in names)
    assert main(["model", "show", str(path), "--html", str(tmp_path / "card.html")]) == 0
    page = (tmp_path / "card.html").read_text()
    assert names[0].replace("<b>", "&lt;b&gt;") in page and "<b>" not in page
    assert section.title in page
    capsys.readouterr()


# ------------------------------------------------------------------------------- the whole daemon

NAMES = ("spindle, 2 processes", "rund | glatt", "紡錘形")


@dataclass(frozen=True)
class Session:
    """What one flask session of two simulated images left behind."""

    bundle: Path
    frames: list[dict[str, Any]]
    flask: dict[str, Any]
    lca: dict[tuple[int, int], NDArray[np.float32]]  # (place of frame, id of cell) to (d,)
    table: list[dict[str, str]]
    page: str
    line: str


def living(path: Path) -> Path:
    """The shipped demo model with three phenotypes around the LCAs of its golden crops."""
    bundle = load("demo")
    card = bundle.card
    lca = from_base64(card.golden.lca).reshape(card.golden.n, card.novelty.d)[:3]
    mean = lca.mean(0)
    axes = np.linalg.svd(lca - mean, full_matrices=False)[2][:2].T
    centroids = (lca - mean) @ axes
    known = phenotypes(mean, axes, centroids, [LIMIT] * 3, names=NAMES)
    model = onnx.load_from_string(bundle.data)
    text = msgspec.json.encode(msgspec.structs.replace(card, phenotypes=known)).decode()
    del model.metadata_props[:]
    helper.set_model_props(model, {"parfocal": text})
    path.write_bytes(model.SerializeToString())
    return path


LIMIT = 6
"""Takes in some of the simulated cells and leaves others out, which the test makes sure of."""


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory) -> Session:
    """Two simulated fields of one flask through the real daemon and its subscribers."""
    home = tmp_path_factory.mktemp("live")
    bundle, drawn = living(home / "living.onnx"), home / "drawn"
    draw = "--flasks 1 --fields 2 --kind png --seed 4 --mixed 0.5"
    assert main(["simulate", str(drawn), *draw.split()]) == 0
    rig = Rig(home, bundle)
    try:
        rig.start()
        where = ("--connect", rig.live)
        until(lambda: rig.run("flask", "open", "F1", *where).returncode == 0, what="flask open")
        for image in sorted(drawn.glob("*.png")):
            shutil.copy(image, rig.folder / image.name)
        rig.wait_done(2)
        assert rig.run("flask", "close", *where).returncode == 0
        said = rig.run("follow", "--out", str(home / "cells.csv"), "--catch-up", *where)
        assert said.returncode == 0
        (entry,) = write(rig, "markdown", home / "entries")
        flasks = rig.rows("SELECT body FROM message WHERE topic = 'flask/test/' ORDER BY seq")
        cells = rig.rows("SELECT seq, id, lca FROM cell ORDER BY seq, id")
        seqs = sorted({seq for seq, _, _ in cells})
        return Session(
            bundle=bundle,
            frames=rig.frames(),
            flask=json.loads(flasks[-1][0]),
            lca={(seqs.index(seq), i): np.frombuffer(b, "<f2").astype("f4") for seq, i, b in cells},
            table=list(csv.DictReader((home / "cells.csv").read_text().splitlines())),
            page=(entry / "entry.md").read_text(),
            line=said.stdout,
        )
    finally:
        rig.close()


def names_of(frame: dict[str, Any]) -> Counter[str]:
    return Counter(cell["phenotype"] for cell in frame["cells"])


def counts_of(shares: dict[str, dict[str, Any]]) -> dict[str, int]:
    return {name: share["n"] for name, share in shares.items()}


def test_every_cell_has_the_phenotype_of_its_activations(scored: Session) -> None:
    card = load(str(scored.bundle)).card.phenotypes
    assert card is not None
    mean, axes = from_base64(card.mean), from_base64(card.axes).reshape(card.d, 2)
    centroids = from_base64(card.centroids).reshape(3, 2)
    found = Counter[str]()
    for place, one in enumerate(scored.frames):
        for cell in one["cells"]:
            position = (scored.lca[place, cell["id"]] - mean) @ axes
            apart = np.linalg.norm(position - centroids, axis=1)
            nearest = int(apart.argmin())
            wanted = NAMES[nearest] if apart[nearest] <= LIMIT else UNLIKE_ANY
            found[cell["phenotype"]] += 1
            near = [abs(apart[nearest] - LIMIT), *np.diff(np.sort(apart))[:1]]
            assert cell["phenotype"] == wanted or min(near) < 0.01  # the journal keeps float16
    assert found[UNLIKE_ANY] > 0 and len(found) > 2, found  # else nothing is shown by this


def test_frame_and_flask_count_the_cells_they_have(scored: Session) -> None:
    total: Counter[str] = Counter()
    frames: list[Counter[str]] = []
    for one in scored.frames:
        names = names_of(one)
        frames.append(names)
        total += names
        assert list(one["phenotypes"]) == [*NAMES, UNLIKE_ANY]
        assert counts_of(one["phenotypes"]) == {n: names[n] for n in (*NAMES, UNLIKE_ANY)}
        for share in one["phenotypes"].values():
            assert (share["low"], share["high"]) == wilson(share["n"], len(one["cells"]))
    assert scored.flask["open"] is False
    assert list(scored.flask["phenotypes"]) == [*NAMES, UNLIKE_ANY]
    assert counts_of(scored.flask["phenotypes"]) == {n: total[n] for n in (*NAMES, UNLIKE_ANY)}
    for name, share in scored.flask["phenotypes"].items():
        pairs = [(names[name], names.total()) for names in frames]
        assert (share["low"], share["high"]) == pytest.approx(clustered(pairs))
    assert scored.flask["n_cells"] == total.total() > scored.flask["n_abstained"]


def test_the_messages_follow_the_schema(scored: Session) -> None:
    whole = schema.schema()
    for kind, body in (("frame", scored.frames[0]), ("flask", scored.flask)):
        one = {**whole["messages"][f"parfocal.{kind}/1"], "$defs": whole["$defs"]}
        jsonschema.validate(body, one)


def test_the_table_and_the_entry_say_the_same(scored: Session) -> None:
    in_table = Counter(row["phenotype"] for row in scored.table)
    total = sum(map(names_of, scored.frames), Counter())
    assert in_table == total
    assert "## Phenotypes" in scored.page
    assert f"| rund \\| glatt | {total[NAMES[1]]} | " in scored.page
    assert f"| unlike any | {total[UNLIKE_ANY]} | " in scored.page
    assert "phenotypes: " in scored.line and "unlike any" in scored.line


def test_an_archive_measures_each_phenotype_under_a_valid_name(
    scored: Session, tmp_path: Path
) -> None:
    results = [msgspec.convert(body, FrameResult) for body in scored.frames]
    frames = tuple(ScoredFrame(received(i, result), result) for i, result in enumerate(results))
    path = eln.write(Entry(msgspec.convert(scored.flask, FlaskVerdict), frames), tmp_path)
    assert eln_faults(path) == []
    with zipfile.ZipFile(path) as archive:
        graph = json.loads(archive.read(f"{path.stem}/ro-crate-metadata.json"))["@graph"]
    measured = {node["propertyID"]: node for node in graph if node["@type"] == "PropertyValue"}
    for name, share in scored.flask["phenotypes"].items():
        node = measured[f"phenotype.{name}.fraction"]
        assert node["value"] == pytest.approx(share["fraction"], abs=1e-4)
        assert re.fullmatch(r"#[A-Za-z0-9._~%-]+", node["@id"])
    (dataset,) = [node for node in graph if node.get("genre") == "experiment"]
    assert "<h2>Phenotypes</h2>" in dataset["text"] and "<td>rund | glatt</td>" in dataset["text"]


def test_classify_names_the_same_phenotypes_as_the_daemon(
    scored: Session, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = scored.frames[0]["image"]["path"]
    command = ["classify", path, "--model", str(scored.bundle), "--detector", "classical"]
    assert main([*command, "--um-per-px", "0.44", "--json", "--device", "cpu"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["phenotypes"] == scored.frames[0]["phenotypes"]
    named = [[cell["phenotype"] for cell in one["cells"]] for one in (result, scored.frames[0])]
    assert named[0] == named[1]


def test_a_model_without_phenotypes_has_none_anywhere(
    tmp_path: Path, tiny_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = save_frame(tmp_path / "a.png")
    command = ["classify", str(image), "--model", str(tiny_bundle), "--detector", "classical"]
    assert main([*command, "--um-per-px", "0.44", "--json", "--device", "cpu"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["cells"] and result["phenotypes"] is None
    assert {cell["phenotype"] for cell in result["cells"]} == {None}
