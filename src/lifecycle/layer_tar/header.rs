//! Headers of entries, byte for byte as the reference implementation of the lifecycle writes them, so that equal files give equal
//! layers: USTAR where an entry fits into it, else USTAR with PAX records (POSIX `pax`, "ustar Interchange Format" and "pax
//! Extended Header"), in the details as Go's `archive/tar` does it.

/// 1980-01-01T00:00:01Z, as the buildpack specification demands.
const MTIME: u64 = 315_532_801;

/// Size of a block, in bytes: headers are made of blocks, and contents are filled up to a whole one.
pub(super) const BLOCK: usize = 512;

/// Places of the fields in a header: first byte and length.
const NAME: (usize, usize) = (0, 100);
const MODE: (usize, usize) = (100, 8);
const UID: (usize, usize) = (108, 8);
const GID: (usize, usize) = (116, 8);
const SIZE: (usize, usize) = (124, 12);
const TIME: (usize, usize) = (136, 12);
const CHECKSUM: (usize, usize) = (148, 8);
const KIND: usize = 156;
const LINK: (usize, usize) = (157, 100);
const MAGIC: (usize, usize) = (257, 8);
const DEVICE_MAJOR: (usize, usize) = (329, 8);
const DEVICE_MINOR: (usize, usize) = (337, 8);
const PREFIX: (usize, usize) = (345, 155);

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    File,
    Link,
    Folder,
    Pipe,
}

impl Kind {
    fn flag(self) -> u8 {
        match self {
            Self::File => b'0',
            Self::Link => b'2',
            Self::Folder => b'5',
            Self::Pipe => b'6',
        }
    }
}

/// An entry of a tar, without its contents.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry<'a> {
    /// Path, without a slash at its end.
    pub(super) name: &'a [u8],
    pub(super) kind: Kind,
    pub(super) mode: u32,
    /// User and group.
    pub(super) owner: u64,
    /// Size of the contents, in bytes.
    pub(super) size: u64,
    /// Where a link leads to; empty for anything else.
    pub(super) target: &'a [u8],
}

impl Entry<'_> {
    /// The header, with a header for PAX records before it if need be.
    pub(super) fn header(&self) -> Vec<u8> {
        let mut records = Vec::new();
        let split = split(self.name);
        if !fits(self.target, LINK.1) {
            records.push(record("linkpath", self.target));
        }
        let mut needs_records = !records.is_empty();
        if !fits(self.name, NAME.1) {
            records.push(record("path", self.name));
            needs_records |= split.is_none();
        }
        if self.size >= 1 << 33 {
            records.push(record("size", self.size.to_string().as_bytes()));
            needs_records = true;
        }
        if !needs_records {
            let (prefix, name) = split.unwrap_or((b"", self.name));
            return self.block(name, self.target, prefix).to_vec();
        }
        let records = records.concat();
        let mut header = records_header(self.name, records.len()).to_vec();
        header.extend(&records);
        header.resize(header.len().next_multiple_of(BLOCK), 0);
        header.extend(self.block(&ascii(self.name), &ascii(self.target), b""));
        header
    }

    fn block(&self, name: &[u8], target: &[u8], prefix: &[u8]) -> [u8; BLOCK] {
        let mut block = [0; BLOCK];
        put(&mut block, NAME, name);
        put(&mut block, LINK, target);
        put(&mut block, PREFIX, prefix);
        put_octal(&mut block, MODE, self.mode.into());
        put_octal(&mut block, UID, self.owner);
        put_octal(&mut block, GID, self.owner);
        put_octal(&mut block, SIZE, self.size);
        put_octal(&mut block, TIME, MTIME);
        put_octal(&mut block, DEVICE_MAJOR, 0);
        put_octal(&mut block, DEVICE_MINOR, 0);
        block[KIND] = self.kind.flag();
        finish(block)
    }
}

