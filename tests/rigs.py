"""A real rig for tests: the daemon in its own process, with a model that answers at once."""

import base64
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import msgspec
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from parfocal.bench import drawn_frame
from parfocal.calibrate import to_base64
from parfocal.card import (
    Abstention,
    Calibration,
    ClassifierCard,
    DetectorRules,
    Golden,
    Novelty,
    PrepareCard,
    Training,
)
from parfocal.normalize import Reference, normalize
from parfocal.prepare import PixelRules, to_gray

if TYPE_CHECKING:
    from parfocal_training.evaluate import Measured

CLASSES = ("alpha", "beta")
LCA_SIZE = 9


def rules() -> PixelRules:
    """Pixel rules with a bell-shaped reference."""
    levels = np.random.default_rng(0).normal(160, 12, 224 * 224).clip(0, 255).astype(np.uint8)
    reference = Reference.of(levels.reshape(224, 224))
    return PixelRules(um_per_px=0.44, reference=tuple(reference.counts.tolist()))


def tiny_graph(weights: np.ndarray[Any, Any]) -> onnx.GraphProto:
    """Mean grey of a 3x3 grid, then a linear layer: crops -> logits (n, 2), lca (n, 9)."""
    crops = helper.make_tensor_value_info("crops", TensorProto.FLOAT, ["n", 1, 224, 224])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 2])
    lca = helper.make_tensor_value_info("lca", TensorProto.FLOAT, ["n", LCA_SIZE])
    nodes = [
        helper.make_node("AveragePool", ["crops"], ["pooled"], kernel_shape=[74, 74],
                         strides=[74, 74]),
        helper.make_node("Flatten", ["pooled"], ["lca"]),
        helper.make_node("MatMul", ["lca", "weights"], ["logits"]),
    ]  # fmt: skip
    initializer = numpy_helper.from_array(weights, "weights")
    return helper.make_graph(nodes, "tiny", [crops], [logits, lca], [initializer])


def tiny_card(weights: np.ndarray[Any, Any]) -> ClassifierCard:
    """The card of the tiny model, with a golden answer computed by numpy."""
    pixel_rules = rules()
    raw = np.random.default_rng(1).integers(0, 256, (2, 224, 224), dtype=np.uint8)
    crops = normalize(raw, pixel_rules.reference_distribution())
    lca = crops[:, :222, :222].reshape(2, 3, 74, 3, 74).mean((2, 4)).reshape(2, 9)
    lca = lca.astype(np.float32)
    return ClassifierCard(
        name="tiny",
        version="1",
        licence="CC0-1.0",
        created_at="2026-01-01T00:00:00Z",
        description="a test model",
        classes=CLASSES,
        prepare=PrepareCard(
            pixels=pixel_rules,
            fingerprint=pixel_rules.fingerprint,
            detector=DetectorRules(name="external"),
        ),
        calibration=Calibration(temperature=1.5),
        novelty=Novelty(
            mean=to_base64(np.stack([lca[0], lca[1]])),
            precision=to_base64(np.eye(LCA_SIZE, dtype=np.float32) * 0.01),
            d=LCA_SIZE,
            scores=tuple(np.linspace(0.1, 20, 200).tolist()),
        ),
        abstention=Abstention(min_probability=0.55, max_novelty=0.99),
        confusion=None,
        training=Training(
            data="none", data_sha256s=(), groups=(), code_version="0", seed=0, recipe={}, metrics={}
        ),
        golden=Golden(
            n=2,
            crops=base64.b64encode(raw.tobytes()).decode(),
            logits=to_base64((lca @ weights).astype(np.float32)),
            lca=to_base64(lca),
            tolerance=0.01,
        ),
        caveats=("a test model: its answers mean nothing",),
    )


def measured_card(shown: "Measured", **more: object) -> ClassifierCard:
    """The tiny card with what left-out cells show, and other parts of its own."""
    card = tiny_card(tiny_weights())
    training = msgspec.structs.replace(card.training, metrics=shown.metrics)
    figures = ("calibration", "abstention", "confusion", "reliability", "per_group", "shift")
    parts = {name: getattr(shown, name) for name in figures}
    return msgspec.structs.replace(card, training=training, **parts, **more)


def tiny_weights() -> np.ndarray[Any, Any]:
    """Weights that split crops by where they are bright."""
    weights = np.random.default_rng(2).normal(0, 0.5, (LCA_SIZE, 2))
    centred: np.ndarray[Any, Any] = weights - weights.mean(0)
    return centred.astype(np.float32)


def save_model(path: Path, graph: onnx.GraphProto, card: str | None) -> Path:
    """Write a model file with this card text."""
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    model.ir_version = 9
    if card is not None:
        helper.set_model_props(model, {"parfocal": card})
    path.write_bytes(model.SerializeToString())
    return path


def card_text(card: ClassifierCard) -> str:
    """A card as it stands in the metadata."""
    return msgspec.json.encode(card).decode()


def tiny_bundle_at(path: Path) -> Path:
    """Write the tiny bundle."""
    weights = tiny_weights()
    return save_model(path, tiny_graph(weights), card_text(tiny_card(weights)))


