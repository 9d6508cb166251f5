//! Packets to and from bytes: rumqttc's codec behind checks of our own.
//!
//! A packet is looked at before it is buffered: a wrong type, wrong flags or a length above the limit end the connection
//! while only a few bytes of it were read.

use std::fmt;

use bytes::BytesMut;
use rumqttc::mqttbytes::v4;

pub use rumqttc::mqttbytes::QoS as WireQoS;
pub use rumqttc::mqttbytes::v4::{
    ConnAck, Connect, ConnectReturnCode, LastWill, Login, Packet, PubAck, PubComp, PubRec, PubRel, Publish, SubAck,
    Subscribe, SubscribeFilter, SubscribeReasonCode, UnsubAck, Unsubscribe,
};

use super::topic;

/// Why bytes from the broker are not MQTT 3.1.1. The connection cannot go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// The type is none that a broker sends.
    Type(u8),
    /// The flags are not those of the type [MQTT-2.2.2-2].
    Flags(u8),
    /// The remaining length has more than four bytes, or is impossible for the type.
    Length,
    /// Larger than we take; the numbers are bytes.
    TooLarge {
        /// What the packet announces.
        size: usize,
        /// `mqtt.maxPacket`
        limit: usize,
    },
    /// A CONNACK with a return code that the standard does not know.
    ReturnCode(u8),
    /// A PUBLISH whose topic is empty, has wildcards or is not UTF-8.
    Topic,
    /// A packet identifier is missing or zero.
    Identifier,
    /// Anything else, in the codec's words.
    Content(String),
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Type(kind) => write!(f, "the broker sent a packet of type {kind}, which brokers do not send"),
            Self::Flags(byte) => write!(f, "the broker sent a packet with wrong flags (first byte {byte:#04x})"),
            Self::Length => f.write_str("the broker sent a packet with an impossible length"),
            Self::TooLarge { size, limit } => {
                write!(f, "the broker sent a packet of {size} bytes, above the limit of {limit} (mqtt.maxPacket)")
            }
            Self::ReturnCode(code) => write!(f, "the broker answered CONNECT with the unknown code {code}"),
            Self::Topic => f.write_str("the broker sent a message whose topic is not allowed"),
            Self::Identifier => f.write_str("the broker sent a packet with the identifier 0"),
            Self::Content(reason) => write!(f, "the broker sent a malformed packet: {reason}"),
        }
    }
}

impl std::error::Error for Malformed {}

// Types of the packets that a broker sends, MQTT 3.1.1 section 2.2.1.
const CONNACK: u8 = 2;
const PUBLISH: u8 = 3;
const PUBACK: u8 = 4;
const PUBREC: u8 = 5;
const PUBREL: u8 = 6;
const PUBCOMP: u8 = 7;
const SUBACK: u8 = 9;
const UNSUBACK: u8 = 11;
const PINGRESP: u8 = 13;

/// The largest remaining length, section 2.2.3.
const MAX_LENGTH: usize = 268_435_455;

/// Bytes of the largest fixed header.
const HEADER: usize = 5;

/// Takes the first packet that a broker sent out of `buffer`; nothing while it is incomplete. Then room for the rest of
/// it is made in `buffer`, which therefore never has to hold more than `max_packet` bytes and what one read adds.
pub fn decode(buffer: &mut BytesMut, max_packet: usize) -> Result<Option<Packet>, Malformed> {
    let Some((size, header)) = frame(buffer, max_packet)? else { return Ok(None) };
    if buffer.len() < size {
        buffer.reserve(size - buffer.len());
        return Ok(None);
    }
    // rumqttc takes a CONNACK with a code above 5 for an error that cannot be told from others.
    let kind = buffer[0] >> 4;
    if kind == CONNACK && buffer[header + 1] > 5 {
        return Err(Malformed::ReturnCode(buffer[header + 1]));
    }
    let packet = v4::Packet::read(buffer, max_packet).map_err(|error| match error {
        rumqttc::mqttbytes::Error::TopicNotUtf8 => Malformed::Topic,
        rumqttc::mqttbytes::Error::PacketIdZero => Malformed::Identifier,
        other => Malformed::Content(other.to_string()),
    })?;
    let identifier_is_zero = match &packet {
        Packet::Publish(publish) if !topic::is_topic(&publish.topic) => return Err(Malformed::Topic),
        Packet::PubAck(ack) => ack.pkid == 0,
        Packet::PubRec(ack) => ack.pkid == 0,
        Packet::PubRel(ack) => ack.pkid == 0,
        Packet::PubComp(ack) => ack.pkid == 0,
        Packet::SubAck(ack) => ack.pkid == 0,
        Packet::UnsubAck(ack) => ack.pkid == 0,
        _ => false,
    };
    if identifier_is_zero { Err(Malformed::Identifier) } else { Ok(Some(packet)) }
}

