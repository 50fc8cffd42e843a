//! What commands are made of.

use proptest::prelude::*;
use proptest::sample::select;

pub fn one(words: &'static [&'static str]) -> BoxedStrategy<String> {
    select(words).prop_map(str::to_owned).boxed()
}

/// `name` in some case.
pub fn word(name: &'static str) -> BoxedStrategy<String> {
    prop_oneof![
        6 => Just(name.to_owned()),
        1 => Just(name.to_lowercase()),
        1 => Just({
            let letters = name.chars().enumerate();
            letters.map(|(n, c)| if n % 2 == 0 { c } else { c.to_ascii_lowercase() }).collect()
        }),
    ]
    .boxed()
}

pub fn words(names: &'static [&'static str]) -> BoxedStrategy<String> {
    select(names).prop_flat_map(word).boxed()
}

pub fn join(parts: Vec<BoxedStrategy<String>>) -> BoxedStrategy<String> {
    parts.prop_map(|parts| parts.concat()).boxed()
}

/// One behind the other.
macro_rules! seq {
    ($($part:expr),+ $(,)?) => { join(vec![$(BoxedStrategy::from_part($part)),+]) };
}
pub(crate) use seq;

/// Text stands for itself.
pub trait FromPart<T> {
    fn from_part(part: T) -> Self;
}

impl FromPart<&'static str> for BoxedStrategy<String> {
    fn from_part(part: &'static str) -> Self {
        Just(part.to_owned()).boxed()
    }
}

impl FromPart<BoxedStrategy<String>> for BoxedStrategy<String> {
    fn from_part(part: Self) -> Self {
        part
    }
}

pub fn optional(part: BoxedStrategy<String>) -> BoxedStrategy<String> {
    prop_oneof![Just(String::new()), part].boxed()
}

pub fn several(part: BoxedStrategy<String>, between: &'static str) -> BoxedStrategy<String> {
    prop::collection::vec(part, 1..5)
        .prop_map(move |parts| parts.join(between))
        .boxed()
}

pub fn atom() -> BoxedStrategy<String> {
    "[a-zA-Z0-9$#/.=_!|~^+-]{1,12}".boxed()
}

pub fn literal(content: &str, sync: bool) -> String {
    let plus = if sync { "" } else { "+" };
    format!("{{{}{plus}}}\r\n{content}", content.len())
}

/// Quoted or as a literal.
pub fn written(text: BoxedStrategy<String>) -> BoxedStrategy<String> {
    (text, 0..4u8)
        .prop_map(|(text, how)| match how {
            0 => literal(&text, true),
            1 => literal(&text, false),
            _ => format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"")),
        })
        .boxed()
}

pub fn string() -> BoxedStrategy<String> {
    written("[ -~\t]{0,12}|[a-zäж☃ ]{1,6}".boxed())
}

pub fn astring() -> BoxedStrategy<String> {
    prop_oneof![2 => atom(), 1 => "[a-z\\]\\[]{1,6}", 2 => string()].boxed()
}

pub fn mailbox() -> BoxedStrategy<String> {
    let name =
        "INBOX|inBox|[iI]nbox/[a-z]{1,4}|[a-zA-Z0-9 /.\"\\\\%*~#-]{1,10}|Entw&APw-rfe|a&-b|台北|";
    prop_oneof![
        1 => Just("INBOX".to_owned()),
        1 => "[iI]nbox(/[a-z]{1,4})?|Entw&APw-rfe|a&-b",
        3 => "[a-zA-Z0-9/.~#-]{1,10}",
        2 => written(name.boxed()),
    ]
    .boxed()
}

pub fn pattern() -> BoxedStrategy<String> {
    prop_oneof![
        "[a-zA-Z0-9/.%*\\]-]{1,8}|&AP|%&",
        written("[a-zA-Z0-9/.%* ]{0,8}|台*".boxed()),
    ]
    .boxed()
}

pub fn number() -> BoxedStrategy<String> {
    prop_oneof![
        3 => (1..100u32).prop_map(|n| n.to_string()),
        1 => any::<u32>().prop_map(|n| n.max(1).to_string()),
        1 => (1..9u32).prop_map(|n| format!("0{n}")),
        1 => Just(u32::MAX.to_string()),
    ]
    .boxed()
}

pub fn number64() -> BoxedStrategy<String> {
    prop_oneof![number(), (1..i64::MAX).prop_map(|n| n.to_string())].boxed()
}

pub fn set() -> BoxedStrategy<String> {
    let end = prop_oneof![4 => number(), 1 => one(&["*"])].boxed();
    let range = seq![end.clone(), ":", end.clone()];
    several(prop_oneof![end, range].boxed(), ",")
}

pub fn flag() -> BoxedStrategy<String> {
    prop_oneof![
        words(&["\\Seen", "\\Answered", "\\Flagged", "\\Deleted", "\\Draft"]),
        atom(),
    ]
    .boxed()
}

pub fn flags() -> BoxedStrategy<String> {
    let list = seq!["(", several(flag(), " "), ")"];
    prop_oneof![list, one(&["()"])].boxed()
}

pub fn days() -> BoxedStrategy<(u32, String, u32)> {
    let month = words(&[
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ]);
    (1..29u32, month, prop_oneof![1970..2040u32, 0..9999u32]).boxed()
}

pub fn date() -> BoxedStrategy<String> {
    (days(), any::<bool>(), any::<bool>())
        .prop_map(|((day, month, year), wide, quoted)| {
            let day = if wide {
                format!("{day:02}")
            } else {
                day.to_string()
            };
            let text = format!("{day}-{month}-{year:04}");
            if quoted { format!("\"{text}\"") } else { text }
        })
        .boxed()
}

pub fn date_time() -> BoxedStrategy<String> {
    let zone = (select(&['+', '-'][..]), 0..24u32, 0..60u32);
    (days(), any::<bool>(), (0..24u32, 0..60u32, 0..60u32), zone)
        .prop_map(
            |((day, month, year), blank, (h, m, s), (sign, zone_h, zone_m))| {
                let day = if blank {
                    format!("{day:2}")
                } else {
                    format!("{day:02}")
                };
                format!(
                    "\"{day}-{month}-{year:04} {h:02}:{m:02}:{s:02} {sign}{zone_h:02}{zone_m:02}\""
                )
            },
        )
        .boxed()
}