def free_ports() -> tuple[int, int]:
    """Two neighbouring ports that are free right now: the replay address is the next port."""
    while True:
        with socket.socket() as first, socket.socket() as second:
            first.bind(("127.0.0.1", 0))
            port = int(first.getsockname()[1])
            try:
                second.bind(("127.0.0.1", port + 1))
            except OSError:
                continue
            return port, port + 1


def save_frame(path: Path, seed: int = 0, side_px: int = 512, n_cells: int = 4) -> Path:
    """Write a small drawn frame, of a content that the seed decides."""
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), drawn_frame(seed, side_px, side_px, n_cells)[..., ::-1])
    return path


def drawn_gray(side_px: int = 500, n_cells: int = 4, seed: int = 0) -> np.ndarray[Any, Any]:
    """A gray frame of drawn cells: (side_px, side_px) uint8."""
    return np.asarray(to_gray(drawn_frame(seed, side_px, side_px, n_cells)))


def until(condition: Callable[[], Any], timeout_s: float = 20.0, what: str = "condition") -> Any:
    """Poll until the condition is true and return its value; fail with its name otherwise."""
    deadline = time.monotonic() + timeout_s
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: not within {timeout_s:g} s")
        time.sleep(0.03)
    return value


class Rig:
    """A daemon in a process of its own, with its folder, state and ports."""

    def __init__(self, home: Path, bundle: Path) -> None:
        self.home, self.folder, self.state = home, home / "watched", home / "state"
        self.folder.mkdir()
        live, replay = free_ports()
        self.live, self.replay = f"tcp://127.0.0.1:{live}", f"tcp://127.0.0.1:{replay}"
        self.config = home / "parfocal.toml"
        self.config.write_text(
            f'rig = "test"\nstate_dir = "{self.state}"\n'
            f'[source]\npath = "{self.folder}"\num_per_px = 0.44\n'
            '[detector]\nname = "classical"\n'
            f'[model]\nbundle = "{bundle}"\ndevice = "cpu"\nthreads = 1\n'
            f'[publish]\nlive = "{self.live}"\nreplay = "{self.replay}"\n'
        )
        self.processes: list[subprocess.Popen[bytes]] = []
        self.daemon: subprocess.Popen[bytes] | None = None

    def environment(self) -> dict[str, str]:
        """As the tests', with the user's state in the rig's own home."""
        return {**os.environ, "XDG_STATE_HOME": str(self.home / "user"), "COLUMNS": "160"}

    def popen(self, *arguments: str, **more: Any) -> subprocess.Popen[bytes]:
        """Start `parfocal` with these arguments."""
        command = [sys.executable, "-m", "parfocal", *arguments]
        process = subprocess.Popen(command, env=self.environment(), **more)
        self.processes.append(process)
        return process

    def run(self, *arguments: str, timeout_s: float = 30) -> subprocess.CompletedProcess[str]:
        """Run `parfocal` to its end."""
        command = [sys.executable, "-m", "parfocal", *arguments]
        return subprocess.run(
            command, env=self.environment(), capture_output=True, text=True, timeout=timeout_s
        )

    def start(self, *more: str) -> None:
        """Start the daemon; its log goes to a file."""
        with (self.home / "daemon.log").open("ab") as log:
            self.daemon = self.popen("run", "--config", str(self.config), *more, stderr=log)

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal and wait for the end."""
        assert self.daemon is not None
        self.daemon.send_signal(number)
        return self.daemon.wait(20)

    def log(self) -> str:
        """Everything the daemons of this rig logged."""
        path = self.home / "daemon.log"
        return path.read_text() if path.exists() else ""

    def rows(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        """Read the journal as any other program may."""
        path = self.state / "journal.sqlite"
        if not path.exists():
            return []
        db = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=10)
        try:
            return db.execute(sql, values).fetchall()
        except sqlite3.OperationalError:  # not made yet
            return []
        finally:
            db.close()

    def files(self) -> dict[str, tuple[str, str | None]]:
        """Name of each file to its state and reason."""
        rows = self.rows("SELECT path, state, reason FROM file")
        return {os.path.basename(path): (state, reason) for path, state, reason in rows}

    def frames(self) -> list[dict[str, Any]]:
        """Bodies of all frame messages, in order."""
        rows = self.rows("SELECT body FROM message WHERE topic LIKE 'frame/%' ORDER BY seq")
        return [json.loads(body) for (body,) in rows]

    def wait_done(self, n: int, timeout_s: float = 30) -> None:
        """Wait until n files have their result."""

        def enough() -> bool:
            return sum(state == "done" for state, _ in self.files().values()) >= n

        until(enough, timeout_s, f"{n} results (files {self.files()}, log {self.log()[-2000:]})")

    def children(self) -> dict[str, int]:
        """Module name to process id of the daemon's children."""
        import psutil

        assert self.daemon is not None
        found = {}
        for child in psutil.Process(self.daemon.pid).children():
            try:
                line = child.cmdline()
            except psutil.NoSuchProcess:  # gone, or dead and not yet reaped, since it was listed
                continue
            if "-m" in line:
                found[line[line.index("-m") + 1]] = child.pid
        return found

    def close(self) -> None:
        """Kill whatever still runs."""
        for process in self.processes:
            process.kill()
            process.wait()
            for stream in (process.stdout, process.stderr, process.stdin):
                if stream:
                    stream.close()
