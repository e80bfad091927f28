//! pkt-lines, as gitprotocol-common(5) defines them; only what the hook's conversation needs.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt as _};

/// The longest payload of a pkt-line, in bytes.
const LONGEST: usize = 65_516;

/// One packet: a line without its line end, or a flush.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Packet {
    Line(Vec<u8>),
    Flush,
}

fn invalid(text: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text.to_owned())
}

pub(super) async fn read(from: &mut (impl AsyncRead + Unpin)) -> io::Result<Packet> {
    let mut head = [0; 4];
    from.read_exact(&mut head).await?;
    let text = std::str::from_utf8(&head).map_err(|_| invalid("a pkt-line without a length"))?;
    let length = usize::from_str_radix(text, 16).map_err(|_| invalid("a pkt-line without a length"))?;
    match length {
        0 => Ok(Packet::Flush),
        4.. if length - 4 <= LONGEST => {
            let mut line = vec![0; length - 4];
            from.read_exact(&mut line).await?;
            if line.last() == Some(&b'\n') {
                line.pop();
            }
            Ok(Packet::Line(line))
        }
        _ => Err(invalid("a pkt-line of an impossible length")),
    }
}

pub(super) fn line(text: &str) -> Vec<u8> {
    let text: String = text.chars().filter(|c| *c != '\n').take(LONGEST / 4).collect();
    format!("{:04x}{text}\n", text.len() + 5).into_bytes()
}

pub(super) const FLUSH: &[u8] = b"0000";

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn lines_are_read_and_impossible_ones_refused() {
        let mut text = line("ok refs/heads/main");
        text.extend(FLUSH);
        let mut from = &text[..];
        assert_eq!(read(&mut from).await.unwrap(), Packet::Line(b"ok refs/heads/main".to_vec()));
        assert_eq!(read(&mut from).await.unwrap(), Packet::Flush);
        for bad in ["0003", "zzzz", "fff", "0001", "ffffx", "00\u{e9}"] {
            assert!(read(&mut bad.as_bytes()).await.is_err(), "{bad}");
        }
        assert_eq!(line("a\nb"), b"0007ab\n");
    }
}
