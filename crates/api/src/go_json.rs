//! Request documents read the way Go's decoder reads them (spec engine-api §1): keys in any case,
//! null the same as absent, unknown keys ignored.

use serde::de::value::{SeqDeserializer, StrDeserializer};
use serde::de::{
    self, DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, IntoDeserializer, MapAccess,
    VariantAccess, Visitor,
};
use serde_json::Value;
use std::fmt;

/// Tells what a document holds that was not expected, and under which keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ReadError {
    path: String,
    message: String,
}

impl ReadError {
    fn below(mut self, key: &str) -> Self {
        self.path = if self.path.is_empty() {
            key.to_owned()
        } else {
            format!("{key}.{}", self.path)
        };
        self
    }
}

impl fmt::Display for ReadError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.path.as_str() {
            "" => formatter.write_str(&self.message),
            path => write!(formatter, "{path}: {}", self.message),
        }
    }
}

impl std::error::Error for ReadError {}

impl de::Error for ReadError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self {
            path: String::new(),
            message: message.to_string(),
        }
    }
}

/// Converts a parsed document into a type whose structs all have `#[serde(default)]`.
///
/// # Errors
/// Fails with the key path and what was expected there.
pub(crate) fn from_value<T: DeserializeOwned>(value: Value) -> Result<T, ReadError> {
    T::deserialize(Reader(value))
}

struct Reader(Value);

impl<'de> Deserializer<'de> for Reader {
    type Error = ReadError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        match self.0 {
            Value::Null => visitor.visit_unit(),
            Value::Bool(value) => visitor.visit_bool(value),
            Value::Number(number) => number.deserialize_any(visitor).map_err(de::Error::custom),
            Value::String(text) => visitor.visit_string(text),
            Value::Array(items) => {
                let mut items = SeqDeserializer::new(items.into_iter().map(Reader));
                visitor.visit_seq(&mut items)
            }
            Value::Object(object) => visitor.visit_map(Object::new(object.into_iter())),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        match self.0 {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        match self.0 {
            Value::Null => visitor.visit_map(Object::new(std::iter::empty())),
            Value::Object(object) => {
                visitor.visit_map(Object::new(known_entries(object, fields).into_iter()))
            }
            other => Err(de::Error::invalid_type(unexpected(&other), &Named(name))),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        match self.0 {
            Value::String(text) => visitor.visit_enum(UnitVariant(text)),
            other => Err(de::Error::invalid_type(unexpected(&other), &"a text")),
        }
    }

    /// A null among texts leaves the text as it was made: empty.
    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        match self.0 {
            Value::Null => visitor.visit_str(""),
            _ => self.deserialize_any(visitor),
        }
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str bytes byte_buf unit
        unit_struct seq tuple tuple_struct map identifier ignored_any
    }
}

impl IntoDeserializer<'_, ReadError> for Reader {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

/// Keeps the entries a struct has a field for, under the field's spelling. The last of several
/// spellings of one key wins, as in Go.
fn known_entries(
    object: serde_json::Map<String, Value>,
    fields: &'static [&'static str],
) -> Vec<(String, Value)> {
    let mut entries: Vec<(String, Value)> = Vec::with_capacity(object.len());
    for (key, value) in object {
        let exact = fields.iter().find(|field| **field == key);
        let field = exact.or_else(|| fields.iter().find(|field| field.eq_ignore_ascii_case(&key)));
        let Some(field) = field.filter(|_| !value.is_null()) else {
            continue;
        };
        entries.retain(|(known, _)| known != field);
        entries.push(((*field).to_owned(), value));
    }
    entries
}

struct Object<I> {
    entries: I,
    pending: Option<(String, Value)>,
}

impl<I> Object<I> {
    fn new(entries: I) -> Self {
        Self {
            entries,
            pending: None,
        }
    }
}