/// Appends the packet to `buffer`. Who makes a packet keeps its strings and its size within the limits.
pub fn encode(packet: &Packet, buffer: &mut BytesMut) -> Result<(), Malformed> {
    if let Packet::Publish(publish) = packet {
        return encode_publish(publish, buffer);
    }
    packet.write(buffer, usize::MAX).map(|_| ()).map_err(|error| Malformed::Content(error.to_string()))
}

/// Section 3.3. This is what most packets are, and rumqttc looks for room in the buffer at each of its fields.
fn encode_publish(publish: &Publish, buffer: &mut BytesMut) -> Result<(), Malformed> {
    let Publish { dup, qos, retain, topic, pkid, payload } = publish;
    let is_assured = *qos != WireQoS::AtMostOnce;
    if is_assured && *pkid == 0 {
        return Err(Malformed::Identifier);
    }
    let topic_length = u16::try_from(topic.len()).map_err(|_| Malformed::Topic)?;
    let length = 2 + topic.len() + if is_assured { 2 } else { 0 } + payload.len();
    if length > MAX_LENGTH {
        return Err(Malformed::Length);
    }
    buffer.reserve(HEADER + length);
    let mut header = [PUBLISH << 4 | u8::from(*dup) << 3 | (*qos as u8) << 1 | u8::from(*retain), 0, 0, 0, 0, 0, 0];
    let (mut size, mut left) = (1, length);
    loop {
        header[size] = (left & 0x7f) as u8 | if left > 0x7f { 0x80 } else { 0 };
        (size, left) = (size + 1, left >> 7);
        if left == 0 {
            break;
        }
    }
    header[size..size + 2].copy_from_slice(&topic_length.to_be_bytes());
    buffer.extend_from_slice(&header[..size + 2]);
    buffer.extend_from_slice(topic.as_bytes());
    if is_assured {
        buffer.extend_from_slice(&pkid.to_be_bytes());
    }
    buffer.extend_from_slice(payload);
    Ok(())
}

/// Bytes of the whole first packet and of its fixed header, once enough of the header is there to know.
fn frame(buffer: &[u8], max_packet: usize) -> Result<Option<(usize, usize)>, Malformed> {
    let Some(&first) = buffer.first() else { return Ok(None) };
    let (kind, flags) = (first >> 4, first & 0x0f);
    let allowed: (std::ops::RangeInclusive<usize>, bool) = match kind {
        PUBLISH => (3..=usize::MAX, flags & 0b0110 != 0b0110),
        CONNACK | PUBACK | PUBREC | PUBCOMP | UNSUBACK => (2..=2, flags == 0),
        PUBREL => (2..=2, flags == 0b0010),
        SUBACK => (3..=usize::MAX, flags == 0),
        PINGRESP => (0..=0, flags == 0),
        _ => return Err(Malformed::Type(kind)),
    };
    if !allowed.1 {
        return Err(Malformed::Flags(first));
    }
    let Some((length, header)) = remaining_length(&buffer[1..])? else { return Ok(None) };
    if !allowed.0.contains(&length) {
        return Err(Malformed::Length);
    }
    let (size, header) = (1 + header + length, 1 + header);
    if size > max_packet {
        return Err(Malformed::TooLarge { size, limit: max_packet });
    }
    Ok(Some((size, header)))
}

