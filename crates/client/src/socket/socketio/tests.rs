//! Socket.IO packets: the protocol's own examples, what must be refused, and that what is written reads back.

use proptest::prelude::*;
use serde_json::json;

use super::*;

fn packet(kind: Kind, attachments: usize, namespace: &str, id: Option<u64>, data: Option<Value>) -> Packet {
    Packet { kind, attachments, namespace: namespace.to_owned(), id, data }
}

#[test]
fn the_examples_of_the_protocol_are_read_and_written() {
    let holes = |count: u64| {
        let mut parts = vec![json!("baz")];
        parts.extend((0..count).map(|num| json!({"_placeholder": true, "num": num})));
        Some(Value::Array(parts))
    };
    let table = [
        ("0", packet(Kind::Connect, 0, "/", None, None)),
        (r#"0{"sid":"a"}"#, packet(Kind::Connect, 0, "/", None, Some(json!({"sid": "a"})))),
        ("0/admin,", packet(Kind::Connect, 0, "/admin", None, None)),
        (r#"0/admin,{"sid":"a"}"#, packet(Kind::Connect, 0, "/admin", None, Some(json!({"sid": "a"})))),
        (r#"4{"message":"no"}"#, packet(Kind::ConnectError, 0, "/", None, Some(json!({"message": "no"})))),
        (r#"2["foo"]"#, packet(Kind::Event, 0, "/", None, Some(json!(["foo"])))),
        (r#"2/admin,["bar"]"#, packet(Kind::Event, 0, "/admin", None, Some(json!(["bar"])))),
        (r#"212["foo"]"#, packet(Kind::Event, 0, "/", Some(12), Some(json!(["foo"])))),
        ("312[]", packet(Kind::Ack, 0, "/", Some(12), Some(json!([])))),
        (r#"3/admin,13["bar"]"#, packet(Kind::Ack, 0, "/admin", Some(13), Some(json!(["bar"])))),
        (r#"51-["baz",{"_placeholder":true,"num":0}]"#, packet(Kind::BinaryEvent, 1, "/", None, holes(1))),
        (
            r#"52-/admin,["baz",{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]"#,
            packet(Kind::BinaryEvent, 2, "/admin", None, holes(2)),
        ),
        (r#"61-15["baz",{"_placeholder":true,"num":0}]"#, packet(Kind::BinaryAck, 1, "/", Some(15), holes(1))),
        ("1", packet(Kind::Disconnect, 0, "/", None, None)),
        ("1/admin,", packet(Kind::Disconnect, 0, "/admin", None, None)),
    ];
    for (wire, expected) in table {
        assert_eq!(Packet::read(wire).as_ref(), Ok(&expected), "{wire}");
        let json = expected.data.as_ref().map(Value::to_string).unwrap_or_default();
        let written = write(expected.kind, expected.attachments, &expected.namespace, expected.id, &json);
        assert_eq!(written, wire);
    }
}

#[test]
fn what_breaks_the_grammar_is_refused() {
    let table = [
        "",
        "7[\"a\"]",
        "€",
        "2",
        "2[]",
        "2{}",
        "2[{}]",
        "2[\"a\"",
        "3[\"no id\"]",
        "312",
        "0[1]",
        "1{}",
        "4[1]",
        "5[\"no count\"]",
        "5-[\"a\"]",
        "5+1-[\"a\"]",
        "51025-[\"a\"]",
        "599999999999999999999999-[\"a\"]",
        "299999999999999999999999[\"a\"]",
    ];
    for wire in table {
        assert!(Packet::read(wire).is_err(), "{wire}");
    }
    let deep = format!("2[\"a\",{}{}]", "[".repeat(100_000), "]".repeat(100_000));
    assert!(Packet::read(&deep).is_err());
}

#[test]
fn attachments_go_to_their_placeholders_and_a_wrong_number_stays_one() {
    let wire = r#"52-["up",{"a":[{"_placeholder":true,"num":1}]},{"_placeholder":true,"num":0},{"_placeholder":true,"num":9}]"#;
    let mut assembly = Assembly::new(Packet::read(wire).unwrap());
    assembly.add(Bytes::from_static(&[1, 2]), 100).unwrap();
    assert!(!assembly.is_complete());
    assembly.add(Bytes::from_static(&[3, 4]), 100).unwrap();
    assert!(assembly.is_complete());
    let (packet, attachments) = assembly.finish();
    assert_eq!(packet.data, Some(json!(["up", {"a": ["AwQ="]}, "AQI=", {"_placeholder": true, "num": 9}])));
    assert_eq!(attachments, [&[1_u8, 2][..], &[3, 4]]);
}

#[test]
fn attachments_are_bounded_together() {
    let wire = r#"52-["up",{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]"#;
    let mut assembly = Assembly::new(Packet::read(wire).unwrap());
    assembly.add(Bytes::from_static(&[0; 6]), 10).unwrap();
    assert!(assembly.add(Bytes::from_static(&[0; 6]), 10).is_err());
}

proptest! {
    #[test]
    fn arbitrary_text_is_read_or_refused_and_never_panics(wire in any::<String>(), digit in 0..7_u8) {
        let _ = Packet::read(&wire);
        let _ = Packet::read(&format!("{digit}{wire}"));
        let _ = Packet::read(&format!("{digit}[{wire}"));
    }

    #[test]
    fn what_is_written_reads_back(
        namespace in "/[a-z0-9€ ]{0,12}",
        id in prop::option::of(any::<u64>()),
        name in any::<String>(),
        words in prop::collection::vec(any::<String>(), 0..4),
        number in any::<i64>(),
    ) {
        let mut parts = vec![json!(name), json!(number)];
        parts.extend(words.into_iter().map(Value::String));
        let data = Value::Array(parts);
        let wire = write(Kind::Event, 0, &namespace, id, &data.to_string());
        prop_assert_eq!(Packet::read(&wire), Ok(packet(Kind::Event, 0, &namespace, id, Some(data))));
    }
}
