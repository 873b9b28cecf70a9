"""A bundle is read from its bytes, and refused with a reason before the first frame."""

import base64
import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import AttributeProto, TensorProto, helper
from rigs import card_text, save_model, tiny_card, tiny_graph, tiny_weights

from parfocal.bundle import MAX_BYTES, BundleError, load, locate
from parfocal.calibrate import to_base64
from parfocal.onnxfile import MAX_DEPTH, NotOnnxError, fields, summarize

WEIGHTS = tiny_weights()
CARD: dict[str, Any] = json.loads(card_text(tiny_card(WEIGHTS)))
GRAPH = tiny_graph(WEIGHTS)


def model_of(graph: onnx.GraphProto, domains: tuple[str, ...] = ("",)) -> onnx.ModelProto:
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid(d, 18) for d in domains])
    helper.set_model_props(model, {"parfocal": json.dumps(CARD)})
    return model


def tiny_copy() -> onnx.GraphProto:
    copy = onnx.GraphProto()
    copy.CopyFrom(GRAPH)
    return copy


def outside() -> TensorProto:
    """A tensor whose data lies in another file."""
    tensor = TensorProto(name="far", data_type=TensorProto.FLOAT, dims=[1])
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")
    return tensor


def in_initializer() -> onnx.ModelProto:
    graph = tiny_copy()
    graph.initializer.append(outside())
    return model_of(graph)


def in_sparse_initializer() -> onnx.ModelProto:
    graph = tiny_copy()
    graph.sparse_initializer.add(values=outside(), dims=[1])
    return model_of(graph)


def in_attribute(attribute: AttributeProto) -> onnx.ModelProto:
    graph = tiny_copy()
    graph.node.add(op_type="Constant", output=["x"]).attribute.append(attribute)
    return model_of(graph)


def in_subgraph() -> onnx.ModelProto:
    inner = onnx.GraphProto(name="inner", initializer=[outside()])
    return in_attribute(AttributeProto(name="then", g=inner, type=AttributeProto.GRAPH))


def in_list_of_subgraphs() -> onnx.ModelProto:
    inner = onnx.GraphProto(name="inner", initializer=[outside()])
    return in_attribute(AttributeProto(name="all", graphs=[inner], type=AttributeProto.GRAPHS))


def in_function() -> onnx.ModelProto:
    model = model_of(tiny_copy())
    function = model.functions.add(name="f")
    function.attribute_proto.add(name="value", t=outside(), type=AttributeProto.TENSOR)
    return model


def in_training() -> onnx.ModelProto:
    model = model_of(tiny_copy())
    model.training_info.add().algorithm.initializer.append(outside())
    return model


def only_location() -> onnx.ModelProto:
    graph = tiny_copy()
    graph.initializer.add(name="far", data_location=TensorProto.EXTERNAL)
    return model_of(graph)


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(in_initializer, id="in an initializer"),
        pytest.param(in_sparse_initializer, id="in a sparse initializer"),
        pytest.param(
            lambda: in_attribute(
                AttributeProto(name="value", t=outside(), type=AttributeProto.TENSOR)
            ),
            id="in a constant",
        ),
        pytest.param(
            lambda: in_attribute(
                AttributeProto(name="v", tensors=[outside()], type=AttributeProto.TENSORS)
            ),
            id="in a list of constants",
        ),
        pytest.param(
            lambda: in_attribute(
                AttributeProto(
                    name="v",
                    sparse_tensor=onnx.SparseTensorProto(values=outside()),
                    type=AttributeProto.SPARSE_TENSOR,
                )
            ),
            id="in a sparse constant",
        ),
        pytest.param(in_subgraph, id="in the graph of a branch"),
        pytest.param(in_list_of_subgraphs, id="in a list of graphs"),
        pytest.param(in_function, id="in the default of a function"),
        pytest.param(in_training, id="in the training part"),
        pytest.param(only_location, id="declared without a place"),
    ],
)
def test_data_in_another_file_is_refused_wherever_it_hides(
    make: Callable[[], onnx.ModelProto], tmp_path: Path
) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(make().SerializeToString())
    with pytest.raises(BundleError, match="keeps tensors in other files"):
        load(str(path))


def custom_in_branch() -> onnx.ModelProto:
    node = helper.make_node("Evil", [], ["y"], domain="evil.ops")
    inner = helper.make_graph([node], "inner", [], [])
    return in_attribute(AttributeProto(name="then", g=inner, type=AttributeProto.GRAPH))


def custom_in_function() -> onnx.ModelProto:
    model = model_of(tiny_copy())
    model.functions.add(name="f").node.append(helper.make_node("E", [], [], domain="evil.ops"))
    return model


def custom_imported() -> onnx.ModelProto:
    return model_of(tiny_copy(), ("", "evil.ops"))


def custom_imported_by_function() -> onnx.ModelProto:
    model = model_of(tiny_copy())
    model.functions.add(name="f").opset_import.append(helper.make_opsetid("evil.ops", 1))
    return model


