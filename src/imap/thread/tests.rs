use super::*;

/// `number sent subject id<ancestor,ancestor`; the subject is a reply where it begins with `re:`.
fn messages(lines: &[&str]) -> Vec<Threaded> {
    let parse = |line: &&str| {
        let mut words = line.split(' ');
        let number = words.next().unwrap().parse().unwrap();
        let sent = words.next().unwrap().parse().unwrap();
        let subject = words.next().unwrap();
        let reply = subject.strip_prefix("re:");
        let (id, ancestors) = words
            .next()
            .unwrap_or("-")
            .split_once('<')
            .unwrap_or_else(|| (line.split(' ').nth(3).unwrap_or("-"), ""));
        let hash = |id: &str| id.bytes().fold(7, |h: u64, b| h * 31 + u64::from(b));
        Threaded {
            number,
            sent,
            subject: reply.unwrap_or(subject).trim_matches('_').into(),
            is_reply: reply.is_some(),
            id: (id != "-").then(|| hash(id)),
            ancestors: ancestors
                .split(',')
                .filter(|a| !a.is_empty())
                .map(hash)
                .collect(),
        }
    };
    lines.iter().map(parse).collect()
}

fn by_references(lines: &[&str]) -> String {
    references(&messages(lines))
}

fn by_subject(lines: &[&str]) -> String {
    ordered_subject(&messages(lines))
}

/// RFC 5256, 4, THREAD response: `(2)(3 6 (4 23)(44 7 96))`.
#[test]
fn the_example_of_the_response() {
    let lines = [
        "2 1 a a",
        "3 2 b b",
        "4 4 b d<b,c",
        "6 3 b c<b",
        "7 7 b g<b,c,f",
        "23 5 b e<b,c,d",
        "44 6 b f<b,c",
        "96 8 b h<b,c,f,g",
    ];
    assert_eq!(by_references(&lines), "(2)(3 6 (4 23)(44 7 96))");
    // RFC 5256, 4: siblings of a parent that is not there.
    assert_eq!(by_references(&["3 1 a x<p", "5 2 a y<p"]), "((3)(5))");
}

#[test]
fn parents_that_are_not_there_are_left_out() {
    assert_eq!(by_references(&["1 1 a x<p"]), "(1)");
    assert_eq!(by_references(&["1 1 a a", "2 2 b c<a,b"]), "(1 2)");
    // Promoted to siblings below a message, but not below the root.
    let lines = ["1 1 a a", "2 2 b c<a,b", "3 3 b d<a,b"];
    assert_eq!(by_references(&lines), "(1 (2)(3))");
    assert_eq!(by_references(&["1 1 a x<p,q", "2 2 b y<p,r"]), "((1)(2))");
    assert_eq!(by_references(&[]), "");
}

#[test]
fn links_are_kept_as_the_rfc_says() {
    // The reply came before what it replies to.
    assert_eq!(by_references(&["1 2 a b<a", "2 1 a a"]), "(2 1)");
    // Two with one ID: the second has none, and who refers to it means the first.
    let lines = ["1 1 a a", "2 2 b a", "3 3 c c<a"];
    assert_eq!(by_references(&lines), "(1 3)(2)");
    // No loops, whoever begins them.
    assert_eq!(by_references(&["1 1 a a<b", "2 2 b b<a"]), "(2 1)");
    assert_eq!(by_references(&["1 1 a a<a"]), "(1)");
    let lines = ["1 1 a a<b,c,b", "2 2 b b<c,a", "3 3 c c"];
    assert_eq!(by_references(&lines), "(2 1)(3)");
    // Its own reference is better than what others had, cut short.
    let lines = ["1 1 a a", "2 4 d d<a,c", "3 2 b b<a", "4 3 c c<a,b"];
    assert_eq!(by_references(&lines), "(1 3 4 2)");
    // No ID at all.
    assert_eq!(
        by_references(&["1 1 a -", "2 2 b -<x", "3 3 c x"]),
        "(1)(3 2)"
    );
}

