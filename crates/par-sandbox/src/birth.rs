//! What tells a process from a later one of the same number.

use std::fs;

/// When a process was started, as the kernel counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Birth {
    /// The boot of the machine.
    pub boot: String,
    /// Clock ticks since that boot; field 22 of proc(5)'s `stat`.
    pub ticks: u64,
}

impl Birth {
    /// Of a process that lives.
    pub fn of(pid: u32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let mut fields = stat[stat.rfind(')')? + 1..].split_ascii_whitespace();
        // The first after the name is field 3.
        let ticks = fields.nth(22 - 3)?.parse().ok()?;
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
        Some(Self {
            boot: boot.trim().to_owned(),
            ticks,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_keeps_its_birth() {
        let own = Birth::of(std::process::id()).expect("we live");
        assert_eq!(Birth::of(std::process::id()), Some(own.clone()));
        assert_ne!(Birth::of(1), Some(own));
    }
}
