//! The two messages of `grpc.health.v1.Health/Check`, as protobuf in gRPC's framing.
//!
//! A request has one string, and an answer one number. A library for that, with its code generator, would be
//! larger than both.

/// The health of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Health {
    Unknown,
    Serving,
    NotServing,
    ServiceUnknown,
}

/// The prefix of a message: whether it is compressed, and its length in four bytes.
const PREFIX: usize = 5;

/// Returns `HealthCheckRequest{service}` with its prefix.
pub(super) fn request(service: &str) -> Vec<u8> {
    let mut message = Vec::new();
    // A field with its default, the empty string, is omitted.
    if !service.is_empty() {
        message.push(1 << 3 | 2);
        write_varint(&mut message, service.len());
        message.extend_from_slice(service.as_bytes());
    }
    let mut framed = vec![0];
    framed.extend_from_slice(&u32::try_from(message.len()).unwrap_or(u32::MAX).to_be_bytes());
    framed.extend_from_slice(&message);
    framed
}

/// Parses the status of a `HealthCheckResponse` with its prefix; `None` for anything else.
pub(super) fn health(framed: &[u8]) -> Option<Health> {
    let (prefix, message) = framed.split_at_checked(PREFIX)?;
    let length = u32::from_be_bytes(prefix[1..].try_into().ok()?);
    if prefix[0] != 0 || usize::try_from(length).ok()? != message.len() {
        return None;
    }
    // A missing field has its default, 0. Unknown fields are skipped.
    let mut status = 0;
    let mut rest = message;
    while !rest.is_empty() {
        let tag = read_varint(&mut rest)?;
        match (tag >> 3, tag & 7) {
            (1, 0) => status = read_varint(&mut rest)?,
            (_, 0) => drop(read_varint(&mut rest)?),
            (_, 1) => rest = rest.get(8..)?,
            (_, 2) => {
                let length = usize::try_from(read_varint(&mut rest)?).ok()?;
                rest = rest.get(length..)?;
            }
            (_, 5) => rest = rest.get(4..)?,
            _ => return None,
        }
    }
    match status {
        1 => Some(Health::Serving),
        2 => Some(Health::NotServing),
        3 => Some(Health::ServiceUnknown),
        _ => Some(Health::Unknown),
    }
}

fn write_varint(to: &mut Vec<u8>, mut number: usize) {
    while number >= 0x80 {
        to.push(low_byte(number) | 0x80);
        number >>= 7;
    }
    to.push(low_byte(number));
}

fn low_byte(number: usize) -> u8 {
    number.to_le_bytes()[0]
}

fn read_varint(from: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = from.split_first()?;
        *from = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(message: &[u8]) -> Vec<u8> {
        let length = u8::try_from(message.len()).unwrap_or(u8::MAX);
        [&[0, 0, 0, 0, length], message].concat()
    }

    #[test]
    fn a_request_names_its_service() {
        assert_eq!(request(""), [0, 0, 0, 0, 0]);
        assert_eq!(request("ab"), [0, 0, 0, 0, 4, 0x0a, 2, b'a', b'b']);
        let long = request(&"x".repeat(200));
        assert_eq!(long[..8], [0, 0, 0, 0, 203, 0x0a, 200, 1]);
        assert_eq!(long.len(), 208);
    }

    #[test]
    fn a_status_is_read_among_other_fields() {
        for (message, expected) in [
            (&[][..], Health::Unknown),
            (&[8, 0], Health::Unknown),
            (&[8, 1], Health::Serving),
            (&[8, 2], Health::NotServing),
            (&[8, 3], Health::ServiceUnknown),
            (&[8, 0x81, 0], Health::Serving),
            (&[8, 77], Health::Unknown),
            (
                &[0x12, 1, b'x', 8, 1, 0x1d, 0, 0, 0, 0, 0x21, 0, 0, 0, 0, 0, 0, 0, 0],
                Health::Serving,
            ),
        ] {
            assert_eq!(health(&answer(message)), Some(expected), "{message:?}");
        }
    }

    #[test]
    fn an_invalid_answer_is_refused() {
        for framed in [
            &[][..],
            &[0, 0, 0, 0],
            &[1, 0, 0, 0, 2, 8, 1],
            &[0, 0, 0, 0, 3, 8, 1],
            &[0, 0, 0, 0, 1, 8, 1],
            &answer(&[8]),
            &answer(&[8, 0x80]),
            &answer(&[8, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]),
            &answer(&[0x12, 9, 1]),
            &answer(&[0x0b]),
        ] {
            assert_eq!(health(framed), None, "{framed:?}");
        }
    }
}
