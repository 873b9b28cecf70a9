"""The inference child answers what the model says, and ends at the first doubt."""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import pytest
from onnx import helper
from rigs import card_text, save_model, tiny_card, tiny_graph, tiny_weights

from parfocal.arena import Arena, ArenaShape
from parfocal.bundle import load
from parfocal.calibrate import to_base64
from parfocal.child import Child, ChildError
from parfocal.classify import DeviceError, InferenceError, OnnxClassifier
from parfocal.inference import (
    Classified,
    ClassifySlot,
    Inference,
    InferenceAnswer,
    InferenceRequest,
    Loaded,
    LoadFailed,
    LoadModel,
)

WEIGHTS = tiny_weights()
SHAPE = ArenaShape(slots=2, max_cells=8)


@pytest.fixture
def arena() -> Iterator[Arena]:
    with closing(Arena.create(SHAPE)) as made:
        yield made


Ask = Callable[[InferenceRequest], InferenceAnswer]


@pytest.fixture
def ask(arena: Arena) -> Iterator[Ask]:
    child = Child("parfocal.inference", SHAPE.as_arguments(arena.fd), (arena.fd,), "inference")

    def asked(request: InferenceRequest) -> InferenceAnswer:
        answer = child.ask(msgspec.msgpack.encode(request), 50)
        decoded: InferenceAnswer = msgspec.msgpack.decode(answer, type=InferenceAnswer)
        return decoded

    yield asked
    child.close()


def loading(bundle: Path, **more: Any) -> LoadModel:
    return LoadModel(bundle=str(bundle), device="cpu", threads=1, **more)


def fill(arena: Arena, slot: int, n: int) -> None:
    arena.crops(slot, n)[...] = np.random.default_rng(slot).uniform(0, 255, (n, 224, 224))


def with_graph(path: Path, edit: Callable[[onnx.GraphProto], object]) -> Path:
    graph = tiny_graph(WEIGHTS)
    edit(graph)
    return save_model(path, graph, card_text(tiny_card(WEIGHTS)))


def root_of_the_difference(graph: onnx.GraphProto) -> None:
    """Logits that are NaN for a crop whose middle is dark, and right for every other."""
    for node in graph.node:
        if node.output[0] == "logits":
            node.output[0] = "plain"
    zero = onnx.numpy_helper.from_array(np.zeros((), np.float32), "zero")
    top = onnx.numpy_helper.from_array(np.array(1, np.int64), "axis")
    middle = onnx.numpy_helper.from_array(np.array([4], np.int64), "middle")
    bound = onnx.numpy_helper.from_array(np.array(20, np.float32), "bound")
    graph.initializer.extend([zero, top, middle, bound])
    graph.node.extend([
        helper.make_node("Gather", ["lca", "middle"], ["grey"], axis=1),
        helper.make_node("Sub", ["grey", "bound"], ["above"]),
        helper.make_node("Sqrt", ["above"], ["root"]),  # NaN below
        helper.make_node("Mul", ["root", "zero"], ["nothing"]),
        helper.make_node("Add", ["plain", "nothing"], ["logits"]),
    ])  # fmt: skip


def test_the_child_answers_as_the_network_does(ask: Ask, arena: Arena, tiny_bundle: Path) -> None:
    loaded = ask(loading(tiny_bundle))
    assert isinstance(loaded, Loaded)
    assert loaded.provider == "CPUExecutionProvider" and loaded.golden_deviation < 0.01
    fill(arena, 1, 5)
    answer = ask(ClassifySlot(slot=1, n=5, golden=True))
    assert isinstance(answer, Classified)
    wanted = OnnxClassifier(load(str(tiny_bundle)), "cpu", 1)(arena.crops(1, 5))
    np.testing.assert_array_equal(
        np.frombuffer(answer.lca, np.float16).reshape(5, 9), wanted.lca.astype(np.float16)
    )
    assert np.array(answer.probabilities).argmax(1).tolist() == wanted.logits.argmax(1).tolist()
    assert len(answer.novelty) == len(answer.reasons) == 5


def test_a_frame_without_cells_has_no_answers(ask: Ask, tiny_bundle: Path) -> None:
    ask(loading(tiny_bundle))
    answer = ask(ClassifySlot(slot=0, n=0))
    assert isinstance(answer, Classified)
    assert (answer.probabilities, answer.novelty, answer.lca) == ([], [], b"")


