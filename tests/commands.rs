//! Commands used wrongly, from odd places, and where nothing is: what they say and what they
//! leave alone.

#![allow(clippy::expect_used, clippy::panic)]

mod common;

use std::path::Path;
use std::process::Command;

use common::cli::{Cli, configure, finish};
use serde_json::Value;

fn posthorn(dir: &Path, args: &[&str]) -> common::cli::Answer {
    let mut command = Command::new(env!("CARGO_BIN_EXE_posthorn"));
    command.current_dir(dir).args(args);
    finish(command, "")
}

#[test]
fn a_relative_data_dir_is_beside_the_configuration_wherever_a_command_runs() {
    let home = tempfile::tempdir().expect("tempdir");
    let (etc, one, two) = (
        home.path().join("etc"),
        home.path().join("one"),
        home.path().join("two"),
    );
    for dir in [&etc, &one, &two] {
        std::fs::create_dir(dir).expect("mkdir");
    }
    let text = "hostname = \"mail.posthorn.test\"\ndata_dir = \"mail\"\n";
    std::fs::write(etc.join("posthorn.toml"), text).expect("write");
    let config = "../etc/posthorn.toml";
    let added = posthorn(&one, &["--config", config, "domain", "add", "club.test"]);
    assert_eq!(added.status, Some(0), "{}", added.err);
    let absolute = etc.join("posthorn.toml");
    for (dir, config) in [(&two, config), (&two, absolute.to_str().expect("utf-8"))] {
        let listed = posthorn(dir, &["--config", config, "domain", "list"]);
        assert!(
            listed.out.contains("club.test"),
            "{}{}",
            listed.out,
            listed.err
        );
    }
    let listed = posthorn(&etc, &["--config", "posthorn.toml", "domain", "list"]);
    assert!(
        listed.out.contains("club.test"),
        "{}{}",
        listed.out,
        listed.err
    );
    assert!(etc.join("mail/log").is_dir());
    for dir in [one, two] {
        assert_eq!(std::fs::read_dir(dir).expect("dir").count(), 0);
    }
}

#[test]
fn a_command_that_finds_no_store_makes_none() {
    let home = tempfile::tempdir().expect("tempdir");
    let cli = configure(home.path());
    let data = home.path().join("data");
    for args in [
        &["account", "list"][..],
        &["account", "show", "alice@club.test"],
        &["account", "passwd", "alice@club.test", "--password-stdin"],
        &["account", "remove", "alice@club.test", "--yes"],
        &["alias", "list"],
        &["domain", "list"],
        &["device", "list", "alice@club.test"],
        &["status"],
    ] {
        cli.fails(1, args, "there is no store");
        cli.fails(1, args, "posthorn domain add");
        assert!(!data.exists(), "{args:?} made a store");
    }
    assert_eq!(cli.run(&["config", "check"], "").status, Some(0));
    assert!(!data.exists());
    // A wrong name makes none either.
    cli.fails(2, &["domain", "add", "a b"], "not a mail domain");
    assert!(!data.exists());
    cli.ok(&["domain", "add", "club.test"], "");
    cli.ok(&["domain", "list"], "");
}

#[test]
fn wrong_use_with_json_is_json() {
    let home = tempfile::tempdir().expect("tempdir");
    for (args, says) in [
        (&["--json", "no-such-command"][..], "no-such-command"),
        (&["account", "--json"], "command"),
        (&["--json"], "command"),
        (&["account", "add", "--json"], "<ADDRESS>"),
        (
            &["device", "remove", "a@b.test", "x", "--json"],
            "invalid value 'x'",
        ),
        (&["status", "--json", "--nonsense"], "--nonsense"),
    ] {
        let answer = posthorn(home.path(), args);
        assert_eq!(answer.status, Some(2), "{args:?}");
        assert_eq!(answer.err, "", "{args:?}");
        let said: Value = serde_json::from_str(&answer.out)
            .unwrap_or_else(|error| panic!("{args:?}: {error}: {}", answer.out));
        let text = said["error"].as_str().expect("error");
        assert!(text.contains(says), "{args:?}: {text}");
        assert!(!text.starts_with("error:"), "{text}");
    }
    // Help is help, and text that only looks like the option is not it.
    let help = posthorn(home.path(), &["--json", "--help"]);
    assert_eq!(help.status, Some(0));
    assert!(help.out.contains("Usage"), "{}", help.out);
    let text = posthorn(home.path(), &["domain", "add", "--", "--json", "x"]);
    assert_eq!((text.status, text.out.as_str()), (Some(2), ""));
}

