"""Both kinds of store; S3 is moto's server on the loopback."""

import pytest
from minio import Minio
from moto.moto_server.threaded_moto_server import ThreadedMotoServer

from zoetrope.infra.store.local import LocalStore
from zoetrope.infra.store.s3 import S3Store
from zoetrope.infra.store.s3_client import S3Settings


@pytest.fixture(scope="session")
def endpoint():
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


def s3_settings(endpoint, **more):
    return S3Settings(endpoint=endpoint, access_key="key", secret_key="hush", longest_wait=0, **more)


@pytest.fixture
def s3_store(endpoint, request):
    bucket = "bucket-" + str(abs(hash(request.node.nodeid)))[:12]
    client = Minio(endpoint.removeprefix("http://"), "key", "hush", secure=False, region="us-east-1")
    if not client.bucket_exists(bucket):
        client.make_bucket(bucket)
    return S3Store(f"s3://{bucket}/some/prefix", s3_settings(endpoint))


@pytest.fixture(params=["local", "s3"])
def store(request, tmp_path):
    if request.param == "local":
        return LocalStore(tmp_path / "store with space")
    return request.getfixturevalue("s3_store")
