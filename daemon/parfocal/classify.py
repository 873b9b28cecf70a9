"""The ONNX ConvNet on onnxruntime: honest about its device, tested by its golden question."""

import base64
import warnings
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from parfocal.bundle import Bundle
from parfocal.calibrate import from_base64
from parfocal.normalize import normalize

Device = Literal["auto", "cpu", "cuda"]
CUDA, CPU = "CUDAExecutionProvider", "CPUExecutionProvider"

BUCKETS = (1, 8, 32, 64)
"""Batch sizes on a GPU: cuDNN plans each new shape anew, so there are only these."""


class DeviceError(Exception):
    """The device that was asked for cannot be used; the message says what to do."""


class InferenceError(Exception):
    """The network answered nonsense or not at all: the process that holds it must be replaced."""


@dataclass(frozen=True, slots=True, eq=False)
class Answers:
    """What the network says of n crops: logits (n, classes), lca (n, d), both float32."""

    logits: NDArray[np.float32]
    lca: NDArray[np.float32]


class OnnxClassifier:
    """A verified bundle in an onnxruntime session.

    Parameters
    ----------
    bundle : Bundle
    device : "auto", "cpu" or "cuda"
        `cuda` raises `DeviceError` rather than run on the CPU; `auto` takes what there is and
        `provider` says what that was.
    threads : int
        CPU threads of one operator; 0 lets onnxruntime choose.
    """

    def __init__(self, bundle: Bundle, device: Device = "auto", threads: int = 0) -> None:
        self.bundle = bundle
        self.session = session(bundle.data, device, threads)
        self.provider = str(self.session.get_providers()[0])
        if device == "cuda" and self.provider != CUDA:
            raise DeviceError(
                f"device 'cuda' was asked for but the session runs on {self.provider}"
            )
        outputs = [out.name for out in self.session.get_outputs()]
        inputs = [put.name for put in self.session.get_inputs()]
        if inputs[:1] != ["crops"] or outputs[:2] != ["logits", "lca"]:
            raise InferenceError(f"the graph maps {inputs} to {outputs}, not crops to logits, lca")

    def __call__(self, crops: NDArray[np.float32]) -> Answers:
        """Classify normalized crops (n, crop_px, crop_px), float32 levels 0-255.

        On a CPU one crop at a time: its activations then stay in cache, and a batch is slower.

        Raises
        ------
        InferenceError
            The engine failed or answered with a value that is not finite.
        """
        sizes = (1,) if self.provider == CPU else BUCKETS
        parts = [self._batch(crops[at:to], size) for at, to, size in batches(len(crops), sizes)]
        if not parts:
            card = self.bundle.card
            shape = (0, card.novelty.d)
            return Answers(
                np.empty((0, len(card.classes)), np.float32), np.empty(shape, np.float32)
            )
        logits, lca = (np.concatenate(part) for part in zip(*parts, strict=True))
        if not (np.isfinite(logits).all() and np.isfinite(lca).all()):
            raise InferenceError("the network answered with numbers that are not finite")
        return Answers(logits, lca)

    def _batch(self, crops: NDArray[np.float32], size: int) -> tuple[NDArray[np.float32], ...]:
        filled = np.ascontiguousarray(crops[:, None])  # (n, 1, crop_px, crop_px)
        if len(crops) < size:
            filled = np.concatenate(
                [filled, np.zeros((size - len(crops), *filled.shape[1:]), "f4")]
            )
        try:
            answer = self.session.run(["logits", "lca"], {"crops": filled})
        except engine_errors() as error:
            raise InferenceError(f"onnxruntime failed: {first_line(error)}") from error
        return tuple(np.asarray(part, np.float32)[: len(crops)] for part in answer)

    def check_golden(self) -> float:
        """Largest deviation from the stored answer, after asking the stored question.

        Raises
        ------
        InferenceError
            It is larger than the card's tolerance.
        """
        card = self.bundle.card
        golden, side = card.golden, card.crop_px
        raw = np.frombuffer(base64.b64decode(golden.crops), np.uint8).reshape(golden.n, side, side)
        answers = self(normalize(raw, card.prepare.pixels.reference_distribution()))
        wanted = np.concatenate([from_base64(golden.logits), from_base64(golden.lca)])
        got = np.concatenate([answers.logits.ravel(), answers.lca.ravel()])
        if got.shape != wanted.shape:
            raise InferenceError(
                f"the golden answer has {wanted.size} numbers, the model {got.size}"
            )
        worst = float(np.abs(got - wanted).max())
        if worst > golden.tolerance:
            raise InferenceError(
                f"the model answers its own test question wrongly: off by {worst:.2g}, "
                f"allowed {golden.tolerance:.2g}"
            )
        return worst


def batches(n: int, sizes: tuple[int, ...]) -> list[tuple[int, int, int]]:
    """(from, to, batch size) covering n items with the given sizes, the last one padded."""
    out, at = [], 0
    while at < n:
        left = n - at
        size = next((s for s in sizes if s >= left), sizes[-1])
        fitting = [s for s in sizes if s <= left]
        if size > left and fitting and size > 2 * left:  # less padding: take a full smaller batch
            size = fitting[-1]
        out.append((at, min(at + size, n), size))
        at += size
    return out


def session(data: bytes, device: Device, threads: int) -> Any:
    """An onnxruntime session of a model's bytes.

    Raises
    ------
    DeviceError
        The device cannot be used.
    InferenceError
        The model cannot be loaded.
    """
    ort = onnxruntime()
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    providers: list[Any] = [CPU]
    has_cuda = CUDA in ort.get_available_providers()
    if device == "cuda" and not has_cuda:
        raise DeviceError(
            "device 'cuda' was asked for but this onnxruntime has no CUDA: install the extra 'gpu' "
            "instead of 'cpu', or set model.device to 'auto' or 'cpu'"
        )
    if device != "cpu" and has_cuda:
        ort.preload_dlls()
        settings = {
            "cudnn_conv_algo_search": "HEURISTIC",
            "arena_extend_strategy": "kSameAsRequested",
        }
        providers = [(CUDA, settings)] + ([CPU] if device == "auto" else [])
    if device == "cuda":
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # the provider is checked, not warned of
            return ort.InferenceSession(data, options, providers=providers)
    except engine_errors() as error:
        if device == "cuda":
            raise DeviceError(f"CUDA cannot be used: {first_line(error)}") from error
        raise InferenceError(f"onnxruntime cannot load the model: {first_line(error)}") from error


def onnxruntime() -> Any:
    """The onnxruntime module.

    Raises
    ------
    DeviceError
        Neither the extra `cpu` nor `gpu` is installed.
    """
    try:
        import onnxruntime as ort
    except ImportError as error:
        raise DeviceError(
            "onnxruntime is not installed: pip install 'parfocal[cpu]' or 'parfocal[gpu]'"
        ) from error
    ort.disable_telemetry_events()  # an instrument reports to its own laboratory only
    return ort


def engine_errors() -> tuple[type[Exception], ...]:
    """What onnxruntime raises."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    names = "Fail InvalidArgument InvalidGraph InvalidProtobuf NoSuchFile NotImplemented EPFail"
    known = [getattr(state, n) for n in (*names.split(), "RuntimeException", "EngineError")]
    return (RuntimeError, ValueError, *known)


def first_line(error: Exception) -> str:
    """The first line of an error's text."""
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
