"""A DynamoDB that answers everything with {}, over TLS or not, and an HTTP proxy: real sockets, certificates of their own CA."""

from __future__ import annotations

import ipaddress
import select
import socket
import ssl
import threading
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


def make_certificates(directory: Path) -> tuple[Path, Path]:
    """(the CA's PEM file, certificate and key of a server at 127.0.0.1 and localhost)."""
    ca_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    ca_name, name = (x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)]) for text in ("test CA", "localhost"))
    now = datetime.now(UTC)

    def signed(subject: x509.Name, public: Any, extensions: list[Any]) -> x509.Certificate:
        builder = x509.CertificateBuilder().subject_name(subject).issuer_name(ca_name).public_key(public)
        builder = builder.serial_number(x509.random_serial_number()).not_valid_before(now - timedelta(days=1))
        builder = builder.not_valid_after(now + timedelta(days=1))
        for extension in extensions:
            builder = builder.add_extension(extension, critical=isinstance(extension, x509.BasicConstraints))
        return builder.sign(ca_key, hashes.SHA256())

    usage = x509.KeyUsage(
        digital_signature=True, key_cert_sign=True, crl_sign=True, content_commitment=False, key_encipherment=False,
        data_encipherment=False, key_agreement=False, encipher_only=False, decipher_only=False,
    )  # fmt: skip
    own = x509.SubjectKeyIdentifier.from_public_key(ca_key.public_key())
    issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key())
    ca = signed(ca_name, ca_key.public_key(), [x509.BasicConstraints(ca=True, path_length=0), usage, own])
    names: list[x509.GeneralName] = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    server = signed(name, key.public_key(), [x509.SubjectAlternativeName(names), issuer])
    ca_file, server_file = directory / "ca.pem", directory / "server.pem"
    ca_file.write_bytes(ca.public_bytes(serialization.Encoding.PEM))
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    server_file.write_bytes(server.public_bytes(serialization.Encoding.PEM) + private)
    return ca_file, server_file


class _Server:
    """A server in threads of its own, for as long as the `with` block."""

    def __init__(self, handler: type[BaseHTTPRequestHandler], certificate: Path | None = None) -> None:
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._http.daemon_threads = True
        self.scheme = "http"
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            self._http.socket = context.wrap_socket(self._http.socket, server_side=True)
            self.scheme = "https"

    @property
    def port(self) -> int:
        return int(self._http.server_address[1])

    @property
    def url(self) -> str:
        return f"{self.scheme}://localhost:{self.port}"

    def __enter__(self) -> Any:
        threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()


class EmptyDynamo(_Server):
    """Answers everything with {}; keeps the headers of each request, and counts connections. `idle_s`: it closes those then."""

    def __init__(self, certificate: Path | None = None, idle_s: float | None = None) -> None:
        self.requests: list[dict[str, str]] = []
        self.connections = self.closed = 0
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            timeout = idle_s

            def setup(self) -> None:
                outer.connections += 1
                super().setup()

            def finish(self) -> None:
                super().finish()
                self.connection.close()
                outer.closed += 1

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                outer.requests.append({"path": self.path, **{k.lower(): v for k, v in self.headers.items()}})
                self.send_response(200)
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"{}")

            def log_message(self, *_: Any) -> None:
                """Quiet."""

        super().__init__(Handler, certificate)


class Proxy(_Server):
    """An HTTP proxy: tunnels by CONNECT, passes plain requests on; keeps what it was asked for. `login`: it asks for that."""

    def __init__(self, login: str = "", refuse_with: int = 0) -> None:
        self.asked: list[str] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _refused(self) -> bool:
                outer.asked.append(f"{self.command} {self.path}")
                status = refuse_with or (407 if self.headers.get("Proxy-Authorization", "") != login else 0)
                if status:
                    self.send_response(status)
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                return bool(status)

            def do_CONNECT(self) -> None:
                if self._refused():
                    return
                host, _, port = self.path.rpartition(":")
                with socket.create_connection((host, int(port))) as upstream:
                    self.send_response(200)
                    self.end_headers()
                    _pump(self.connection, upstream)
                self.close_connection = True

            def do_POST(self) -> None:
                if self._refused():
                    return
                to = urlsplit(self.path)
                body = self.rfile.read(int(self.headers["Content-Length"]))
                kept = [f"{name}: {value}" for name, value in self.headers.items() if "proxy" not in name.lower()]
                head = "\r\n".join([f"POST {to.path} HTTP/1.1", *kept, "Connection: close"]) + "\r\n\r\n"
                with socket.create_connection((to.hostname, to.port or 80)) as upstream:
                    upstream.sendall(head.encode() + body)
                    while data := upstream.recv(65536):
                        self.wfile.write(data)
                self.close_connection = True

            def log_message(self, *_: Any) -> None:
                """Quiet."""

        super().__init__(Handler)


def _pump(one: socket.socket, other: socket.socket) -> None:
    """Both ways, until one side ends."""
    while True:
        readable, _, _ = select.select([one, other], [], [], 10)
        for source in readable:
            data = source.recv(65536)
            if not data:
                return
            (other if source is one else one).sendall(data)