/// Step 5, case by case.
#[test]
fn threads_of_one_subject_are_merged() {
    // A reply to what is no reply.
    assert_eq!(by_references(&["1 1 s a", "2 2 re:s b"]), "(1 2)");
    assert_eq!(by_references(&["1 2 s a", "2 1 re:s b"]), "(1 2)");
    // Both are replies, or neither: siblings.
    assert_eq!(by_references(&["1 1 s a", "2 2 s b"]), "((1)(2))");
    assert_eq!(
        by_references(&["1 1 re:s a", "2 2 re:s b", "3 3 re:s c"]),
        "((1)(2)(3))"
    );
    // A dummy takes what comes, whether a message or another dummy.
    let dummy = ["1 1 s a<p", "2 2 x b<p", "3 3 s c"];
    assert_eq!(by_references(&dummy), "((1)(2)(3))");
    let dummies = ["1 1 s a<p", "2 2 x b<p", "3 3 s c<q", "4 4 x d<q"];
    assert_eq!(by_references(&dummies), "((1)(2)(3)(4))");
    // Nothing in common.
    assert_eq!(
        by_references(&["1 1 _ a", "2 2 _ b", "3 3 re: c"]),
        "(1)(2)(3)"
    );
    // With what hangs on them.
    let trees = ["1 1 s a", "2 2 t b<a", "3 3 re:s c", "4 4 u d<c"];
    assert_eq!(by_references(&trees), "(1 (2)(3 4))");
}

#[test]
fn siblings_are_in_order_of_their_dates() {
    let lines = ["1 9 a a", "2 8 b b<a", "3 7 c c<a", "4 7 d d<a", "5 1 e e"];
    assert_eq!(by_references(&lines), "(5)(1 (3)(4)(2))");
    // Of a dummy its first child counts.
    let lines = ["1 5 a a<p", "2 1 b b<p", "3 3 c c"];
    assert_eq!(by_references(&lines), "((2)(1))(3)");
}

/// RFC 5256, 3, ORDEREDSUBJECT.
#[test]
fn ordered_subject_has_no_grandchildren() {
    let lines = ["1 3 b a", "2 1 a b", "3 2 re:b c", "4 4 b d", "5 5 a e"];
    assert_eq!(by_subject(&lines), "(2 5)(3 (1)(4))");
    assert_eq!(by_subject(&[]), "");
}

fn chain(length: u32, reverse: bool) -> Vec<Threaded> {
    let mut all: Vec<Threaded> = (1..=length)
        .map(|n| Threaded {
            number: n,
            sent: i64::from(n),
            subject: format!("s{n}").into(),
            id: Some(n.into()),
            ancestors: [u64::from(n) - 1].into(),
            ..Threaded::default()
        })
        .collect();
    if reverse {
        all.reverse();
    }
    all
}

#[test]
fn a_chain_of_any_length_needs_no_stack() {
    let numbers: Vec<String> = (1..=100_000).map(|n: u32| n.to_string()).collect();
    for reverse in [false, true] {
        let written = references(&chain(100_000, reverse));
        assert_eq!(written, format!("({})", numbers.join(" ")), "{reverse}");
    }
}

#[test]
fn nesting_is_bounded_and_nobody_is_left_out() {
    // Every message of the chain has a second reply.
    let mut all = chain(10_000, false);
    for n in 1..=10_000 {
        all.push(Threaded {
            number: 10_000 + n,
            sent: 0,
            id: Some(u64::from(n) + 1_000_000),
            ancestors: [u64::from(n)].into(),
            ..Threaded::default()
        });
    }
    let written = references(&all);
    let (mut depth, mut deepest) = (0, 0);
    for byte in written.bytes() {
        match byte {
            b'(' => depth += 1,
            b')' => depth -= 1,
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    assert_eq!((depth, deepest), (0, MAX_NESTING + 1));
    let text = written;
    let numbers = text
        .split(|c: char| !c.is_ascii_digit())
        .filter(|n| !n.is_empty());
    let mut numbers: Vec<u32> = numbers.map(|n| n.parse().unwrap()).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (1..=20_000).collect::<Vec<_>>());
}

/// Strangers who refer to a great many messages cost no more than the messages they sent.
#[test]
fn what_is_referred_to_is_bounded() {
    let all: Vec<Threaded> = (0..2_000u32)
        .map(|n| Threaded {
            number: n + 1,
            id: Some(n.into()),
            ancestors: (0..256)
                .map(|a| (1 << 32) + u64::from(n) * 256 + a)
                .collect(),
            ..Threaded::default()
        })
        .collect();
    let mut forest = Forest::new(&all);
    forest.relate();
    assert!(forest.parent.len() < 2_000 * 7 + 66_000);
}
