//! RON values as JSON, for `--set`: both sides of an assignment must meet in one tree.
//!
//! `Name(a: 1)` becomes `{"Name": {"a": 1}}` and `Name` becomes `"Name"`, which is how serde writes an enum as
//! JSON. Only what recipes use is read: no raw strings, no bytes, no characters.

use serde_json::{Map, Number, Value};

/// Reads all of `text` as one value.
pub(super) fn parse(text: &str) -> Result<Value, String> {
    let mut reader = Reader { text, at: 0 };
    let value = reader.value(0)?;
    reader.space();
    if reader.at == text.len() {
        Ok(value)
    } else {
        Err(format!("unexpected `{}` after the value", &text[reader.at..]))
    }
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl Reader<'_> {
    fn value(&mut self, depth: usize) -> Result<Value, String> {
        if depth > 64 {
            return Err("the value is nested too deeply".into());
        }
        self.space();
        match self.peek() {
            None => Err("a value is missing".into()),
            Some('"') => self.string(),
            Some('[') => {
                self.at += 1;
                Ok(Value::Array(self.list(']', depth)?))
            }
            Some('(') => self.group(depth),
            Some('{') => Err("maps in braces are not used in recipes; write (name: value)".into()),
            Some(c) if c.is_ascii_digit() || "+-.".contains(c) => self.number(),
            Some(c) if c.is_alphabetic() || c == '_' => self.name(depth),
            Some(c) => Err(format!("unexpected `{c}`")),
        }
    }

    /// `(a: 1, b: 2)` is a struct, `(1, 2)` a tuple, `(1)` one value.
    fn group(&mut self, depth: usize) -> Result<Value, String> {
        self.at += 1;
        self.space();
        let start = self.at;
        let field = self.word();
        self.space();
        let is_struct =
            !field.is_empty() && self.peek() == Some(':') || self.text[start..].starts_with(')');
        self.at = start;
        if !is_struct {
            return Ok(Value::Array(self.list(')', depth)?));
        }
        let mut fields = Map::new();
        loop {
            self.space();
            if self.take(')') {
                return Ok(Value::Object(fields));
            }
            let field = self.word();
            self.space();
            if field.is_empty() || !self.take(':') {
                return Err("expected `name: value`".into());
            }
            fields.insert(field, self.value(depth + 1)?);
            self.space();
            if !self.take(',') && self.peek() != Some(')') {
                return Err("expected `,` or `)`".into());
            }
        }
    }

    fn list(&mut self, end: char, depth: usize) -> Result<Vec<Value>, String> {
        let mut items = Vec::new();
        loop {
            self.space();
            if self.take(end) {
                return Ok(items);
            }
            items.push(self.value(depth + 1)?);
            self.space();
            if !self.take(',') && self.peek() != Some(end) {
                return Err(format!("expected `,` or `{end}`"));
            }
        }
    }

    fn name(&mut self, depth: usize) -> Result<Value, String> {
        let name = self.word();
        self.space();
        match name.as_str() {
            "true" => return Ok(Value::Bool(true)),
            "false" => return Ok(Value::Bool(false)),
            "None" => return Ok(Value::Null),
            "inf" | "NaN" => return Err(format!("{name} is not a number a recipe can use")),
            _ => {}
        }
        if self.peek() != Some('(') {
            return Ok(Value::String(name));
        }
        let inner = match self.group(depth)? {
            Value::Array(mut items) if items.len() == 1 => items.remove(0),
            other => other,
        };
        if name == "Some" {
            return Ok(inner);
        }
        Ok(Value::Object(Map::from_iter([(name, inner)])))
    }

    fn number(&mut self) -> Result<Value, String> {
        let rest = &self.text[self.at..];
        let length = rest
            .find(|c: char| !(c.is_ascii_alphanumeric() || "+-._".contains(c)))
            .unwrap_or(rest.len());
        let text = rest[..length].replace('_', "");
        self.at += length;
        let text = text.strip_prefix('+').unwrap_or(&text);
        let number = text
            .parse::<u64>()
            .map(Number::from)
            .or_else(|_| text.parse::<i64>().map(Number::from))
            .ok()
            .or_else(|| Number::from_f64(text.parse().ok()?));
        number.map(Value::Number).ok_or_else(|| format!("`{text}` is not a number"))
    }

    fn string(&mut self) -> Result<Value, String> {
        let rest = &self.text[self.at..];
        // RON's escapes in plain strings are JSON's.
        let mut stream = serde_json::Deserializer::from_str(rest).into_iter::<String>();
        match stream.next() {
            Some(Ok(text)) => {
                self.at += stream.byte_offset();
                Ok(Value::String(text))
            }
            _ => Err("the string does not end, or has an unknown escape".into()),
        }
    }

    fn word(&mut self) -> String {
        let rest = &self.text[self.at..];
        let length = rest.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(rest.len());
        self.at += length;
        rest[..length].to_owned()
    }

    fn space(&mut self) {
        let rest = &self.text[self.at..];
        self.at += rest.len() - rest.trim_start().len();
    }

    fn peek(&self) -> Option<char> {
        self.text[self.at..].chars().next()
    }

    fn take(&mut self, c: char) -> bool {
        let is_there = self.peek() == Some(c);
        if is_there {
            self.at += c.len_utf8();
        }
        is_there
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn recipes_values_are_read() {
        for (text, expected) in [
            ("200_000", json!(200_000)),
            ("-1.5e-4", json!(-1.5e-4)),
            ("true", json!(true)),
            ("None", json!(null)),
            ("Some(3)", json!(3)),
            ("\"a\\\"b\"", json!("a\"b")),
            ("Velocity", json!("Velocity")),
            ("Cosine(offset: 0.01)", json!({"Cosine": {"offset": 0.01}})),
            ("Cosine()", json!({"Cosine": {}})),
            ("Folder(\"x\")", json!({"Folder": "x"})),
            ("(0.9, 0.999)", json!([0.9, 0.999])),
            ("[64, 128,]", json!([64, 128])),
            ("(a: (b: [1]), c: X,)", json!({"a": {"b": [1]}, "c": "X"})),
        ] {
            assert_eq!(parse(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_not_a_value_is_refused() {
        for text in ["", "(", "[1", "(a: 1", "1 2", "\"x", "@", "1.2.3", "{}", "NaN", "(a 1)"] {
            assert!(parse(text).is_err(), "{text} was read");
        }
        assert!(parse(&"[".repeat(10_000)).is_err());
    }
}