/// The remaining length and the bytes that it takes, section 2.2.3.
fn remaining_length(bytes: &[u8]) -> Result<Option<(usize, usize)>, Malformed> {
    let mut length = 0;
    for (index, byte) in bytes.iter().take(4).enumerate() {
        length |= usize::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Ok(Some((length, index + 1)));
        }
    }
    if bytes.len() < 4 { Ok(None) } else { Err(Malformed::Length) }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Result<Option<Packet>, Malformed> {
        decode(&mut BytesMut::from(bytes), 1000)
    }

    #[test]
    fn a_packet_is_taken_only_when_it_is_complete() {
        let mut buffer = BytesMut::new();
        let mut whole = BytesMut::new();
        let mut publish = Publish::new("a/b", WireQoS::AtLeastOnce, *b"payload");
        publish.pkid = 7;
        encode(&Packet::Publish(publish.clone()), &mut whole).unwrap();
        for byte in &whole[..whole.len() - 1] {
            buffer.extend_from_slice(&[*byte]);
            assert_eq!(decode(&mut buffer, 1000), Ok(None));
        }
        buffer.extend_from_slice(&[whole[whole.len() - 1], 0xd0, 0]);
        assert_eq!(decode(&mut buffer, 1000), Ok(Some(Packet::Publish(publish))));
        assert_eq!(decode(&mut buffer, 1000), Ok(Some(Packet::PingResp)));
        assert_eq!(decode(&mut buffer, 1000), Ok(None));
    }

    #[test]
    fn a_packet_above_the_limit_is_refused_by_its_header_alone() {
        assert_eq!(read(&[0x30, 0xe6, 0x07]), Err(Malformed::TooLarge { size: 1001, limit: 1000 }));
        assert_eq!(read(&[0x30, 0xff, 0xff, 0xff, 0x7f]), Err(Malformed::TooLarge { size: 268_435_460, limit: 1000 }));
        let mut within = BytesMut::from(&[0x30, 0xe5, 0x07][..]);
        assert_eq!(decode(&mut within, 1000), Ok(None));
    }

    #[test]
    fn messages_are_encoded_as_the_codec_does_it() {
        let qos = [WireQoS::AtMostOnce, WireQoS::AtLeastOnce, WireQoS::ExactlyOnce];
        let topics = ["a".to_owned(), "ä/b".repeat(50), "x".repeat(65_535)];
        let cases = topics.iter().flat_map(|topic| qos.map(|qos| (topic, qos)));
        for (bits, (topic, qos)) in cases.enumerate() {
            for size in [0, 1, 121, 122, 123, 124, 16_376, 16_377, 16_378, 70_000, 2_097_150] {
                let mut publish = Publish::new(topic, qos, vec![b'x'; size]);
                (publish.dup, publish.retain) = (bits % 2 == 1, bits % 3 == 1);
                publish.pkid = if qos == WireQoS::AtMostOnce { 0 } else { 0x1234 };
                let (mut ours, mut theirs) = (BytesMut::new(), BytesMut::new());
                encode(&Packet::Publish(publish.clone()), &mut ours).unwrap();
                publish.write(&mut theirs).unwrap();
                assert!(ours == theirs, "{size} bytes, topic of {}, {qos:?}", topic.len());
            }
        }
        let mut buffer = BytesMut::new();
        let unnumbered = Packet::Publish(Publish::new("a", WireQoS::AtLeastOnce, "x"));
        assert_eq!(encode(&unnumbered, &mut buffer), Err(Malformed::Identifier));
        let long = Packet::Publish(Publish::new("x".repeat(65_536), WireQoS::AtMostOnce, "x"));
        assert_eq!(encode(&long, &mut buffer), Err(Malformed::Topic));
        assert!(buffer.is_empty());
    }

    #[test]
    fn malformed_packets_are_refused_with_their_reason() {
        let table: &[(&[u8], Malformed)] = &[
            (&[0x00, 0], Malformed::Type(0)),
            (&[0x10, 0], Malformed::Type(1)),
            (&[0x82, 0], Malformed::Type(8)),
            (&[0xe0, 0], Malformed::Type(14)),
            (&[0xf0, 0], Malformed::Type(15)),
            (&[0x36, 5], Malformed::Flags(0x36)),
            (&[0x41, 2], Malformed::Flags(0x41)),
            (&[0x60, 2], Malformed::Flags(0x60)),
            (&[0xd1, 0], Malformed::Flags(0xd1)),
            (&[0x30, 0xff, 0xff, 0xff, 0xff], Malformed::Length),
            (&[0x40, 3], Malformed::Length),
            (&[0x20, 0], Malformed::Length),
            (&[0x90, 2], Malformed::Length),
            (&[0xd0, 1], Malformed::Length),
            (&[0x20, 2, 0, 7], Malformed::ReturnCode(7)),
            (&[0x30, 3, 0, 0, b'x'], Malformed::Topic),
            (&[0x30, 3, 0, 1, b'#'], Malformed::Topic),
            (&[0x30, 3, 0, 1, 0xff], Malformed::Topic),
            (&[0x30, 3, 0, 1, 0], Malformed::Topic),
            (&[0x32, 5, 0, 1, b'x', 0, 0], Malformed::Identifier),
            (&[0x40, 2, 0, 0], Malformed::Identifier),
            (&[0x90, 3, 0, 0, 0], Malformed::Identifier),
        ];
        for (bytes, reason) in table {
            assert_eq!(read(bytes).as_ref(), Err(reason), "{bytes:02x?}");
        }
        assert!(matches!(read(&[0x30, 3, 0, 9, b'x']), Err(Malformed::Content(_))), "a topic beyond the packet");
        assert!(matches!(read(&[0x90, 3, 0, 1, 3]), Err(Malformed::Content(_))), "a SUBACK code that does not exist");
    }

    #[test]
    fn no_mutation_of_good_packets_makes_the_decoder_panic_or_hang() {
        let seed = crate::mqtt::test_seed();
        let mut random = fastrand::Rng::with_seed(seed);
        let mut good = BytesMut::new();
        for packet in [
            Packet::ConnAck(ConnAck::new(ConnectReturnCode::Success, true)),
            Packet::Publish(Publish::new("sensors/1/temperature", WireQoS::AtMostOnce, vec![7; 150])),
            Packet::Publish(Publish { pkid: 9, ..Publish::new("ä/b", WireQoS::AtLeastOnce, *b"x") }),
            Packet::PubAck(PubAck::new(1)),
            Packet::SubAck(SubAck::new(2, vec![SubscribeReasonCode::Failure; 3])),
            Packet::UnsubAck(UnsubAck { pkid: 5 }),
            Packet::PingResp,
        ] {
            encode(&packet, &mut good).unwrap();
        }
        let (mut taken, mut refused) = (0, 0);
        for _ in 0..50_000 {
            let mut bytes = good.clone();
            let start = random.usize(..bytes.len());
            let _ = bytes.split_to(if random.bool() { start } else { 0 });
            for _ in 0..random.usize(..4) {
                let at = random.usize(..bytes.len());
                bytes[at] = if random.bool() { random.u8(..) } else { bytes[at] ^ (1 << random.u8(..8)) };
            }
            bytes.truncate(1 + random.usize(..bytes.len()));
            loop {
                let before = bytes.len();
                match decode(&mut bytes, 500) {
                    Ok(Some(_)) => taken += 1,
                    Ok(None) => break,
                    Err(_) => {
                        refused += 1;
                        break;
                    }
                }
                assert!(bytes.len() < before, "a packet without bytes, SEED={seed}");
            }
        }
        assert!(taken > 1000 && refused > 1000, "{taken} taken, {refused} refused");
    }
}
