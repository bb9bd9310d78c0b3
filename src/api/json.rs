//! Whether bytes are JSON that anybody can read.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use crate::types::limits;

/// Checks that `bytes` are one JSON text that common parsers take: UTF-8, whole escapes, numbers in range, and nested
/// no deeper than [`limits::JSON_DEPTH_MAX`]. Builds nothing.
pub(super) fn check(bytes: &[u8]) -> Result<(), String> {
    let text = std::str::from_utf8(bytes).map_err(|error| error.to_string())?;
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let whole = Level(0).deserialize(&mut deserializer).and_then(|()| deserializer.end());
    whole.map_err(|error| error.to_string())
}

/// One value, at this depth.
#[derive(Clone, Copy)]
struct Level(usize);

impl Level {
    fn deeper<E: Error>(self) -> Result<Level, E> {
        if self.0 == limits::JSON_DEPTH_MAX {
            return Err(E::custom(format_args!("nested deeper than {} levels", limits::JSON_DEPTH_MAX)));
        }
        Ok(Level(self.0 + 1))
    }
}

impl<'de> DeserializeSeed<'de> for Level {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Level {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let level = self.deeper()?;
        while items.next_element_seed(level)?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        let level = self.deeper()?;
        while members.next_entry_seed(level, level)?.is_some() {}
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_passes() {
        for text in ["null", " 1 ", "-1.5e3", "\"\\ud83d\\ude00\"", "[]", "{\"a\":[1,{\"b\":null}],\"a\":true}"] {
            assert_eq!(check(text.as_bytes()), Ok(()), "{text}");
        }
        assert_eq!(check(format!("{}{}", "[".repeat(100), "]".repeat(100)).as_bytes()), Ok(()));
    }

    #[test]
    fn what_some_parser_would_refuse_does_not() {
        for text in ["", "{", "1 2", "{\"a\":}", "\"\\ud800\"", "1e999", "NaN", "\"\n\"", "\u{feff}1", "{a:1}", "[1,]"]
        {
            assert!(check(text.as_bytes()).is_err(), "{text}");
        }
        assert!(check(b"\"\xff\"").is_err());
        assert!(check(format!("{}{}", "[".repeat(101), "]".repeat(101)).as_bytes()).is_err());
        assert!(check("[".repeat(1_000_000).as_bytes()).is_err());
    }
}
