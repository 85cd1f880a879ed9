//! What every program needs of the system, and nothing that tells of this machine.

use std::path::{Path, PathBuf};

/// Folders of programs and libraries; on most systems links into the first.
pub(super) const PROGRAMS: [&str; 7] = [
    "/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32",
];

/// Settings that are the same on many machines: public certificates, and which of several programs has a name.
pub(super) const SETTINGS: [&str; 4] = [
    "/etc/ssl/certs",
    "/etc/pki/tls/certs",
    "/etc/pki/ca-trust",
    "/etc/alternatives",
];

/// Files that are small enough to be copied.
pub(super) const COPIES: [&str; 3] = ["/etc/ld.so.cache", "/etc/localtime", "/etc/mime.types"];

/// Of what is copied, in bytes.
pub(super) const LARGEST_COPY: u64 = 1 << 20;

pub(super) const DEVICES: [&str; 5] = ["null", "zero", "full", "random", "urandom"];

/// Files that are the same in every root of ours.
pub(super) fn written(user: u32) -> [(&'static str, String); 6] {
    [
        (
            "/etc/passwd",
            format!(
                "root:x:0:0:root:/:/usr/sbin/nologin\nagent:x:{user}:{user}:agent:/tmp:/bin/sh\n"
            ),
        ),
        ("/etc/group", format!("root:x:0:\nagent:x:{user}:\n")),
        (
            "/etc/hosts",
            "127.0.0.1 localhost agent\n::1 localhost agent\n".to_owned(),
        ),
        ("/etc/hostname", "agent\n".to_owned()),
        (
            "/etc/nsswitch.conf",
            "passwd: files\ngroup: files\nhosts: files dns\n".to_owned(),
        ),
        ("/etc/resolv.conf", String::new()),
    ]
}

/// `paths` and what of the system is a folder, without those that lie below another, the shorter first.
pub(super) fn outermost(paths: impl IntoIterator<Item = PathBuf>) -> Vec<PathBuf> {
    let mut sorted: Vec<PathBuf> = paths.into_iter().collect();
    sorted.sort_by_key(|path| path.components().count());
    let mut kept: Vec<PathBuf> = vec![];
    for path in sorted {
        if !kept.iter().any(|above| path.starts_with(above)) {
            kept.push(path);
        }
    }
    kept
}

/// Whether a folder of [`PROGRAMS`] is a folder of its own here.
pub(super) fn is_folder(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|found| found.is_dir())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_below_another_is_seen_with_it() {
        let paths = ["/a/b/c", "/a/b", "/a/bc", "/d", "/a/b"].map(PathBuf::from);
        let expected = ["/d", "/a/b", "/a/bc"].map(PathBuf::from);
        assert_eq!(outermost(paths), expected);
    }
}
