"""A real S3 server on loopback, for tests that mean it."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

from pyarrow import fs

# The package puts its program beside the interpreter, which need not be on the PATH.
SERVER = shutil.which("weed", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
ACCESS_KEY, SECRET_KEY = "tester", "tester-secret-8f3a"
_START_TIMEOUT_S = 90  # ten seconds on an idle machine
_GRPC_OFFSET = 10_000  # the server derives its second port of each service like that


@dataclass(frozen=True)
class S3Server:
    """The address of a running server, and a way to put files into it."""

    endpoint: str

    def filesystem(self) -> fs.S3FileSystem:
        return fs.S3FileSystem(
            access_key=ACCESS_KEY,
            secret_key=SECRET_KEY,
            endpoint_override=self.endpoint.removeprefix("http://"),
            scheme="http",
            region="us-east-1",
            allow_bucket_creation=True,
        )

    def fill(self, bucket: str, folder: Path) -> None:
        """Copies a folder of plain files into a new bucket."""
        store = self.filesystem()
        store.create_dir(bucket)
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                key = f"{bucket}/{path.relative_to(folder).as_posix()}"
                with store.open_output_stream(key) as stream:
                    stream.write(path.read_bytes())


@contextmanager
def s3_server(folder: Path) -> Iterator[S3Server]:
    """Starts the server in an empty folder and stops it for sure, whatever happens in between."""
    master, volume, filer, s3 = _free_ports(4)
    identities = folder / "identities.json"
    credentials = [{"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}]
    actions = ["Admin", "Read", "Write", "List", "Tagging"]
    identity = {"name": "tester", "credentials": credentials, "actions": actions}
    identities.write_text(json.dumps({"identities": [identity]}))
    (folder / "data").mkdir()
    command = [SERVER or "weed", "server", "-ip=127.0.0.1", f"-dir={folder / 'data'}", "-s3"]
    command += [f"-s3.port={s3}", f"-s3.config={identities}", f"-master.port={master}"]
    command += [f"-volume.port={volume}", f"-filer.port={filer}"]
    # its catalogues listen at fixed ports, which another server may have
    command += ["-s3.port.iceberg=0", "-s3.port.lance=0"]
    # A bucket takes several volumes; they are small and start empty.
    command += ["-volume.max=100", "-master.volumeSizeLimitMB=64"]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("AWS_")}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder, env=environment)
        try:
            server = S3Server(f"http://127.0.0.1:{s3}")
            _wait_until_it_answers(server, process, folder / "log")
            yield server
        finally:
            process.kill()
            process.wait(timeout=30)


def _wait_until_it_answers(server: S3Server, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _START_TIMEOUT_S
    while not _answers(server):
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"the S3 server did not start:\n{log.read_text()[-2000:]}")
        time.sleep(0.3)


def _answers(server: S3Server) -> bool:
    """Whether a write arrives; the port opens long before there is a volume to write to."""
    try:
        urlopen(server.endpoint, timeout=2).close()
    except HTTPError:
        pass
    except (URLError, OSError):
        return False
    try:
        store = server.filesystem()
        store.create_dir("ready")
        with store.open_output_stream("ready/probe") as stream:
            stream.write(b"x")
    except OSError:
        return False
    return True


def _free_ports(count: int) -> list[int]:
    """Ports that are free, and whose gRPC siblings are too."""
    found: list[int] = []
    for port in range(21_000 + os.getpid() % 20_000, 52_000, 7):
        if _is_free(port) and _is_free(port + _GRPC_OFFSET):
            found.append(port)
        if len(found) == count:
            return found
    raise RuntimeError("no free ports for the S3 server")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