/// The header of the PAX records of an entry.
fn records_header(name: &[u8], size: usize) -> [u8; BLOCK] {
    let (folder, file) =
        name.iter().rposition(|byte| *byte == b'/').map_or((&b""[..], name), |at| name.split_at(at + 1));
    let mut name = ascii(&[folder, b"PaxHeaders.0/", file].concat());
    name.truncate(NAME.1);
    while name.ends_with(b"/") {
        name.pop();
    }
    let mut block = [0; BLOCK];
    put(&mut block, NAME, &name);
    for field in [MODE, UID, GID, TIME] {
        put_octal(&mut block, field, 0);
    }
    put_octal(&mut block, SIZE, size as u64);
    block[KIND] = b'x';
    finish(block)
}

/// Adds what all headers have: the format, and the checksum.
fn finish(mut block: [u8; BLOCK]) -> [u8; BLOCK] {
    put(&mut block, MAGIC, b"ustar\x0000");
    put(&mut block, CHECKSUM, b"        ");
    let sum: u64 = block.iter().copied().map(u64::from).sum();
    put_octal(&mut block, (CHECKSUM.0, CHECKSUM.1 - 1), sum);
    block
}

/// `<length> <key>=<value>\n`; the length is that of the whole record.
fn record(key: &str, value: &[u8]) -> Vec<u8> {
    let without_length = key.len() + value.len() + 3;
    let mut length = without_length;
    while length != without_length + length.to_string().len() {
        length = without_length + length.to_string().len();
    }
    [format!("{length} {key}=").as_bytes(), value, b"\n"].concat()
}

/// Whether a name can be written without a record.
fn fits(name: &[u8], max: usize) -> bool {
    name.is_ascii() && name.len() <= max
}

/// The name without what is not ASCII.
fn ascii(name: &[u8]) -> Vec<u8> {
    name.iter().copied().filter(u8::is_ascii).collect()
}

/// A long name as prefix and name of a USTAR header, if it can be split at a slash.
fn split(name: &[u8]) -> Option<(&[u8], &[u8])> {
    if fits(name, NAME.1) || !name.is_ascii() {
        return None;
    }
    let at = name[..name.len().min(PREFIX.1 + 1)].iter().rposition(|byte| *byte == b'/').filter(|at| *at > 0)?;
    let (prefix, rest) = (&name[..at], &name[at + 1..]);
    (!rest.is_empty() && rest.len() <= NAME.1).then_some((prefix, rest))
}

/// Writes text into a field, as much as it has room for; no slash is left at the end of what is cut.
fn put(block: &mut [u8; BLOCK], (at, length): (usize, usize), text: &[u8]) {
    let mut kept = &text[..text.len().min(length)];
    if kept.len() < text.len() {
        while let Some(shorter) = kept.strip_suffix(b"/") {
            kept = shorter;
        }
    }
    block[at..at + kept.len()].copy_from_slice(kept);
}

