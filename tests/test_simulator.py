"""The simulated rig: what its parameters do, and that its truth is true of its pixels."""

from dataclasses import replace
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from parfocal.prepare import to_gray
from parfocal.simulator import (
    HEK293A,
    HT1080,
    Camera,
    CellTruth,
    CellType,
    Flask,
    FlaskTraits,
    Fluorescence,
    Rig,
    SimulatedFrame,
    Truth,
    draw_flask,
)
from parfocal.simulator import __main__ as camera
from parfocal.simulator.culture import Culture
from parfocal.simulator.designs import planned
from parfocal.simulator.lines import PHENOTYPES
from parfocal.simulator.loop import Loop
from parfocal.simulator.outline import area_and_centroid, draw_outline
from parfocal.simulator.parameters import Plastic
from parfocal.simulator.save import Kind, read_truth, save, truth_folder
from parfocal.simulator.traits import KINDS, Light

SMALL = Rig(camera=Camera(width_px=720, height_px=560))
GREEN = Fluorescence(labelled="HT1080")
BOTH = ((HEK293A, 0.5), (HT1080, 0.5))


def flask(
    types: tuple[tuple[CellType, float], ...] = ((HEK293A, 1.0),),
    density: float = 150,
    seed: int = 3,
    **more: object,
) -> Flask:
    return Flask(types, density, seed, rig=SMALL, **more)  # type: ignore[arg-type]


@cache
def mixed_frame() -> SimulatedFrame:
    return flask(BOTH, 200, fluorescence=GREEN).field(0)


def alive(truth: Truth) -> list[CellTruth]:
    return [cell for cell in truth.cells if cell.state == "alive"]


def gray(frame: SimulatedFrame) -> NDArray[np.float64]:
    return to_gray(frame.rgb).astype(np.float64)


# ------------------------------------------------------------------------------------ determinism


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others() -> None:
    a, b, c = (flask(seed=seed).field(2).rgb for seed in (5, 5, 6))
    assert np.array_equal(a, b)
    assert not np.array_equal(a, c)


def test_a_flask_is_drawn_from_the_generator_it_is_given() -> None:
    a, b = (draw_flask(np.random.default_rng(8), BOTH, 80) for _ in range(2))
    assert (a.seed, a.traits) == (b.seed, b.traits)
    assert draw_flask(np.random.default_rng(9), BOTH, 80).traits != a.traits


def test_a_field_does_not_depend_on_what_was_rendered_before() -> None:
    fresh, used = flask(), flask()
    used.field(0)
    assert np.array_equal(fresh.field(1).rgb, used.field(1).rgb)


# ------------------------------------------------------------------------------------------ truth


def test_every_cell_of_the_truth_is_the_centre_and_area_of_its_mask() -> None:
    truth = mixed_frame().truth
    assert sorted(np.unique(truth.labels).tolist()) == [0, *(c.id for c in truth.cells)]
    for cell in truth.cells:
        ys, xs = np.nonzero(truth.labels == cell.id)
        assert (xs.mean(), ys.mean()) == pytest.approx((cell.x_px, cell.y_px))
        assert (xs.min(), ys.min()) == (cell.left_px, cell.top_px)
        assert len(xs) * truth.um_per_px**2 == pytest.approx(cell.area_um2)


def test_a_whole_cell_is_no_larger_in_a_wider_view_and_a_cut_one_is() -> None:
    made = flask(BOTH, 200)
    wide = replace(made, rig=Rig(camera=replace(SMALL.camera, width_px=1120, height_px=960)))
    wider = {cell.key: cell.area_um2 for cell in wide.light((-200, -200)).truth.cells}
    cells = made.light((0, 0)).truth.cells
    assert len({cell.key for cell in cells}) == len(cells)
    assert {cell.whole for cell in cells} == {True, False}
    for cell in cells:
        assert cell.area_um2 == wider[cell.key] if cell.whole else cell.area_um2 <= wider[cell.key]


def test_cells_have_the_size_of_cells() -> None:
    areas = [cell.area_um2 for cell in alive(mixed_frame().truth) if cell.whole]
    assert 250 < float(np.median(areas)) < 1200
    assert max(areas) < 6000


def test_touching_cells_share_a_group_and_lone_cells_have_their_own() -> None:
    truth = flask(density=400, seed=2, traits=FlaskTraits(clumping=0.4)).field(0).truth
    group = {cell.id: cell.group for cell in truth.cells}
    assert len(set(group.values())) < len(group)
    for cell in truth.cells:
        near = cv2.dilate((truth.labels == cell.id).astype(np.uint8), np.ones((3, 3), np.uint8))
        beside = set(np.unique(truth.labels[near > 0]).tolist()) - {0}
        assert {group[i] for i in beside} == {cell.group}


