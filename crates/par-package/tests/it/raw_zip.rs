//! A zip writer that lies on request. Entries are stored, not compressed.

/// One entry; every field can be set to what it should not be.
#[derive(Clone)]
pub(crate) struct RawEntry {
    pub(crate) name: Vec<u8>,
    pub(crate) local_name: Vec<u8>,
    pub(crate) content: Vec<u8>,
    pub(crate) crc: u32,
    pub(crate) said_size: u32,
    pub(crate) flags: u16,
    pub(crate) method: u16,
    pub(crate) mode: u32,
    /// Begin at this entry's local header instead of an own one.
    pub(crate) shares: Option<usize>,
}

#[derive(Default)]
pub(crate) struct RawZip {
    pub(crate) entries: Vec<RawEntry>,
    pub(crate) said_entries: Option<u16>,
    pub(crate) gap: usize,
    pub(crate) comment: Vec<u8>,
    pub(crate) zip64: bool,
}

const FILE: u32 = 0o100_644;

impl RawZip {
    pub(crate) fn file(&mut self, name: &str, content: &[u8]) -> &mut RawEntry {
        self.entries.push(RawEntry {
            name: name.into(),
            local_name: name.into(),
            content: content.into(),
            crc: crc32(content),
            said_size: u32::try_from(content.len()).expect("small"),
            flags: 0,
            method: 0,
            mode: FILE,
            shares: None,
        });
        self.entries.last_mut().expect("just pushed")
    }

    pub(crate) fn special(&mut self, name: &str, mode: u32) {
        self.file(name, b"/etc/passwd").mode = mode;
    }

    pub(crate) fn finish(&self) -> Vec<u8> {
        let (mut out, mut starts) = (vec![], vec![]);
        for entry in &self.entries {
            starts.push(entry.shares.map_or(out.len(), |index| starts[index]));
            if entry.shares.is_none() {
                out.extend(b"PK\x03\x04\x14\0");
                out.extend(entry.common());
                out.extend(short(entry.local_name.len()));
                out.extend([0, 0]);
                out.extend(&entry.local_name);
                out.extend(&entry.content);
            }
        }
        out.resize(out.len() + self.gap, 0);
        let directory = out.len();
        for (entry, start) in self.entries.iter().zip(starts) {
            out.extend(b"PK\x01\x02\x14\x03\x14\0");
            out.extend(entry.common());
            out.extend(short(entry.name.len()));
            out.extend([0; 8]);
            out.extend((entry.mode << 16).to_le_bytes());
            out.extend(long(start));
            out.extend(&entry.name);
        }
        self.end(&mut out, directory);
        out
    }

    fn end(&self, out: &mut Vec<u8>, directory: usize) {
        let (end, size) = (out.len(), out.len() - directory);
        let count = self
            .said_entries
            .unwrap_or_else(|| u16::try_from(self.entries.len()).expect("few"));
        if self.zip64 {
            out.extend(b"PK\x06\x06");
            out.extend(44_u64.to_le_bytes());
            out.extend([45, 3, 45, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
            for number in [count as usize, count as usize, size, directory] {
                out.extend((number as u64).to_le_bytes());
            }
            out.extend(b"PK\x06\x07\0\0\0\0");
            out.extend((end as u64).to_le_bytes());
            out.extend(1_u32.to_le_bytes());
        }
        out.extend(b"PK\x05\x06\0\0\0\0");
        let count = if self.zip64 { u16::MAX } else { count };
        out.extend(count.to_le_bytes());
        out.extend(count.to_le_bytes());
        out.extend(long(size));
        out.extend(long(directory));
        out.extend(short(self.comment.len()));
        out.extend(&self.comment);
    }
}

impl RawEntry {
    /// Flags to sizes: the part that both headers share.
    fn common(&self) -> Vec<u8> {
        let mut out = vec![];
        out.extend(self.flags.to_le_bytes());
        out.extend(self.method.to_le_bytes());
        out.extend([0, 0, 0x21, 0]);
        out.extend(self.crc.to_le_bytes());
        out.extend(long(self.content.len()));
        out.extend(self.said_size.to_le_bytes());
        out
    }
}

fn short(number: usize) -> [u8; 2] {
    u16::try_from(number).expect("small").to_le_bytes()
}

fn long(number: usize) -> [u8; 4] {
    u32::try_from(number).expect("small").to_le_bytes()
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg())
        })
    })
}
