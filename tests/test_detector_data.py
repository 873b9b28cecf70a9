"""Truth that people edit, read back: label images, COCO outlines, centres; and what is wrong."""

import json
import tempfile
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from fields import drawn_field, save_fields
from hypothesis import given, settings
from hypothesis import strategies as st

from parfocal.coco import Coco
from parfocal.fieldview import ViewRules
from parfocal_training.detector import masks
from parfocal_training.detector.cutouts import outlined
from parfocal_training.detector.fields import UNKNOWN, field_of
from parfocal_training.detector.material import Material, digest_of, read_material
from parfocal_training.detector.sources import Crops, Fields, read_sources
from parfocal_training.errors import DataError

VIEW = ViewRules()


def material(path: Path) -> Material:
    *_, (_, made) = read_material(read_sources(path), VIEW)
    return made


def sources_file(folder: Path, text: str) -> Path:
    path = folder / "sources.toml"
    path.write_text(text)
    return path


@pytest.mark.parametrize("beside", [True, False])
def test_a_folder_of_images_and_masks_is_a_source(tmp_path: Path, beside: bool) -> None:
    folder = save_fields(tmp_path / "data", 2, beside)
    path = sources_file(tmp_path, '[[source]]\nimages = "data"\num_per_px = 0.8\n')
    made = material(path)
    assert [one.name for one in made.every()] == ["field-0", "field-1"]
    for k, one in enumerate(made.every()):
        _, labels = drawn_field(k)
        assert one.labels.max() == labels.max() == 9
        assert one.labels.shape == one.contrast.shape == (192, 192)
        assert (one.other == UNKNOWN).all() and one.known.all() and one.inner.all()
    assert len(made.sha256s) == 2 and len(digest_of(made)) == 64
    assert folder.is_dir()


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000))
def test_outlines_of_a_coco_file_are_the_labels_they_came_from(seed: int) -> None:
    _, labels = drawn_field(seed)
    coco = Coco("test")
    coco.add("somewhere/a.png", bytes(cv2.imencode(".png", labels)[1]))
    with tempfile.NamedTemporaryFile(suffix=".json") as file:
        file.write(coco.json())
        file.flush()
        read = masks.read_coco(Path(file.name))["a"]
    assert ((read > 0) == (labels > 0)).mean() > 0.999
    for label in np.unique(labels[labels > 0]):
        own = read[labels == label]
        assert (own == np.bincount(own).argmax()).mean() > 0.99


def test_a_coco_file_is_a_truth(tmp_path: Path) -> None:
    frame, labels = drawn_field(3)
    (tmp_path / "images").mkdir()
    cv2.imwrite(str(tmp_path / "images" / "a.png"), frame)
    coco = Coco("test")
    coco.add("a.png", bytes(cv2.imencode(".png", labels)[1]))
    (tmp_path / "truth.json").write_bytes(coco.json())
    text = '[[source]]\nimages = "images"\ntruth = "truth.json"\num_per_px = 1.0\n'
    (one,) = material(sources_file(tmp_path, text)).every()
    assert one.labels.max() == 9


def test_centres_are_a_truth_that_leaves_doubt(tmp_path: Path) -> None:
    frame, _ = drawn_field(3)
    (tmp_path / "images").mkdir()
    cv2.imwrite(str(tmp_path / "images" / "a.png"), frame)
    (tmp_path / "points.csv").write_text("image,x_px,y_px\na.png,40,40\na.png,200,100\n")
    text = ('[[source]]\nimages = "images"\ntruth = "points.csv"\nsays = "points"\n'
            "um_per_px = 1.0\n")  # fmt: skip
    (one,) = material(sources_file(tmp_path, text)).every()
    assert one.labels.max() == 2 and one.labels[40, 40] == 1 and one.labels[100, 200] == 2
    assert not one.known[40, 50] and one.known[40, 40] and one.known[200, 40]


def test_a_component_too_large_for_one_cell_teaches_no_middle() -> None:
    frame, drawn = drawn_field(1)
    labels = drawn.astype(np.int32)
    labels[labels <= 3] = np.where(labels[labels <= 3] > 0, 1, 0)
    one = field_of(frame, labels, 1.0, VIEW, "foreground", single_um2=3000)
    assert not one.inner[one.labels == 1].any() and one.inner[one.labels == 5].all()
    assert one.known.all()


def test_a_table_tells_groups_and_scales(tmp_path: Path) -> None:
    save_fields(tmp_path / "data", 3)
    (tmp_path / "t.csv").write_text("image,group,um_per_px\nfield-0,g,1.0\nfield-1.png,g,2.0\n")
    text = '[[source]]\nimages = "data"\num_per_px = 0.5\ntable = "t.csv"\n'
    fields = material(sources_file(tmp_path, text)).every()
    assert [one.group for one in fields] == ["g", "g", "field-2"]
    assert [one.labels.shape[0] for one in fields] == [240, 480, 120]