def test_the_rim_of_a_cell_differs_from_the_background() -> None:
    frame = flask(density=60).field(0)
    image = gray(frame)
    flat = image / cv2.GaussianBlur(image, (0, 0), 100)
    labels = frame.truth.labels
    body = (labels > 0).astype(np.uint8)
    rim = cv2.dilate(body, np.ones((3, 3), np.uint8)) - cv2.erode(body, np.ones((7, 7), np.uint8))
    empty = cv2.dilate(body, np.ones((25, 25), np.uint8)) == 0
    assert flat[rim > 0].std() > 2.5 * flat[empty].std()
    assert flat[rim > 0].mean() < flat[empty].mean() - 0.02


def test_dead_and_floating_cells_are_told_apart_and_have_no_phenotype() -> None:
    traits = FlaskTraits(dead_share=0.3, floating_share=0.3)
    truth = flask(density=300, traits=traits).field(0).truth
    states = [cell.state for cell in truth.cells]
    assert {"alive", "dead", "floating"} == set(states)
    assert all((cell.phenotype is None) == (cell.state != "alive") for cell in truth.cells)


def test_a_cropped_truth_is_true_of_the_cropped_pixels() -> None:
    whole = mixed_frame().truth
    part = whole.cropped(120, 80, 300, 260)
    assert np.array_equal(part.labels, whole.labels[80:340, 120:420])
    assert {c.id for c in part.cells} == set(np.unique(part.labels).tolist()) - {0}
    for cell in part.cells:
        ys, xs = np.nonzero(part.labels == cell.id)
        assert (xs.mean(), ys.mean()) == pytest.approx((cell.x_px, cell.y_px))


# ------------------------------------------------------------------------------------- parameters


def test_the_density_is_the_one_that_was_asked_for() -> None:
    for wanted in (30, 150, 350):
        culture = Culture(((HT1080, 1.0),), wanted, FlaskTraits(), 4)
        n = len(culture.near((0, 0, 4000, 4000)))
        assert n / 16 == pytest.approx(wanted, rel=0.12)


def test_defocus_takes_the_finest_detail_away() -> None:
    def fine(defocus_um: float) -> float:
        bare = Plastic(0, 0, 0, 0, 1e-9, 1e-9, 1e-9)
        traits = FlaskTraits(defocus_um=defocus_um, plastic=bare)
        light = flask(traits=traits).light((0, 0))
        return float(np.abs(np.diff(light.brightfield[..., 1], axis=1)).mean())

    assert fine(30.0) < fine(18.0) < 0.8 * fine(7.0)


def test_the_mixture_of_phenotypes_depends_on_density_and_sums_to_one() -> None:
    thin, dense = (HT1080.mixture(d) for d in (15, 300))
    assert thin.sum() == pytest.approx(1) and dense.sum() == pytest.approx(1)
    names = [p.name for p in PHENOTYPES]
    assert thin[names.index("spread")] > 1.5 * dense[names.index("spread")]
    share = {
        density: np.mean(
            [
                cell.spec.phenotype.name == "spread"
                for cell in Culture(((HT1080, 1.0),), density, FlaskTraits(), 1).near(
                    (0, 0, 3000, 3000)
                )
            ]
        )
        for density in (20, 300)
    }
    assert share[20] > share[300]


def test_crowded_cells_are_smaller() -> None:
    def area(density: float) -> float:
        truths = [flask(((HT1080, 1.0),), density).field(i).truth for i in range(2)]
        return float(np.median([c.area_um2 for t in truths for c in alive(t) if c.whole]))

    assert area(500) < area(50)


def test_a_mixed_flask_holds_its_types_in_their_shares() -> None:
    culture = Culture(((HEK293A, 0.8), (HT1080, 0.2)), 150, FlaskTraits(), 2)
    names = [cell.spec.type.name for cell in culture.near((0, 0, 3000, 3000))]
    assert names.count("HT1080") / len(names) == pytest.approx(0.2, abs=0.04)


def test_light_focus_and_plastic_do_not_know_the_type() -> None:
    ours = [draw_flask(np.random.default_rng(i), [(HEK293A, 1.0)], 60).traits for i in range(3)]
    theirs = [draw_flask(np.random.default_rng(i), [(HT1080, 1.0)], 60).traits for i in range(3)]
    assert ours == theirs


