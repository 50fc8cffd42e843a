//! Nobody but the server's user reads in the data directory, whatever the umask and whoever made
//! the directory; and one server at a time has it.

#![allow(clippy::expect_used, clippy::panic)]

mod common;

use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use common::{HTTP, PATIENCE, Smtp, free_base};

/// Everything below, the directory itself first.
fn tree(dir: &Path) -> Vec<PathBuf> {
    let mut all = vec![dir.to_owned()];
    let mut at = 0;
    while at < all.len() {
        if all[at].is_dir() {
            let entries = std::fs::read_dir(&all[at]).expect("read");
            all.extend(entries.map(|entry| entry.expect("entry").path()));
        }
        at += 1;
    }
    all
}

fn assert_private(dir: &Path) -> usize {
    let all = tree(dir);
    for path in &all {
        let found = std::fs::symlink_metadata(path).expect("metadata");
        let want = if found.is_dir() { 0o700 } else { 0o600 };
        let mode = found.permissions().mode() & 0o7777;
        assert_eq!(mode, want, "{} is {mode:o}", path.display());
    }
    all.len()
}

/// A demo under this umask, ready.
struct Demo(std::process::Child, u16);

impl Demo {
    fn start(dir: &Path, umask: &str) -> Self {
        let base = free_base();
        let log = std::fs::File::create(dir.with_extension("log")).expect("log");
        let child = Command::new("sh")
            .args(["-c", "umask $1; shift; exec \"$@\"", "sh", umask])
            .arg(env!("CARGO_BIN_EXE_posthorn"))
            .args(["demo", "--insecure-login", "--port-base", &base.to_string()])
            .arg("--dir")
            .arg(dir)
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("sh");
        let mut demo = Self(child, base);
        let until = Instant::now() + PATIENCE;
        while !common::http_get(base + HTTP, "/readyz").is_some_and(|r| r.contains(" 200 ")) {
            if let Some(status) = demo.0.try_wait().expect("wait") {
                let log = std::fs::read_to_string(dir.with_extension("log"));
                panic!("{status}: {log:?}");
            }
            assert!(Instant::now() < until, "not ready");
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        demo
    }

    fn work(&self) {
        let mut smtp = Smtp::connect(self.1 + common::SMTP).expect("SMTP");
        smtp.command("EHLO client.test").expect("EHLO");
        // Small, and one that does not shrink and so has a file of its own.
        let mut state = 1u64;
        let noise = std::iter::repeat_with(|| {
            state = state.wrapping_mul(6_364_136_223_846_793_005) | 1;
            state = state.wrapping_add(state >> 29);
            32 + ((state >> 40) % 94) as u8
        });
        let mut large = b"Subject: large\r\n\r\n".to_vec();
        for (n, byte) in noise.take(6 << 20).enumerate() {
            large.push(byte);
            if n % 900 == 899 {
                large.extend_from_slice(b"\r\n");
            }
        }
        large.extend_from_slice(b"\r\n");
        for text in [&b"Subject: small\r\n\r\nHi\r\n"[..], &large] {
            let reply = smtp.deliver("c@example.org", &["alice@posthorn.test"], text);
            let reply = reply.expect("reply");
            assert!(reply.starts_with("250"), "{reply}");
        }
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn all_that_is_made_is_private_whatever_the_umask() {
    for umask in ["022", "000"] {
        let home = tempfile::tempdir().expect("tempdir");
        let dir = home.path().join("data");
        let demo = Demo::start(&dir, umask);
        demo.work();
        assert!(assert_private(&dir) > 12);
        let names = tree(&dir);
        assert!(
            names
                .iter()
                .any(|path| path.to_string_lossy().contains("blob-"))
        );
        drop(demo);
        std::fs::write(dir.join("rebuild-index"), b"").expect("mark");
        let _demo = Demo::start(&dir, umask);
        assert_private(&dir);
    }
}

#[test]
fn what_was_left_open_is_narrowed_and_said_once() {
    let home = tempfile::tempdir().expect("tempdir");
    let dir = home.path().join("data");
    let outside = home.path().join("outside");
    std::fs::write(&outside, b"not ours").expect("write");
    std::fs::set_permissions(&outside, PermissionsExt::from_mode(0o644)).expect("mode");
    let demo = Demo::start(&dir, "022");
    demo.work();
    drop(demo);
    std::os::unix::fs::symlink(&outside, dir.join("link")).expect("link");
    for path in tree(&dir) {
        let found = std::fs::symlink_metadata(&path).expect("metadata");
        if !found.is_symlink() && !found.file_type().is_socket() {
            let mode = if found.is_dir() { 0o2755 } else { 0o664 };
            std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).expect("mode");
        }
    }
    let demo = Demo::start(&dir, "000");
    std::fs::remove_file(dir.join("link")).expect("remove");
    assert_private(&dir);
    let mode = std::fs::metadata(&outside)
        .expect("metadata")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o644, "what a link names is not ours");
    let log = std::fs::read_to_string(dir.with_extension("log")).expect("log");
    assert_eq!(log.matches("open to other users").count(), 1, "{log}");
    drop(demo);
    let _demo = Demo::start(&dir, "000");
    let log = std::fs::read_to_string(dir.with_extension("log")).expect("log");
    assert!(!log.contains("open to other users"), "{log}");
}

/// Told at once, with the pid, on the same ports and on others; and nothing is touched.
#[test]
fn a_second_server_is_told_of_the_first() {
    let home = tempfile::tempdir().expect("tempdir");
    let dir = home.path().join("data");
    let demo = Demo::start(&dir, "022");
    for base in [demo.1, free_base()] {
        let second = Command::new(env!("CARGO_BIN_EXE_posthorn"))
            .args(["demo", "--port-base", &base.to_string(), "--dir"])
            .arg(&dir)
            .output()
            .expect("posthorn");
        assert_eq!(second.status.code(), Some(1));
        let told = String::from_utf8_lossy(&second.stderr);
        let pid = format!("(pid {})", demo.0.id());
        assert!(
            told.contains("in use by another posthorn") && told.contains(&pid),
            "{told}"
        );
    }
    demo.work();
}

#[test]
fn a_directory_of_another_user_is_refused() {
    let home = tempfile::tempdir().expect("tempdir");
    let dir = home.path().join("data");
    std::fs::create_dir(&dir).expect("mkdir");
    let given = Command::new("chown").arg("65534").arg(&dir).status();
    if !given.is_ok_and(|status| status.success()) {
        return common::skipped("only root can give a directory to another user");
    }
    let refused = Command::new(env!("CARGO_BIN_EXE_posthorn"))
        .args(["demo", "--port-base", &free_base().to_string(), "--dir"])
        .arg(&dir)
        .output()
        .expect("posthorn");
    assert_eq!(refused.status.code(), Some(1));
    let told = String::from_utf8_lossy(&refused.stderr);
    assert!(told.contains("belongs to user 65534"), "{told}");
    assert_eq!(tree(&dir).len(), 1, "nothing was made in it");
}
