use super::*;

const HEAD: &str = "hostname = \"mail.example.com\"\ndata_dir = \"/tmp/x\"\n";
const LISTEN: &str = "[imap]\nlisten = [\"127.0.0.1:2143\"]\n";

#[test]
fn a_problem_names_its_key() {
    for (rest, key) in [
        ("[smtp]\nmax_hop = 3\n", "smtp.max_hop"),
        ("[smtp]\nmax_hops = \"x\"\n", "smtp.max_hops"),
        ("[smtp]\nmax_hops = 0\n", "smtp.max_hops"),
        ("[smtp]\nlisten = [\"25\"]\n", "smtp.listen"),
        ("smtp.max_hop = 3\n", "smtp.max_hop"),
        ("[smpt]\n", "smpt"),
        ("[tls]\nkey = \"a\"\n", "tls.key"),
    ] {
        let problems = Config::parse(&format!("{HEAD}{rest}")).unwrap_err();
        assert_eq!(problems[0].key.as_deref(), Some(key), "{rest}");
    }
    let problems = Config::parse("hostname = \n").unwrap_err();
    assert_eq!(problems[0].key, None);
}

fn errors(rest: &str) -> Vec<(usize, usize, String)> {
    match Config::parse(&format!("{HEAD}{rest}")) {
        Ok(_) => vec![],
        Err(problems) => problems
            .into_iter()
            .map(|p| (p.line, p.column, p.message))
            .collect(),
    }
}

#[test]
fn unknown_keys_name_the_nearest() {
    let found = errors("[smtp]\nmax_conections = 3\n");
    assert_eq!(found.len(), 1);
    let (line, column, message) = &found[0];
    assert_eq!((*line, *column), (4, 1));
    assert_eq!(
        message,
        "unknown key `max_conections`; did you mean `max_connections`?"
    );
}

#[test]
fn each_cross_check_points_at_its_value() {
    let table: &[(&str, usize, &str)] = &[
        (
            "[imap]\nlisten = [\"127.0.0.1:1\"]\nlisten_tls = [\"127.0.0.1:1\"]\n",
            5,
            "imap.listen already",
        ),
        (
            "[imap]\nadministrators = [\"a@b.test\", \"x\"]\n",
            4,
            "an administrator is",
        ),
        ("[imap]\nmetadata_admin = \"me\"\n", 4, "must be a URI"),
        ("[tls]\ncertificate = \"a.pem\"\n", 4, "needs key"),
        ("[tls]\nkey = \"a.pem\"\n", 4, "needs certificate"),
        (
            "[push]\nallow_private = [\"[::1/128]:443\"]\n",
            4,
            "`[::1` is no address",
        ),
        ("[http]\nidle_timeout_secs = 0\n", 4, "can't be 0"),
        (
            "[push]\nallow_private = [\"127.0.0.1/32:*\", \"10.0.0.1:80\"]\n",
            4,
            "prefix length",
        ),
        (
            "[push]\nallow_private = [\"10.0.0.1/33:80\"]\n",
            4,
            "`33` is no prefix length",
        ),
        (
            "[push]\nallow_private = [\"10.0.0.1/32:0\"]\n",
            4,
            "`0` is no port",
        ),
        ("[push]\nvapid_subject = \"me\"\n", 4, "mailto:"),
        ("[auth]\nargon2_memory_kib = 1\n", 4, "argon2"),
        ("[auth]\nargon2_parallelism = 0\n", 4, "argon2"),
        ("[store]\ngroup_messages = 0\n", 4, "can't be 0"),
        ("[log]\nlevel = \"posthorn=loud\"\n", 4, "write info"),
        ("[log]\nformat = \"xml\"\n", 4, "text"),
        ("[smtp]\nlisten = [\"25\"]\n", 4, "socket address"),
    ];
    for (rest, line, needle) in table {
        let found = errors(rest);
        assert_eq!(found.len(), 1, "{rest}: {found:?}");
        assert_eq!(found[0].0, *line, "{rest}: {found:?}");
        assert!(found[0].2.contains(needle), "{rest}: {found:?}");
    }
}

#[test]
fn levels_are_the_five_and_off() {
    for level in [
        "off",
        "error",
        "warn",
        "info",
        "debug",
        "trace",
        "INFO",
        "warn,posthorn::push=debug",
        "posthorn=trace",
    ] {
        assert_eq!(
            errors(&format!("[log]\nlevel = \"{level}\"\n")),
            [],
            "{level}"
        );
    }
    for (level, says) in [
        ("inof", "did you mean `info`?"),
        ("verbose", "`verbose` is no level; write"),
        ("", "`` is no level"),
        ("warn,posthorn::push", "`posthorn::push` is no level"),
        ("warn,,info", "`` is no level"),
        ("posthorn=loud", "`loud` is no level"),
        ("=info", "write info"),
    ] {
        let found = errors(&format!("[log]\nlevel = \"{level}\"\n"));
        assert_eq!(found.len(), 1, "{level}: {found:?}");
        assert!(found[0].2.contains(says), "{level}: {found:?}");
    }
}

#[test]
fn bad_hostnames() {
    for name in ["", "[192.0.2.1]", "a b", "-"] {
        let text = format!("hostname = \"{name}\"\ndata_dir = \"x\"\n{LISTEN}");
        let problems = Config::parse(&text).unwrap_err();
        assert_eq!((problems[0].line, problems[0].column), (1, 12), "{name:?}");
    }
}

#[test]
fn reserved_names_only_warn() {
    let text = format!("hostname = \"a.test\"\ndata_dir = \"x\"\n{LISTEN}");
    let (_, warnings) = Config::parse(&text).unwrap();
    assert_eq!(warnings.len(), 1);
    assert!(warnings[0].message.contains("vapid_subject"));
    let text = format!("{HEAD}{LISTEN}[push]\nvapid_subject = \"mailto:postmaster@example.org\"\n");
    assert_eq!(Config::parse(&text).unwrap().1.len(), 1);
    let text =
        format!("{HEAD}{LISTEN}[push]\nvapid_subject = \"mailto:postmaster@posthorn.dev\"\n");
    assert_eq!(Config::parse(&text).unwrap().1, vec![]);
}

#[test]
fn a_problem_shows_its_line_with_a_caret() {
    let problems = Config::parse("hostname = 5\n").unwrap_err();
    let shown = problems[0].render("f.toml");
    assert!(shown.starts_with("f.toml:1:12: error: "), "{shown}");
    assert!(
        shown.ends_with("\n 1 | hostname = 5\n   |            ^"),
        "{shown}"
    );
}

#[test]
fn odd_text_never_panics() {
    for text in [
        "",
        "\u{feff}",
        "ä = ö",
        "[",
        "hostname = \"ä\"\r\n",
        "\t=\t",
    ] {
        crate::config::fuzz_config(text.as_bytes());
    }
}