@pytest.mark.parametrize("same", [(), ("light", "focus"), tuple(KINDS)])
def test_flasks_are_alike_in_what_is_asked_for_and_else_as_they_were(same: tuple[str, ...]) -> None:
    asked = ["folder", "--design", "varied", "--flasks", "3", "--seed", "4"]
    options = camera.parser().parse_args([*asked, *(("--same", *same) if same else ())])
    drawn = [one.flask for one in planned("varied", 3, 80.0, None, 4)]
    found = [one.flask for one in camera.flasks_of(options)]
    assert [one.seed for one in found] == [one.seed for one in drawn]
    for kind, names in KINDS.items():
        for name in names:
            now, then = ([getattr(one.traits, name) for one in some] for some in (found, drawn))
            assert now == ([now[0]] * 3 if kind in same else then)
    assert {name for names in KINDS.values() for name in names} == set(
        FlaskTraits.__dataclass_fields__
    )


def test_light_is_what_the_empty_frame_shows() -> None:
    light = Light(exposure=0.5, tint=(1.0, 0.5, 0.8), gradient=0.0, vignette=0.0)
    frame = flask(density=1, traits=FlaskTraits(light=light)).field(0)
    levels = np.median(frame.rgb.reshape(-1, 3), axis=0) / 255
    assert levels == pytest.approx([0.5, 0.25, 0.4], abs=0.02)


def test_a_16_bit_camera_shows_the_same_scene() -> None:
    deep = Rig(camera=replace(SMALL.camera, levels_bits=16))
    wide, narrow = (Flask(BOTH, 100, 4, rig=r).field(0).rgb for r in (deep, SMALL))
    assert wide.dtype == np.uint16 and narrow.dtype == np.uint8
    assert np.abs(wide / 257 - narrow.astype(float)).max() <= 1


def test_a_third_type_is_a_value_not_code() -> None:
    long_cells = replace(HT1080, name="fibroblast", aspect_gain=2.0, weights=(0, 1, 0, 0, 0, 0))
    frame = flask(((long_cells, 1.0),), 80).field(0)
    assert {cell.type for cell in frame.truth.cells} == {"fibroblast"}
    assert {cell.phenotype for cell in alive(frame.truth)} == {"spindle"}


# ----------------------------------------------------------------------------------- fluorescence


def test_fluorescent_nuclei_lie_in_the_masks_of_the_labelled_type() -> None:
    frame = flask(BOTH, 100, fluorescence=GREEN).field(0)  # few neighbours cover one
    assert frame.fluorescence is not None
    dx, dy = (round(v) for v in GREEN.shift_px)
    level = np.roll(frame.fluorescence.astype(float), (-dy, -dx), (0, 1))
    soft = cv2.GaussianBlur(level, (0, 0), 1.5)
    dark = float(np.median(soft))
    attached = [c for c in alive(frame.truth) if c.whole]
    peaks = {True: [], False: []}  # type: dict[bool, list[float]]
    for cell in attached:
        peaks[cell.type == GREEN.labelled].append(soft[frame.truth.labels == cell.id].max() - dark)
    assert np.median(peaks[True]) > 5 * np.median(peaks[False])
    bright = soft > dark + 40
    labelled = [c.id for c in frame.truth.cells if c.type == GREEN.labelled]
    inside = np.isin(frame.truth.labels, labelled)
    near = cv2.dilate(inside.astype(np.uint8), np.ones((7, 7), np.uint8)) > 0
    assert bright.any() and (near[bright]).mean() > 0.97


def test_a_nucleus_lies_in_its_cell() -> None:
    hits, n = 0, 0
    truths = [flask(BOTH, 100).field(i).truth for i in range(6)]  # few neighbours cover one
    for truth, cell in [(t, c) for t in truths for c in alive(t)]:
        if cell.whole:
            n += 1
            hits += int(truth.labels[round(cell.nucleus_y_px), round(cell.nucleus_x_px)] == cell.id)
    assert hits >= 0.9 * n  # a neighbour may cover it


# ------------------------------------------------------------------------- the two types, honestly


def features(frame: SimulatedFrame, kind: str) -> list[list[float]]:
    image = gray(frame)
    flat = image / cv2.GaussianBlur(image, (0, 0), 80)
    rows = []
    for cell in alive(frame.truth):
        mask = (frame.truth.labels == cell.id)[cell.window]
        if not cell.whole or cell.type != kind or mask.sum() < 300:
            continue
        part = flat[cell.window]
        outline = max(
            cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)[0],
            key=len,
        )
        (_, (a, b), _) = cv2.minAreaRect(outline)
        hull = cv2.contourArea(cv2.convexHull(outline))
        solid = cv2.contourArea(outline) / hull
        core = cv2.erode(mask.astype(np.uint8), np.ones((9, 9), np.uint8)) > 0
        ring = mask & ~core
        spread = [part[core].std() if core.sum() > 20 else 0.0, part[ring].std()]
        rows.append([np.log(mask.sum()), part[mask].mean(), max(a, b) / min(a, b), solid, *spread])
    return rows