@pytest.mark.parametrize(
    "make", [custom_in_branch, custom_in_function, custom_imported, custom_imported_by_function]
)
def test_operators_outside_the_standard_are_refused_and_named(
    make: Callable[[], onnx.ModelProto], tmp_path: Path
) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(make().SerializeToString())
    with pytest.raises(BundleError, match=r"evil\.ops"):
        load(str(path))


def test_a_field_number_that_others_would_cut_to_32_bits_is_no_onnx(tiny_bundle: Path) -> None:
    # protobuf's C++ reader keeps 32 bits of a tag: field 13 + 2**29 would be external_data to it
    key = ((13 | 1 << 29) << 3) | 2
    tag = bytes([(key >> 7 * i & 0x7F) | (0x80 if i < 4 else 0) for i in range(5)])
    with pytest.raises(NotOnnxError, match="no field"):
        list(fields(memoryview(tag + b"\x00")))


def test_an_external_location_beyond_32_bits_is_seen() -> None:
    location = 1 | 1 << 32
    value = bytes([(location >> 7 * i & 0x7F) | (0x80 if i < 4 else 0) for i in range(5)])
    tensor = b"\x70" + value  # field 14, varint
    graph = b"\x2a" + bytes([len(tensor)]) + tensor  # initializer
    assert summarize(b"\x3a" + bytes([len(graph)]) + graph).external_data


def test_graphs_nested_beyond_measure_are_no_onnx() -> None:
    def nest(depth: int) -> bytes:
        graph = onnx.GraphProto(name="g")
        for _ in range(depth):
            node = onnx.NodeProto(op_type="If")
            node.attribute.add(name="then", g=graph, type=AttributeProto.GRAPH)
            graph = onnx.GraphProto(name="g", node=[node])
        return bytes(onnx.ModelProto(graph=graph).SerializeToString())

    assert summarize(nest(MAX_DEPTH - 1)).domains == {""}
    with pytest.raises(NotOnnxError, match="nested"):
        summarize(nest(MAX_DEPTH))
    deep = b""
    for _ in range(400):
        deep = _field(1, _field(5, _field(6, deep)))  # a graph's node's attribute's graph
    with pytest.raises(NotOnnxError, match="nested"):
        summarize(_field(7, deep))


def _field(number: int, data: bytes) -> bytes:
    size, length = len(data), b""
    while size > 127:
        length, size = length + bytes([size & 127 | 128]), size >> 7
    return bytes([number << 3 | 2]) + length + bytes([size]) + data


def read(data: bytes) -> None:
    try:
        summarize(data)
    except NotOnnxError:
        return


@given(st.binary(max_size=300))
def test_arbitrary_bytes_raise_nothing_but_not_onnx(data: bytes) -> None:
    read(data)


SMALL = helper.make_model(
    helper.make_graph(
        [helper.make_node("If", ["c"], ["y"], then_branch=tiny_graph(WEIGHTS[:, :1]))], "g", [], []
    )
).SerializeToString()


@settings(max_examples=300)
@given(
    st.lists(
        st.tuples(st.integers(0, len(SMALL) - 1), st.integers(0, 255)), min_size=1, max_size=8
    ),
    st.integers(0, len(SMALL)),
)
def test_a_mutated_model_raises_nothing_but_not_onnx(
    changes: list[tuple[int, int]], end: int
) -> None:
    data = bytearray(SMALL)
    for at, value in changes:
        data[at] = value
    read(bytes(data))
    read(bytes(data[:end]))


@given(st.dictionaries(st.text(), st.text(), max_size=5))
def test_metadata_is_read_as_onnx_wrote_it(properties: dict[str, str]) -> None:
    model = helper.make_model(helper.make_graph([], "g", [], []))
    helper.set_model_props(model, properties)
    summary = summarize(model.SerializeToString())
    assert summary.metadata == properties
    assert not summary.external_data


def test_a_good_bundle_loads_with_its_bytes_and_card(tiny_bundle: Path) -> None:
    digest = hashlib.sha256(tiny_bundle.read_bytes()).hexdigest()
    bundle = load(str(tiny_bundle), digest.upper())
    assert (bundle.card.name, bundle.sha256) == ("tiny", digest)
    assert bundle.data == tiny_bundle.read_bytes()


def save(path: Path, card: str | None) -> Path:
    return save_model(path, GRAPH, card)


def changed(**changes: Any) -> str:
    """The card with values replaced; `a__b` is the key b of the table a."""
    card = json.loads(json.dumps(CARD))
    for key, value in changes.items():
        *tables, name = key.split("__")
        place = card
        for table in tables:
            place = place[table]
        place[name] = value
    return json.dumps(card)


ONE_NAN = to_base64(np.full((2, 9), np.nan, np.float32))

