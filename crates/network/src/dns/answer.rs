//! From a question's bytes to an answer's, as far as the directory knows one. Pure.

use std::net::IpAddr;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, PTR};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};

use super::directory::{Directory, Found};

/// Longest time an answer may be kept, in seconds (spec runtime §8.4).
const TTL_S: u32 = 600;
/// Bytes of a message without EDNS (RFC 1035 §4.2.1).
const PLAIN_UDP_BYTES: u16 = 512;
/// Bytes that this resolver takes itself, as told to who speaks EDNS.
const OWN_PAYLOAD_BYTES: u16 = 4096;
/// Bytes of a message's header.
const HEADER_BYTES: usize = 12;

/// How a question came, which limits the answer's size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Transport {
    Udp,
    Tcp,
}

/// What is to be done with a question.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Send this back.
    Reply(Vec<u8>),
    /// Ask somebody else; their answer starts with the same question.
    Forward(Question),
    /// Say nothing: it is no question.
    Ignore,
}

/// A question to be asked elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Question {
    /// The whole message as it came.
    pub(super) bytes: Vec<u8>,
    /// End of the question section in it.
    end: usize,
}

impl Question {
    /// Tells whether a message answers this question: same number, a response, same name and type
    /// (RFC 5452 §9.1).
    pub(super) fn is_answered_by(&self, reply: &[u8]) -> bool {
        let question = |bytes: &[u8]| {
            bytes
                .get(HEADER_BYTES..self.end)
                .map(<[u8]>::to_ascii_lowercase)
        };
        reply.get(..2) == self.bytes.get(..2)
            && reply.get(2).is_some_and(|flags| flags & 0x80 != 0)
            && question(reply).is_some()
            && question(reply) == question(&self.bytes)
    }

    /// Returns an answer without records.
    pub(super) fn failure(&self, code: ResponseCode) -> Vec<u8> {
        Message::from_vec(&self.bytes)
            .ok()
            .and_then(|query| reply_to(&query, code, Vec::new(), Transport::Udp))
            .unwrap_or_default()
    }
}

/// Returns the response code in a message's header.
pub(super) fn response_code(reply: &[u8]) -> Option<u8> {
    reply.get(3).map(|flags| flags & 0x0f)
}

/// Answers a question of a container; with `ndots_set` names of one label are not asked elsewhere.
pub(super) fn answer(
    directory: &Directory,
    client: &str,
    ndots_set: bool,
    bytes: &[u8],
    transport: Transport,
) -> Outcome {
    let Ok(query) = Message::from_vec(bytes) else {
        return malformed(bytes);
    };
    if query.metadata.message_type != MessageType::Query {
        return Outcome::Ignore;
    }
    let reply = |code, records| match reply_to(&query, code, records, transport) {
        Some(bytes) => Outcome::Reply(bytes),
        None => Outcome::Ignore,
    };
    if query.metadata.op_code != OpCode::Query {
        return reply(ResponseCode::NotImp, Vec::new());
    }
    let [question] = query.queries.as_slice() else {
        return reply(ResponseCode::FormErr, Vec::new());
    };
    let known = if question.query_class == DNSClass::IN {
        local(directory, client, question)
    } else {
        None
    };
    if let Some(records) = known {
        return reply(ResponseCode::NoError, records);
    }
    if ndots_set && is_address(question.query_type) && question.name.num_labels() <= 1 {
        return reply(ResponseCode::NoError, Vec::new());
    }
    match question_end(bytes) {
        Some(end) => Outcome::Forward(Question {
            bytes: bytes.to_vec(),
            end,
        }),
        None => reply(ResponseCode::FormErr, Vec::new()),
    }
}

/// Returns the records the directory has; `None` when it knows nothing of the name.
fn local(directory: &Directory, client: &str, question: &Query) -> Option<Vec<Record>> {
    let name = question.name.to_ascii();
    let record = |data| Record::from_rdata(question.name.clone(), TTL_S, data);
    match question.query_type {
        RecordType::A | RecordType::AAAA => {
            let ipv6 = question.query_type == RecordType::AAAA;
            match directory.look_up(client, &name, ipv6) {
                Found::Addresses(mut addresses) => {
                    shuffle(&mut addresses);
                    let records = addresses.into_iter().map(|address| match address {
                        IpAddr::V4(address) => record(RData::A(A(address))),
                        IpAddr::V6(address) => record(RData::AAAA(AAAA(address))),
                    });
                    Some(records.collect())
                }
                Found::OtherFamily => Some(Vec::new()),
                Found::Nothing => None,
            }
        }
        RecordType::PTR => {
            let network = question.name.parse_arpa_name().ok()?;
            if network.prefix_len() != network.max_prefix_len() {
                return None;
            }
            let host = directory.name_of(client, network.addr())?;
            let mut target = Name::from_str_relaxed(host).ok()?;
            target.set_fqdn(true);
            Some(vec![record(RData::PTR(PTR(target)))])
        }
        // A name without mail servers: mail goes to its address (RFC 5321 §5.1).
        RecordType::MX => match directory.look_up(client, &name, false) {
            Found::Nothing => None,
            _ => Some(Vec::new()),
        },
        _ => None,
    }
}

