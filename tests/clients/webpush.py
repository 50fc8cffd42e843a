"""A phone and its push service, independent of Posthorn: registers over the API, is verified,
is woken by a mail, decrypts with http_ece, checks the VAPID token with cryptography.

usage: webpush.py HTTP_PORT SMTP_PORT IMAP_PORT"""

import base64
import hashlib
import http.server
import imaplib
import json
import os
import queue
import smtplib
import sys
import threading
import time
import urllib.error
import urllib.request

import http_ece
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, utils

HTTP, SMTP, IMAP = (int(p) for p in sys.argv[1:4])
USER, PASSWORD = "alice@posthorn.test", "posthorn-demo"
pushes = queue.Queue()
answers = queue.Queue()


def b64(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def unb64(text):
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


class PushService(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        status = 201 if answers.empty() else answers.get()
        self.send_response(status)
        self.send_header("Location", "/m/1")
        self.send_header("Content-Length", "0")
        self.end_headers()
        pushes.put((self.path, {k.title(): v for k, v in self.headers.items()}, body))

    def log_message(self, *args):
        pass


service = http.server.ThreadingHTTPServer(("127.0.0.1", 0), PushService)
threading.Thread(target=service.serve_forever, daemon=True).start()
origin = f"http://127.0.0.1:{service.server_port}"

key = ec.generate_private_key(ec.SECP256R1())
point = key.public_key().public_bytes(
    serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint)
auth = os.urandom(16)


def api(method, path, body=None, password=PASSWORD):
    request = urllib.request.Request(f"http://127.0.0.1:{HTTP}/api/v1{path}", method=method)
    login = base64.b64encode(f"{USER}:{password}".encode()).decode()
    request.add_header("Authorization", "Basic " + login)
    data = None
    if body is not None:
        data = json.dumps(body).encode()
        request.add_header("Content-Type", "application/json")
    try:
        with urllib.request.urlopen(request, data, timeout=30) as answer:
            text = answer.read()
            return answer.status, json.loads(text) if text else None
    except urllib.error.HTTPError as error:
        text = error.read()
        return error.code, json.loads(text) if text else None


def check_vapid(headers):
    scheme, _, rest = headers["Authorization"].partition(" ")
    assert scheme == "vapid", headers
    parts = dict(p.strip().split("=", 1) for p in rest.split(","))
    head, claims, signature = parts["t"].split(".")
    assert json.loads(unb64(head))["alg"] == "ES256"
    public = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), unb64(parts["k"]))
    raw = unb64(signature)
    assert len(raw) == 64
    der = utils.encode_dss_signature(
        int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big"))
    public.verify(der, f"{head}.{claims}".encode(), ec.ECDSA(hashes.SHA256()))
    claims = json.loads(unb64(claims))
    assert claims["aud"] == origin, claims
    assert 0 < claims["exp"] - time.time() <= 24 * 3600, claims
    assert claims["sub"].startswith(("mailto:", "https:")), claims


def next_push():
    path, headers, body = pushes.get(timeout=30)
    assert path == "/push/secret-of-alice", path
    assert headers["Content-Encoding"] == "aes128gcm", headers
    assert int(headers["Ttl"]) > 0
    assert len(headers.get("Topic", "")) <= 32
    check_vapid(headers)
    plain = http_ece.decrypt(body, private_key=key, auth_secret=auth, version="aes128gcm")
    return json.loads(plain), headers


status, _ = api("GET", "/devices", password="wrong")
assert status == 401, status
subscription = {
    "endpoint": origin + "/push/secret-of-alice",
    "expirationTime": None,
    "keys": {"p256dh": b64(point), "auth": b64(auth)},
}
bad = dict(subscription, keys={"p256dh": b64(b"\x04" + b"\1" * 64), "auth": b64(auth)})
status, answer = api("POST", "/devices", {"name": "bad", "subscription": bad})
assert status in (400, 422), (status, answer)
inside = dict(subscription, endpoint="https://10.0.0.1/x")
status, answer = api("POST", "/devices", {"name": "inside", "subscription": inside})
assert status in (400, 403, 422), (status, answer)

status, device = api("POST", "/devices", {"name": "Alice's phone", "subscription": subscription})
assert status in (200, 201), (status, device)
verify, _ = next_push()
assert verify["v"] == 1 and verify["t"] == "verify", verify
status, answer = api("POST", f"/devices/{device['id']}/verify", {"code": "0" * 32})
assert status >= 400, (status, answer)
status, answer = api("POST", f"/devices/{device['id']}/verify", {"code": verify["code"]})
assert status in (200, 204), (status, answer)

smtp = smtplib.SMTP("127.0.0.1", SMTP)
smtp.sendmail(
    "bob@example.net", [USER],
    "From: Bob <bob@example.net>\r\nTo: alice@posthorn.test\r\nSubject: =?utf-8?q?L=C3=BCnch=3F?=\r\n\r\nNow.\r\n")
mail, headers = next_push()
assert mail["t"] == "mail" and mail["a"] == USER and mail["m"] == "INBOX", mail
assert mail["n"] == 1 and mail["u"] >= 1, mail
assert "Bob" in mail["from"] and mail["subj"] == "Lünch?", mail

def send_test():
    """A device that is being woken right now says 503 for a moment."""
    deadline = time.time() + 60
    while True:
        status, answer = api("POST", f"/devices/{device['id']}/test")
        if status != 503 or time.time() > deadline:
            return status, answer
        time.sleep(0.2)


status, answer = send_test()
assert status == 200, (status, answer)
test, _ = next_push()
assert test["t"] == "test", test

status, listed = api("GET", "/devices")
text = json.dumps(listed)
assert "Alice's phone" in text and "secret-of-alice" not in text, text

# The push service forgets the subscription: so does Posthorn.
answers.put(410)
status, answer = send_test()
assert status == 200 and answer["outcome"] == "gone", (status, answer)
next_push()
deadline = time.time() + 30
while any(d["id"] == device["id"] for d in api("GET", "/devices")[1]["devices"]):
    assert time.time() < deadline, "the device outlived 410 Gone"
    time.sleep(0.1)

imap = imaplib.IMAP4("127.0.0.1", IMAP)
imap.login(USER, PASSWORD)
imap.select("INBOX")
typ, data = imap.uid("FETCH", str(mail["u"]), "(BODY.PEEK[HEADER.FIELDS (SUBJECT)])")
assert typ == "OK" and b"L=C3=BCnch" in data[0][1], data
print("web push: ok")
