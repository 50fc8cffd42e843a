"""IMAPClient reads the seeds of the fuzz target for MIME: it understands every answer, and what
BODYSTRUCTURE says of a part is so.

usage: with_malformed.py IMAP DIRECTORY"""

import pathlib
import re
import sys

from imapclient import IMAPClient

c = IMAPClient("127.0.0.1", port=int(sys.argv[1]), ssl=False)
c.login("alice@posthorn.test", "posthorn-demo")
texts = []
for path in sorted(pathlib.Path(sys.argv[2]).iterdir()):
    # What may be in a mailbox: no NUL, and lines that end by CR LF.
    text = re.sub(rb"\r*\n", b"\r\n", path.read_bytes().replace(b"\0", b""))
    if text:
        c.append("INBOX", text)
        texts.append(text)
assert len(texts) >= 5
c.select_folder("INBOX", readonly=True)


def parts(structure, path):
    if structure.is_multipart:
        for n, part in enumerate(structure[0], 1):
            yield from parts(part, path + [str(n)])
    else:
        yield ".".join(path or ["1"]), structure[6]


looked_at = 0
for uid, text in zip(c.search("ALL"), texts, strict=True):
    items = ["ENVELOPE", "BODYSTRUCTURE", "BODY", "RFC822.SIZE", "BODY[]", "BODY[HEADER]", "BODY[TEXT]"]
    got = c.fetch([uid], items)[uid]
    assert got[b"BODY[]"] == text and got[b"RFC822.SIZE"] == len(text), uid
    assert got[b"BODY[HEADER]"] + got[b"BODY[TEXT]"] == text, uid
    for path, size in parts(got[b"BODYSTRUCTURE"], []):
        part = c.fetch([uid], [f"BODY[{path}]"])[uid][f"BODY[{path}]".encode()]
        assert len(part or b"") == size, (uid, path, part, size)
        looked_at += 1
assert looked_at >= len(texts)
c.logout()
