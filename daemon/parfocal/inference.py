"""The inference child: holds onnxruntime and the model, and is replaced at the first doubt.

A poisoned GPU context answers garbage with no error, so any engine failure, any number that is not
finite and any failed golden question ends this process. The parent starts another, which must
answer the golden question before its first crop. Run as
`python -m parfocal.inference SOCKET_FD ARENA...`.
"""

import sys
import time

import msgspec
import numpy as np

from parfocal.arena import Arena
from parfocal.bundle import BundleError, load
from parfocal.calibrate import Judge
from parfocal.card import ClassifierCard
from parfocal.child import DOUBT_EXIT, serve
from parfocal.classify import Device, DeviceError, InferenceError, OnnxClassifier
from parfocal.phenotypes import Phenotyper
from parfocal.reasons import CellReason


class LoadModel(msgspec.Struct, frozen=True, kw_only=True, tag="load"):
    """First request: which bundle, pinned or not, on which device."""

    bundle: str
    sha256: str | None = None
    device: Device = "auto"
    threads: int = 0


class ClassifySlot(msgspec.Struct, frozen=True, kw_only=True, tag="classify"):
    """Classify the first n crops of a slot; `golden` asks the golden question first."""

    slot: int
    n: int
    golden: bool = False


class Loaded(msgspec.Struct, frozen=True, kw_only=True, tag="loaded"):
    """The model is in and has passed its golden question; card and hash are of this very file."""

    provider: str
    golden_deviation: float
    load_ms: float
    sha256: str
    card: ClassifierCard


class LoadFailed(msgspec.Struct, frozen=True, kw_only=True, tag="load_failed"):
    """The model cannot be used; starting again will not help."""

    detail: str


class Classified(msgspec.Struct, frozen=True, kw_only=True, tag="classified"):
    """n judged cells: probabilities by class, novelty, reason or None, LCA as float16 bytes.

    `phenotypes` has a name for each cell; None for a model that has none.
    """

    probabilities: list[list[float]]
    novelty: list[float]
    reasons: list[CellReason | None]
    lca: bytes
    infer_ms: float
    phenotypes: list[str] | None = None


InferenceRequest = LoadModel | ClassifySlot
InferenceAnswer = Loaded | LoadFailed | Classified


class Inference:
    """Answers requests with the loaded model."""

    def __init__(self, arena: Arena) -> None:
        self.arena = arena
        self.classifier: OnnxClassifier | None = None
        self.judge: Judge | None = None
        self.phenotyper: Phenotyper | None = None

    def __call__(self, request: InferenceRequest) -> InferenceAnswer:
        """Load or classify.

        Raises
        ------
        InferenceError
            This process must not be trusted with another crop.
        """
        if isinstance(request, LoadModel):
            return self._load(request)
        return self._classify(request)

    def _load(self, request: LoadModel) -> Loaded | LoadFailed:
        start = time.perf_counter()
        try:
            bundle = load(request.bundle, request.sha256)
            self.classifier = OnnxClassifier(bundle, request.device, request.threads)
            worst = self.classifier.check_golden()
        except (BundleError, DeviceError, InferenceError) as error:
            return LoadFailed(detail=str(error))
        card = bundle.card
        self.judge = Judge(card)
        self.phenotyper = None
        if card.phenotypes is not None:
            self.phenotyper = Phenotyper(card.phenotypes, card.novelty.d)
        load_ms = (time.perf_counter() - start) * 1e3
        return Loaded(
            provider=self.classifier.provider,
            golden_deviation=worst,
            load_ms=load_ms,
            sha256=bundle.sha256,
            card=card,
        )

    def _classify(self, request: ClassifySlot) -> Classified:
        if self.classifier is None or self.judge is None:
            raise InferenceError("crops came before a model")
        if request.golden:
            self.classifier.check_golden()
        start = time.perf_counter()
        answers = self.classifier(self.arena.crops(request.slot, request.n))
        judged = self.judge(answers.logits, answers.lca)
        phenotypes = None if self.phenotyper is None else self.phenotyper(answers.lca)
        return Classified(
            probabilities=judged.probabilities.tolist(),
            novelty=judged.novelty.tolist(),
            reasons=list(judged.reasons),
            lca=answers.lca.astype(np.float16).tobytes(),
            infer_ms=(time.perf_counter() - start) * 1e3,
            phenotypes=phenotypes,
        )


def main(arguments: list[str]) -> None:
    """Serve until the parent goes away or the engine is in doubt."""
    inference = Inference(Arena.inherited(arguments[1:5]))

    def answer(message: bytes) -> bytes:
        request = msgspec.msgpack.decode(message, type=InferenceRequest)
        try:
            return msgspec.msgpack.encode(inference(request))
        except InferenceError as error:
            print(f"parfocal inference child: {error}", file=sys.stderr, flush=True)
            raise SystemExit(DOUBT_EXIT) from error

    serve(int(arguments[0]), answer)


if __name__ == "__main__":
    main(sys.argv[1:])