def wrong_golden(path: Path) -> Path:
    card = tiny_card(WEIGHTS)
    golden = msgspec.structs.replace(card.golden, logits=to_base64(np.ones((2, 2), np.float32)))
    text = card_text(msgspec.structs.replace(card, golden=golden))
    return save_model(path, tiny_graph(WEIGHTS), text)


def swapped_outputs(graph: onnx.GraphProto) -> None:
    outputs = list(graph.output)[::-1]
    del graph.output[:]
    graph.output.extend(outputs)


def unknown_operator(graph: onnx.GraphProto) -> None:
    graph.node.append(helper.make_node("NoSuchOperator", ["lca"], ["more"]))


@pytest.mark.parametrize(
    ("make", "why"),
    [
        pytest.param(lambda p: p, "no model", id="missing"),
        pytest.param(wrong_golden, "its own test question wrongly", id="a wrong golden answer"),
        pytest.param(
            lambda p: with_graph(p, swapped_outputs), "not crops to logits, lca", id="swapped"
        ),
        pytest.param(
            lambda p: with_graph(p, unknown_operator), "cannot load the model", id="operators"
        ),
    ],
)
def test_a_model_that_cannot_be_used_is_told_and_not_retried(
    make: Callable[[Path], Path], why: str, tmp_path: Path
) -> None:
    arena = Arena.create(SHAPE)
    answer = Inference(arena)(loading(make(tmp_path / "m.onnx")))
    arena.close()
    assert isinstance(answer, LoadFailed) and why in answer.detail


def test_a_device_that_is_not_there_is_never_replaced(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import onnxruntime

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(DeviceError, match="has no CUDA"):
        OnnxClassifier(load(str(tiny_bundle)), "cuda")
    assert OnnxClassifier(load(str(tiny_bundle)), "auto").provider == "CPUExecutionProvider"


@pytest.mark.parametrize(
    ("slot", "n", "dark", "status"),
    [
        pytest.param(0, 3, True, 70, id="an answer that is no number"),
        pytest.param(7, 1, False, 1, id="a slot that is not there"),
    ],
)
def test_a_doubt_ends_the_process(
    slot: int, n: int, dark: bool, status: int, ask: Ask, arena: Arena, tmp_path: Path
) -> None:
    assert isinstance(ask(loading(with_graph(tmp_path / "m.onnx", root_of_the_difference))), Loaded)
    fill(arena, 0, 3)
    if dark:
        arena.crops(0, 3)[1] = 0
    with pytest.raises(ChildError, match=f"exit status {status}"):
        ask(ClassifySlot(slot=slot, n=n))


def test_crops_before_a_model_are_a_fault() -> None:
    arena = Arena.create(SHAPE)
    with pytest.raises(InferenceError, match="before a model"):
        Inference(arena)(ClassifySlot(slot=0, n=1))
    arena.close()


def test_a_request_that_is_no_request_ends_the_process(
    arena: Arena, capfd: pytest.CaptureFixture[str]
) -> None:
    child = Child("parfocal.inference", SHAPE.as_arguments(arena.fd), (arena.fd,))
    with pytest.raises(ChildError, match="died"):
        child.ask(json.dumps({"op": "x"}).encode(), 30)
    capfd.readouterr()


# --------------------------------------------------------------------------------------- arena


@pytest.mark.parametrize(("slot", "n"), [(-1, 0), (2, 0), (0, -1), (0, 9)])
def test_crops_beyond_the_arena_are_refused(slot: int, n: int, arena: Arena) -> None:
    with pytest.raises(ValueError, match="no slot"):
        arena.crops(slot, n)


def test_slots_do_not_overlap(arena: Arena) -> None:
    for slot in range(2):
        arena.crops(slot, 8)[...] = slot + 1
    assert [float(arena.crops(slot, 8).min()) for slot in (0, 1)] == [1, 2]
    assert [float(arena.crops(slot, 8).max()) for slot in (0, 1)] == [1, 2]
    assert arena.crops(0, 0).shape == (0, 224, 224)


def test_the_same_memory_is_seen_through_another_mapping(arena: Arena) -> None:
    arguments = list(SHAPE.as_arguments(os.dup(arena.fd)))
    with closing(Arena.inherited(arguments)) as other:
        arena.crops(1, 2)[1, 3, 4] = 7
        assert other.shape == SHAPE
        assert float(other.crops(1, 2)[1, 3, 4]) == 7


def test_the_arena_leaves_no_descriptor() -> None:
    before = len(os.listdir("/proc/self/fd"))
    Arena.create(SHAPE).close()
    assert len(os.listdir("/proc/self/fd")) == before
