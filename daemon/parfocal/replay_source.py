"""A list of stored images in place of a watched folder, for the daemon's own loop."""

import os
from collections.abc import Callable
from pathlib import Path

from parfocal.files import Known, Signature
from parfocal.folder import LONG_SETTLE_S, Claim, FolderSource, _Pending
from parfocal.journal import Journal
from parfocal.reasons import FileReason
from parfocal.replay_images import Source, Stored

CHANGED = "the image that was scored is gone: its file now holds other bytes"


class StoredSource(FolderSource):
    """A list of images in place of a watched folder; whatever is refused is so for good.

    Parameters
    ----------
    source : Source
    root : Path
        Where the new journal lies.
    journal : Journal
    finished : callable
        Told the session of each image that has its result or its reason.
    """

    def __init__(
        self, source: Source, root: Path, journal: Journal, finished: Callable[[str | None], None]
    ) -> None:
        super().__init__(root, journal, lambda: None, polled=True)
        self.images = {one.path: one for one in source.images}
        self._told = finished
        with journal.transaction():
            for one in self.images.values():
                self._add(one)

    def _add(self, one: Stored) -> None:
        try:
            signature = Signature.of(os.lstat(one.path))
        except OSError:  # the reader says why it cannot be read
            signature = Signature(0, 0, 0, 0)
        known = self._keep(self.files.add(one.path, signature, one.session))
        self._pending[one.path] = _Pending(known, 0.0, LONG_SETTLE_S)

    def start(self) -> None:
        """Nothing is watched."""

    def update(self, session: str | None) -> None:
        """No file comes later."""

    def of(self, claim: Claim) -> Stored:
        """The image that a claim is of."""
        return self.images[claim.known.path]

    def refused(
        self, claim: Claim, reason: FileReason, detail: str, retry: bool, sha256: str | None
    ) -> bool:
        """Final at once: nobody is writing a stored image."""
        before = self.of(claim).sha256
        if None not in (before, sha256) and before != sha256:
            reason, detail, sha256 = FileReason.VANISHED, CHANGED, None
        self._refuse(claim.known, reason, detail, sha256)
        return True

    def _finish(self, known: Known) -> None:
        super()._finish(known)
        self._told(known.session)