#[test]
fn an_empty_posthorn_config_is_none() {
    let home = tempfile::tempdir().expect("tempdir");
    let config = home.path().join("config");
    std::fs::create_dir(&config).expect("mkdir");
    let text = "hostname = \"mail.posthorn.test\"\ndata_dir = \"d\"\n";
    std::fs::write(config.join("posthorn.toml"), text).expect("write");
    std::fs::write(home.path().join("other.toml"), text).expect("write");
    for (value, file) in [
        ("", "config/posthorn.toml"),
        ("other.toml", "other.toml"),
        ("absent.toml", ""),
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_posthorn"));
        command
            .current_dir(home.path())
            .args(["config", "check"])
            .env("POSTHORN_CONFIG", value);
        let answer = finish(command, "");
        if file.is_empty() {
            assert_eq!(answer.status, Some(1));
            assert!(answer.err.contains("absent.toml"), "{}", answer.err);
        } else {
            assert_eq!(answer.out, format!("{file} is good\n"), "{}", answer.err);
        }
    }
    let mut command = Command::new(env!("CARGO_BIN_EXE_posthorn"));
    command
        .current_dir(home.path())
        .args(["config", "check", "--config", "other.toml"])
        .env("POSTHORN_CONFIG", "absent.toml");
    assert_eq!(finish(command, "").out, "other.toml is good\n");
}

#[test]
fn an_address_is_looked_at_before_a_password_is_asked_for() {
    let home = tempfile::tempdir().expect("tempdir");
    let cli = configure(home.path());
    for verb in ["add", "passwd"] {
        // Without --password-stdin it would have to ask a terminal.
        cli.fails(2, &["account", verb, "nonsense"], "not a mail address");
    }
    let absent = Cli {
        config: home.path().join("absent.toml"),
    };
    absent.fails(1, &["account", "add", "a@b.test"], "absent.toml");
}

#[test]
fn an_alias_that_leads_back_to_itself_is_refused() {
    let home = tempfile::tempdir().expect("tempdir");
    let cli = configure(home.path());
    cli.ok(&["domain", "add", "club.test"], "");
    cli.ok(
        &["account", "add", "carol@club.test", "--password-stdin"],
        "secret\n",
    );
    cli.ok(&["alias", "add", "a@club.test", "b@club.test"], "");
    cli.ok(
        &[
            "alias",
            "add",
            "b@club.test",
            "c+x@club.test",
            "carol@club.test",
        ],
        "",
    );
    for args in [
        ["alias", "add", "c@club.test", "a@club.test"],
        ["alias", "add", "c@club.test", "B@club.test"],
        ["alias", "add", "d@club.test", "d@club.test"],
        ["alias", "add", "d@club.test", "d+y@club.test"],
    ] {
        cli.fails(1, &args, "leads back to itself");
    }
    cli.ok(&["alias", "add", "c@club.test", "carol@club.test"], "");
    // Not that one, but one that it leads to, would go round: `a` is replaced.
    cli.fails(
        1,
        &[
            "alias",
            "add",
            "c@club.test",
            "carol@club.test",
            "a@club.test",
        ],
        "leads back to itself",
    );
}