def test_crops_give_cells_in_groups(tmp_path: Path) -> None:
    (tmp_path / "crops" / "A").mkdir(parents=True)
    frame, labels = drawn_field(0, 224)
    for k in range(3):
        quiet = np.where(labels == 5, frame, 140).astype(np.uint8)
        cv2.imwrite(str(tmp_path / "crops" / "A" / f"x-00000{k // 2}.j-{k}.png"), quiet)
    text = ('[[source]]\nkind = "crops"\nimages = "crops"\num_per_px = 0.44\n'
            '[[source]]\nkind = "composed"\n')  # fmt: skip
    made = material(sources_file(tmp_path, text))
    groups = [group for group, _ in made.cutouts]
    assert groups == ["A|x-000000", "A|x-000000", "A|x-000001"]
    assert all(cell.mask.any() and cell.mask.shape == cell.contrast.shape
               for _, cell in made.cutouts)  # fmt: skip
    assert made.backgrounds and not made.simulated
    assert len(made.without(frozenset({"A|x-000000"})).cutouts) == 1


def test_an_empty_crop_has_no_outline() -> None:
    assert outlined(np.zeros((99, 99), np.float32)) is None


FAULTS = [
    pytest.param(lambda d: (d / "field-0_masks.png").unlink(), "has no truth", id="no mask"),
    pytest.param(
        lambda d: cv2.imwrite(str(d / "field-0_masks.png"), np.zeros((9, 9), np.uint8)),
        "9x9 px, its image 240x240", id="another size",
    ),
    pytest.param(
        lambda d: cv2.imwrite(str(d / "field-0_masks.png"), np.zeros((240, 240, 3), np.uint8)),
        "3 channels", id="a picture of masks",
    ),
    pytest.param(
        lambda d: (d / "field-0_masks.png").write_bytes(b"x"), "cannot be read as a label",
        id="no image",
    ),
    pytest.param(lambda d: (d / "field-0.png").write_bytes(b"GIF89a"), "not_an_image",
                 id="an unreadable image"),
]  # fmt: skip


@pytest.mark.parametrize(("spoil", "text"), FAULTS)
def test_a_fault_of_the_truth_is_named(
    tmp_path: Path, spoil: Callable[[Path], object], text: str
) -> None:
    spoil(save_fields(tmp_path / "data", 1))
    path = sources_file(tmp_path, '[[source]]\nimages = "data"\num_per_px = 0.8\n')
    with pytest.raises(DataError, match=text):
        material(path)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("[[source", "is not a TOML file"),
        ("", "cannot be used"),
        ('[[source]]\nimages = "x"\nweight = -1', "weight"),
        ('[[source]]\nkind = "holiday"', "holiday"),
        ('[[source]]\nimages = "x"\ncolour = 3', "colour"),
        ('[[source]]\nkind = "crops"\nimages = "x"\num_per_px = 0.4', "no source with a weight"),
        ('[[source]]\nimages = "nowhere"\num_per_px = 0.4', "there is no folder"),
        ('[[source]]\nimages = "."\num_per_px = 0.4', "holds no TIFF"),
    ],
)
def test_a_fault_of_the_sources_is_named(tmp_path: Path, text: str, why: str) -> None:
    with pytest.raises(DataError, match=why):
        material(sources_file(tmp_path, text))


def test_no_sources_at_all(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no sources file and no folder"):
        read_sources(tmp_path / "none")
    assert read_sources(tmp_path).source == (Fields(images="."),)
    assert Crops(images="x", um_per_px=1.0).group_regex


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"{}", "is no COCO file"),
        (json.dumps({"images": [], "annotations": [{"image_id": 1}]}).encode(), "which it lacks"),
        (json.dumps({"images": [{"id": 1, "file_name": "a", "width": 3, "height": 3}],
                     "annotations": [{"image_id": 1, "segmentation": {"counts": []}}]}).encode(),
         "polygon outlines"),
    ],
    ids=["another file", "a stranger", "run lengths"],
)  # fmt: skip
def test_a_fault_of_a_coco_file_is_named(tmp_path: Path, data: bytes, why: str) -> None:
    (tmp_path / "a.json").write_bytes(data)
    with pytest.raises(DataError, match=why):
        masks.read_coco(tmp_path / "a.json")


def test_labels_of_any_numbers_become_dense(tmp_path: Path) -> None:
    odd = np.zeros((20, 20), np.float32)
    odd[2:5, 2:5], odd[10:15, 10:15] = 7, 70000
    cv2.imwrite(str(tmp_path / "a.tif"), odd)
    assert np.unique(masks.read_labels(tmp_path / "a.tif", (20, 20))).tolist() == [0, 1, 2]
