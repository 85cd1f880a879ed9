//! How large a package may be. Everything that a package can make us read, keep or write is bounded here.

/// Bounds on one package; the defaults are generous for agents and small for a machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the `.apkg` itself.
    pub packed_bytes: u64,
    /// Bytes of all its files together.
    pub unpacked_bytes: u64,
    /// Files and folders, counted from the archive's own list.
    pub entries: u64,
    /// Unpacked bytes for each packed byte, over the whole package. Small packages may exceed it, see [`Limits::unpacked_allowance`].
    pub ratio: u64,
    /// Bytes of `agent.yaml`, and of each other file that describes the package.
    pub manifest_bytes: u64,
    /// Folders inside folders, and lists or mappings inside each other in the manifest.
    pub depth: usize,
    /// Bytes of one entry's path.
    pub path_bytes: usize,
    /// Bytes of manifest that YAML aliases may repeat, all together.
    pub alias_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            packed_bytes: 256 << 20,
            unpacked_bytes: 1 << 30,
            entries: 20_000,
            ratio: 100,
            manifest_bytes: 1 << 20,
            depth: 64,
            path_bytes: 1024,
            alias_bytes: 1 << 20,
        }
    }
}

/// Below this size a high ratio is a repetitive text file, not a bomb.
const RATIO_MATTERS_FROM: u64 = 1 << 20;

impl Limits {
    /// What a package of `packed` bytes may become.
    pub fn unpacked_allowance(&self, packed: u64) -> u64 {
        packed
            .saturating_mul(self.ratio)
            .max(RATIO_MATTERS_FROM)
            .min(self.unpacked_bytes)
    }
}
