//! pkt-lines, as gitprotocol-common(5) defines them; only what the `proc-receive` hook needs.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt as _};

/// Maximum length of the payload of a pkt-line, in bytes.
const MAX_PAYLOAD_LEN: usize = 65_516;

/// One packet: a line without its line end, or a flush.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Packet {
    Line(Vec<u8>),
    Flush,
}

pub(super) fn invalid(text: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text.to_owned())
}

/// The number in the head of a packet: its length with the head, or 0 of a flush. `from_str_radix` alone would accept a sign.
pub(super) fn length(head: &[u8]) -> Option<usize> {
    let head = std::str::from_utf8(head).ok().filter(|head| head.bytes().all(|byte| byte.is_ascii_hexdigit()))?;
    usize::from_str_radix(head, 16).ok()
}

/// Reads one packet.
pub(super) async fn read(from: &mut (impl AsyncRead + Unpin)) -> io::Result<Packet> {
    let mut head = [0; 4];
    from.read_exact(&mut head).await?;
    match length(&head).ok_or_else(|| invalid("git sent a pkt-line without a length"))? {
        0 => Ok(Packet::Flush),
        length @ 4.. if length - 4 <= MAX_PAYLOAD_LEN => {
            let mut line = vec![0; length - 4];
            from.read_exact(&mut line).await?;
            if line.last() == Some(&b'\n') {
                line.pop();
            }
            Ok(Packet::Line(line))
        }
        _ => Err(invalid("git sent a pkt-line of an invalid length")),
    }
}

/// Reads lines until a flush; fails if there are more than `max_lines`. `what` says in the message what the lines are.
pub(super) async fn section(
    from: &mut (impl AsyncRead + Unpin),
    max_lines: usize,
    what: &str,
) -> io::Result<Vec<Vec<u8>>> {
    let mut lines = Vec::new();
    while let Packet::Line(line) = read(from).await? {
        if lines.len() >= max_lines {
            return Err(invalid(&format!("more than {max_lines} {what}")));
        }
        lines.push(line);
    }
    Ok(lines)
}

/// Appends a line, without the line ends in it, and cut to the maximum length.
pub(super) fn write(to: &mut Vec<u8>, text: &[u8]) {
    let text: Vec<u8> = text.iter().copied().filter(|byte| *byte != b'\n').take(MAX_PAYLOAD_LEN - 1).collect();
    to.extend(format!("{:04x}", text.len() + 5).into_bytes());
    to.extend(text);
    to.push(b'\n');
}

pub(super) const FLUSH: &[u8] = b"0000";

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn lines_are_read_and_invalid_ones_refused() {
        let mut text = Vec::new();
        write(&mut text, b"ok refs/heads/main");
        text.extend(FLUSH);
        let mut from = &text[..];
        assert_eq!(read(&mut from).await.unwrap(), Packet::Line(b"ok refs/heads/main".to_vec()));
        assert_eq!(read(&mut from).await.unwrap(), Packet::Flush);
        for bad in ["0003", "zzzz", "fff", "0001", "0002", "fffx", "+fff", "00\u{e9}", "ffff", "000fshort", ""] {
            assert!(read(&mut bad.as_bytes()).await.is_err(), "{bad}");
        }
        let mut one = Vec::new();
        write(&mut one, b"a\nb");
        assert_eq!(one, b"0007ab\n");
    }

    #[tokio::test]
    async fn a_section_is_bounded_in_lines_and_in_length() {
        let mut three = Vec::new();
        (0..3).for_each(|_| write(&mut three, b"x"));
        three.extend(FLUSH);
        assert_eq!(section(&mut &three[..], 3, "refs").await.unwrap().len(), 3);
        assert_eq!(section(&mut &three[..], 2, "refs").await.unwrap_err().to_string(), "more than 2 refs");
        let mut long = Vec::new();
        write(&mut long, &vec![b'x'; 100_000]);
        assert_eq!(read(&mut &long[..]).await.unwrap(), Packet::Line(vec![b'x'; MAX_PAYLOAD_LEN - 1]));
    }
}

#[cfg(test)]
mod properties {
    use super::*;
    use crate::properties::{Arriving, block_on, bytes_near, check, cuts};

    /// The packets up to the first error.
    async fn packets(mut from: impl AsyncRead + Unpin) -> Vec<Packet> {
        let mut packets = Vec::new();
        while let Ok(packet) = read(&mut from).await {
            packets.push(packet);
        }
        packets
    }

    #[test]
    fn packets_are_read_as_they_are_written_however_they_arrive() {
        let id = "1".repeat(40);
        let samples =
            [format!("0068{id} {id} refs/heads/main\n0000"), "0004000a12345\n+0050000".into(), "fff0x".into()];
        check((bytes_near(&samples), cuts()), |(wire, cuts)| {
            let read = block_on(packets(&wire[..]));
            assert_eq!(block_on(packets(Arriving::new(&wire, &cuts))), read);
            let mut written = Vec::new();
            for packet in &read {
                match packet {
                    Packet::Line(line) => write(&mut written, line),
                    Packet::Flush => written.extend(FLUSH),
                }
            }
            let without_ends = |packet: Packet| match packet {
                Packet::Line(line) => Packet::Line(line.into_iter().filter(|byte| *byte != b'\n').collect()),
                Packet::Flush => Packet::Flush,
            };
            let expected: Vec<_> = read.into_iter().map(without_ends).collect();
            assert_eq!(block_on(packets(&written[..])), expected);
        });
    }
}