impl<'de, I: Iterator<Item = (String, Value)>> MapAccess<'de> for Object<I> {
    type Error = ReadError;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, ReadError> {
        let Some((key, value)) = self.entries.next() else {
            return Ok(None);
        };
        let found = seed.deserialize(StrDeserializer::new(&key))?;
        self.pending = Some((key, value));
        Ok(Some(found))
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, ReadError> {
        let (key, value) = self
            .pending
            .take()
            .ok_or_else(|| de::Error::custom("a value without a key"))?;
        seed.deserialize(Reader(value))
            .map_err(|error: ReadError| error.below(&key))
    }
}

struct UnitVariant(String);

impl<'de> EnumAccess<'de> for UnitVariant {
    type Error = ReadError;
    type Variant = NoContent;

    fn variant_seed<V: DeserializeSeed<'de>>(
        self,
        seed: V,
    ) -> Result<(V::Value, NoContent), ReadError> {
        Ok((seed.deserialize(StrDeserializer::new(&self.0))?, NoContent))
    }
}

struct NoContent;

impl<'de> VariantAccess<'de> for NoContent {
    type Error = ReadError;

    fn unit_variant(self) -> Result<(), ReadError> {
        Ok(())
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, _: T) -> Result<T::Value, ReadError> {
        Err(de::Error::custom("expected a plain text"))
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, _: V) -> Result<V::Value, ReadError> {
        Err(de::Error::custom("expected a plain text"))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, ReadError> {
        Err(de::Error::custom("expected a plain text"))
    }
}

/// Prints `an object (HostConfig)` as what was expected.
struct Named(&'static str);

impl de::Expected for Named {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "an object ({})", self.0)
    }
}

fn unexpected(value: &Value) -> de::Unexpected<'_> {
    match value {
        Value::Null => de::Unexpected::Unit,
        Value::Bool(value) => de::Unexpected::Bool(*value),
        Value::Number(_) => de::Unexpected::Other("number"),
        Value::String(text) => de::Unexpected::Str(text),
        Value::Array(_) => de::Unexpected::Seq,
        Value::Object(_) => de::Unexpected::Map,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;
    use serde_json::json;
    use std::collections::BTreeMap;

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(rename_all = "PascalCase", default)]
    struct Inner {
        memory: i64,
        names: Option<Vec<String>>,
    }

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(rename_all = "PascalCase", default)]
    struct Outer {
        image: String,
        labels: BTreeMap<String, String>,
        host: Inner,
        many: Vec<Inner>,
    }

    #[test]
    fn takes_keys_in_any_case_and_null_as_absent() {
        let outer: Outer = from_value(json!({
            "image": "a", "LABELS": {"Keep": "Case"}, "unknown": 1,
            "host": {"memory": 3, "Names": null}, "Many": [{"NAMES": ["x"]}],
        }))
        .expect("a document");
        assert_eq!(outer.image, "a");
        assert_eq!(outer.labels.get("Keep").map(String::as_str), Some("Case"));
        assert_eq!(
            outer.host,
            Inner {
                memory: 3,
                names: None
            }
        );
        assert_eq!(outer.many[0].names.as_deref(), Some(&["x".to_owned()][..]));
        assert_eq!(
            from_value::<Outer>(json!({"Image": null, "Host": null})),
            Ok(Outer::default())
        );
        let outer: Outer = from_value(json!({"Labels": {"a": null}})).expect("a document");
        assert_eq!(outer.labels.get("a").map(String::as_str), Some(""));
    }

    #[test]
    fn says_where_a_document_is_wrong() {
        let error = from_value::<Outer>(json!({"host": {"memory": "x"}})).expect_err("no number");
        assert_eq!(
            error.to_string(),
            "Host.Memory: invalid type: string \"x\", expected i64"
        );
        let error = from_value::<Outer>(json!({"Host": "x"})).expect_err("no object");
        assert_eq!(
            error.to_string(),
            "Host: invalid type: string \"x\", expected an object (Inner)"
        );
    }
}
