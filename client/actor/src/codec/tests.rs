//! Every codec gives back what it was given, and refuses what it did not write.

use std::collections::BTreeMap;

use bytes::Bytes;
use cairn_client::Payload;
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use serde::{Deserialize, Serialize};

use super::{Cbor, Json, Prost, Versioned};
use crate::format::Codec;

/// A bit of everything that serde has.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Everything {
    Unit,
    Tuple(i64, u64, bool),
    Struct { text: String, maybe: Option<u32>, list: Vec<i16>, byte: u8 },
    Map(BTreeMap<String, Option<Box<Everything>>>),
    Float(f64),
    Character(char),
}

fn everything() -> impl Strategy<Value = Everything> {
    let leaf = prop_oneof![
        Just(Everything::Unit),
        (any::<i64>(), any::<u64>(), any::<bool>())
            .prop_map(|(signed, unsigned, truth)| Everything::Tuple(signed, unsigned, truth)),
        (".*", option::of(any::<u32>()), vec(any::<i16>(), 0..8), any::<u8>())
            .prop_map(|(text, maybe, list, byte)| Everything::Struct { text, maybe, list, byte }),
        any::<f64>().prop_filter("JSON has only finite numbers", |float| float.is_finite()).prop_map(Everything::Float),
        any::<char>().prop_map(Everything::Character),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| btree_map(".*", option::of(inner.prop_map(Box::new)), 0..4).prop_map(Everything::Map))
}

#[derive(Clone, PartialEq, prost::Message)]
struct Message {
    #[prost(string, tag = "1")]
    text: String,
    #[prost(sint64, optional, tag = "2")]
    number: Option<i64>,
    #[prost(bytes = "bytes", repeated, tag = "3")]
    chunks: Vec<Bytes>,
}

fn message() -> impl Strategy<Value = Message> {
    (".*", option::of(any::<i64>()), vec(vec(any::<u8>(), 0..9).prop_map(Bytes::from), 0..4))
        .prop_map(|(text, number, chunks)| Message { text, number, chunks })
}

