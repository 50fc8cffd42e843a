"""IMAPClient, with all extensions that it has methods for.

usage: with_imapclient.py IMAP IMAPS; alice has a quota of 1 MiB and 100 messages"""

import datetime
import ssl
import sys

from imapclient import DELETED, FLAGGED, SEEN, IMAPClient, imapclient

IMAP, IMAPS = (int(p) for p in sys.argv[1:3])
USER, PASSWORD = "alice@posthorn.test", "posthorn-demo"
tls = ssl._create_unverified_context()

# The ways in
with IMAPClient("127.0.0.1", port=IMAPS, ssl_context=tls) as c:
    c.plain_login(USER, PASSWORD)
c = IMAPClient("127.0.0.1", port=IMAP, ssl=False)
c.starttls(tls)
c.sasl_login("LOGIN", lambda challenge: USER.encode() if b"ser" in challenge else PASSWORD.encode())
c.logout()


def connect():
    client = IMAPClient("127.0.0.1", port=IMAP, ssl=False)
    client.login(USER, PASSWORD)
    return client


c = connect()
assert dict(zip(*[iter(c.id_({"name": "x"})[0])] * 2))[b"name"] == b"Posthorn"
assert c.namespace().personal == (("", "/"),) and c.namespace().other == (("Other Users/", "/"),)
for name in ("SENT", "TRASH", "JUNK", "DRAFTS", "ARCHIVE"):
    assert c.find_special_folder(getattr(imapclient, name)) == name.capitalize(), name

# Names beyond ASCII
c.create_folder("Ordner/Ünïcode & co")
assert [f[2] for f in c.list_folders("", "Ordner/*")] == ["Ordner/Ünïcode & co"]
c.rename_folder("Ordner/Ünïcode & co", "Ordner/日本")
assert c.folder_exists("Ordner/日本")
c.subscribe_folder("Ordner/日本")
assert "Ordner/日本" in [f[2] for f in c.list_sub_folders("", "*")]
c.unsubscribe_folder("Ordner/日本")

# Messages in one go, with CONDSTORE
c.enable("CONDSTORE")
when = datetime.datetime(2020, 1, 2, 3, 4, 5)
assert b"APPENDUID" in c.append("INBOX", b"Subject: pear\r\nMessage-ID: <1@c>\r\n\r\n1\r\n", [SEEN], when)
more = [
    {"msg": b"Subject: apple\r\nMessage-ID: <2@c>\r\n\r\n2\r\n", "date": when},
    {"msg": b"Subject: Re: apple\r\nReferences: <2@c>\r\n\r\n3 h\xc3\xa9llo\r\n", "flags": (FLAGGED,), "date": when},
]
assert c.has_capability("MULTIAPPEND")
c.multiappend("INBOX", more)
selected = c.select_folder("INBOX")
assert selected[b"EXISTS"] == 3 and selected[b"UIDNEXT"] == 4, selected
modseq = selected[b"HIGHESTMODSEQ"]
assert c.folder_status("INBOX", ["MESSAGES", "HIGHESTMODSEQ"]) == {b"MESSAGES": 3, b"HIGHESTMODSEQ": modseq}
got = c.fetch([1], ["ENVELOPE", "BODYSTRUCTURE", "FLAGS", "RFC822.SIZE", "INTERNALDATE", "MODSEQ", "BODY.PEEK[]", "EMAILID"])[1]
assert got[b"ENVELOPE"].subject == b"pear" and got[b"ENVELOPE"].message_id == b"<1@c>"
assert got[b"RFC822.SIZE"] == len(got[b"BODY[]"]) and SEEN in got[b"FLAGS"], got
assert got[b"INTERNALDATE"] == when and not got[b"BODYSTRUCTURE"].is_multipart

# Finding
assert c.search(["SINCE", datetime.date(2020, 1, 2), "UNSEEN", "SUBJECT", "apple"]) == [2, 3]
assert c.search(["TEXT", "héllo"], "UTF-8") == [3]
assert c.sort("SUBJECT") == [2, 3, 1] and c.sort(["REVERSE SUBJECT"], ["SUBJECT", "apple"]) == [2, 3]
assert c.thread("REFERENCES") == ((1,), (2, 3)) and c.thread("ORDEREDSUBJECT") == ((1,), (2, 3))

# Flags, and what changed since
assert c.add_flags([1, 2], [SEEN, "$Custom"])[2] == (SEEN, b"$Custom", b"\\Recent")
assert c.set_flags([3], [FLAGGED]) and c.remove_flags([1], ["$Custom"])
assert c.get_flags([1])[1] == (SEEN, b"\\Recent")
changed = c.fetch([1, 2, 3], ["FLAGS"], [f"CHANGEDSINCE {modseq}"])
assert set(changed) >= {1, 2} and all(m[b"MODSEQ"][0] > modseq for m in changed.values()), changed
found = c.search(["MODSEQ", str(modseq + 1)])
assert set(found) == set(changed) and found.modseq > modseq

# IDLE
other = connect()
c.idle()
other.append("INBOX", b"Subject: new\r\n\r\nnew\r\n")
other.select_folder("INBOX")
other.add_flags([2], [DELETED])
other.uid_expunge([2])
told = []
while not any(t[1] == b"EXPUNGE" for t in told):
    told += c.idle_check(timeout=30)
assert (4, b"EXISTS") in told and told[-1] == (2, b"EXPUNGE"), told
assert any(t[1] == b"FETCH" and DELETED in t[2][-1] for t in told), told
c.idle_done()
other.logout()

# Copies, moves, deletions
c.copy([1], "Ordner/日本")
c.move([3], "Ordner/日本")
c.delete_messages([4])
c.expunge()
assert c.search("ALL") == [1] and c.folder_status("Ordner/日本", ["MESSAGES"]) == {b"MESSAGES": 2}
c.unselect_folder()

# Rights and the quota
assert c.getacl("INBOX") == [(USER.encode(), b"lrswipkxteacd")]
c.setacl("Ordner/日本", "bob@posthorn.test", "lrs")
assert (b"bob@posthorn.test", b"lrs") in c.getacl("Ordner/日本")
roots, quotas = c.get_quota_root("INBOX")
assert {(q.resource, q.limit) for q in quotas} == {("STORAGE", 1024), ("MESSAGE", 100)}, quotas
assert {q.resource: q.usage for q in c.get_quota()}["MESSAGE"] == 3

c.select_folder("Ordner/日本", readonly=True)
c.close_folder()
c.delete_folder("Ordner/日本")
c.noop()
c.logout()
print("IMAPClient: ok")
