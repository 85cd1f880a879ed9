//! Removing folders that agents had their hands on.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Removes a folder with all that it holds, also where somebody has taken away our right to write in it; or whatever
/// is in the place of the folder. Follows no link.
pub(super) fn remove_tree(root: &Path) -> io::Result<()> {
    if !fs::symlink_metadata(root)?.is_dir() {
        return fs::remove_file(root);
    }
    match fs::remove_dir_all(root) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            unlock(root)?;
            fs::remove_dir_all(root)
        }
        result => result,
    }
}

fn unlock(root: &Path) -> io::Result<()> {
    // A list, not recursion: how deep the folders go is not ours to say.
    let mut locked = vec![root.to_owned()];
    while let Some(folder) = locked.pop() {
        fs::set_permissions(&folder, Permissions::from_mode(0o700))?;
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                locked.push(entry.path());
            }
        }
    }
    Ok(())
}
