"""A session of the app without a browser: the messages that a tab and Streamlit's server exchange.

A browser for each of fifty voters would need more processor than a laptop has, and what it draws is not the server's
work. This client does what a tab does as far as the server can tell: it holds the voter's cookie, opens the web socket,
asks for a page, presses a button by its element's id, and reads every message until the script run has ended.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from types import TracebackType

from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.Element_pb2 import Element
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from websockets.asyncio.client import ClientConnection, connect


@dataclass
class Drawn:
    """What one run of the page's script, or of a fragment, sent.

    Attributes:
        elements: In the order of their arrival.
        fragment: Of the last element that is in one.
        arrived: Seconds from the request to each element.
        seconds: From the request to the end of the run.
    """

    elements: list[Element] = field(default_factory=list)
    fragment: str = ""
    arrived: list[float] = field(default_factory=list)
    seconds: float = 0.0

    def texts(self) -> list[str]:
        """All Markdown on the page."""
        return [one.markdown.body for one in self.elements if one.WhichOneof("type") == "markdown"]

    def faults(self) -> list[str]:
        """What went wrong, as the page says it."""
        told = [one.exception.message for one in self.elements if one.WhichOneof("type") == "exception"]
        return told + [one.alert.body for one in self.elements if one.WhichOneof("type") == "alert"]

    def buttons(self) -> dict[str, str]:
        """Ids of the buttons by their labels."""
        return {one.button.label: one.button.id for one in self.elements if one.WhichOneof("type") == "button"}


class Tab:
    """One tab of the app, open at a page."""

    def __init__(self, url: str, page: str, cookie: str = "") -> None:
        self.url, self.page, self.cookie = url, page, cookie
        self.page_hash = ""
        self._socket: ClientConnection | None = None

    async def __aenter__(self) -> Tab:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def open(self) -> None:
        """Connects, as a new tab or a reloaded one does."""
        headers = {"Origin": self.url, **({"Cookie": self.cookie} if self.cookie else {})}
        self._socket = await connect(
            f"{self.url.replace('http', 'ws', 1)}/_stcore/stream",
            additional_headers=headers,
            subprotocols=["streamlit"],  # type: ignore[list-item]
            max_size=None,
            open_timeout=60,
            ping_interval=None,
        )

    async def close(self) -> None:
        """Closes the tab."""
        if self._socket is not None:
            await self._socket.close()
            self._socket = None

    async def load(self) -> Drawn:
        """Asks for the page, and reads all of it."""
        message = BackMsg()
        message.rerun_script.page_name = self.page
        message.rerun_script.query_string = ""
        return await self._asked(message)

    async def press(self, button: str, fragment: str, *, times: int = 1) -> Drawn:
        """Presses a button, and reads what the fragment draws.

        Args:
            times: Sent so often without waiting, as by a double click.
        """
        message = BackMsg()
        message.rerun_script.page_script_hash = self.page_hash
        message.rerun_script.fragment_id = fragment
        state = message.rerun_script.widget_states.widgets.add()
        state.id, state.trigger_value = button, True
        return await self._asked(message, times)

    async def leave_pressing(self, button: str, fragment: str) -> None:
        """Presses a button and closes the tab without waiting for what comes of it."""
        message = BackMsg()
        message.rerun_script.page_script_hash = self.page_hash
        message.rerun_script.fragment_id = fragment
        state = message.rerun_script.widget_states.widgets.add()
        state.id, state.trigger_value = button, True
        await self._socket_().send(message.SerializeToString())
        await self.close()

    def _socket_(self) -> ClientConnection:
        if self._socket is None:
            raise RuntimeError("the tab is not open")
        return self._socket

    async def _asked(self, message: BackMsg, times: int = 1) -> Drawn:
        socket, began, drawn = self._socket_(), time.perf_counter(), Drawn()
        for _ in range(times):
            await socket.send(message.SerializeToString())
        while True:
            raw = await socket.recv()
            told = ForwardMsg()
            told.ParseFromString(raw if isinstance(raw, bytes) else raw.encode())
            kind = told.WhichOneof("type")
            if kind == "new_session":
                self.page_hash = told.new_session.page_script_hash
            elif kind == "delta" and told.delta.WhichOneof("type") == "new_element":
                drawn.elements.append(told.delta.new_element)
                drawn.arrived.append(time.perf_counter() - began)
                drawn.fragment = told.delta.fragment_id or drawn.fragment
            elif kind == "script_finished" and told.script_finished != ForwardMsg.FINISHED_EARLY_FOR_RERUN:
                drawn.seconds = time.perf_counter() - began
                return drawn
