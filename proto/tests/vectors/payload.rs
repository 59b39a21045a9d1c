//! A payload taken apart, so that a test can leave out what is in it, or put something else there.

use minicbor::{Decoder, Encoder, data::Type};
use std::collections::BTreeMap;

/// A value of CBOR, of the kinds that our messages have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    Bool(bool),
    Number(u64),
    Text(String),
    Bytes(Vec<u8>),
    Map(BTreeMap<u64, Value>),
}

impl Value {
    pub(crate) fn read(cbor: &[u8]) -> Self {
        let mut decoder = Decoder::new(cbor);
        let value = read_item(&mut decoder).expect("CBOR of our own");
        assert_eq!(decoder.position(), cbor.len());
        value
    }

    pub(crate) fn to_cbor(&self) -> Vec<u8> {
        let mut cbor = Vec::new();
        self.write(&mut Encoder::new(&mut cbor));
        cbor
    }

    fn write(&self, encoder: &mut Encoder<&mut Vec<u8>>) {
        let written = match self {
            Self::Bool(value) => encoder.bool(*value),
            Self::Number(value) => encoder.u64(*value),
            Self::Text(value) => encoder.str(value),
            Self::Bytes(value) => encoder.bytes(value),
            Self::Map(fields) => encoder.map(fields.len() as u64),
        };
        written.expect("a vector takes everything");
        if let Self::Map(fields) = self {
            for (key, value) in fields {
                encoder.u64(*key).expect("a vector takes everything");
                value.write(encoder);
            }
        }
    }

    /// The fields of a map; of anything else, none.
    pub(crate) fn fields(&self) -> impl Iterator<Item = (u64, &Self)> {
        let fields = if let Self::Map(fields) = self { Some(fields) } else { None };
        fields.into_iter().flatten().map(|(key, value)| (*key, value))
    }

    /// The field at the end of a path of keys.
    pub(crate) fn at(&self, path: &[u64]) -> Option<&Self> {
        path.iter().try_fold(self, |value, wanted| {
            value.fields().find_map(|(key, value)| (key == *wanted).then_some(value))
        })
    }

    /// The same with something else at the end of a path, or with nothing there.
    pub(crate) fn with(&self, path: &[u64], new: Option<&Self>) -> Self {
        let (mut changed, Some((key, rest))) = (self.clone(), path.split_first()) else {
            return new.cloned().expect("there is something at the root");
        };
        if let Self::Map(fields) = &mut changed
            && let Some(old) = fields.remove(key)
            && !(rest.is_empty() && new.is_none())
        {
            fields.insert(*key, old.with(rest, new));
        }
        changed
    }

    /// The same without the fields that another one has not got.
    pub(crate) fn reduced_to(&self, other: &Self) -> Self {
        let (Self::Map(fields), Self::Map(known)) = (self, other) else { return self.clone() };
        let known = |(key, value): (&u64, &Self)| Some((*key, value.reduced_to(known.get(key)?)));
        Self::Map(fields.iter().filter_map(known).collect())
    }
}

fn read_item(decoder: &mut Decoder<'_>) -> Result<Value, minicbor::decode::Error> {
    Ok(match decoder.datatype()? {
        Type::Map => {
            let mut fields = BTreeMap::new();
            for _ in 0..decoder.map()?.expect("our maps have definite lengths") {
                fields.insert(decoder.u64()?, read_item(decoder)?);
            }
            Value::Map(fields)
        }
        Type::Bytes => Value::Bytes(decoder.bytes()?.to_vec()),
        Type::String => Value::Text(decoder.str()?.to_owned()),
        Type::Bool => Value::Bool(decoder.bool()?),
        _ => Value::Number(decoder.u64()?),
    })
}
