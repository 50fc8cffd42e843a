#!/usr/bin/env python3
"""Time from the 250 of a delivery to its Web Push arriving at a receiver on loopback.

    posthorn demo --port-base 12000 --insecure-login --domain bench.test --accounts 300 --password secret
    benches/push.py --base 12000 [--devices 300] [--rate 100]

One device for each account, one delivery for each device, so that coalescing does not come in
between. Needs PyPI's http_ece (for the verification code). Prints one JSON line."""

import argparse
import asyncio
import base64
import json
import os
import time

import http_ece
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
options.add_argument("--base", type=int, default=12000)
options.add_argument("--devices", type=int, default=300)
options.add_argument("--rate", type=float, default=100)
options.add_argument("--domain", default="bench.test")
options.add_argument("--password", default="secret")
args = options.parse_args()

key = ec.generate_private_key(ec.SECP256R1())
point = key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
auth = os.urandom(16)
b64 = lambda data: base64.urlsafe_b64encode(data).rstrip(b"=").decode()
arrived = {}


async def receiver(reader, writer):
    try:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            path = head.split(" ", 2)[1]
            length = int(head.lower().split("content-length:")[1].split("\r\n")[0])
            body = await reader.readexactly(length)
            future = arrived.get(path)
            if future and not future.done():
                future.set_result((time.perf_counter(), body))
            writer.write(b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n")
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
        writer.close()


async def api(method, user, path, body):
    reader, writer = await asyncio.open_connection("127.0.0.1", args.base + 80)
    text = json.dumps(body).encode()
    login = base64.b64encode(f"{user}@{args.domain}:{args.password}".encode()).decode()
    writer.write(
        f"{method} /api/v1{path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Basic {login}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(text)}\r\n\r\n".encode() + text)
    answer = await reader.read()
    writer.close()
    head, _, text = answer.partition(b"\r\n\r\n")
    assert b" 20" in head.split(b"\r\n")[0], answer
    return json.loads(text) if text.strip() else None


async def main():
    server = await asyncio.start_server(receiver, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    for n in range(args.devices):
        path = f"/p/{n}"
        arrived[path] = asyncio.get_running_loop().create_future()
        subscription = {"endpoint": f"http://127.0.0.1:{port}{path}", "expirationTime": None,
                        "keys": {"p256dh": b64(point), "auth": b64(auth)}}
        device = await api("POST", f"user{n}", "/devices", {"name": "bench", "subscription": subscription})
        _, body = await asyncio.wait_for(arrived[path], 30)
        plain = http_ece.decrypt(body, private_key=key, auth_secret=auth, version="aes128gcm")
        await api("POST", f"user{n}", f"/devices/{device['id']}/verify", {"code": json.loads(plain)["code"]})
        arrived[path] = asyncio.get_running_loop().create_future()
    reader, writer = await asyncio.open_connection("127.0.0.1", args.base + 525)

    async def command(text, expect):
        writer.write(text)
        while True:
            line = await reader.readline()
            if line[3:4] == b" ":
                assert line.startswith(expect), line
                return

    await reader.readline()
    await command(b"EHLO bench.test\r\n", b"250")
    accepted = []
    start = time.perf_counter()
    for n in range(args.devices):
        await asyncio.sleep(max(0, start + n / args.rate - time.perf_counter()))
        await command(b"MAIL FROM:<a@example.net>\r\n", b"250")
        await command(f"RCPT TO:<user{n}@{args.domain}>\r\n".encode(), b"250")
        await command(b"DATA\r\n", b"354")
        await command(b"From: A <a@example.net>\r\nSubject: bench\r\n\r\n" + b"x" * 76 + b"\r\n.\r\n", b"250")
        accepted.append(time.perf_counter())
    times = []
    for n, at in enumerate(accepted):
        got, _ = await asyncio.wait_for(arrived[f"/p/{n}"], 30)
        times.append(max(0.0, got - at) * 1000)
    times.sort()
    pick = lambda p: round(times[min(len(times) - 1, int(len(times) * p))], 3)
    print(json.dumps({"bench": "push", "deliveries": len(times), "rate": args.rate,
                      "from_250_ms": {"p50": pick(0.5), "p90": pick(0.9), "p99": pick(0.99), "max": times[-1]}}))


asyncio.run(main())