/// Writes a number into a field, as octal digits with a NUL at the end; 0 if it is too large, and then a record has it.
fn put_octal(block: &mut [u8; BLOCK], (at, length): (usize, usize), number: u64) {
    let digits = length - 1;
    let text = format!("{number:0digits$o}");
    let text = if text.len() > digits { "0".repeat(digits) } else { text };
    block[at..at + digits].copy_from_slice(text.as_bytes());
    block[at + digits] = 0;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Digest;

    /// What the reference lifecycle (Go's `archive/tar` behind its layers package) writes for the same entries.
    #[test]
    fn headers_are_those_of_the_reference() {
        use Kind::{File, Folder, Link, Pipe};
        #[rustfmt::skip]
        let entries: &[(String, Kind, u32, u64, String, &str)] = &[
            ("/layers/a/b".into(), Folder, 0o755, 0, String::new(), "cea75b4557c229be7f647c4dfe00a68e47fcc64b944c7717324b94238a7ed6cf"),
            ("/layers/a/b/c".into(), File, 0o4750, 11, String::new(), "c9095d14d7459945df2367a634bb997280784ae4fd5a559088b285776ff97cb2"),
            ("/layers/a/tmp".into(), Folder, 0o1777, 0, String::new(), "f4d6a5da553519c54fffb78aba490197734d45f4a7aaef61e90ecf41204c6c17"),
            ("/layers/a/pipe".into(), Pipe, 0o644, 0, String::new(), "cdc476ed58b2fde4b1e8fc9fe7d640ee2e8f0d0fb0b1a67104b23e972ad5983f"),
            ("/layers/a/link".into(), Link, 0o777, 0, "../x/y".into(), "9f0669a22b5d3850df7cba03fedb35c2017d23c0c617ba513439f4a8a7c0431f"),
            (format!("/layers/{}", "x".repeat(92)), File, 0o644, 1, String::new(), "24444952d1dc838f1b01d0f9a896def58e73a535d69cf0c9d4f01c7eb6b92992"),
            (format!("/layers/{}", "x".repeat(93)), File, 0o644, 1, String::new(), "05d71ddcf2daca22e65704eaeae2dd59c1ac244906e4fcc127d0fcd142f59de4"),
            (format!("/layers{}", "/abcdefghi".repeat(20)), File, 0o644, 1, String::new(), "337a42cca58c16a4aa80d96453a913653d880fa5a76e84ee599f43c30c44fc70"),
            (format!("/layers{}", "/abcdefghi".repeat(26)), File, 0o644, 1, String::new(), "2fbd2211bc95f9f43baf86f9aff4f05abc54537f8af78fe0e4e3501686197258"),
            (format!("/layers/{}", "x".repeat(250)), File, 0o644, 1, String::new(), "0c736d560f07d392d893400f1388464f548a5dce7fd877c349b355c9ba513d57"),
            (format!("/layers/{}/{}", "d".repeat(91), "f".repeat(30)), Folder, 0o755, 0, String::new(), "1b0c6b28472053d5720b425b2e51cece8a42577e0788bac92967bcedc3b8f00e"),
            (format!("/{}/{}", "d".repeat(98), "é"), Folder, 0o755, 0, String::new(), "45b294f5c335bcc2b34386b67bde526a0fbf7a96125a7d948c29e3ad81762da2"),
            ("/layers/Grüße/ß".into(), File, 0o644, 3, String::new(), "8ecf2902baae349efc1665b298e6704d93a4d780e2a9d22c9ba967bce28982eb"),
            ("/layers/日本語".into(), Folder, 0o755, 0, String::new(), "0b3b3f33b54374e80fd4c754b851e520a8c0a423450c54f87a09fe33751ce6fb"),
            ("/layers/a/long".into(), Link, 0o777, 0, "t".repeat(101), "ffa39cd24b3c185f827b1afee9aa9768cdadfc299cf452c0d7dfeb61008e7b1f"),
            ("/layers/a/slash".into(), Link, 0o777, 0, "t".repeat(99) + "/u", "e8c6a370633c7b87af62a96f9a985e0b6c0ca974eb7b928a8f43f441709cd5bf"),
            ("/layers/a/ü".into(), Link, 0o777, 0, "ö/".to_owned() + &"t".repeat(120), "eb5d8209036b7f197e2e0eea1327e1fb40401669a1f991fc2beddce1b1396b72"),
            (format!("/layers{}", "/abcdefghi".repeat(20)), Link, 0o777, 0, "t".repeat(101), "e35caf2157709290d341bb18131c3147ca91528c7ffd7714aff867c9341b0be0"),
            ("/layers/large".into(), File, 0o644, 8_589_934_591, String::new(), "cfd381c918e5b62947c901578e16f6649e71abaa6d09e07ab27b4844572ccd2c"),
            ("/layers/larger".into(), File, 0o644, 8_589_934_592, String::new(), "c0e99c11798c466e65ca3b273fb1d0926d6debb9ed09823e6c4e84b84bf53e33"),
        ];
        for (name, kind, mode, size, target, expected) in entries {
            let (name, target) = (name.as_bytes(), target.as_bytes());
            let header = Entry { name, kind: *kind, mode: *mode, owner: 1000, size: *size, target }.header();
            assert_eq!(Digest::of(&header).hex(), *expected, "{}", String::from_utf8_lossy(&header));
        }
    }
}
