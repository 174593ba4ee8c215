//! Records round-trip, and any bytes give a value or an error.

use proptest::prelude::*;

use super::*;

fn node(id: u64) -> NodeInfo {
    NodeInfo {
        node_id: NodeId(id),
        peer_address: format!("10.0.0.{id}:7001"),
        client_address: String::new(),
        birth_id: Uuid::from_u128(u128::from(id) << 70 | 1),
    }
}

/// Voters in one or two configs, and learners.
fn members() -> impl Strategy<Value = Members> {
    let ids = || proptest::collection::btree_set(1_u64..20, 1..6);
    (proptest::collection::vec(ids(), 1..3), ids()).prop_map(|(configs, learners)| {
        let all = configs.iter().flatten().chain(&learners);
        let nodes: BTreeMap<u64, NodeInfo> = all.map(|id| (*id, node(*id))).collect();
        Membership::new(configs, nodes).expect("every voter has a node")
    })
}

proptest! {
    #[test]
    fn members_and_every_node_id_ever_seen_come_back(members in members(), seen in proptest::collection::btree_set(any::<u64>(), 0..9)) {
        let record = MembersRecord { members: members.clone(), seen };
        let decoded = MembersRecord::decode(&record.encode_members(), &record.encode_seen());
        prop_assert_eq!(decoded, Ok(record));
        let payload = EntryPayload::Membership(members);
        prop_assert_eq!(decode_payload(&encode_payload(&payload)), Ok(payload));
    }

    #[test]
    fn votes_come_back(term in any::<u64>(), node_id in any::<u64>(), committed in any::<bool>()) {
        let ballot = if committed { Ballot::new_committed(term, node_id) } else { Ballot::new(term, node_id) };
        prop_assert_eq!(decode_ballot(&encode_ballot(&ballot)), Ok(ballot));
        let voted = crate::Voted { term, node_id: NodeId(node_id), is_elected: committed };
        prop_assert_eq!(crate::Voted::decode(&encode_ballot(&ballot)), Some(voted));
    }

    #[test]
    fn any_bytes_give_a_value_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..200), kind in 0_u8..4) {
        let raw = Bytes::from(bytes.clone());
        let _ = decode_payload(&raw);
        let _ = decode_ballot(&raw);
        let _ = MembersRecord::decode(&raw, &raw);
        // Also behind a header that is right, where most of the decoder is.
        let mut plausible = vec![VERSION, kind];
        plausible.extend(bytes);
        let _ = decode_payload(&Bytes::from(plausible));
    }

    #[test]
    fn a_record_of_members_cut_or_changed_anywhere_never_panics(members in members(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let whole = encode_payload(&EntryPayload::Membership(members));
        let at = at.index(whole.len());
        prop_assert!(decode_payload(&whole.slice(..at)).is_err(), "a cut record is refused");
        let mut changed = whole.to_vec();
        changed[at] = byte;
        let _ = decode_payload(&Bytes::from(changed));
    }
}

#[test]
fn a_batch_is_carried_as_it_was_encoded() {
    let batch = Batch { moment: cairn_machine::Timestamp(7), commands: Vec::new() };
    let payload = EntryPayload::Normal(Record::new(&batch));
    let encoded = encode_payload(&payload);
    assert_eq!(&encoded[HEADER_BYTES..], &batch.encode()[..]);
    let Ok(EntryPayload::Normal(decoded)) = decode_payload(&encoded) else { panic!("a batch comes back") };
    assert_eq!(Batch::decode(&decoded.batch()), Ok(batch));
}

/// The bytes of version 1, as they stand in logs and tables: never to change.
#[test]
fn version_one_is_read_for_ever() {
    assert_eq!(decode_payload(&Bytes::from_static(&[1, 0])), Ok(EntryPayload::Blank));
    let ballot = [1, 5, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 1];
    assert_eq!(decode_ballot(&Bytes::copy_from_slice(&ballot)), Ok(Ballot::new_committed(5, 2)));
    let mut members = vec![1, 2, 1, 0, 0, 0, 1, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0];
    members.extend([3, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, b'p', 1, 0, 0, 0, b'c', 9]);
    members.extend([0; 15]);
    let node = NodeInfo {
        node_id: NodeId(3),
        peer_address: "p".to_owned(),
        client_address: "c".to_owned(),
        birth_id: Uuid::from_u128(9),
    };
    let expected = Membership::new(vec![BTreeSet::from([3])], BTreeMap::from([(3, node)])).unwrap();
    let decoded = decode_payload(&Bytes::copy_from_slice(&members));
    assert_eq!(decoded, Ok(EntryPayload::Membership(expected.clone())));
    assert_eq!(encode_payload(&EntryPayload::Membership(expected)), members);
    assert_eq!(decode_payload(&Bytes::from_static(&[2, 0])), Err(RecordError::UnknownVersion { found: 2 }));
}
