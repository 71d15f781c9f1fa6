//! A strict deserializer over a tree of values, whose errors know their path.
//!
//! The one of the `config` crate turns `"8080"` into a number, rounds fractions and writes numbers as strings; here a value
//! has the type it was written with. Must not know keys or places.

use std::fmt::{self, Display};

use ::config::{Value, ValueKind};
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, DeserializeSeed, Deserializer, Expected, IntoDeserializer, Unexpected, Visitor};
use serde::forward_to_deserialize_any;

use super::path::Path;
use super::text;

/// Why a value does not fit, and where it is.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) path: Path,
    pub(super) what: What,
}

#[derive(Debug)]
pub(super) enum What {
    /// Another type or another range was expected.
    Unfit { expected: String, got: String },
    /// A key without a default is not there.
    Missing(&'static str),
    /// A key that the type itself refuses.
    Unknown { key: String, known: &'static [&'static str] },
    /// In the words of the type.
    Said(String),
}

impl From<What> for Fault {
    fn from(what: What) -> Self {
        Self { path: Path::default(), what }
    }
}

impl Fault {
    fn unfit(expected: impl Display, got: impl Into<String>) -> Self {
        What::Unfit { expected: plain(&expected.to_string()), got: got.into() }.into()
    }
}

/// Says in plain words what serde's own visitors expect.
fn plain(expected: &str) -> String {
    let (nonzero, kind) = expected.strip_prefix("a nonzero ").map_or((false, expected), |kind| (true, kind));
    let range = match kind {
        "i8" => "from -128 to 127",
        "i16" => "from -32768 to 32767",
        "i32" => "from -2147483648 to 2147483647",
        "i64" | "isize" => "from -9223372036854775808 to 9223372036854775807",
        "u8" => "from 0 to 255",
        "u16" => "from 0 to 65535",
        "u32" => "from 0 to 4294967295",
        "u64" | "usize" => "from 0 to 18446744073709551615",
        "f32" | "f64" => return "a number".to_owned(),
        "a boolean" => return "true or false".to_owned(),
        "a sequence" => return "an array".to_owned(),
        "a map" => return "a table".to_owned(),
        other if other.starts_with("struct ") => return "a table".to_owned(),
        other => return other.to_owned(),
    };
    let nonzero = if nonzero { " but not 0" } else { "" };
    format!("an integer {range}{nonzero}")
}

/// What was found, as a person would write it.
fn got(unexpected: &Unexpected<'_>) -> String {
    match unexpected {
        Unexpected::Bool(value) => value.to_string(),
        Unexpected::Unsigned(value) => value.to_string(),
        Unexpected::Signed(value) => value.to_string(),
        Unexpected::Float(value) => format!("{value:?}"),
        Unexpected::Char(value) => format!("{:?}", value.to_string()),
        Unexpected::Str(value) => format!("{value:?}"),
        Unexpected::Unit | Unexpected::Option => "nothing".to_owned(),
        Unexpected::Seq => "an array".to_owned(),
        Unexpected::Map => "a table".to_owned(),
        other => other.to_string(),
    }
}

fn one_of(words: &[&str]) -> String {
    let words: Vec<String> = words.iter().map(|word| format!("{word:?}")).collect();
    match words.as_slice() {
        [word] => word.clone(),
        words => format!("one of {}", words.join(", ")),
    }
}

impl Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.what {
            What::Unfit { expected, got } => write!(f, "expected {expected}, got {got}"),
            What::Missing(key) => write!(f, "missing key {key:?}"),
            What::Unknown { key, .. } => write!(f, "unknown key {key:?}"),
            What::Said(text) => f.write_str(text),
        }
    }
}

impl std::error::Error for Fault {}

impl de::Error for Fault {
    fn custom<T: Display>(text: T) -> Self {
        What::Said(text.to_string()).into()
    }

    fn invalid_type(unexpected: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::unfit(expected, got(&unexpected))
    }

    fn invalid_value(unexpected: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::unfit(expected, got(&unexpected))
    }

    fn invalid_length(length: usize, expected: &dyn Expected) -> Self {
        Self::unfit(expected, format!("{length} of them"))
    }

    fn unknown_variant(variant: &str, words: &'static [&'static str]) -> Self {
        Self::unfit(one_of(words), format!("{variant:?}"))
    }

    fn unknown_field(field: &str, known: &'static [&'static str]) -> Self {
        What::Unknown { key: field.to_owned(), known }.into()
    }

    fn missing_field(field: &'static str) -> Self {
        What::Missing(field).into()
    }
}

/// Reads one value and what is in it, tables in the order of their keys.
#[derive(Clone, Copy)]
pub(super) struct Reader<'v>(pub(super) &'v Value);

impl<'de> Deserializer<'de> for Reader<'_> {
    type Error = Fault;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match &self.0.kind {
            ValueKind::Nil => visitor.visit_unit(),
            ValueKind::Boolean(value) => visitor.visit_bool(*value),
            ValueKind::I64(value) => visitor.visit_i64(*value),
            ValueKind::I128(value) => visitor.visit_i128(*value),
            ValueKind::U64(value) => visitor.visit_u64(*value),
            ValueKind::U128(value) => visitor.visit_u128(*value),
            ValueKind::Float(value) => visitor.visit_f64(*value),
            ValueKind::String(value) => visitor.visit_str(value),
            ValueKind::Array(values) => visitor.visit_seq(Items { values, next: 0 }),
            ValueKind::Table(table) => visitor.visit_map(Fields::of(table)),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.0.kind {
            ValueKind::Nil => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        words: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        match &self.0.kind {
            ValueKind::String(word) => visitor.visit_enum(word.as_str().into_deserializer()),
            ValueKind::Table(table) if table.len() == 1 => {
                visitor.visit_enum(MapAccessDeserializer::new(Fields::of(table)))
            }
            kind => Err(Fault::unfit(one_of(words), text::described(kind))),
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf
        unit unit_struct seq tuple tuple_struct map struct identifier ignored_any
    }
}

struct Items<'v> {
    values: &'v [Value],
    next: usize,
}

impl<'de> de::SeqAccess<'de> for Items<'_> {
    type Error = Fault;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Fault> {
        let Some(value) = self.values.get(self.next) else { return Ok(None) };
        let index = self.next;
        self.next += 1;
        let element = seed.deserialize(Reader(value));
        element.map(Some).map_err(|fault| Fault { path: fault.path.under_index(index), ..fault })
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.values.len() - self.next)
    }
}

struct Fields<'v> {
    fields: std::vec::IntoIter<(&'v String, &'v Value)>,
    value: Option<(&'v String, &'v Value)>,
}

impl<'v> Fields<'v> {
    fn of(table: &'v ::config::Map<String, Value>) -> Self {
        let mut fields: Vec<_> = table.iter().collect();
        fields.sort_unstable_by_key(|(name, _)| *name);
        Self { fields: fields.into_iter(), value: None }
    }
}

impl<'de> de::MapAccess<'de> for Fields<'_> {
    type Error = Fault;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Fault> {
        self.value = self.fields.next();
        let Some((name, _)) = self.value else { return Ok(None) };
        seed.deserialize(name.as_str().into_deserializer()).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Fault> {
        let Some((name, value)) = self.value.take() else {
            return Err(de::Error::custom("a value was asked for before its key"));
        };
        let field = seed.deserialize(Reader(value));
        field.map_err(|fault| Fault { path: fault.path.under_key(name), ..fault })
    }
}
