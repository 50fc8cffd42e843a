"""Python's smtplib and imaplib against a running demo.

usage: library.py SMTP SUBMISSION SUBMISSIONS IMAP IMAPS"""

import email.message
import imaplib
import smtplib
import socket
import ssl
import sys
import time

SMTP, SUBMISSION, SUBMISSIONS, IMAP, IMAPS = (int(p) for p in sys.argv[1:6])
USER, PASSWORD = "alice@posthorn.test", "posthorn-demo"
tls = ssl._create_unverified_context()

# Receiving
mx = smtplib.SMTP("127.0.0.1", SMTP)
mx.ehlo("client.example")
for extension in ("pipelining", "size", "8bitmime", "smtputf8", "enhancedstatuscodes", "chunking", "starttls"):
    assert mx.has_extn(extension), extension
assert mx.starttls(context=tls)[0] == 220
mx.ehlo("client.example")
assert not mx.has_extn("starttls")
assert mx.mail("a@example.net")[0] == 250
code, text = mx.rcpt("nobody@posthorn.test")
assert code == 550 and text.startswith(b"5.1.1"), (code, text)
code, text = mx.rcpt("someone@example.org")
assert code == 550 and text.startswith(b"5.7.1"), (code, text)
assert mx.rcpt("alice+list@posthorn.test")[0] == 250
assert mx.rcpt("postmaster")[0] == 250
code, text = mx.data("Subject: dots\r\n\r\n..one\r\n.\r\ntwo\r\n")
assert code == 250, (code, text)
mx.quit()

# Submission: both ways, and not without a login
for port, implicit in ((SUBMISSION, False), (SUBMISSIONS, True)):
    if implicit:
        sub = smtplib.SMTP_SSL("127.0.0.1", port, context=tls)
    else:
        sub = smtplib.SMTP("127.0.0.1", port)
        sub.starttls(context=tls)
    sub.ehlo()
    code, text = sub.mail(USER)
    assert code == 530, (code, text)
    try:
        sub.login(USER, "wrong")
        raise SystemExit("a wrong password was taken")
    except smtplib.SMTPAuthenticationError as error:
        assert error.smtp_code == 535, error
    sub.login(USER, PASSWORD)
    message = email.message.EmailMessage()
    message["From"], message["To"], message["Subject"] = USER, "bob@posthorn.test", "hello"
    message.set_content("line\n.dot\n")
    sub.send_message(message)
    try:
        sub.sendmail(USER, ["x@example.org"], message.as_bytes())
        raise SystemExit("mail to another domain was taken")
    except smtplib.SMTPRecipientsRefused as error:
        assert error.recipients["x@example.org"][0] == 550, error
    sub.quit()

# Reading
for imap in (imaplib.IMAP4("127.0.0.1", IMAP), imaplib.IMAP4_SSL("127.0.0.1", IMAPS, ssl_context=tls)):
    if not isinstance(imap, imaplib.IMAP4_SSL):
        imap.starttls(tls)
    imap.login(USER, PASSWORD)
    assert "IMAP4REV1" in imap.capabilities and "IDLE" in imap.capabilities, imap.capabilities
    typ, boxes = imap.list()
    names = b" ".join(boxes)
    for name in (b"INBOX", b"Drafts", b"Sent", b"Junk", b"Trash", b"Archive"):
        assert name in names, boxes
    assert b"\\Sent" in names and b"\\Junk" in names
    imap.select("INBOX")
    typ, found = imap.search(None, "SUBJECT", "dots")
    assert typ == "OK" and found[0], found
    typ, data = imap.fetch(found[0].split()[0], "(BODY.PEEK[TEXT])")
    assert data[0][1] == b"..one\r\n.\r\ntwo\r\n", data
    imap.append("Drafts", r"(\Draft \Seen)", imaplib.Time2Internaldate(time.time()), b"Subject: draft\r\n\r\nx\r\n")
    typ, n = imap.select("Drafts")
    assert int(n[0]) >= 1
    imap.store("1:*", "+FLAGS", r"(\Deleted)")
    imap.expunge()
    assert imap.select("Drafts")[1][0] == b"0"
    imap.logout()

# IDLE: mail that comes in shows at once
idle = imaplib.IMAP4("127.0.0.1", IMAP)
idle.login("bob@posthorn.test", PASSWORD)
idle.select("INBOX")
idle.send(b"i IDLE\r\n")
assert idle.readline().startswith(b"+")
mx = smtplib.SMTP("127.0.0.1", SMTP)
mx.sendmail("a@example.net", ["bob@posthorn.test"], "Subject: ring\r\n\r\nring\r\n")
line = idle.readline()
while b"EXISTS" not in line:
    line = idle.readline()
idle.send(b"done\r\n")
line = idle.readline()
while not line.startswith(b"i "):
    line = idle.readline()
assert line.startswith(b"i OK"), line
print("smtplib and imaplib: ok")