REFUSALS: list[Any] = [
    pytest.param(None, "carries no parfocal card", id="no card"),
    pytest.param("{}", "does not follow parfocal.model/1", id="an empty card"),
    pytest.param("{", "does not follow", id="half a card"),
    pytest.param('{"kind":"classifier","x":' + "[" * 9000, "does not follow", id="a deep card"),
    pytest.param(changed(schema="parfocal.model/2"), "does not follow", id="another schema"),
    pytest.param(changed(kind="detector"), "does not follow", id="another kind"),
    pytest.param(changed(prepare__fingerprint="0" * 64), "prepared in another way", id="pixels"),
    pytest.param(changed(classes=["alpha", "alpha"]), "two different classes", id="one class"),
    pytest.param(changed(classes=["a", "b", "c"]), "golden.logits has 4", id="too many classes"),
    pytest.param(changed(calibration__temperature=0), "temperature is 0", id="no temperature"),
    pytest.param(changed(golden__n=3), "golden.crops has", id="golden crops missing"),
    pytest.param(changed(golden__n=0), "nothing is checked", id="no golden question"),
    pytest.param(changed(golden__lca="AAAA"), "contradicts itself", id="a short golden answer"),
    pytest.param(changed(novelty__d=8), "golden.lca has 18", id="another number of activations"),
    pytest.param(changed(novelty__scores=[]), "nothing is checked", id="no novelty scores"),
    pytest.param(changed(novelty__mean=ONE_NAN), "not finite", id="NaN in the class means"),
    pytest.param(changed(novelty__mean="#"), "contradicts itself", id="no base64"),
]


@pytest.mark.parametrize(("card", "why"), REFUSALS)
def test_a_card_that_cannot_be_trusted_is_refused(
    card: str | None, why: str, tmp_path: Path
) -> None:
    with pytest.raises(BundleError, match=why):
        load(str(save(tmp_path / "m.onnx", card)))


@pytest.mark.parametrize(
    ("rules", "why"),
    [
        ({"crop_px": 128}, "crops of 128 px"),
        ({"um_per_px": 0.0}, "um_per_px is 0"),
        ({"reference": (1,) * 256}, "distribution of one crop"),
        ({"reference": (-1, 224 * 224 + 1) + (0,) * 254}, "distribution of one crop"),
        ({"reference": (10**30,)}, "distribution of one crop"),
        ({"reference": (224 * 224,)}, "256 counts"),
    ],
    ids=["crop size", "scale", "pixels of the reference", "negative", "huge", "levels"],
)
def test_pixel_rules_that_this_version_cannot_follow_are_refused(
    rules: dict[str, Any], why: str, tmp_path: Path
) -> None:
    card = tiny_card(WEIGHTS)
    pixels = msgspec.structs.replace(card.prepare.pixels, **rules)
    prepare = msgspec.structs.replace(card.prepare, pixels=pixels, fingerprint=_fingerprint(pixels))
    text = card_text(msgspec.structs.replace(card, prepare=prepare))
    with pytest.raises(BundleError, match=why):
        load(str(save(tmp_path / "m.onnx", text)))


def _fingerprint(pixels: Any) -> str:
    return hashlib.sha256(msgspec.json.encode(pixels, order="sorted")).hexdigest()


def sparse_giant(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(MAX_BYTES + 1)


@pytest.mark.parametrize(
    ("make", "why"),
    [
        pytest.param(lambda p: None, "neither an existing file", id="missing"),
        pytest.param(lambda p: p.mkdir(), "neither an existing file", id="a folder"),
        pytest.param(os.mkfifo, "neither an existing file", id="a pipe"),
        pytest.param(lambda p: p.symlink_to("/dev/zero"), "neither an existing", id="a device"),
        pytest.param(lambda p: p.write_bytes(b""), "not a complete ONNX file", id="empty"),
        pytest.param(lambda p: p.write_bytes(b"GIF89a" * 99), "not a complete", id="garbage"),
        pytest.param(sparse_giant, "more than the", id="more than 512 MB"),
    ],
)
def test_what_is_no_model_file_is_refused(
    make: Callable[[Path], object], why: str, tmp_path: Path
) -> None:
    path = tmp_path / "m.onnx"
    make(path)
    with pytest.raises(BundleError, match=why):
        load(str(path))


def test_every_truncation_is_refused(tiny_bundle: Path, tmp_path: Path) -> None:
    data, path = tiny_bundle.read_bytes(), tmp_path / "m.onnx"
    for end in range(0, len(data), max(1, len(data) // 40)):
        path.write_bytes(data[:end])
        with pytest.raises(BundleError):
            load(str(path))


def test_another_hash_than_the_pinned_one_is_refused(tiny_bundle: Path) -> None:
    with pytest.raises(BundleError, match="the configuration pins"):
        load(str(tiny_bundle), "0" * 64)


def test_a_name_too_long_to_be_a_file_is_not_found() -> None:
    with pytest.raises(BundleError, match="no model"):
        locate("x" * 5000)


def test_a_hard_link_is_the_same_model(tiny_bundle: Path, tmp_path: Path) -> None:
    os.link(tiny_bundle, tmp_path / "link.onnx")
    assert load(str(tmp_path / "link.onnx")).sha256 == load(str(tiny_bundle)).sha256


def test_the_golden_crops_are_in_the_card() -> None:
    assert len(base64.b64decode(CARD["golden"]["crops"])) == 2 * 224 * 224
