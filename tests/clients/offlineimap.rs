//! offlineimap3, both ways, plain, packed and over TLS.

use std::path::Path;
use std::process::Command;

use super::common::{IMAP, IMAPS, PASSWORD, have};
use super::trace::{Trace, has};
use super::{ALICE, demo, files, patient, run};

fn offlineimap(home: &Path, port: u16, remote: &str) {
    let dir = home.display();
    let text = format!(
        "[general]\naccounts = a\nmetadata = {dir}/meta\nui = basic\n\
         [Account a]\nlocalrepository = near\nremoterepository = far\n\
         [Repository near]\ntype = Maildir\nlocalfolders = {dir}/mail\n\
         [Repository far]\ntype = IMAP\nremotehost = 127.0.0.1\nremoteport = {port}\n\
         remoteuser = {ALICE}\nremotepass = {PASSWORD}\n{remote}\n"
    );
    let rc = home.join("offlineimaprc");
    std::fs::write(&rc, text).expect("write");
    // One of its threads reads while another writes, with no lock: where the server's tickets
    // follow the handshake (RFC 8446, 4.6.1), it hangs or crashes at times, whatever the server.
    let tls = home.join("openssl.cnf");
    let text = "openssl_conf = a\n[a]\nssl_conf = b\n[b]\nsystem_default = c\n\
                [c]\nMaxProtocol = TLSv1.2\n";
    std::fs::write(&tls, text).expect("write");
    // It ends well when one of its threads did not.
    let output = run(patient("offlineimap")
        .args(["-o", "-c"])
        .arg(&rc)
        .env("HOME", home)
        .env("OPENSSL_CONF", &tls));
    let mut said = String::from_utf8_lossy(&output.stdout).into_owned();
    said.push_str(&String::from_utf8_lossy(&output.stderr));
    assert!(
        !said.contains("ERROR") && !said.contains("Traceback"),
        "{said}"
    );
}

#[test]
fn offlineimap_both_ways() {
    if !have("offlineimap") || !have("openssl") {
        return;
    }
    let (home, server) = demo();
    let mut imap = server.imap(ALICE);
    let mut append = |mailbox: &str, flags: &str, n: u32| {
        let text = format!("Subject: {n}\r\nMessage-ID: <{n}@o.test>\r\n\r\nbody {n}\r\n");
        let size = text.len();
        imap.ok(&format!("APPEND {mailbox} ({flags}) {{{size}+}}\r\n{text}"));
    };
    (1..=20).for_each(|n| append("INBOX", "", n));
    append("Archive", "\\Seen \\Answered", 21);
    let maildir = home.path().join("mail");
    let trace = Trace::before(server.port(IMAP));
    let plain = "ssl = no\nstarttls = no\nauth_mechanisms = LOGIN";
    let sync = || {
        offlineimap(home.path(), trace.port, plain);
        trace.take()
    };
    has(&sync(), " FETCH 1:* (FLAGS UID INTERNALDATE)");
    let first = files(&maildir);
    assert_eq!(first.len(), 21);
    let answered = |name: &str| name.contains("/Archive/") && name.ends_with(":2,RS");
    assert!(first.iter().any(|(name, _)| answered(name)), "{first:?}");
    sync();
    assert_eq!(files(&maildir), first, "the second run changed something");

    // From here: a new message, flags, a deletion, a mailbox.
    let inbox = maildir.join("INBOX");
    std::fs::write(
        inbox.join("new/1.local.x"),
        "Subject: local\nMessage-ID: <local@o.test>\n\nfrom here\n",
    )
    .expect("write");
    let mut old = first.iter().filter(|(n, _)| n.contains("/INBOX/"));
    let (flagged, gone) = (&old.next().expect("one").0, &old.next().expect("two").0);
    let name = Path::new(flagged)
        .file_name()
        .expect("name")
        .to_string_lossy();
    let stem = name.split(":2,").next().expect("stem");
    std::fs::rename(flagged, inbox.join("cur").join(format!("{stem}:2,FS"))).expect("rename");
    std::fs::remove_file(gone).expect("remove");
    for part in ["cur", "new", "tmp"] {
        std::fs::create_dir_all(maildir.join("Made here").join(part)).expect("mkdir");
    }
    // From there: flags, a deletion, a new message.
    imap.ok("SELECT INBOX");
    imap.ok("STORE 20 +FLAGS (\\Flagged)");
    imap.ok("STORE 19 +FLAGS (\\Deleted)");
    imap.ok("EXPUNGE");
    let text = "Subject: there\r\nMessage-ID: <there@o.test>\r\n\r\nfrom there\r\n";
    imap.ok(&format!("APPEND INBOX {{{}+}}\r\n{text}", text.len()));
    let lines = sync();
    has(&lines, " CREATE \"Made here\"");
    imap.ok("NOOP");
    let mut last = |command: &str| imap.ok(command).pop().expect("an answer").text;
    for (command, answer) in [
        ("STATUS INBOX (MESSAGES UNSEEN)", "(MESSAGES 20 UNSEEN 19)"),
        ("SEARCH RETURN (COUNT) FLAGGED SEEN", "COUNT 1"),
        ("SEARCH RETURN (COUNT) SUBJECT local", "COUNT 1"),
    ] {
        let line = last(command);
        assert!(line.ends_with(answer), "{command}: {line}");
    }
    let after = files(&maildir);
    assert_eq!(after.len(), 21);
    let flagged = |n: &&(String, u64)| n.0.contains(":2,F");
    assert_eq!(after.iter().filter(flagged).count(), 2, "{after:?}");

    // All of it again, packed, over TLS, and with more than one connection.
    let output = run(Command::new("sh").arg("-c").arg(format!(
        "openssl s_client -connect 127.0.0.1:{} </dev/null 2>/dev/null \
         | openssl x509 -noout -fingerprint -sha1",
        server.port(IMAPS)
    )));
    let print = String::from_utf8(output.stdout).expect("utf-8");
    let print = print.trim().split('=').next_back().expect("a fingerprint");
    let print = print.replace(':', "").to_lowercase();
    let more = format!("cert_fingerprint = {print}\nusecompression = yes\nmaxconnections = 3");
    for (port, mode) in [
        (IMAPS, "ssl = yes\nauth_mechanisms = PLAIN"),
        (IMAP, "ssl = no\nstarttls = yes\nauth_mechanisms = PLAIN"),
    ] {
        std::fs::remove_dir_all(&maildir).expect("remove");
        std::fs::remove_dir_all(home.path().join("meta")).expect("remove");
        offlineimap(home.path(), server.port(port), &format!("{mode}\n{more}"));
        assert_eq!(files(&maildir).len(), 21, "{mode}");
    }
}
