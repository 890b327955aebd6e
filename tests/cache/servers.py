"""Servers of the tests: an S3 server, a proxy with faults, and a server that ignores conditions. Each ends with its block."""

import json
import os
import random
import signal
import socket
import subprocess
import threading
import time
import urllib.parse
import urllib.request
from contextlib import contextmanager
from datetime import datetime, timezone
from hashlib import md5
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def free_ports(count):
    """Returns ports that are free now, each with the one 10,000 above it, which SeaweedFS uses too."""
    sockets, ports = [], []
    while len(ports) < count:
        port = random.randrange(20_000, 45_000)
        try:
            for number in (port, port + 10_000):
                one = socket.socket()
                one.bind(("127.0.0.1", number))
                sockets.append(one)
            ports.append(port)
        except OSError:
            continue
    for one in sockets:
        one.close()
    return ports


def end(process):
    """Ends a process that was started here, by its id."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def seaweed(program, folder, secrets):
    """Runs SeaweedFS with a bucket `sure`; `secrets`: user -> (access key, secret key). Gives the endpoint."""
    folder.mkdir(parents=True, exist_ok=True)
    rights = {"writer": ["Admin", "Read", "List", "Write"], "reader": ["Read", "List"]}
    identities = [
        {"name": name, "credentials": [{"accessKey": key, "secretKey": secret}], "actions": rights[name]}
        for name, (key, secret) in secrets.items()
    ]
    (folder / "s3.json").write_text(json.dumps({"identities": identities}))
    master, volume, filer, s3 = free_ports(4)
    command = [program, f"-logdir={folder}", "server", f"-dir={folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"]
    command += [f"-master.port={master}", f"-volume.port={volume}", f"-filer.port={filer}", "-s3", f"-s3.port={s3}"]
    command += [f"-s3.config={folder}/s3.json", "-master.volumeSizeLimitMB=256", "-volume.max=20", "-volume.minFreeSpace=1MiB"]
    environment = {"HOME": str(folder), "PATH": os.environ["PATH"]}
    with open(folder / "weed.log", "wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment, start_new_session=True)
    try:
        wait_for(f"http://127.0.0.1:{s3}/status", process)
        make = urllib.request.Request(f"http://127.0.0.1:{filer}/buckets/sure/", method="POST")
        for attempt in range(50):
            try:
                urllib.request.urlopen(make, timeout=5).close()
                break
            except OSError:
                if attempt == 49:
                    raise
                time.sleep(0.2)
        yield f"http://127.0.0.1:{s3}"
    finally:
        end(process)


def wait_for(url, process):
    for _ in range(300):
        if process.poll() is not None:
            raise SystemExit(f"the server ended with {process.returncode}")
        try:
            urllib.request.urlopen(url, timeout=2).close()
            return
        except OSError:
            time.sleep(0.1)
    raise SystemExit(f"no answer from {url}")


class Proxy:
    """A TCP proxy whose faults can be changed while it runs."""

    def __init__(self, target):
        self.target = ("127.0.0.1", int(target.rsplit(":", 1)[1]))
        self.mode = "pass"
        # Bytes of an answer after which `cut` ends a connection.
        self.after = 1000
        self.connections = 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        self.open = set()
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            self.connections += 1
            self.open.add(client)
            threading.Thread(target=self.serve, args=(client,), daemon=True).start()

    def serve(self, client):
        mode = self.mode
        try:
            if mode == "hang":
                while client.recv(65536):
                    pass
                return
            if mode in ("503", "403"):
                text = {"503": "503 Service Unavailable", "403": "403 Forbidden"}[mode]
                while client.recv(65536):
                    client.sendall(f"HTTP/1.1 {text}\r\nContent-Length: 0\r\n\r\n".encode())
                return
            with socket.create_connection(self.target) as server:
                self.open.add(server)
                threading.Thread(target=self.pump, args=(client, server, False), daemon=True).start()
                self.pump(server, client, True)
        except OSError:
            pass
        finally:
            client.close()

    def pump(self, source, sink, is_answer):
        passed = 0
        try:
            while data := source.recv(65536):
                if self.mode == "delay" and is_answer:
                    time.sleep(0.05)
                if self.mode == "hang":
                    time.sleep(3600)
                if self.mode == "cut" and is_answer:
                    data = data[: max(0, self.after - passed)]
                sink.sendall(data)
                passed += len(data)
                if self.mode == "cut" and is_answer and passed >= self.after:
                    break
        except OSError:
            pass
        finally:
            for one in (source, sink):
                try:
                    one.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass

    def drop(self):
        """Ends the connections that are open, so that the next request meets the fault of now."""
        for one in list(self.open):
            try:
                one.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        self.open.clear()

    def close(self):
        self.listener.close()
        self.drop()


@contextmanager
def proxy(target):
    one = Proxy(target)
    try:
        yield one
    finally:
        one.close()


class Ignoring(BaseHTTPRequestHandler):
    """As much of S3 as the cache needs, without conditions and without access control."""

    protocol_version = "HTTP/1.1"
    objects = {}

    def log_message(self, *_):
        pass

    def answer(self, status, body=b"", headers=()):
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def key(self):
        return urllib.parse.unquote(urllib.parse.urlsplit(self.path).path).split("/", 2)[-1]

    def do_PUT(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        tag = f'"{md5(body).hexdigest()}"'
        self.objects[self.key()] = (body, tag, datetime.now(timezone.utc))
        self.answer(200, headers=[("ETag", tag)])

    def do_GET(self):
        query = urllib.parse.parse_qs(urllib.parse.urlsplit(self.path).query)
        if "list-type" in query:
            return self.list(query.get("prefix", [""])[0])
        found = self.objects.get(self.key())
        if found is None:
            return self.answer(404, b"<Error><Code>NoSuchKey</Code></Error>")
        body, tag, time_of = found
        modified = time_of.strftime("%a, %d %b %Y %H:%M:%S GMT")
        return self.answer(200, body, [("ETag", tag), ("Last-Modified", modified)])

    do_HEAD = do_GET

    def do_DELETE(self):
        self.objects.pop(self.key(), None)
        self.answer(204)

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        keys = [part.split("</Key>")[0] for part in body.split("<Key>")[1:]]
        for key in keys:
            self.objects.pop(key, None)
        rows = "".join(f"<Deleted><Key>{key}</Key></Deleted>" for key in keys)
        self.answer(200, f"<DeleteResult>{rows}</DeleteResult>".encode())

    def list(self, prefix):
        rows = "".join(
            f"<Contents><Key>{key}</Key><Size>{len(body)}</Size><ETag>{tag}</ETag>"
            f"<LastModified>{time_of.strftime('%Y-%m-%dT%H:%M:%S.000Z')}</LastModified></Contents>"
            for key, (body, tag, time_of) in sorted(self.objects.items())
            if key.startswith(prefix)
        )
        text = f"<ListBucketResult><IsTruncated>false</IsTruncated>{rows}</ListBucketResult>"
        self.answer(200, text.encode())


@contextmanager
def ignoring():
    """Runs a server that ignores conditions. Gives its endpoint."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Ignoring)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
