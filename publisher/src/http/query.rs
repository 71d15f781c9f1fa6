//! Query strings and forms (`application/x-www-form-urlencoded`), read strictly where a value is ours.

use super::problem::Problem;

/// The values of `names`, in their order; other names are ignored.
///
/// # Errors
/// 400 naming it when one is given twice, or is not UTF-8 once decoded (a legacy encoding would arrive as rubbish).
pub fn values<const N: usize>(raw: &[u8], names: [&'static str; N]) -> Result<[Option<String>; N], Problem> {
    let mut values = [const { None }; N];
    for pair in raw.split(|&byte| byte == b'&') {
        let Some((i, value)) = known(pair, &names)? else { continue };
        if values[i].is_some() {
            return Err(Problem::duplicate_key(names[i]));
        }
        values[i] = Some(value);
    }
    Ok(values)
}

/// Every value of `name`, in order; other names are ignored.
///
/// # Errors
/// 400 naming it when a value is not UTF-8 once decoded.
pub fn all(raw: &[u8], name: &'static str) -> Result<Vec<String>, Problem> {
    let pairs = raw.split(|&byte| byte == b'&');
    let values = pairs.filter_map(|pair| known(pair, &[name]).transpose());
    values.map(|found| found.map(|(_, value)| value)).collect()
}

/// Which of `names` a pair gives a value to, and the value.
fn known(pair: &[u8], names: &[&'static str]) -> Result<Option<(usize, String)>, Problem> {
    let Some((name, value)) = form_urlencoded::parse(pair).next() else { return Ok(None) };
    let Some(i) = names.iter().position(|known| *known == name) else { return Ok(None) };
    // The parser puts U+FFFD for what is not UTF-8; only then is a second look needed.
    if value.contains(char::REPLACEMENT_CHARACTER) && !is_utf8(pair) {
        return Err(Problem::invalid(names[i], format!("{} is not percent-encoded UTF-8", names[i])));
    }
    Ok(Some((i, value.into_owned())))
}

fn is_utf8(pair: &[u8]) -> bool {
    let mut decoded = Vec::with_capacity(pair.len());
    let mut rest = pair;
    while let Some((&first, tail)) = rest.split_first() {
        let byte = if first == b'%' { escaped(tail) } else { None };
        decoded.push(byte.unwrap_or(first));
        rest = if byte.is_some() { &tail[2..] } else { tail };
    }
    std::str::from_utf8(&decoded).is_ok()
}

/// The byte that two hex digits stand for.
fn escaped(digits: &[u8]) -> Option<u8> {
    let [high, low, ..] = digits else { return None };
    let digit = |byte: &u8| char::from(*byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    Some(digit(high)? << 4 | digit(low)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(raw: &str) -> Result<[Option<String>; 2], Problem> {
        values(raw.as_bytes(), ["a", "b"])
    }

    #[test]
    fn values_in_the_order_of_names() {
        let expect = |raw: &str, a: Option<&str>, b: Option<&str>| {
            assert_eq!(read(raw).unwrap(), [a.map(str::to_owned), b.map(str::to_owned)], "{raw}");
        };
        expect("", None, None);
        expect("b=2&a=1", Some("1"), Some("2"));
        expect("&&x=1&a&", Some(""), None);
        expect("a=%ED%95%9C+%26+%zz%4", Some("한 & %zz%4"), None);
        expect("%61=1", Some("1"), None);
        expect("a=%EF%BF%BD\u{fffd}", Some("\u{fffd}\u{fffd}"), None);
        expect("x=%FF&x=%FF&b=%00", None, Some("\0"));
    }

    #[test]
    fn all_values_of_one_name() {
        assert_eq!(all(b"a=1&b=2&a=&x=%FF&a=%ED%95%9C", "a"), Ok(vec!["1".into(), String::new(), "한".into()]));
        assert_eq!(all(b"b=1", "a"), Ok(vec![]));
        assert_eq!(all(b"a=1&a=%FF", "a"), Err(Problem::invalid("a", "a is not percent-encoded UTF-8")));
    }

    #[test]
    fn refuses() {
        assert_eq!(read("a=1&b=2&a=1"), Err(Problem::duplicate_key("a")));
        for wrong in ["b=%FF", "b=x%EF%BF%BD%C7%D1", "b=%ED%95", "b=%ed%a0%80"] {
            assert_eq!(read(wrong), Err(Problem::invalid("b", "b is not percent-encoded UTF-8")), "{wrong}");
        }
    }
}
