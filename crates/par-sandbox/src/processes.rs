//! A look at `/proc`.

use std::fs;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProcessEntry {
    pub pid: u32,
    pub parent: u32,
    /// `R`, `S`, `D`, `Z`, …
    pub state: char,
}

/// All processes that can be seen now. Those that end meanwhile are left out.
pub fn process_table() -> Vec<ProcessEntry> {
    let Ok(folders) = fs::read_dir("/proc") else {
        return vec![];
    };
    folders
        .filter_map(|folder| {
            let pid: u32 = folder.ok()?.file_name().to_str()?.parse().ok()?;
            entry(pid, &fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
        })
        .collect()
}

/// Reads `pid (name) state ppid …`; the name may hold anything, parentheses too.
fn entry(pid: u32, stat: &str) -> Option<ProcessEntry> {
    let mut fields = stat[stat.rfind(')')? + 1..].split_ascii_whitespace();
    Some(ProcessEntry {
        pid,
        state: fields.next()?.chars().next()?,
        parent: fields.next()?.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_full_of_parentheses_is_no_trap() {
        let seen = entry(7, "7 (a) S 1 (b)) Z 42 7 7 0");
        assert_eq!(
            seen,
            Some(ProcessEntry {
                pid: 7,
                parent: 42,
                state: 'Z'
            })
        );
    }

    #[test]
    fn the_table_shows_ourselves() {
        let own = std::process::id();
        assert!(process_table().iter().any(|process| process.pid == own));
    }
}
