"""Servers on loopback that speak S3 and Google Cloud Storage, started by the tests that need one."""

from __future__ import annotations

import logging
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress


@contextmanager
def bucket(name: str) -> Iterator[dict[str, str]]:
    """A server with one empty bucket; yields the environment in which `s3://NAME/...` reaches it."""
    import boto3
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    environment = {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "anybody",
        "AWS_SECRET_ACCESS_KEY": "anything",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    try:
        boto3.client(
            "s3",
            endpoint_url=environment["AWS_ENDPOINT_URL"],
            aws_access_key_id="anybody",
            aws_secret_access_key="anything",
            region_name="us-east-1",
        ).create_bucket(Bucket=name)
        yield environment
    finally:
        server.stop()


@contextmanager
def google_bucket(name: str) -> Iterator[str]:
    """A server with one empty bucket; yields what follows a `gs://anonymous@NAME/...` to reach it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # In a process of its own: within this one, pyarrow and the server wait for each other.
    arguments = f"start --host 127.0.0.1 --port {port} --in-memory --default-bucket {name}".split()
    server = subprocess.Popen(
        [sys.executable, "-c", "from gcp_storage_emulator.__main__ import main; main()", *arguments],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 60
        while True:
            with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                break
            assert server.poll() is None, "the server ended"
            assert time.monotonic() < deadline
            time.sleep(0.1)
        yield f"?scheme=http&endpoint_override=127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait()
