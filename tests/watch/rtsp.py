"""A camera: an RTSP server (RFC 2326, RTP over TCP) of pictures that libx264 encodes live.

Packets are made by libav's RTP muxer, which sends them to a UDP port of this process; the server
passes them to each client that plays. It can be stopped and started again on its port.
"""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Callable

import av
import numpy as np

SDP = (
    "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=furnace\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n"
    "m=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\na=fmtp:96 packetization-mode=1\r\n"
    "a=control:track0\r\n"
)


class Camera:
    """Serves pictures at 25 a second.

    Args:
        picture: the frame's number -> (H, W, 3).
        size: (H, W).

    Attributes:
        show: may be replaced while the camera runs.
    """

    def __init__(self, picture: Callable[[int], np.ndarray], size: tuple[int, int]) -> None:
        self.show, self._size = picture, size
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []

    @property
    def address(self) -> str:
        return f"rtsp://127.0.0.1:{self.port}/furnace"

    def start(self) -> None:
        self._stop = threading.Event()
        self._playing: set[socket.socket] = set()
        self._open: set[socket.socket] = set()
        self._server = socket.create_server(("127.0.0.1", self.port))
        self._rtp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        # A key frame of a detailed picture is larger than a socket's usual 200 kB.
        self._rtp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
        self._rtp.bind(("127.0.0.1", 0))
        for each in (self._server, self._rtp):
            each.settimeout(0.1)
        work = (self._accept, self._forward, self._encode)
        self._threads = [threading.Thread(target=each, daemon=True) for each in work]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """As if the power failed: connections break."""
        self._stop.set()
        for thread in self._threads:
            thread.join(10)
        for each in (self._server, self._rtp, *self._open):
            each.close()

    def _encode(self) -> None:
        target = f"rtp://127.0.0.1:{self._rtp.getsockname()[1]}"
        options = {"preset": "ultrafast", "tune": "zerolatency", "g": "12", "crf": "18"}
        with av.open(target, "w", format="rtp") as out:
            stream = out.add_stream("libx264", rate=25, options=options)
            stream.height, stream.width = self._size
            stream.pix_fmt = "yuv420p"
            begin, k = time.monotonic(), 0
            while not self._stop.is_set():
                frame = av.VideoFrame.from_ndarray(self.show(k), format="rgb24")
                frame.pts = k
                out.mux(stream.encode(frame))
                k += 1
                time.sleep(max(0.0, begin + k / 25 - time.monotonic()))

    def _forward(self) -> None:
        while not self._stop.is_set():
            try:
                packet = self._rtp.recv(65536)
            except TimeoutError:
                continue
            if 200 <= packet[1] <= 204:  # RTCP
                continue
            for client in list(self._playing):
                try:
                    client.sendall(struct.pack(">cBH", b"$", 0, len(packet)) + packet)
                except OSError:
                    self._playing.discard(client)

    def _accept(self) -> None:
        while not self._stop.is_set():
            try:
                client, _ = self._server.accept()
            except TimeoutError:
                continue
            client.settimeout(5)
            self._open.add(client)
            threading.Thread(target=self._serve, args=[client], daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        waiting = b""
        while not self._stop.is_set():
            try:
                data = client.recv(4096)
            except TimeoutError:
                continue
            except OSError:
                return
            if not data:
                return
            waiting += data
            while waiting:
                if waiting[:1] == b"$":  # the client's RTCP
                    if len(waiting) < 4 or len(waiting) < 4 + (size := _size(waiting)):
                        break
                    waiting = waiting[4 + size :]
                    continue
                head, end, rest = waiting.partition(b"\r\n\r\n")
                if not end:
                    break
                waiting = rest
                self._answer(client, head.decode())

    def _answer(self, client: socket.socket, request: str) -> None:
        first, *lines = request.split("\r\n")
        method = first.split()[0]
        fields = dict(line.lower().split(": ", 1) for line in lines if ": " in line)
        more = {
            "OPTIONS": "Public: OPTIONS, DESCRIBE, SETUP, PLAY, GET_PARAMETER, TEARDOWN\r\n",
            "DESCRIBE": f"Content-Type: application/sdp\r\nContent-Base: {self.address}/\r\n",
            "SETUP": "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n",
        }.get(method, "")
        body = SDP if method == "DESCRIBE" else ""
        if method != "OPTIONS":
            more += "Session: 1\r\n" if method != "DESCRIBE" else ""
        answer = f"RTSP/1.0 200 OK\r\nCSeq: {fields['cseq']}\r\n{more}"
        answer += f"Content-Length: {len(body)}\r\n\r\n{body}"
        client.sendall(answer.encode())
        if method == "PLAY":
            self._playing.add(client)
        elif method == "TEARDOWN":
            self._playing.discard(client)


def _size(data: bytes) -> int:
    return int(struct.unpack(">H", data[2:4])[0])
