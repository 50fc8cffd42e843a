"""imaplib: what library.py beside this has not tried.

usage: with_imaplib.py IMAP IMAPS; alice has a quota of 1 MiB and 100 messages"""

import imaplib
import re
import ssl
import sys

IMAP, IMAPS = (int(p) for p in sys.argv[1:3])
USER, PASSWORD = "alice@posthorn.test", "posthorn-demo"


def ok(answer):
    assert answer[0] == "OK", answer
    return answer[1]


def plain(_):
    return f"\0{USER}\0{PASSWORD}".encode()


over_tls = imaplib.IMAP4_SSL("127.0.0.1", IMAPS, ssl_context=ssl._create_unverified_context())
ok(over_tls.authenticate("PLAIN", plain))
over_tls.logout()

imap = imaplib.IMAP4("127.0.0.1", IMAP)
ok(imap.authenticate("PLAIN", plain))
assert b'"Posthorn"' in ok(imap.xatom("ID", "NIL"))[0] or imap.response("ID")[1]
assert ok(imap.namespace()) == [b'(("" "/")) (("Other Users/" "/")) NIL']

# Names with spaces, subscriptions
ok(imap.create('"a b"'))
ok(imap.subscribe('"a b"'))
assert ok(imap.list('""', '"a*"')) == [b'(\\HasNoChildren) "/" "a b"']
assert ok(imap.lsub('""', '"a*"')) == [b'() "/" "a b"']
ok(imap.unsubscribe('"a b"'))
assert ok(imap.lsub('""', '"a*"')) == [None]
ok(imap.rename('"a b"', '"a c"'))
status = ok(imap.status('"a c"', "(MESSAGES UIDNEXT RECENT UNSEEN)"))
assert status == [b'"a c" (MESSAGES 0 UIDNEXT 1 RECENT 0 UNSEEN 0)'], status

# A conversation of three, and one message by itself
ok(imap.select("INBOX"))
for n, subject in enumerate(("apple", "Re: apple", "Re: apple", "pear"), 1):
    reply = b"In-Reply-To: <%d@i>\r\n" % (n - 1) if subject.startswith("Re") else b""
    text = b"From: user%d@example.net\r\nSubject: %s\r\nMessage-ID: <%d@i>\r\n%s\r\nbody %d\xc3\xbc\r\n" % (
        5 - n, subject.encode(), n, reply, n)
    ok(imap.append("INBOX", "\\Seen $K", f'"0{n}-Jan-2020 00:00:00 +0100"', text))
assert imap.recent() == ("OK", [b"1", b"2", b"3", b"4"]) or imap.response("EXISTS")
assert ok(imap.thread("REFERENCES", "UTF-8", "ALL")) == [b"(1 2 3)(4)"]
assert ok(imap.uid("THREAD", "ORDEREDSUBJECT", "UTF-8", "ALL")) == [b"(1 (2)(3))(4)"]
assert ok(imap.sort("(REVERSE DATE)", "UTF-8", "ALL")) == [b"4 3 2 1"]
assert ok(imap.sort("(FROM)", "US-ASCII", "ALL")) == [b"4 3 2 1"]
assert ok(imap.uid("SORT", "(SUBJECT REVERSE ARRIVAL)", "UTF-8", 'SUBJECT "p"')) == [b"3 2 1 4"]
assert ok(imap.search(None, "ON", "3-Jan-2020")) == [b"3"]
assert ok(imap.search("UTF-8", "KEYWORD", "$K", "BODY", '"body 4"')) == [b"4"]
imap.literal = "1ü".encode()
assert ok(imap.uid("SEARCH", "CHARSET", "UTF-8", "BODY")) == [b"1"]
assert imap.search("KOI8-R", "TEXT", "x")[0] == "NO"
header, text = (part[1] for part in ok(imap.fetch("4", "(RFC822.HEADER RFC822.TEXT)")) if isinstance(part, tuple))
assert header.startswith(b"From: user1@") and text == "body 4ü\r\n".encode(), (header, text)

# The quota and rights
quota = ok(imap.getquotaroot("INBOX"))
used = re.search(rb"STORAGE (\d+) 1024", quota[1][0])
assert used and b"MESSAGE 4 100" in quota[1][0], quota
assert ok(imap.getquota('""')) == quota[1]
assert imap.setquota('""', "(STORAGE 1000)")[0] == "NO"
assert ok(imap.myrights("INBOX")) == [b"INBOX lrswipkxteacd"]
ok(imap.setacl('"a c"', "bob@posthorn.test", "lrs"))
assert b"bob@posthorn.test lrs" in ok(imap.getacl('"a c"'))[0]

# Shared with bob, who sees it
bob = imaplib.IMAP4("127.0.0.1", IMAP)
bob.login("bob@posthorn.test", PASSWORD)
shared = '"Other Users/alice@posthorn.test/a c"'
ok(bob.select(shared))
assert ok(bob.myrights(shared))[0].endswith(b" lrs")
bob.logout()
ok(imap.deleteacl('"a c"', "bob@posthorn.test"))
assert b"bob" not in ok(imap.getacl('"a c"'))[0]

# Copies, moves, deletions
ok(imap.copy("1:2", '"a c"'))
ok(imap.uid("MOVE", "4", '"a c"'))
assert imap.uid("COPY", "1", "Nope")[0] == "NO"
ok(imap.store("1,3", "+FLAGS.SILENT", "(\\Deleted)"))
assert ok(imap.expunge()) == [b"4", b"3", b"1"]
assert ok(imap.status('"a c"', "(MESSAGES)")) == [b'"a c" (MESSAGES 3)']
ok(imap.check())
ok(imap.unselect())
ok(imap.delete('"a c"'))
ok(imap.enable("UTF8=ACCEPT"))
imap.logout()
print("imaplib: ok")