def test_the_types_differ_in_shape_and_texture_but_no_single_number_tells_them() -> None:
    rows: list[list[float]] = []
    kinds: list[int] = []
    for seed in range(4):
        made = Flask(BOTH, 180, 20 + seed, FlaskTraits.draw(np.random.default_rng(seed)), SMALL)
        for i in range(4):
            frame = made.field(i)
            for number, kind in enumerate(("HEK-293A", "HT1080")):
                found = features(frame, kind)
                rows += found
                kinds += [number] * len(found)
    x, y = np.array(rows), np.array(kinds) * 2.0 - 1
    x = (x - x.mean(0)) / x.std(0)
    for column in (0, 1):  # size, brightness: area under the curve of each alone
        order = x[:, column].argsort().argsort()
        n1, n0 = (y > 0).sum(), (y < 0).sum()
        auc = (order[y > 0].sum() - n1 * (n1 - 1) / 2) / (n1 * n0)
        assert 0.28 < auc < 0.72, (column, auc)
    half = np.arange(len(x)) % 2 == 0
    design = np.column_stack([x, x**2, np.ones(len(x))])
    weights = np.linalg.lstsq(design[half], y[half], rcond=None)[0]
    accuracy = float((np.sign(design[~half] @ weights) == y[~half]).mean())
    assert 0.62 < accuracy < 0.97, accuracy


# --------------------------------------------------------------------------------- files and loop


@pytest.mark.parametrize("kind", ["png", "bmp", "tif", "jpg"])
def test_a_saved_frame_is_one_file_in_the_folder_and_its_truth_lies_beside(
    kind: Kind, tmp_path: Path
) -> None:
    frame, folder = mixed_frame(), tmp_path / "watched"
    path = save(frame, folder, "a1", kind)
    assert [p.name for p in folder.iterdir() if p.is_file()] == [f"a1.{kind}"]
    assert [p.name for p in (folder / "fluorescence").iterdir()] == ["a1.png"]
    beside = {p.name for p in truth_folder(folder).iterdir()}
    assert beside == {"a1.truth.json", "a1.labels.png"}
    back = np.asarray(cv2.cvtColor(np.asarray(cv2.imread(str(path))), cv2.COLOR_BGR2RGB))
    gap = np.abs(back.astype(int) - frame.rgb)
    assert gap.mean() < 4 if kind == "jpg" else gap.max() == 0
    truth = read_truth(path)
    assert truth.cells == frame.truth.cells
    assert np.array_equal(truth.labels, frame.truth.labels)


def test_a_16_bit_frame_is_not_squeezed_into_a_format_of_8_bits(tmp_path: Path) -> None:
    frame = replace(mixed_frame(), rgb=mixed_frame().rgb.astype(np.uint16) * 257)
    with pytest.raises(ValueError, match="got a 16 bit frame: use png or tif"):
        save(frame, tmp_path, "deep", "bmp")


def test_a_loop_shows_its_fields_with_fresh_noise_and_true_truth() -> None:
    loop = Loop(flask(density=80), 2, np.random.default_rng(1))
    a, b = loop.frame(0), loop.frame(2)
    assert a.rgb.shape == b.rgb.shape == (560, 720, 3)
    assert not np.array_equal(a.rgb, b.rgb)
    for cell in a.truth.cells:
        ys, xs = np.nonzero(a.truth.labels == cell.id)
        assert (xs.mean(), ys.mean()) == pytest.approx((cell.x_px, cell.y_px))


# --------------------------------------------------------------------------------------- geometry


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(PHENOTYPES),
    st.floats(50, 4000),
    st.floats(1, 6),
    st.integers(0, 2**32 - 1),
)
def test_an_outline_has_the_area_it_was_asked_for_around_its_own_centre(
    shape: object, area_um2: float, aspect: float, seed: int
) -> None:
    outline = draw_outline(shape, area_um2, aspect, np.random.default_rng(seed))  # type: ignore[arg-type]
    area, centroid = area_and_centroid(outline.points_um)
    assert abs(area) == pytest.approx(area_um2)
    assert np.isfinite(outline.points_um).all()
    assert np.abs(centroid).max() < 1e-6 * max(area_um2, 1)
    assert (outline.ruffled >= 0).all() and (outline.ruffled <= 1 + 1e-9).all()