proptest! {
    #[test]
    fn cbor_and_json_give_back_what_they_were_given(value in everything()) {
        prop_assert_eq!(Cbor.decode(&Cbor.encode(&value).unwrap()), Ok(value.clone()));
        prop_assert_eq!(Json.decode(&Json.encode(&value).unwrap()), Ok(value.clone()));
        let named = Versioned::new("everything", Cbor);
        prop_assert_eq!(named.decode(&named.encode(&value).unwrap()), Ok(value.clone()));
    }

    #[test]
    fn prost_gives_back_what_it_was_given(value in message()) {
        prop_assert_eq!(Prost.decode(&Prost.encode(&value).unwrap()), Ok(value.clone()));
    }

    #[test]
    fn any_bytes_are_a_value_or_an_error(bytes in vec(any::<u8>(), 0..64)) {
        let payload = |serializer_id| Payload { serializer_id, manifest: String::new(), bytes: bytes.clone().into() };
        // What reads is a value: it can be written and read again.
        if let Ok(value) = Codec::<Everything>::decode(&Cbor, &payload(Cbor::SERIALIZER_ID)) {
            prop_assert!(Codec::<Everything>::decode(&Cbor, &Cbor.encode(&value).unwrap()).is_ok());
        }
        if let Ok(value) = Codec::<Everything>::decode(&Json, &payload(Json::SERIALIZER_ID)) {
            prop_assert_eq!(Codec::<Everything>::decode(&Json, &Json.encode(&value).unwrap()).unwrap(), value);
        }
        if let Ok(value) = Codec::<Message>::decode(&Prost, &payload(Prost::SERIALIZER_ID)) {
            prop_assert_eq!(Codec::<Message>::decode(&Prost, &Prost.encode(&value).unwrap()).unwrap(), value);
        }
    }

    #[test]
    fn a_cut_or_a_longer_cbor_value_is_an_error(value in everything(), cut in any::<proptest::sample::Index>()) {
        let whole = Cbor.encode(&value).unwrap();
        let shorter = Payload { bytes: whole.bytes.slice(..cut.index(whole.bytes.len())), ..whole.clone() };
        prop_assert!(Codec::<Everything>::decode(&Cbor, &shorter).is_err());
        let longer = Payload { bytes: [&whole.bytes[..], &[0xf6]].concat().into(), ..whole };
        prop_assert!(Codec::<Everything>::decode(&Cbor, &longer).is_err());
    }

    #[test]
    fn every_version_is_read_for_ever(cents in any::<u32>()) {
        let first = Versioned::new("deposited", Json).encode(&First { cents }).unwrap();
        let second = second().encode(&Second { cents: cents.into(), currency: "CHF".to_owned() }).unwrap();
        let codec = third();
        prop_assert_eq!(codec.decode(&first).unwrap(), Third { amount: format!("{cents} EUR") });
        prop_assert_eq!(codec.decode(&second).unwrap(), Third { amount: format!("{cents} CHF") });
        let third = Third { amount: cents.to_string() };
        prop_assert_eq!(codec.decode(&codec.encode(&third).unwrap()).unwrap(), third);
    }
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct First {
    cents: u32,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Second {
    cents: u64,
    currency: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Third {
    #[prost(string, tag = "1")]
    amount: String,
}

fn second() -> Versioned<Second, Json> {
    Versioned::new("deposited", Json).then(|old: First| Ok(Second { cents: old.cents.into(), currency: "EUR".to_owned() }))
}

fn third() -> Versioned<Third, Prost> {
    second().then_in(Prost, |old| {
        if old.currency.is_empty() {
            return Err("no currency".into());
        }
        Ok(Third { amount: format!("{} {}", old.cents, old.currency) })
    })
}

#[test]
fn manifest_and_serializer_say_what_is_stored() {
    let payload = third().encode(&Third { amount: "1 EUR".to_owned() }).unwrap();
    assert_eq!((payload.serializer_id, payload.manifest.as_str()), (4203, "deposited#3"));
    let payload = Cbor.encode(&First { cents: 1 }).unwrap();
    assert_eq!((payload.serializer_id, payload.manifest.as_str()), (4201, ""));
    assert_eq!(&payload.bytes[..], b"\xa1\x65cents\x01", "the bytes are a format: they never change");
    let payload = Json.encode(&First { cents: 1 }).unwrap();
    assert_eq!((payload.serializer_id, &payload.bytes[..]), (4202, &b"{\"cents\":1}"[..]));
}

#[test]
fn a_version_from_the_future_is_refused_by_name() {
    let payload = third().encode(&Third { amount: "1 EUR".to_owned() }).unwrap();
    let refused = second().decode(&payload).unwrap_err();
    assert_eq!(refused.message, "version 3 of deposited is newer than 2, the newest that is known here");
    assert_eq!((refused.serializer_id, refused.manifest.as_str()), (4203, "deposited#3"));
}

#[test]
fn what_another_codec_wrote_is_refused_and_not_tried() {
    let payload = Json.encode(&7_u32).unwrap();
    let refused = Codec::<u32>::decode(&Cbor, &payload).unwrap_err();
    assert_eq!(refused.message, "another serializer wrote this; it is read by 4201");
    let named = Versioned::new("number", Json).encode(&7_u32).unwrap();
    assert!(Codec::<u32>::decode(&Json, &named).is_err(), "a manifest says that it is something else");
    assert!(Versioned::<u32, _>::new("other", Json).decode(&named).is_err(), "so does another name");
    let other_serializer = Payload { serializer_id: 17, ..named };
    assert!(Versioned::<u32, _>::new("number", Json).decode(&other_serializer).is_err(), "and another serializer");
}

#[test]
fn an_upcast_that_fails_is_an_error() {
    let old = second().encode(&Second { cents: 1, currency: String::new() }).unwrap();
    assert_eq!(third().decode(&old).unwrap_err().message, "upcast: no currency");
}

#[test]
fn what_cannot_be_expressed_is_an_error_of_the_encoder() {
    let keys_are_no_texts = BTreeMap::from([((1_u8, 2_u8), 3_u8)]);
    let refused = Json.encode(&keys_are_no_texts).unwrap_err();
    assert_eq!(refused.serializer_id, Json::SERIALIZER_ID);
    assert_eq!(Cbor.decode(&Cbor.encode(&keys_are_no_texts).unwrap()), Ok(keys_are_no_texts));
}

#[test]
fn what_had_no_name_or_another_one_is_read_under_the_new_name() {
    let codec = Versioned::new("deposited", Cbor)
        .also_reads("", Json, |old: First| Ok(old))
        .also_reads("paid-in#1", Versioned::new("paid-in", Cbor), |cents: u32| Ok(First { cents }))
        .then(|old: First| Ok(Second { cents: old.cents.into(), currency: "EUR".to_owned() }));
    let unnamed = Json.encode(&First { cents: 5 }).unwrap();
    assert_eq!(codec.decode(&unnamed).unwrap().cents, 5);
    let renamed = Versioned::new("paid-in", Cbor).encode(&6_u32).unwrap();
    assert_eq!(codec.decode(&renamed).unwrap().cents, 6);
    assert_eq!(codec.encode(&Second { cents: 7, currency: String::new() }).unwrap().manifest, "deposited#2");
}

#[test]
fn old_versions_can_be_retired() {
    let codec: Versioned<Second, _> = Versioned::starting_at(2, "deposited", Json);
    let second = second().encode(&Second { cents: 1, currency: "EUR".to_owned() }).unwrap();
    assert_eq!(codec.decode(&second).unwrap(), Second { cents: 1, currency: "EUR".to_owned() });
    let first = Versioned::new("deposited", Json).encode(&First { cents: 1 }).unwrap();
    assert_eq!(codec.decode(&first).unwrap_err().message, "no version of deposited, nor anything else that is known");
}