fn is_address(kind: RecordType) -> bool {
    matches!(kind, RecordType::A | RecordType::AAAA)
}

/// Builds a reply that fits; records that do not are left out and the client is told to ask by TCP.
fn reply_to(
    query: &Message,
    code: ResponseCode,
    records: Vec<Record>,
    transport: Transport,
) -> Option<Vec<u8>> {
    let mut reply = Message::response(query.metadata.id, query.metadata.op_code);
    reply.metadata.recursion_desired = query.metadata.recursion_desired;
    reply.metadata.recursion_available = true;
    reply.metadata.response_code = code;
    reply.add_queries(query.queries.iter().cloned());
    reply.add_answers(records);
    let mut limit = PLAIN_UDP_BYTES;
    if let Some(edns) = &query.edns {
        limit = limit.max(edns.max_payload());
        let mut own = Edns::new();
        own.set_max_payload(OWN_PAYLOAD_BYTES);
        reply.set_edns(own);
    }
    if transport == Transport::Tcp {
        limit = u16::MAX;
    }
    loop {
        match reply.to_vec() {
            Ok(bytes) if bytes.len() <= usize::from(limit) => return Some(bytes),
            _ if reply.answers.is_empty() => return None,
            _ => {
                let half = reply.answers.len() / 2;
                reply.answers.truncate(half);
                reply.metadata.truncation = true;
            }
        }
    }
}

/// Answers what cannot be read, if it looks like a question at all.
fn malformed(bytes: &[u8]) -> Outcome {
    match bytes {
        [first, second, flags, ..] if bytes.len() >= HEADER_BYTES && flags & 0x80 == 0 => {
            let id = u16::from_be_bytes([*first, *second]);
            match Message::error_msg(id, OpCode::Query, ResponseCode::FormErr).to_vec() {
                Ok(reply) => Outcome::Reply(reply),
                Err(_) => Outcome::Ignore,
            }
        }
        _ => Outcome::Ignore,
    }
}

/// Returns where the first question ends: labels up to the root, type and class. A question whose
/// name is compressed has nothing before it to point to.
fn question_end(bytes: &[u8]) -> Option<usize> {
    let mut position = HEADER_BYTES;
    loop {
        match *bytes.get(position)? {
            0 => break,
            length @ 1..=63 => position += 1 + usize::from(length),
            _ => return None,
        }
    }
    let end = position + 1 + 4;
    (end <= bytes.len()).then_some(end)
}

