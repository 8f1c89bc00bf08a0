"""Equal questions of several processes: one of them judges, the others wait for its verdict.

Only where the state is shared. A claim has a deadline: if its holder dies, another judges.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress

from magistrate.engine.session import Session
from magistrate.storage.base import StoreError
from magistrate.verdicts import Verdict

# How often the verdict of another process is looked for, in seconds.
_POLL_S = 0.05


class Claim:
    """The right to judge one question. `until`: when to stop waiting, in `time.monotonic`."""

    def __init__(self, session: Session, key: str, until: float) -> None:
        self._session = session
        self._state = session.engine.state
        self._key = key
        self._until = until
        self._held: str | None = None

    def wait(self) -> Verdict | None:
        """Return another process's verdict, or None if the caller has to judge."""
        while (verdict := self._try()) is None and self._goes_on():
            time.sleep(_POLL_S)
        return verdict

    async def wait_async(self) -> Verdict | None:
        """Return the same without blocking the event loop."""
        off_loop = self._session.engine.off_loop
        while True:
            verdict = await off_loop(self._try)
            if verdict is not None or not self._goes_on():
                return verdict
            await asyncio.sleep(_POLL_S)

    def release(self) -> None:
        """Let another process judge, or find the verdict that is now stored. May be repeated."""
        if self._held:
            with suppress(StoreError):
                self._state.release(self._key, self._held)

    def abandon(self) -> None:
        """Release without waiting for it, because the task that judged was cancelled."""
        if self._state.blocks and self._held:
            asyncio.get_running_loop().run_in_executor(None, self.release)

    def _goes_on(self) -> bool:
        return self._held is None and time.monotonic() + _POLL_S < self._until

    def _try(self) -> Verdict | None:
        try:
            self._held = self._state.claim(self._key, max(0.0, self._until - time.monotonic()))
            # Also with a claim: its last holder stored a verdict before it released the claim.
            return self._state.verdict(self._key)
        except StoreError:
            self._held = ""  # judge without a claim
            return None
