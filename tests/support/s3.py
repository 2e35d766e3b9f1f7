"""A local S3 server with a proxy before it, and stores that are copied into its bucket."""

import logging
from pathlib import Path

import boto3
from flaky_server import FlakyServer
from moto.server import ThreadedMotoServer

BUCKET = "bucket"
ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "AKIAENVIRONMENT",
    "AWS_SECRET_ACCESS_KEY": "secret-of-environment",
    "AWS_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}


class S3:
    """A server with one bucket.

    Attributes
    ----------
    proxy : FlakyServer
    """

    def __init__(self):
        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        self.server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        self.server.start()
        _, port = self.server.get_host_and_port()
        self.client = boto3.client(
            "s3",
            endpoint_url=f"http://127.0.0.1:{port}",
            region_name="us-east-1",
            aws_access_key_id="any",
            aws_secret_access_key="any",
        )
        self.client.create_bucket(Bucket=BUCKET)
        self.proxy = FlakyServer(port)

    def put(self, folder, name):
        """Copy a local store into the bucket, and return its URL."""
        for file in sorted(Path(folder).rglob("*")):
            if file.is_file():
                key = f"{name}/{file.relative_to(folder).as_posix()}"
                self.client.put_object(
                    Bucket=BUCKET, Key=key, Body=file.read_bytes(), ACL="public-read"
                )
        return f"s3://{BUCKET}/{name}"

    def close(self):
        self.proxy.shutdown()
        self.proxy.server_close()
        self.server.stop()