/// Mixes addresses, so that clients that take the first one spread (round robin).
fn shuffle(addresses: &mut [IpAddr]) {
    let mut seed = [0_u8; 8];
    if addresses.len() < 2 || getrandom::fill(&mut seed).is_err() {
        return;
    }
    let mut state = u64::from_ne_bytes(seed) | 1;
    for last in (1..addresses.len()).rev() {
        // xorshift64: only to spread load.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        addresses.swap(last, (state % (last as u64 + 1)) as usize);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::super::directory::tests::endpoint;
    use super::*;

    fn directory() -> Directory {
        let mut directory = Directory::default();
        let web = endpoint("a", "n", "10.0.1.2", &["web", "www"]);
        directory.join(&web, "front", false);
        directory.join(
            &endpoint("b", "n", "10.0.1.3", &["db", "www"]),
            "front",
            false,
        );
        directory
    }

    fn question(name: &str, kind: RecordType) -> Vec<u8> {
        let mut message = Message::query();
        message.metadata.recursion_desired = true;
        message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
        message.to_vec().unwrap()
    }

    fn asked(name: &str, kind: RecordType) -> Message {
        let outcome = answer(
            &directory(),
            "a",
            false,
            &question(name, kind),
            Transport::Udp,
        );
        match outcome {
            Outcome::Reply(bytes) => Message::from_vec(&bytes).unwrap(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn names_and_addresses_are_answered() {
        let reply = asked("db.", RecordType::A);
        assert_eq!(reply.metadata.response_code, ResponseCode::NoError);
        assert!(reply.metadata.recursion_available);
        assert_eq!(reply.answers.len(), 1);
        assert_eq!(reply.answers[0].data, RData::A(A::new(10, 0, 1, 3)));
        assert_eq!(reply.answers[0].ttl, TTL_S);
        let reply = asked("3.1.0.10.in-addr.arpa.", RecordType::PTR);
        assert_eq!(reply.answers[0].data.to_string(), "db.front.");
        for kind in [RecordType::AAAA, RecordType::MX] {
            let reply = asked("db.", kind);
            assert_eq!(reply.metadata.response_code, ResponseCode::NoError);
            assert!(reply.answers.is_empty());
        }
    }

    #[test]
    fn all_addresses_of_a_name_take_turns_in_front() {
        let first: HashSet<String> = (0..64)
            .map(|_| {
                let reply = asked("www.front.", RecordType::A);
                assert_eq!(reply.answers.len(), 2);
                reply.answers[0].data.to_string()
            })
            .collect();
        assert_eq!(first.len(), 2);
    }

    #[test]
    fn unknown_names_are_asked_elsewhere() {
        let ask = |name, ndots_set, kind| {
            answer(
                &directory(),
                "a",
                ndots_set,
                &question(name, kind),
                Transport::Udp,
            )
        };
        for (name, ndots_set, kind, forwards) in [
            ("example.org.", false, RecordType::A, true),
            ("example.org.", true, RecordType::A, true),
            ("single.", false, RecordType::A, true),
            ("single.", true, RecordType::A, false),
            ("single.", true, RecordType::TXT, true),
            ("1.2.3.4.in-addr.arpa.", false, RecordType::PTR, true),
        ] {
            let outcome = ask(name, ndots_set, kind);
            assert_eq!(matches!(outcome, Outcome::Forward(_)), forwards, "{name}");
        }
    }

    #[test]
    fn only_the_answer_to_the_question_is_taken() {
        let bytes = question("Example.org.", RecordType::A);
        let Outcome::Forward(question_) = answer(&directory(), "a", false, &bytes, Transport::Udp)
        else {
            panic!("not forwarded");
        };
        let mut reply = bytes.clone();
        reply[2] |= 0x80;
        assert!(question_.is_answered_by(&reply));
        let lower: Vec<u8> = reply.to_ascii_lowercase();
        assert!(
            question_.is_answered_by(&[&reply[..HEADER_BYTES], &lower[HEADER_BYTES..]].concat())
        );
        assert!(!question_.is_answered_by(&bytes));
        assert!(!question_.is_answered_by(&reply[..20]));
        let mut other_number = reply.clone();
        other_number[0] ^= 1;
        assert!(!question_.is_answered_by(&other_number));
        let mut other_name = reply.clone();
        other_name[13] = b'x';
        assert!(!question_.is_answered_by(&other_name));
        assert_eq!(
            response_code(&question_.failure(ResponseCode::ServFail)),
            Some(2)
        );
    }

    #[test]
    fn long_answers_are_cut_for_udp_and_whole_for_tcp_and_edns() {
        let mut directory = Directory::default();
        for number in 0..60_u8 {
            let mut member = endpoint("a", "n", &format!("10.0.2.{number}"), &["many"]);
            member.endpoint_id = number.to_string();
            directory.join(&member, "front", false);
        }
        let plain = question("many.", RecordType::A);
        let mut with_edns = Message::from_vec(&plain).unwrap();
        let mut edns = Edns::new();
        edns.set_max_payload(4096);
        with_edns.set_edns(edns);
        let with_edns = with_edns.to_vec().unwrap();
        for (bytes, transport, whole) in [
            (&plain, Transport::Udp, false),
            (&plain, Transport::Tcp, true),
            (&with_edns, Transport::Udp, true),
        ] {
            let Outcome::Reply(reply) = answer(&directory, "a", false, bytes, transport) else {
                panic!("no reply");
            };
            let message = Message::from_vec(&reply).unwrap();
            assert_eq!(message.metadata.truncation, !whole);
            assert_eq!(message.answers.len() == 60, whole);
            assert!(whole || reply.len() <= 512);
        }
    }

    #[test]
    fn what_is_no_question_gets_no_or_an_error_answer() {
        let ask = |bytes: &[u8]| answer(&directory(), "a", false, bytes, Transport::Udp);
        assert_eq!(ask(b""), Outcome::Ignore);
        assert_eq!(ask(&[0; 11]), Outcome::Ignore);
        assert!(matches!(
            ask(&[0, 1, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0]),
            Outcome::Reply(_)
        ));
        let mut response = question("db.", RecordType::A);
        response[2] |= 0x80;
        assert_eq!(ask(&response), Outcome::Ignore);
        let mut update = question("db.", RecordType::A);
        update[2] = (update[2] & 0x87) | (5 << 3);
        assert!(!matches!(ask(&update), Outcome::Forward(_)));
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..600)) {
            answer(&directory(), "a", false, &bytes, Transport::Udp);
        }

        #[test]
        fn damaged_questions_are_survived(
            at in 0_usize..30,
            value in proptest::num::u8::ANY,
            length in 0_usize..40,
        ) {
            let mut bytes = question("web.front.", RecordType::A);
            if let Some(byte) = bytes.get_mut(at) {
                *byte = value;
            }
            bytes.truncate(length);
            answer(&directory(), "a", false, &bytes, Transport::Udp);
        }
    }
}