#[test]
fn one_address_in_two_normal_forms_is_one_account() {
    let home = tempfile::tempdir().expect("tempdir");
    let cli = configure(home.path());
    cli.ok(&["domain", "add", "club.test"], "");
    let (composed, decomposed) = ("zo\u{eb}@club.test", "zoe\u{308}@club.test");
    cli.ok(&["account", "add", composed, "--password-stdin"], "x\n");
    cli.fails(
        1,
        &["account", "add", decomposed, "--password-stdin"],
        "exists",
    );
    cli.ok(&["account", "show", decomposed], "");
}

#[test]
fn a_store_of_another_user_is_left_alone() {
    let setpriv = Command::new("setpriv").arg("--version").output();
    if !rustix::process::geteuid().is_root() || setpriv.is_err() {
        common::skipped("commands on another user's store: needs root and setpriv");
        return;
    }
    use std::os::unix::fs::PermissionsExt;
    let home = tempfile::tempdir().expect("tempdir");
    let cli = configure(home.path());
    cli.ok(&["domain", "add", "club.test"], "");
    let data = home.path().join("data");
    // Everybody may look into it, and still nobody else may work on it.
    for (path, mode) in [(home.path(), 0o755), (data.as_path(), 0o777)] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("chmod");
    }
    let binary = home.path().join("posthorn");
    std::fs::copy(env!("CARGO_BIN_EXE_posthorn"), &binary).expect("copy");
    let before = std::fs::read_dir(&data).expect("dir").count();
    for args in [&["domain", "list"][..], &["domain", "add", "other.test"]] {
        let mut command = Command::new("setpriv");
        command
            .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
            .arg(&binary)
            .arg("--config")
            .arg(&cli.config)
            .args(args);
        let answer = finish(command, "");
        assert_eq!(answer.status, Some(1), "{args:?}: {}", answer.out);
        assert!(
            answer
                .err
                .contains("belongs to user 0 and this is user 65534"),
            "{args:?}: {}",
            answer.err
        );
    }
    assert_eq!(std::fs::read_dir(&data).expect("dir").count(), before);
}

#[test]
fn what_a_command_makes_is_its_user_s_alone() {
    use std::os::unix::fs::PermissionsExt;
    let home = tempfile::tempdir().expect("tempdir");
    let cli = configure(home.path());
    let mut command = Command::new("sh");
    command.args(["-c", "umask 000; exec \"$@\"", "sh"]);
    command
        .arg(env!("CARGO_BIN_EXE_posthorn"))
        .arg("--config")
        .arg(&cli.config)
        .args(["domain", "add", "club.test"]);
    let added = finish(command, "");
    assert_eq!(added.status, Some(0), "{}", added.err);
    let mut todo = vec![home.path().join("data")];
    let mut seen = 0;
    while let Some(path) = todo.pop() {
        let metadata = std::fs::metadata(&path).expect("metadata");
        let mode = metadata.permissions().mode();
        assert_eq!(mode & 0o077, 0, "{}: {mode:o}", path.display());
        seen += 1;
        if metadata.is_dir() {
            let entries = std::fs::read_dir(&path).expect("dir");
            todo.extend(entries.map(|entry| entry.expect("entry").path()));
        }
    }
    assert!(seen > 5, "{seen}");
}

#[test]
fn an_alias_to_nobody_and_one_that_replaces_are_told() {
    let home = tempfile::tempdir().expect("tempdir");
    let cli = configure(home.path());
    cli.ok(&["domain", "add", "club.test"], "");
    cli.ok(
        &["account", "add", "carol@club.test", "--password-stdin"],
        "secret",
    );
    let add = |target: &str| {
        let done = cli.ok(&["alias", "add", "a@club.test", target], "");
        done["message"].as_str().expect("message").to_owned()
    };
    let told = add("ghost@club.test");
    assert!(told.contains("nobody reads ghost@club.test"), "{told}");
    assert!(!told.contains("replaced"), "{told}");
    let told = add("carol@club.test");
    assert!(told.ends_with("before is replaced"), "{told}");
    assert_eq!(
        add("carol@club.test"),
        "alias a@club.test delivers to carol@club.test"
    );
}
